"""Whose face it is, told by hand: texts such as "2=Bo", "0/3=nobody" or "party.jpg/1=Ada"."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import FacewrightError, counted, shorten
from .person import NOBODY, base_name

_ONE = re.compile(
    r"\s*(?:(?P<picture>.+?)/)?\s*(?P<face>\d{1,9})\s*=\s*(?P<person>.*\S)\s*", re.DOTALL
)
# A comma of a name stays: what follows it is no number with an equals sign.
_BETWEEN = re.compile(r"[,;\n]\s*(?=(?:[^,;\n=]+/)?\s*\d{1,9}\s*=)|\s*\n\s*")


@dataclass(frozen=True)
class Told:
    """One face, and whose it is."""

    face: int
    """Its number in its picture, from 0."""
    person: str | None
    """Name of an album, or None for nobody."""
    picture: str | None = None
    """Number or name of the picture; None where there is one only."""

    def __str__(self) -> str:
        place = "" if self.picture is None else f"{self.picture}/"
        return f"{place}{self.face}={self.person or NOBODY}"


def parse_told(texts: Iterable[str]) -> list[Told]:
    """Each text is an assignment or several, separated by commas, semicolons or lines.

    Raises:
        FacewrightError: anything else, or one face given to two.
    """
    told: dict[tuple[str | None, int], Told] = {}
    parts = (part.rstrip(",; \t\n") for text in texts for part in _BETWEEN.split(text))
    for part in filter(str.strip, parts):
        found = _ONE.fullmatch(part)
        if not found:
            raise FacewrightError(
                f"`assign` is a face's number and a name, such as 2=Bo or 3={NOBODY}, with the "
                f"picture before it where there are several: 0/2=Bo. Came {shorten(part)!r}."
            )
        person: str | None = found["person"]
        if person is not None and person.casefold() == NOBODY:
            person = None
        one = Told(int(found["face"]), person, found["picture"])
        before = told.setdefault((one.picture, one.face), one)
        if before.person != one.person:
            raise FacewrightError(
                f"`assign` says both {shorten(before)} and {shorten(one)}. Keep one of them."
            )
    return list(told.values())


def told_of_batch(texts: Iterable[str], image_index: Sequence[int]) -> dict[int, str | None]:
    """What is told of the faces of a batch of pictures, by the faces' indices.

    Args:
        texts: see `parse_told`; pictures by their numbers, from 0.
        image_index: per face its picture.

    Raises:
        FacewrightError: as `parse_told`; no number of a picture where there are several; a picture
            without faces; or a number that no face of the picture has.
    """
    faces: dict[int, list[int]] = {}
    for index, picture in enumerate(image_index):
        faces.setdefault(picture, []).append(index)
    found: dict[int, str | None] = {}
    for told in parse_told(texts):
        mine = faces.get(_picture_of(told, faces), [])
        if told.face >= len(mine):
            there = f"has {counted(len(mine), 'face')}" + ", numbered from 0" * bool(mine)
            which = "the picture" if told.picture is None else f"picture {told.picture}"
            raise FacewrightError(
                f"`assign` {shorten(told)} names face {told.face}, but {which} {there}."
            )
        index = mine[told.face]
        if found.setdefault(index, told.person) != told.person:
            raise FacewrightError(
                f"`assign` gives face {told.face} to both {found[index] or NOBODY} and "
                f"{told.person or NOBODY}. Keep one of them."
            )
    return found


def faces_of_photos(texts: Iterable[str], names: Sequence[str]) -> dict[int, int]:
    """Which face of a photo is the person's, from texts such as "party.jpg=2".

    Args:
        texts: each is a photo, "=" and the number of a face; the number alone where there is one
            photo. A photo is named by its path, the last part of it, or the number in "photo 3".
        names: of the photos.

    Returns:
        Numbers of faces by the indices of photos.

    Raises:
        FacewrightError: anything else; no photo or several are called so; or one has two faces.
    """
    found: dict[int, int] = {}
    called = [base_name(name).removeprefix("photo ") for name in names] or ["party.jpg"]
    for part in filter(None, map(str.strip, texts)):
        photo, _, number = part.rpartition("=")
        photo, number = photo.strip(), number.strip()
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise FacewrightError(
                "Which face of a photo is the person's is said by the photo and the face's number, "
                f"from 0 and from the left, such as {shorten(called[0])}=2. Came "
                f"{shorten(part)!r}."
            )
        if not photo and len(names) > 1:
            raise FacewrightError(
                f"Face {number} is chosen, but not of which of the {len(names)} photos. Put the "
                f"photo before it, such as {shorten(called[0])}={number}."
            )
        mine = [i for i, name in enumerate(names) if photo == name]
        mine = mine or [i for i, name in enumerate(names) if photo == base_name(name)]
        mine = mine or [i for i, name in enumerate(names) if f"photo {photo}" == name]
        mine = [0] if not photo and len(names) == 1 else mine
        if len(mine) != 1:
            some = ", ".join(shorten(base_name(name)) for name in names[:5])
            there = "several photos are called so" if mine else "no photo is called so"
            raise FacewrightError(
                f"Face {number} of {shorten(photo)} is chosen, but {there}. There are "
                f"{some}{', ...' if len(names) > 5 else ''}."
            )
        if found.setdefault(mine[0], int(number)) != int(number):
            raise FacewrightError(
                f"Both face {found[mine[0]]} and face {number} of {shorten(photo)} are chosen. An "
                "album has one person; keep one of them."
            )
    return found


def _picture_of(told: Told, faces: dict[int, list[int]]) -> int:
    if told.picture is None:
        if len(faces) > 1:
            raise FacewrightError(
                f"`assign` {shorten(told)} does not say in which of {len(faces)} pictures. Put its "
                f"number before it, such as {min(faces)}/{told}."
            )
        return next(iter(faces), 0)
    number = int(told.picture) if told.picture.isdecimal() and len(told.picture) < 10 else -1
    if number not in faces:
        there = ", ".join(map(str, sorted(faces)[:20])) or "none"
        raise FacewrightError(
            f"`assign` {shorten(told)} names picture {shorten(told.picture)}; pictures are "
            f"numbered from 0, and those with faces are {there}."
        )
    return number
