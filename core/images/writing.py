"""Pictures written like those they came from, and read back before an old file is replaced."""

import io
import math
import os
import struct
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..color import luma
from ..errors import FacewrightError
from ..files.writing import written_whole
from .location import without_location
from .metadata import JPEG_EXIF, attempt, kept_exif, kept_icc, parse_exif, with_dpi
from .picture import FORMATS, Encoded, Picture, Stored, bands, no_warnings, to_array
from .png import encode_png_16, is_srgb, with_space, with_text
from .reading import read_stored, upright
from .tiff_writing import encode_tiff

_NO_ALPHA = {"JPEG", "PPM"}
_DEEP = {"PNG", "TIFF", "PPM"}
_NO_METADATA = {"BMP", "PPM", "JPEG2000"}
_DPI_IN_EXIF = {"WEBP", "AVIF"}
_LOSSY = {"JPEG", "WEBP", "AVIF"}
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}
"""Pixels of a side that there may be."""
_SAVE_OPTIONS = {
    "PNG": {"compress_level": 4},
    # Half-resolution colour would change pixels that the restoration never touched.
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90},
}
_LOSSLESS_WEBP = {"lossless": True, "exact": True}
_CELLS = 8
_FAR = 0.15
"""Mean difference of areas that no compression brings about, but a wrong format does."""


def written_suffix(path: Path) -> str:
    """Suffix of the file a picture is written back to: its own where Pillow writes that format."""
    return path.suffix if path.suffix.lower() in FORMATS else ".png"


def check_sides(path: Path, height: int, width: int) -> None:
    """Raise FacewrightError where a file of this suffix holds no picture that large."""
    file_format = FORMATS.get(path.suffix.lower(), "")
    most = _LONGEST.get(file_format)
    if most and max(height, width) > most:
        raise FacewrightError(
            f"{path.name} would have {width} x {height} pixels, and {file_format} holds at most "
            f"{most} a side. Write PNG or TIFF, or a smaller picture."
        )


