"""`facewright person add|remove|rename|merge|best`: albums changed, here or into another file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    OUT,
    AsJson,
    Machine,
    counted,
    fail,
    inputs_argument,
    path_option,
    path_or_name,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from .person import ChosenFaces, chosen_faces, describe, fail_for, look_at, person

Album = Annotated[
    str,
    typer.Argument(
        parser=path_or_name,
        metavar="ALBUM",
        help="A .person file, or its name in models/facewright.",
    ),
]
_STAYS = "Interrupted. Every album is as it was."


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Where a changed album goes."""

    out: Annotated[
        Path | None,
        path_option("Write the changed album to this .person file and leave ALBUM as it is.", *OUT),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --out if it is there.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")
    ] = False
    as_json: AsJson = False

    def read(self, given: str) -> Any:
        """The album that is changed, after a look at where it goes."""
        from ..make.albums import AlbumFile, check_target, find_album

        with wrong_usage():
            if self.out is not None:
                check_target(self.out, overwrite=True)
            path = find_album(given)
        return AlbumFile.read(path)

    def warnings(self, file: Any, changed: Any) -> list[str]:
        """Photographs that may show somebody else, with the commands that take them out."""
        from ..make.albums import warnings_of

        return warnings_of(changed, self.out or file.path)

    def finish(self, file: Any, changed: Any, report: list[str], **more: Any) -> None:
        """Write what changed, unless it is a dry run, and say so."""
        from ...core.people.person import holds
        from ..make.albums import check_target

        path = self.out or file.path
        if self.out is not None and not holds(self.out, changed):
            with wrong_usage():
                check_target(self.out, overwrite=self.overwrite)
        written = False if self.dry_run else file.write(changed, self.out)
        if self.as_json:
            told = {**describe(changed), "report": report, "written": written, **more}
            write_json({"file": str(path), **told})
            return
        for line in report:
            say(line, "yellow" if line.startswith("warning") else None)
        say(changed.info)
        if self.dry_run:
            say(f"A dry run: {path} was not written.")
        else:
            say(f"Written to {path}." if written else f"Nothing to change: {path} is as it was.")


@person.command()
@sentences(interrupted=_STAYS)
@grouped
def add(
    *,
    album: Album,
    inputs: Annotated[
        list[str], inputs_argument("More photos of the person, folders, or patterns.", "PHOTOS")
    ],
    edit: Edit,
    recogniser: Annotated[
        str | None,
        typer.Option(
            parser=path_or_name,
            help="The weights that the album was made with, as `person make` takes them.",
        ),
    ] = None,
    analyzer: Annotated[
        str | None,
        typer.Option(help="What finds faces and landmarks, as `person make` takes it."),
    ] = None,
    machine: Machine,
    face: ChosenFaces = None,
) -> None:
    """Add photographs to an album.

    In photos with several faces the one most like the album is taken, or that --face names.
    """
    from ...core.errors import CheckpointError, FacewrightError, shorten
    from ...core.faces import ANALYZERS, choice_of, load_analyzer
    from ...core.files.scan import LeftAside
    from ...core.people.album import check_joins
    from ...core.people.photos import command
    from ..jobs.batch import find_pictures
    from ..make.albums import remove_with
    from ..make.people import find_recogniser, readable
    from ._common import check_choice

    machine.use()
    file = edit.read(album)
    nano = recogniser == "nano" or (
        recogniser is None and file.person.recogniser.startswith("nano-identity")
    )
    chosen = analyzer or ("nano" if nano else "auto")
    check_choice("--analyzer", chosen, ANALYZERS)
    aside = LeftAside()
    with wrong_usage():
        paths = [path for path, _ in find_pictures(inputs, file.path, aside)]
        faces = chosen_faces(face, paths)
    try:
        own = find_recogniser("nano" if nano else recogniser)
    except CheckpointError as error:
        if recogniser is not None:
            raise
        fail(
            f"{error} {file.path} was made with {shorten(file.person.recogniser)}: if that is "
            "another file, name it by --recogniser."
        )
    networks = {"recogniser": own, "analyzer": load_analyzer(chosen, dense=True)}
    points = networks["analyzer"].points
    side = file.person.crops.shape[-1]
    try:
        check_joins(file.person, own.id, own.dim, points, side)
    except FacewrightError as error:
        again = command("person", "make", "PHOTOS", "-o", str(file.path), "--overwrite")
        fail(
            f"{error} Name the album's own with --recogniser FILE and --analyzer NAME, or make it "
            f"anew from all its photos: `{again}`."
        )
    photos, failed = readable(paths)
    if not photos.paths:
        say_aside(aside)
        fail_for(failed, len(paths))
    about = {"name": file.person.name, "crop_size": side, "add_to": file.person}
    remedy = remove_with(edit.out or file.path)
    about |= {"remedy": remedy, "faces": faces}
    changed, report = look_at(photos, edit.as_json, **about, **networks)
    added = f"{counted(len(changed) - len(file.person), 'photo')} added"
    report = [*choice_of(networks["analyzer"]), added, *report[1:]]
    unread = [{"input": str(path), "error": error} for path, error in failed.items()]
    edit.finish(file, changed, report, failed=unread, left_aside=aside.entries())
    if not edit.as_json:
        say_aside(aside)
    fail_for(failed, len(paths))


