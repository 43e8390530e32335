"""`facewright person cluster`: who is who in a folder of photographs, and albums of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    OUT,
    AsJson,
    Machine,
    check_choice,
    counted,
    fail,
    inputs_argument,
    path_option,
    path_or_name,
    progress,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from .person import person


@person.command()
@sentences
@grouped
def cluster(
    *,
    inputs: Annotated[
        list[str],
        inputs_argument("Photos, folders or patterns; or the folder of an earlier run.", "PHOTOS"),
    ],
    out: Annotated[
        Path | None,
        path_option("Folder for people.csv and the sheets; grows with every run.", *OUT),
    ] = None,
    albums: Annotated[
        bool, typer.Option("--albums", help="Make an album of everybody who has a name.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Give a person another name, such as 'person 03=Ada', or nobody."),
    ] = None,
    recogniser: Annotated[
        str | None,
        typer.Option(
            parser=path_or_name,
            help="As for `person make`; by default that of the earlier run.",
        ),
    ] = None,
    analyzer: Annotated[
        str | None, typer.Option(help="As for `person make`; by default that of the earlier run.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Cosine from which faces are one person; by default the limit of the recogniser, "
            "and what 1 % of strangers reach where that is known.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="A face that two people are as like but for this is unsure; by "
            "default the limit of the recogniser.",
        ),
    ] = None,
    min_size: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="Smaller faces, in pixels, are unsure.")
    ] = 20.0,
    machine: Machine,
    size: Annotated[
        int | None,
        typer.Option(min=64, max=2048, help="Side of the faces in albums; 512, for nano 128."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace albums that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Group the faces of photographs into people, to be looked at, corrected and named.

    Look at overview.png and the sheets, write names and corrections into people.csv, and run the
    command again with the folder and --albums. Photos may be added at any time.
    """
    from ...core.faces import ANALYZERS, choice_of, load_analyzer
    from ...core.files.scan import LeftAside
    from ..jobs.batch import find_pictures
    from ..make.people import find_recogniser
    from ..make.people_albums import make_albums
    from ..make.people_cluster import PeopleFolder, is_unnamed, limits_for
    from ..make.people_look import crop_size
    from ..make.people_seen import given_before, is_folder_of_people
    from ..make.people_sheets import draw_sheets

    only = Path(inputs[0]) if len(inputs) == 1 else None
    if only is not None and is_folder_of_people(only) and out in (None, only):
        out, inputs = only, []
    if out is None:
        raise typer.BadParameter("Give a folder for people.csv and the sheets.", param_hint="--out")
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, and a folder is needed.", param_hint="--out")
    names = dict(map(_renaming, name or ()))
    before = given_before(out)
    wanted = recogniser or before.get("recogniser")
    chosen = analyzer or before.get("analyzer") or ("nano" if wanted == "nano" else "auto")
    check_choice("--analyzer", chosen, ANALYZERS)
    aside = LeftAside()
    with wrong_usage():
        found = find_pictures(inputs, out, aside) if inputs else []
    _needs_sklearn()
    machine.use()
    knows, finds = find_recogniser(wanted), load_analyzer(chosen, dense=True)
    limits = limits_for(knows, threshold, margin)
    folder = PeopleFolder.open(out, knows, finds)
    compared = (
        f"Compared by {knows.name}: one person from a mean cosine of {limits.same_person:.2f}, "
        f"unsure below a margin of {limits.margin:.2f}."
    )
    for line in () if as_json else (*choice_of(finds), compared):
        say(line)
    folder.seen.given = {"analyzer": chosen} | ({"recogniser": Path(wanted).name} if wanted else {})
    with progress("Looking", len(found), quiet=as_json) as show:
        failed = folder.look(found, finds, knows, _counting(show, len(found)))
    folder.attach()
    with wrong_usage():
        folder.rename(names)
    folder.group(limits, min_size)
    sheets = draw_sheets(folder)
    folder.save()
    people = folder.people()
    named = [who for who in people if not is_unnamed(who)]
    made = None
    if albums:
        if not named:
            fail(
                f"Nobody has a name yet. Write names in place of person 01 and so on into "
                f"{out / 'people.csv'}, or give them: --name 'person 01=Ada'."
            )
        with progress("Albums", len(named), quiet=as_json) as show:
            made = make_albums(
                folder, finds, knows, crop_size=size or crop_size(knows), overwrite=overwrite,
                on_album=_counting(show, len(named)),
            )  # fmt: skip
    if as_json:
        used = {"recogniser": knows.id, "analyzer": finds.name, "threshold": limits.same_person,
                "margin": limits.margin}  # fmt: skip
        write_json({**used, **_described(folder, made, sheets), "failed": _entries(failed, "input"),
                    "left_aside": aside.entries()})  # fmt: skip
    else:
        _tell(folder, made, out)
        say_aside(aside)
    wrong = [*failed.values(), *(made.failed.values() if made else ())]
    if wrong:
        fail("\n".join(wrong))