@no_warnings()
def write_picture(
    path: str | os.PathLike[str],
    pixels: Tensor,
    like: Picture,
    *,
    text: Mapping[str, str] | None = None,
    quality: int | None = None,
    copy: bool = False,
    location: bool = True,
    private: bool = False,
) -> list[str]:
    """Write pixels (c, h, w) in [0, 1] with depth, greyness, profile and EXIF of `like`.

    The format follows the suffix of `path`; 16 bits are kept in PNG, TIFF and PPM. The file is
    complete or not there at all, and was read back before it took the place of an old one.

    Args:
        text: text chunks by keyword (1 to 79 characters), PNG only; both in Latin-1, so escape what
            leaves it (`json.dumps` does).
        quality: of a JPEG, WebP or AVIF, 1 to 100; None for 95, of an AVIF 90.
        copy: where the pixels are those that were read and the format is the same, write the very
            bytes that were read.
        location: also write where the picture was taken, where `like` says so. Without it neither
            the EXIF nor what else of the file is copied tells.
        private: only the owner may read it, see `written_whole`.

    Returns:
        The notes of `like` and what else the file could not keep, one sentence each; of a copy only
        those that hold of the file itself.

    Raises:
        FacewrightError: an unknown suffix, a format that cannot hold the alpha channel, `text`
            for another format than PNG, or a file that does not hold what was written.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise FacewrightError(
            f"{path.name}: pictures are written as {', '.join(sorted(FORMATS))}. Choose one."
        )
    if text and file_format != "PNG":
        raise FacewrightError(
            f"{path.name}: only PNG keeps {', '.join(text)} beside the picture. Write PNG, or "
            "leave it out."
        )
    told: list[str] = []
    same = _untouched(pixels, like, file_format, path) if copy else None
    if same is not None and not location:
        same = without_location(same, told)
    if same is not None:
        whole = with_text(same.data, text) if text else same.data
        write_atomic(path, whole, _is_exactly(pixels), private=private)
        return [*(note for note in like.notes if note not in same.conversions), *told]
    if len(pixels) == 4 and file_format in _NO_ALPHA:
        raise FacewrightError(
            f"{path.name}: {file_format} cannot keep the transparency of this picture. "
            "Write PNG, WebP or TIFF instead."
        )
    check_sides(path, pixels.shape[-2], pixels.shape[-1])
    deep = like.bits == 16 and file_format in _DEEP
    array = _to_write(pixels, like, 16 if deep else 8)
    notes = [*like.notes]
    data = _encode(array, like, file_format, quality, notes, location)
    if copy and file_format in _LOSSY and _equal(pixels, like.pixels):
        notes.append(f"it was stored anew as {file_format}")
    if file_format == "PNG" and like.space:
        data = with_space(data, like.space)
    exact = file_format not in _LOSSY or (file_format == "WEBP" and like.lossless)
    check = holds(array, exact)
    write_atomic(path, with_text(data, text) if text else data, check, private=private)
    return notes


def write_atomic(
    path: Path,
    data: bytes,
    check: Callable[[Stored], str | None] | None = None,
    *,
    private: bool = False,
) -> None:
    """Write a file so that nobody ever sees half of it.

    Args:
        check: given the picture that was read back, says what is wrong with it.
        private: see `written_whole`.

    Raises:
        FacewrightError: something is; the old file stays.
        OSError: the file cannot be written.
    """
    with written_whole(path, private=private) as temporary:
        temporary.write_bytes(data)
        if check is None:
            return
        try:
            wrong = check(read_stored(temporary.read_bytes(), path.name))
        except FacewrightError as error:
            wrong = str(error)
        if wrong:
            raise FacewrightError(
                f"{path} was not written, because it could not be read back as it should be: "
                f"{wrong} Try another format, such as PNG, or another disk."
            )


def _untouched(pixels: Tensor, like: Picture, file_format: str, path: Path) -> Encoded | None:
    """The file that was read, where it is of this format and still holds these pixels."""
    known = like.encoded
    if known is None or known.format != file_format or not _equal(pixels, like.pixels):
        return None
    # `like.pixels` may have been changed in place since; the file was not.
    stored = read_stored(known.data, path)
    same = np.array_equal(upright(stored)[0], to_array(pixels, stored.bits))
    return known if same else None


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b), b)


def _to_write(pixels: Tensor, like: Picture, bits: int) -> np.ndarray:
    """(h, w, c), c 1 to 4."""
    if like.grey:
        pixels = torch.cat([luma(pixels[:3]), pixels[3:]])
    return to_array(pixels, bits)


def _is_exactly(pixels: Tensor) -> Callable[[Stored], str | None]:
    """Of bytes that were copied and decoded before: that they are there."""
    count = pixels.shape[1] * pixels.shape[2]

    def check(stored: Stored) -> str | None:
        there = stored.array.shape[0] * stored.array.shape[1]
        return None if there == count else f"it has {there} pixels instead of {count}."

    return check


def holds(array: np.ndarray, exact: bool = True) -> Callable[[Stored], str | None]:
    """For `write_atomic`: that a file holds this (h, w, c) array, or of a lossy one about this."""

    def check(stored: Stored) -> str | None:
        back = stored.array
        if back.shape[:2] != array.shape[:2]:
            return f"it has {back.shape[1]} x {back.shape[0]} pixels, not {array.shape[1::-1]}."
        if stored.bits != array.itemsize * 8:
            return f"it has {stored.bits} bits per channel."
        color, alpha = _color_and_alpha(array)
        color_back, alpha_back = _color_and_alpha(back)
        if exact:
            same = all(
                (a[rows] == b[rows]).all()
                for a, b in ((color_back, color), (alpha_back, alpha))
                for rows in bands(*array.shape[:2])
            )
            return None if same else "its pixels are others."
        shown = _areas(color, alpha), _areas(color_back, alpha_back)
        return None if np.abs(shown[0] - shown[1]).mean() < _FAR else "its colours are others."

    return check


def _color_and_alpha(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 1 or 3) and (h, w, 1); opaque where there is no alpha."""
    if array.shape[2] in {2, 4}:
        return array[..., :-1], array[..., -1:]
    top = np.iinfo(array.dtype).max
    return array, np.broadcast_to(array.dtype.type(top), (*array.shape[:2], 1))