@person.command()
@sentences(interrupted=_STAYS)
@grouped
def remove(
    *,
    album: Album,
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Photos by the name of their file or by number, as `person show` lists them; a "
            "number also as #2.",
        ),
    ],
    edit: Edit,
) -> None:
    """Take photographs out of an album."""
    from ...core.people.editing import without

    file = edit.read(album)
    with wrong_usage():
        changed, report = without(file.person, photos)
    edit.finish(file, changed, [*report, *edit.warnings(file, changed)])


@person.command()
@sentences(interrupted=_STAYS)
@grouped
def rename(
    *,
    album: Album,
    name: Annotated[str, typer.Argument(metavar="NEWNAME", help="The person's new name.")],
    edit: Edit,
) -> None:
    """Give the person of an album another name; the file keeps its own."""
    from ...core.people.editing import renamed

    file = edit.read(album)
    with wrong_usage():
        changed, report = renamed(file.person, name)
    edit.finish(file, changed, [*report, *edit.warnings(file, changed)])


@person.command()
@sentences(interrupted=_STAYS)
@grouped
def merge(
    *,
    album: Album,
    more: Annotated[
        str,
        typer.Argument(
            parser=path_or_name,
            metavar="OTHER",
            help="Another album of the same person, whose photos join. Its file stays.",
        ),
    ],
    edit: Edit,
) -> None:
    """Join two albums of one person under the name of the first: into its file, or into --out."""
    from ...core.errors import FacewrightError
    from ...core.people.editing import merged
    from ...core.people.person import Person
    from ...core.people.photos import command
    from ..make.albums import find_album

    file = edit.read(album)
    with wrong_usage():
        other = find_album(more)
    more_of = Person.from_file(other)
    try:
        changed, report = merged(file.person, more_of)
    except FacewrightError as error:
        again = command("person", "make", "PHOTOS", "-o", str(other), "--overwrite")
        fail(
            f"{error} Make {other} again from its photos with what {file.path} was made with "
            f"(--recogniser, --analyzer, --size): `{again}`."
        )
    edit.finish(file, changed, [*report, *edit.warnings(file, changed)])


@person.command()
@sentences(interrupted=_STAYS)
@grouped
def best(
    *,
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many photos to keep.")],
    album: Album,
    edit: Edit,
) -> None:
    """Keep the N most useful photographs: good ones that are unlike each other.

    Says of each photo why it stays or goes. Look first with --dry-run.
    """
    from ...core.people.editing import best as best_of

    file = edit.read(album)
    changed, report = best_of(file.person, count)
    edit.finish(file, changed, [*report, *edit.warnings(file, changed)])
