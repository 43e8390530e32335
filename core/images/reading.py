"""Any picture file decoded: the reader of its format chosen by content, what it holds made even."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import FacewrightError, shorten
from ..files.scan import why_special, why_unread
from .colors import cmyk_to_rgb, lab_to_rgb
from .jpeg import read_jpeg
from .metadata import attempt, exif_dpi, kept_dpi, kept_exif, kept_icc, orientation, parse_exif
from .picture import (
    MAX_PIXELS,
    Encoded,
    Picture,
    Stored,
    check_size,
    damaged,
    from_pillow,
    no_warnings,
    pages,
    refused,
)
from .png import SIGNATURE, png_size, read_png
from .tiff import read_tiff, tiff_size
from .tiff_tags import is_tiff

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

_PROGRAMS = {"EPS", "WMF"}
"""Drawings, which Pillow hands to other programs."""
_TURNED = {"HEIF", "JXL"}
"""Formats whose decoders turn the picture, whatever its EXIF says."""
_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L"}


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode any still picture that Pillow knows, upright after its EXIF orientation.

    16-bit PNG, TIFF and PPM keep their depth (Pillow would cut RGB to 8 bits), alpha and ICC
    profile are kept, CMYK becomes RGB through its own profile, palettes become RGB. Metadata that
    cannot be read costs a note, never the picture.

    Raises:
        FacewrightError: no picture, damaged, animated, of a kind that cannot be restored, or larger
            than `MAX_PIXELS`.
    """
    path = Path(path)
    return decode_picture(_content(path), path)


def _content(path: Path) -> bytes:
    if why := why_special(path):  # opening a named pipe would wait for ever
        raise FacewrightError(f"{path} is {why}. Give a picture's file.")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FacewrightError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise FacewrightError(f"{path} is a folder, not a picture.") from error
    except OSError as error:
        raise FacewrightError(f"{path} cannot be opened ({error}).") from error


@no_warnings()
def decode_picture(data: bytes, path: str | os.PathLike[str]) -> Picture:
    """`read_picture` of a file's content; `path` is what errors call it.

    Raises:
        FacewrightError: as `read_picture`.
    """
    stored = read_stored(data, path)
    notes = stored.notes
    array, turn = upright(stored)
    size, quarter = (array.shape[1], array.shape[0]), turn >= 5
    exif = None
    if found := stored.exif:
        exif = attempt(lambda: kept_exif(found, size, notes, turned=quarter), notes, "EXIF")
    dpi = stored.dpi or attempt(lambda: exif_dpi(stored.exif), [], "resolution")
    icc = kept_icc(stored.icc, grey=stored.grey, notes=notes)
    planes = np.empty((array.shape[2], *array.shape[:2]), np.float32)
    for k in range(len(planes)):
        planes[k] = array[..., k]
    return Picture(
        torch.from_numpy(planes).div_(float(2**stored.bits - 1)),
        stored.bits,
        stored.grey,
        icc,
        exif or None,
        [*dict.fromkeys([*stored.conversions, *notes])],
        kept_dpi(dpi, turned=quarter),
        stored.lossless,
        Encoded(data, stored.format, tuple(stored.conversions)),
        stored.space,
    )


@no_warnings()
def read_stored(data: bytes, path: object) -> Stored:
    """The pixels of a file as they are stored, and what is said about them.

    Raises:
        FacewrightError: as `read_picture`.
    """
    if not data:
        raise FacewrightError(f"{path} is empty (0 bytes); copy or download it again.")
    try:
        stored = _reader(data)(data, path)
        check_size(stored.array.shape[1], stored.array.shape[0], path)
    except FacewrightError:
        raise
    except MemoryError as error:
        raise FacewrightError(
            f"{path} needs more memory than there is. Scale it down first."
        ) from error
    except Exception as error:  # decoders raise whatever damage leads them to
        raise damaged(path, shorten(error, 200)) from error
    return stored


def _reader(data: bytes) -> Callable[[bytes, object], Stored]:
    if data.startswith(SIGNATURE):
        return read_png
    if data.startswith(b"\xff\xd8"):
        return read_jpeg
    return read_tiff if is_tiff(data) else _read_other


