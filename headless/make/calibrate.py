"""Folders of known people read as albums, for `person calibrate`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...core.errors import FacewrightError
from ...core.faces import FaceAnalyzer
from ...core.files.scan import LeftAside
from ...core.people.album import make_person
from ...core.people.person import SUFFIX, Person
from ...core.people.recogniser import Recogniser
from ..jobs.batch import find_pictures
from .people import readable


def find_people(inputs: Sequence[str], out: Path, aside: LeftAside) -> dict[Path, list[Path]]:
    """Who is where: a sub-folder (or a folder with photos in it) or an album -> its files.

    Args:
        out: a file that is left aside.

    Raises:
        FacewrightError: there are no pictures, or a name does not exist.
    """
    people: dict[Path, list[Path]] = {}
    for path, name in find_pictures(inputs, out, aside, {SUFFIX}):
        depth = len(name.parts)
        folder = path.parent if depth == 1 else path.parents[depth - 2]
        people.setdefault(path if path.suffix.lower() == SUFFIX else folder, []).append(path)
    return people


def albums_of(
    people: dict[Path, list[Path]],
    *,
    recogniser: Recogniser,
    analyzer: FaceAnalyzer,
    size: int,
    on_person: Callable[[Path], None],
) -> tuple[list[Person], list[str]]:
    """An album of each person, and what should be known of it; one that cannot be made or is of
    another recogniser is left out and named."""
    albums, report = [], []
    for place, files in people.items():
        try:
            if place.suffix.lower() == SUFFIX:
                album = Person.from_file(place)
                album.check_fits(recogniser.id)
                said: list[str] = []
            else:
                photos, unread = readable(files)
                report += [f"warning: {why}" for why in unread.values()]
                names = [path.name for path in photos.paths]
                album, (_, *said) = make_person(
                    photos,
                    name=place.resolve().name,
                    sources=names,
                    analyzer=analyzer,
                    recogniser=recogniser,
                    crop_size=size,
                )
            albums.append(album)
            report += [f"{album.name}: {line}" for line in said]
        except FacewrightError as error:
            report.append(f"warning: {place} was left out: {error}")
        on_person(place)
    return albums, report