def _areas(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Means in [0, 1] of a coarse grid of areas; what cannot be seen counts as black."""
    array = color if alpha.min() == np.iinfo(alpha.dtype).max else color * (alpha > 0)
    height, width = array.shape[:2]
    ys = np.unique(np.linspace(0, height, min(_CELLS, height) + 1).astype(int))
    xs = np.unique(np.linspace(0, width, min(_CELLS, width) + 1).astype(int))
    cells = [[array[a:b, c:d].mean((0, 1)) for c, d in pairwise(xs)] for a, b in pairwise(ys)]
    return np.array(cells) / np.iinfo(color.dtype).max


def _encode(
    array: np.ndarray,
    like: Picture,
    file_format: str,
    quality: int | None,
    notes: list[str],
    location: bool,
) -> bytes:
    from PIL import Image

    height, width, channels = array.shape
    bits = array.itemsize * 8
    grey = channels < 3
    most = JPEG_EXIF if file_format == "JPEG" else math.inf
    exif = None
    if kept := like.exif:
        exif = attempt(
            lambda: _exif_of(kept, (width, height), notes, most, location), notes, "EXIF"
        )
    icc = kept_icc(like.icc, grey=grey, notes=notes)
    if file_format in _NO_METADATA:
        for what, there in (("color profile", icc), ("EXIF", exif)):
            if there:
                notes.append(f"its {what} was left out, as {file_format} files hold none here")
    if like.bits == 16 and bits == 8:
        notes.append(f"its 16 bits per channel became 8, as {file_format} files hold no more here")
    if like.space and file_format != "PNG" and not icc and not is_srgb(like.space):
        said = ", ".join(kind.decode("ascii") for kind in like.space)
        notes.append(f"its color space ({said}) was left out, as {file_format} files hold none so")
    if file_format == "TIFF":
        return encode_tiff(array, like, exif, icc)
    if bits == 16:
        if file_format == "PPM":
            return _ppm_16(array)
        return encode_png_16(array, like, exif, icc)
    if file_format == "BMP" and channels in {2, 4}:
        return _bmp_with_alpha(array, like)
    Image.init()
    if file_format not in Image.SAVE:
        raise FacewrightError(
            f"This Pillow was built without {file_format} and cannot write it. Write PNG instead."
        )
    options: dict[str, object] = dict(_SAVE_OPTIONS.get(file_format, {}))
    if quality is not None and "quality" in options:
        options["quality"] = quality
    if file_format == "WEBP" and like.lossless:
        options = dict(_LOSSLESS_WEBP)
    if file_format not in _NO_METADATA:
        options |= {k: v for k, v in {"icc_profile": icc, "exif": exif}.items() if v}
    if like.dpi and file_format in _DPI_IN_EXIF:
        options["exif"] = with_dpi(exif, like.dpi)
    elif like.dpi:
        options["dpi"] = like.dpi
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if channels == 1 else array).save(buffer, file_format, **options)
    return buffer.getvalue()


def _exif_of(
    exif: bytes, size: tuple[int, int], notes: list[str], most: float, location: bool
) -> bytes | None:
    parsed = parse_exif(exif, notes)
    return kept_exif(parsed, size, notes, most=most, location=location) if parsed else None


def _ppm_16(array: np.ndarray) -> bytes:
    height, width, channels = array.shape
    kind = b"P5" if channels == 1 else b"P6"
    return kind + b"\n%d %d\n65535\n" % (width, height) + array.astype(">u2").tobytes()


def _bmp_with_alpha(array: np.ndarray, like: Picture) -> bytes:
    """With a BITMAPV4HEADER, whose masks say that there is alpha; Pillow writes none of it."""
    height, width, channels = array.shape
    order = [2, 1, 0, 3] if channels == 4 else [0, 0, 0, 1]
    rows = np.ascontiguousarray(array[::-1, :, order])
    across, down = (round(v / 0.0254) for v in like.dpi or (0, 0))
    header = struct.pack(
        "<IiiHHIIiiII4I4s48x",
        *(108, width, height, 1, 32, 3, rows.nbytes, across, down, 0, 0),
        *(0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        b"BGRs",
    )
    start = 14 + len(header)
    return struct.pack("<2sIHHI", b"BM", start + rows.nbytes, 0, 0, start) + header + rows.tobytes()