def _read_other(data: bytes, path: object) -> Stored:
    """What Pillow alone reads."""
    opened = _opened(data, path)
    frames = getattr(opened, "n_frames", 1)
    if frames > 1:
        raise pages(path, frames)
    image: Image = opened
    notes: list[str] = []
    conversions: list[str] = []
    icc, xmp = image.info.get("icc_profile"), image.info.get("xmp")
    packed: bytes = image.info.get("exif") or b""
    exif = attempt(lambda: parse_exif(packed, notes), notes, "EXIF") if packed else None
    form, dpi, grey = image.format, image.info.get("dpi"), image.mode in _GREY
    if form == "PPM" and (deep := _deep_ppm(opened, data, path)) is not None:
        array = deep
        grey = image.mode == "I"
    elif image.mode.startswith("I;16") or (form == "PPM" and image.mode == "I"):
        array = np.asarray(image).astype(np.uint16)[..., None].repeat(3, axis=2)
    else:
        if image.mode in {"I", "F"}:
            raise refused(path, "stores 32-bit values, whose white point is unknown")
        if image.mode == "CMYK":
            image, icc = cmyk_to_rgb(image, icc, conversions), None
        elif image.mode == "LAB":
            image, icc = lab_to_rgb(image, conversions), None
        elif image.mode == "La":
            image = image.convert("LA")
        has_alpha = "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "RGBa"}
        array = from_pillow(image, "RGBA" if has_alpha else "RGB")
    grey = grey or (form == "PPM" and image.mode == "I")
    if (depth := _depth(data, form)) > 8 and array.dtype == np.uint8:
        conversions.append(f"its {depth} bits per channel became 8")
    return Stored(
        array,
        form or "",
        grey=grey,
        icc=icc if isinstance(icc, bytes) else None,
        exif=exif or None,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=dpi,
        lossless=form == "WEBP" and _is_lossless_webp(data),
        orientation=1 if form in _TURNED else None,
        notes=notes,
        conversions=conversions,
    )


def _opened(data: bytes, path: object) -> "ImageFile":
    from PIL import Image, UnidentifiedImageError

    unread = why_unread(Path(str(path)).suffix.lower())  # also has Pillow know its plug-ins
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        what = "is no picture in a format Pillow knows. Convert it to PNG or JPEG first."
        if "install" in unread:
            what = f"cannot be read ({unread}). Or convert it to PNG or JPEG first."
        raise FacewrightError(f"{path} {what}") from error
    except Image.DecompressionBombError:
        check_size(MAX_PIXELS, 2, path)  # Pillow's own limit is no larger
        raise
    if image.format in _PROGRAMS:
        raise refused(path, f"is a drawing ({image.format}), not a picture")
    check_size(*image.size, path)
    return image


def _deep_ppm(image: "ImageFile", data: bytes, path: object) -> np.ndarray | None:
    """(h, w, 3) uint16 of a binary PPM or PGM with more than 8 bits, which Pillow cuts."""
    tile = image.tile[0]
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    most = next((a for a in args if isinstance(a, int) and a > 255), None)
    if "I;16B" in args:
        most = 65535
    if most is None or data[:2] not in {b"P5", b"P6"}:
        return None
    channels = 3 if data[:2] == b"P6" else 1
    width, height = image.size
    values = np.frombuffer(data, ">u2", width * height * channels, tile[2])
    scaled = (np.minimum(values, most).astype(np.uint32) * 65535 + most // 2) // most
    array = scaled.astype(np.uint16).reshape(height, width, channels)
    return array if channels == 3 else array.repeat(3, axis=2)


def _depth(data: bytes, form: str | None) -> int:
    """Bits per channel where the header tells of more than Pillow decodes."""
    if form == "JPEG2000" and (at := data.find(b"\xff\x51")) > 0 and at + 40 < len(data):
        return (data[at + 40] & 0x7F) + 1
    if form == "AVIF" and (at := data.find(b"av1C")) > 0 and at + 6 < len(data):
        high, twelve = data[at + 6] & 0x40, data[at + 6] & 0x20
        return 8 if not high else 12 if twelve else 10
    return 8


def _is_lossless_webp(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == b"VP8L":
            return True
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return False


def upright(stored: Stored) -> tuple[np.ndarray, int]:
    """The array after its orientation (1 to 8) was undone, and which that was."""
    array, turn = stored.array, stored.orientation
    if turn is None:
        turn = orientation(stored.exif, stored.xmp, stored.notes)
    if turn >= 5:
        array = array.transpose(1, 0, 2)
    if turn in {2, 3, 6, 7}:
        array = array[:, ::-1]
    if turn in {3, 4, 7, 8}:
        array = array[::-1]
    return array, turn


@no_warnings()
def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of what `read_picture` gives, from the file's header alone.

    Raises:
        Exception: the file is no picture.
    """
    from PIL import Image

    with open(path, "rb") as file:
        start = file.read(len(SIGNATURE))
        file.seek(0)
        if start == SIGNATURE:
            return png_size(file, path)
        if is_tiff(start):
            return tiff_size(file.read(), path)
    with Image.open(path) as opened:
        width, height = opened.size
        exif = attempt(opened.getexif, [], "EXIF")
        turn = 1 if opened.format in _TURNED else orientation(exif, None, [])
    return (height, width) if turn >= 5 else (width, height)
