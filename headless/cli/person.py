"""`facewright person`: albums of a person, made from photographs and looked at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    OUT,
    AsJson,
    Machine,
    app,
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

RecognizerFile = Annotated[
    str | None,
    typer.Option(
        parser=path_or_name,
        help="ArcFace or AdaFace weights: a file, or its name in models/facewright; by default "
        "backbone.pth there. Or nano (rendered faces of the demo).",
    ),
]
CropSize = Annotated[
    int | None,
    typer.Option(min=64, max=2048, help="Side of the cut-out faces in pixels; 512, for nano 128."),
]
ChosenFaces = Annotated[
    list[str] | None,
    typer.Option(
        help="Where several people are in a photo, which face is the person's: its file and the "
        "face's number, from 0 and from the left as in the preview of Detect Faces, such as "
        "party.jpg=2."
    ),
]
person = typer.Typer(help="Albums of a person: several photographs in one .person file.")
app.add_typer(person, name="person", no_args_is_help=True)


@person.command()
@sentences(interrupted="Interrupted. No album was written.")
@grouped
def make(
    *,
    inputs: Annotated[
        list[str], inputs_argument("Photos of one person, folders, or patterns.", "PHOTOS")
    ],
    out: Annotated[Path, path_option("The .person file to write.", *OUT)],
    recogniser: RecognizerFile = None,
    name: Annotated[
        str | None, typer.Option(help="Of the person; by default the file's name.")
    ] = None,
    analyzer: Annotated[
        str | None,
        typer.Option(
            help="What finds faces and landmarks: auto (mediapipe, facexlib or insightface, the "
            "first that is ready), or one of these, or nano. By default auto; with the nano "
            "recogniser, nano."
        ),
    ] = None,
    machine: Machine,
    size: CropSize = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another file of that name.")
    ] = False,
    as_json: AsJson = False,
    face: ChosenFaces = None,
) -> None:
    """Make an album from photographs of one person.

    Photos without a face are named and left out, and so are files that cannot be read. A file that
    is there already is not replaced without --overwrite; the same album again is left as it is.
    """
    from ...core.errors import FacewrightError
    from ...core.faces import ANALYZERS, choice_of, load_analyzer
    from ...core.files.scan import LeftAside
    from ...core.people.person import SUFFIX, holds
    from ...core.weights.nano import NANO_SIZE
    from ..jobs.batch import find_pictures
    from ..make.albums import check_target, could_be, remove_with
    from ..make.people import find_recogniser, readable

    nano = recogniser == "nano"
    chosen = analyzer or ("nano" if nano else "auto")
    check_choice("--analyzer", chosen, ANALYZERS)
    if out.suffix != SUFFIX:
        raise typer.BadParameter(f"{out} should end in {SUFFIX}.", param_hint="--out")
    aside, named = LeftAside(), name or out.stem
    with wrong_usage():
        paths = [path for path, _ in find_pictures(inputs, out, aside)]
        faces = chosen_faces(face, paths)
        if not could_be(out, named, [path.name for path in paths]):
            check_target(out, overwrite=overwrite)
    machine.use()
    networks = {
        "recogniser": find_recogniser(recogniser),
        "analyzer": load_analyzer(chosen, dense=True),
    }
    photos, failed = readable(paths)
    if not photos.paths:
        say_aside(aside)
        fail_for(failed, len(paths))
    try:
        about = {"name": named, "crop_size": size or (NANO_SIZE if nano else 512)}
        about |= {"remedy": remove_with(out), "faces": faces}
        album, report = look_at(photos, as_json, **about, **networks)
        report = [*choice_of(networks["analyzer"]), *report]
    except FacewrightError:
        say_aside(aside)
        raise
    same = not overwrite and holds(out, album)
    if not same:
        with wrong_usage():
            check_target(out, overwrite=overwrite)
        album.save(out)
    if as_json:
        unread = [{"input": str(path), "error": error} for path, error in failed.items()]
        told = {**describe(album), "report": report, "failed": unread}
        write_json({"file": str(out), **told, "left_aside": aside.entries()})
    else:
        for line in report:
            say(line, "yellow" if line.startswith("warning") else None)
        say(f"{out} was there already, just so." if same else f"Written to {out}.")
        say_aside(aside)
    fail_for(failed, len(paths))


def chosen_faces(face: list[str] | None, paths: list[Path]) -> dict[Path, int]:
    """What --face says, by the files.

    Raises:
        FacewrightError: as `faces_of_photos`.
    """
    from ...core.people.by_hand import faces_of_photos

    found = faces_of_photos(face or (), [str(path) for path in paths])
    return {paths[index]: number for index, number in found.items()}


def look_at(
    photos: Any, as_json: bool, *, faces: dict[Path, int], **given: Any
) -> tuple[Any, list[str]]:
    """`make_person` with a bar; `faces` by the files of photos."""
    from ...core.people.album import make_person

    with progress("Looking", len(photos), quiet=as_json) as show:
        done = 0

        def on_photo(n: int) -> None:
            nonlocal done
            done += n
            show(f"{done} of {len(photos)}", done)

        sources = [path.name for path in photos.paths]
        chosen = {i: faces[path] for i, path in enumerate(photos.paths) if path in faces}
        return make_person(photos, sources=sources, on_photo=on_photo, faces=chosen, **given)


@person.command()
@sentences
def show(
    file: Annotated[
        str,
        typer.Argument(
            parser=path_or_name,
            metavar="FILE",
            help="A .person file, or its name in models/facewright.",
        ),
    ],
    sheet: Annotated[
        Path | None, path_option("Also write its photos on one sheet, such as album.png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an album holds, each photograph with its number."""
    from ...core.drawing.album import album_sheet
    from ...core.images import Picture, write_picture
    from ...core.people.person import Person
    from ...core.people.photos import labels
    from ..make.albums import find_album, warnings_of

    with wrong_usage():
        path = find_album(file)
    album = Person.from_file(path)
    if sheet is not None:
        pixels = album_sheet(album)
        write_picture(sheet, pixels, Picture(pixels))
    warnings = warnings_of(album, path)
    if as_json:
        write_json({"file": str(path), **describe(album), "report": warnings})
        return
    say(album.info)
    for i, (label, quality) in enumerate(zip(labels(album), album.quality.tolist(), strict=True)):
        say(f"{i:3}  {label}: quality {quality:.2f}")
    for line in warnings:
        say(line, "yellow")


def describe(album: Any) -> dict[str, Any]:
    """An album for JSON; photographs by their number."""
    photos = enumerate(zip(album.sources, album.quality.tolist(), strict=True))
    return {
        "name": album.name,
        "photos": [{"number": i, "source": s, "quality": round(q, 4)} for i, (s, q) in photos],
        "size": album.crops.shape[-1],
        "landmarks": album.landmarks.shape[1],
        "recogniser": album.recogniser,
    }


def fail_for(failed: dict[Path, str], total: int) -> None:
    """End with exit code 1 where photographs cannot be read, naming each."""
    if failed:
        lines = "\n".join(failed.values())
        fail(f"{len(failed)} of {counted(total, 'photo')} cannot be read:\n{lines}")
