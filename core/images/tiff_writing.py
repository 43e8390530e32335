"""TIFF with 8 or 16 bits: every tag that describes pixels comes from the pixels written.

Pillow writes no colours of 16 bits.
"""

import io
import zlib
from collections.abc import Iterator

import numpy as np

from .metadata import ORIENTATION, parse_exif
from .picture import Picture

_STRIP = 2**20
"""Bytes of a strip before compression, about."""
_DEFLATE, _RGB, _BLACK_IS_ZERO, _UNASSOCIATED, _INCH = 8, 2, 1, 2, 2
_BYTES = 7


def encode_tiff(array: np.ndarray, like: Picture, exif: bytes | None, icc: bytes | None) -> bytes:
    """
    Args:
        array: (h, w, 1 to 4) uint8 or uint16.
        exif: whose tags become the file's own.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    height, width, channels = array.shape
    order = "<u2" if array.dtype == np.uint16 else "u1"
    rows = max(1, _STRIP // (width * channels * array.itemsize))
    strips = [
        zlib.compress(np.ascontiguousarray(array[y : y + rows], order).tobytes(), 6)
        for y in range(0, height, rows)
    ]
    directory = ImageFileDirectory_v2()
    if exif:
        for tag, value in _tags(exif):
            directory[tag] = value
    if like.dpi:
        directory[282], directory[283], directory[296] = *like.dpi, _INCH
    directory[256], directory[257] = width, height
    directory[258] = (array.itemsize * 8,) * channels
    directory[259] = _DEFLATE
    directory[262] = _RGB if channels >= 3 else _BLACK_IS_ZERO
    directory[277], directory[278] = channels, rows
    directory[284] = 1
    if channels in {2, 4}:
        directory[338] = _UNASSOCIATED
    directory[ORIENTATION] = 1
    if icc:
        directory.tagtype[34675] = _BYTES
        directory[34675] = icc
    directory[279] = tuple(map(len, strips))
    starts = np.cumsum([0, *map(len, strips[:-1])]).tolist()
    directory.tagtype[273] = 4
    directory[273] = tuple(starts)  # from the directory's end, as Pillow counts when saving
    file = io.BytesIO()
    directory.save(file)
    for strip in strips:
        file.write(strip)
    return file.getvalue()


def _tags(exif: bytes) -> Iterator[tuple[int, object]]:
    parsed = parse_exif(exif, [])
    if parsed is None:
        return
    pointers = (0x8769, 0x8825)
    yield from ((tag, parsed[tag]) for tag in parsed if tag not in pointers)
    yield from ((tag, part) for tag in pointers if (part := dict(parsed.get_ifd(tag))))
