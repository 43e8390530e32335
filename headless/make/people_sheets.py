"""Sheets of a folder of strangers: one of all people, one for each, and one of the unsure."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from ...core.drawing.people import pages, people_sheet
from ...core.errors import FacewrightError, counted
from ...core.files.confined import inside
from ...core.files.names import fit_name
from ...core.images import Picture, read_picture, write_picture
from ...core.people.person import SUFFIX, file_name
from .people_cluster import OR, Face, PeopleFolder
from .people_look import small_picture

OVERVIEW, UNSURE = "overview", "unsure"
_FOLDER = "sheets"
_ONCE = "seen once"
_ROOM = 40
"""Bytes of a file's name beside the person's."""


def file_stems(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """For each person's name one for files, of which no two are one on any system."""
    used, found = {name.casefold() for name in taken}, {}
    for name in names:
        stem = plain = fit_name(file_name(name).removesuffix(SUFFIX), 255 - _ROOM)
        number = 2
        while stem.casefold() in used:
            stem, number = f"{plain} ({number})", number + 1
        used.add(stem.casefold())
        found[name] = stem
    return found


def draw_sheets(folder: PeopleFolder) -> list[Path]:
    """Write all sheets anew, and remove those of people who are no more.

    Raises:
        OSError: the folder cannot be written.
    """
    written: list[Path] = []
    used: set[str] = set()
    for name, title, faces, captions in _sheets(folder):
        parts = pages(len(faces))
        for number, part in enumerate(parts, 1):
            ending, of = (
                (f" {number}", f" ({number} of {len(parts)})") if len(parts) > 1 else ("", "")
            )
            path = folder.path / f"{name}{ending}.png"
            while path.as_posix().casefold() in used:  # the second sheet of Ada, and "Ada 2"
                path = path.with_stem(f"{path.stem}_")
            used.add(path.as_posix().casefold())
            pixels = people_sheet(
                title + of, [_small(folder, f) for f in faces[part]], captions[part]
            )
            write_picture(path, pixels, Picture(pixels), private=True)
            written.append(path)
    names = [path.relative_to(folder.path).as_posix() for path in written]
    for old in set(folder.seen.sheets) - set(names):
        path = inside(folder.path, old)
        if path is not None and path.suffix == ".png":
            path.unlink(missing_ok=True)
    folder.seen.sheets = names
    return written


_Sheet = tuple[str, str, list[Face], list[tuple[str, ...]]]


def _sheets(folder: PeopleFolder) -> Iterator[_Sheet]:
    """(file without suffix, title, faces, lines for each)."""
    cosine = folder.cosine()
    people = {
        name: sorted(here, key=lambda f: (-cosine.get(f.row.number, 1.0), f.row.number))
        for name, faces in folder.people().items()
        if (here := [face for face in faces if folder.is_here(face)])
    }
    if people:
        best = {
            name: max(faces[: len(faces) // 2 + 1], key=_worth) for name, faces in people.items()
        }
        captions = [
            (name, f"{counted(len(faces), 'face')}, #{best[name].row.number}")
            for name, faces in people.items()
        ]
        title = f"{counted(len(people), 'person').replace('persons', 'people')}"
        yield OVERVIEW, title, list(best.values()), captions
    often = {name: faces for name, faces in people.items() if len(faces) > 1}
    for name, stem in file_stems(often, taken=[_ONCE]).items():
        faces = often[name]
        captions = [(_number(face, cosine), face.row.photo) for face in faces]
        title = f"{name}: {counted(len(faces), 'face')}, the least like the others last"
        yield f"{_FOLDER}/{stem}", title, faces, captions
    once = [(name, faces[0]) for name, faces in people.items() if len(faces) == 1]
    if once:
        captions = [(f"#{face.row.number} {name}", face.row.photo) for name, face in once]
        yield f"{_FOLDER}/{_ONCE}", "People seen once", [face for _, face in once], captions
    unsure = folder.unsure()
    if unsure:
        captions = [(f"#{face.row.number}", *_maybe(face), face.row.photo) for face in unsure]
        yield UNSURE, f"{counted(len(unsure), 'face')} left open", unsure, captions


def _maybe(face: Face) -> list[str]:
    """A line for each whom an unsure face may show, or why nobody can tell."""
    row = face.row
    return [f"{name}?" for name in row.maybe.split(OR)] if row.maybe else [row.note]


def _worth(face: Face) -> tuple[float, int]:
    """How well a face can be seen; of equals the first."""
    sharp = 0.0 if face.photo is None else float(face.photo.faces.sharpness[face.index])
    return sharp * min(face.size, 128), -face.row.number


def _number(face: Face, cosine: dict[int, float]) -> str:
    number = face.row.number
    like = f"  {cosine[number]:.2f}" if number in cosine else ""
    return f"#{number}{like}{'  by hand' if face.row.sure == 'by hand' else ''}"


def _small(folder: PeopleFolder, face: Face) -> Tensor | None:
    try:
        path = small_picture(folder.path, face.row.sha256, face.index)
        return read_picture(path).pixels[:3]
    except FacewrightError:  # somebody tidied up; the sheet has a grey square there
        return None