def _renaming(given: str) -> tuple[str, str]:
    from ...core.errors import FacewrightError
    from ..make.people_table import check_name

    old, equals, new = given.partition("=")
    try:
        old, new = check_name(old, "--name"), check_name(new, "--name")
    except FacewrightError as error:
        raise typer.BadParameter(str(error), param_hint="--name") from error
    if not (equals and old and new):
        raise typer.BadParameter(
            f"{given!r} should be a name, = and the new name, such as 'person 03=Ada'.",
            param_hint="--name",
        )
    return old, new


def _needs_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        fail(f'Grouping faces needs scikit-learn ({error}): pip install "facewright[people]"')


def _counting(show: Any, total: int) -> Any:
    done = 0

    def on_one(name: str) -> None:
        nonlocal done
        done += 1
        show(f"{done} of {total}", done)

    return on_one


def _entries(failed: dict[Any, str], what: str) -> list[dict[str, str]]:
    return [{what: str(key), "error": error} for key, error in failed.items()]


def _described(folder: Any, made: Any, sheets: list[Path]) -> dict[str, Any]:
    cosines = folder.cosine()
    entries = [
        {
            "number": face.row.number,
            "photo": face.row.photo,
            "face": face.row.face,
            "box": [round(v, 1) for v in face.row.box],
            "person": face.row.person or None,
            "sure": face.row.sure,
            "maybe": face.row.maybe,
            "note": face.row.note,
            "cosine": round(cosines[face.row.number], 4) if face.row.number in cosines else None,
        }
        for face in folder.faces
    ]
    told: dict[str, Any] = {
        "folder": str(folder.path),
        "people": {name: len(faces) for name, faces in folder.people().items()},
        "faces": entries,
        "sheets": [str(path) for path in sheets],
        "report": [*folder.report, *(made.report if made else ())],
    }
    if made is not None:
        told["albums"] = {name: str(path) for name, path in made.made.items()}
        told["albums_failed"] = _entries(made.failed, "person")
    return told


def _tell(folder: Any, made: Any, out: Path) -> None:
    from ...core.people.photos import command
    from ..make.people_cluster import is_unnamed

    people, unsure = folder.people(), folder.unsure()
    nobody = sum(face.row.person == "nobody" for face in folder.faces)
    count = counted(len(people), "person").replace("persons", "people")
    text = f"{counted(len(folder.faces), 'face')}: {count}, {len(unsure)} unsure"
    say(text + (f", {nobody} left out as nobody." if nobody else "."))
    for line in folder.report:
        say(line, "yellow")
    unnamed = [name for name in people if is_unnamed(name)]
    if not folder.faces:
        return say("No face was found: give photos that show faces larger.")
    if made is None:
        then = command("person", "cluster", str(out), "--albums")
        say(
            f"Look at {out / 'overview.png'} and {out / 'sheets'}; write names and corrections "
            f"into {out / 'people.csv'}. Then: {then}"
        )
        return
    for line in made.report:
        say(line, "yellow" if line.startswith("warning") else None)
    for path in made.made.values():
        say(f"Written to {path}.")
    if unnamed:
        say(f"{counted(len(unnamed), 'person').replace('persons', 'people')} without a name: "
            "no album.")  # fmt: skip
