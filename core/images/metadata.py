"""EXIF, colour profile and resolution: what is kept, and never at the cost of the picture."""

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import shorten
from .tiff_tags import exif_of

if TYPE_CHECKING:
    from PIL.Image import Exif

T = TypeVar("T")

ORIENTATION = 0x0112
_EXIF, _GPS = 0x8769, 0x8825
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 282, 283, 296
_INCH, _CENTIMETRE = 2, 3
_MAKER_NOTE = 37500
ABOUT_THE_PICTURE = frozenset(
    # What it shows, by whom, with what. The other tags of the first directory say how the pixels
    # are stored (in TIFF files they are the container itself) or where a preview lies.
    {269, 270, 271, 272, 285, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, 305, 306, 315, 316, 18246, 18249}
    | {33432, *range(40091, 40096)}
)
_ABOUT_THE_FILE = frozenset({37121, 37122, 40965})
"""Of the EXIF directory: order of components, compression, how to read a preview."""
_DESCRIPTION = 270
_WIDTH, _HEIGHT = 40962, 40963
MAKER_NOTE_GONE = "the maker's note of its EXIF may hold a place and was left out"
JPEG_EXIF = 65_500
"""Bytes of EXIF that fit into a JPEG."""


def attempt(read: Callable[[], T], notes: list[str], what: str) -> T | None:
    """What `read` gives; None and a note where the metadata that it reads are broken."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 (parsers raise whatever damage leads them to)
        why = shorten(str(error) or type(error).__name__)
        notes.append(f"its {what} cannot be read ({why}) and was left out")
        return None


def parse_exif(data: bytes, notes: list[str]) -> "Exif | None":
    """What of it is about the picture; None where there is nothing.

    Raises:
        Exception: whatever damage leads to.
    """
    from PIL import Image

    found, lost = exif_of(data.removeprefix(b"Exif\0\0"), ABOUT_THE_PICTURE | {ORIENTATION})
    if lost:
        notes.append(_lost(lost))
    if found is None:
        return None
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + found)
    return exif


def _lost(count: int) -> str:
    entries = "1 broken entry" if count == 1 else f"{count} broken entries"
    return f"{entries} of its EXIF {'was' if count == 1 else 'were'} left out"


def orientation(exif: "Exif | None", xmp: bytes | None, notes: list[str]) -> int:
    """1 to 8; 1 and a note where it says something else."""
    value = attempt(lambda: exif.get(ORIENTATION), notes, "orientation") if exif else None
    if value is None:
        found = re.search(rb'tiff:Orientation(?:="|>)([1-8])\b', xmp or b"")
        return int(found[1]) if found else 1
    return checked_orientation(value, notes)


def checked_orientation(value: object, notes: list[str]) -> int:
    """1 to 8; 1 and a note where it is something else."""
    if isinstance(value, int) and 0 <= value <= 8:
        return value or 1  # 0 is what some cameras write for unknown
    notes.append(
        f"its orientation is {shorten(repr(value))}, not a number from 1 to 8; it was taken as "
        "upright"
    )
    return 1


def kept_exif(
    exif: "Exif",
    size: tuple[int, int],
    notes: list[str],
    *,
    turned: bool = False,
    most: float = math.inf,
    location: bool = True,
) -> bytes | None:
    """What of the EXIF is true of an upright picture of that width and height.

    Args:
        location: also where it was taken: without it, neither positions nor the maker's note stay.
        turned: by a quarter, so that the resolutions change places.
        most: bytes that there is room for.
    """
    first = {tag: exif[tag] for tag in exif if tag in ABOUT_THE_PICTURE}
    if _says_the_layout(str(first.get(_DESCRIPTION, ""))):
        del first[_DESCRIPTION]
    if turned:
        pair = first.pop(_X_RESOLUTION, None), first.pop(_Y_RESOLUTION, None)
        names = (_Y_RESOLUTION, _X_RESOLUTION)
        first |= {n: v for n, v in zip(names, pair, strict=True) if v is not None}
    camera = dict(exif.get_ifd(_EXIF))
    for tag, side in zip((_WIDTH, _HEIGHT), size, strict=True):
        if tag in camera:
            camera[tag] = side
    camera = {tag: value for tag, value in camera.items() if tag not in _ABOUT_THE_FILE}
    place = dict(exif.get_ifd(_GPS)) if location else {}
    if not location and camera.pop(_MAKER_NOTE, None) is not None:
        notes.append(MAKER_NOTE_GONE)
    if not (first or camera or place):
        return None
    first[ORIENTATION] = 1
    whole = _serialised(first, camera, place)
    if whole is None:  # some value is of a kind that its tag cannot have
        parts = [
            {tag: v for tag, v in part.items() if _serialised(*_alone(index, tag, v)) is not None}
            for index, part in enumerate((first, camera, place))
        ]
        lost = len(first) + len(camera) + len(place) - sum(map(len, parts))
        notes.append(_lost(lost))
        whole = _serialised(*parts)
    if whole is not None and len(whole) > most and camera.pop(_MAKER_NOTE, None) is not None:
        notes.append("the maker's note of its EXIF is too long and was left out")
        whole = _serialised(first, camera, place)
    if whole is not None and len(whole) > most:
        notes.append("its EXIF is too long and was left out")
        return None
    return whole


def without_place(data: bytes, notes: list[str]) -> bytes | None:
    """EXIF of a file whose pixels stay, without the GPS directory and a maker's note.

    Makers note positions and names of places in ways of their own.

    Returns:
        `data` itself where it has neither; None where it cannot be read or written again.
    """
    exif = attempt(lambda: parse_exif(data, notes), notes, "EXIF")
    if exif is None:
        return None
    camera = dict(exif.get_ifd(_EXIF))
    noted = camera.pop(_MAKER_NOTE, None) is not None
    if not noted and not exif.get_ifd(_GPS):
        return data
    notes += [MAKER_NOTE_GONE] * noted
    return _serialised({t: exif[t] for t in exif if t not in (_EXIF, _GPS)}, camera, {})


def _says_the_layout(description: str) -> bool:
    """Whether tifffile, ImageJ, SCIFIO or OME say in it how the pixels of that file lie."""
    start = description[:4096].lstrip()
    return start.startswith(('{"shape"', "shape=", "ImageJ=", "SCIFIO=")) or "<OME" in start


def _alone(index: int, tag: int, value: Any) -> list[dict[int, Any]]:
    return [{tag: value} if i == index else {} for i in range(3)]


def _serialised(
    first: dict[int, Any], camera: dict[int, Any], place: dict[int, Any]
) -> bytes | None:
    from PIL import Image

    exif = Image.Exif()
    for tag, value in first.items():
        exif[tag] = value
    for tag, part in ((_EXIF, camera), (_GPS, place)):
        if part:
            exif[tag] = part
    try:
        return exif.tobytes()
    except Exception:  # noqa: BLE001 (whatever a value of the wrong kind leads to)
        return None


def kept_icc(icc: bytes | None, *, grey: bool, notes: list[str]) -> bytes | None:
    """The profile, where it is one and describes such pixels (ICC.1:2022, 7.2)."""
    if not icc:
        return None
    whole = len(icc) >= 132 and icc[36:40] == b"acsp"
    if not whole or int.from_bytes(icc[:4], "big") > len(icc):
        notes.append("its color profile is damaged and was left out")
        return None
    space = icc[16:20]
    if space != b"RGB " and not (grey and space == b"GRAY"):
        name = shorten(space.decode("latin-1").strip())
        notes.append(f"its color profile is one of {name} pictures and was left out")
        return None
    return icc


def exif_dpi(exif: "Exif | None") -> tuple[Any, Any] | None:
    """Resolution across and down, as it stands."""
    if exif is None or exif.get(_UNIT, _INCH) not in {_INCH, _CENTIMETRE}:
        return None
    across, down = exif.get(_X_RESOLUTION), exif.get(_Y_RESOLUTION)
    if exif.get(_UNIT) == _CENTIMETRE:
        across, down = (v if v is None else float(v) * 2.54 for v in (across, down))
    return across, down


def with_dpi(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """EXIF that has a resolution, for formats that have no other place for it."""
    from PIL import Image

    found = Image.Exif()
    found.load(exif or b"")
    if _X_RESOLUTION not in found:
        found[_X_RESOLUTION], found[_Y_RESOLUTION], found[_UNIT] = *dpi, _INCH
    return found.tobytes()


def kept_dpi(dpi: Any, *, turned: bool = False) -> tuple[float, float] | None:
    """Two sensible numbers or nothing."""
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ArithmeticError):
        return None
    if not all(math.isfinite(v) and 0.5 <= v < 65_000 for v in (across, down)):
        return None
    return (down, across) if turned else (across, down)
