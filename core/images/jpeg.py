"""JPEG: its picture decoded without the segments that only speak about it.

Pillow decodes; they are cut out here, because broken ones keep it from opening a sound picture.
"""

import io
import struct
from collections.abc import Iterator

from .colors import cmyk_to_rgb
from .metadata import attempt, parse_exif
from .picture import Stored, check_size, from_pillow, refused

_JFIF, _ADOBE, _COMMENT, _START_OF_SCAN = 0xE0, 0xEE, 0xFE, 0xDA
EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
ICC = b"ICC_PROFILE\0"
_READ = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
"""Frames that libjpeg-turbo decodes: Huffman or arithmetic codes, all at once or progressive."""
_OTHER = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}


def read_jpeg(data: bytes, path: object) -> Stored:
    """
    Raises:
        FacewrightError: a kind of JPEG that is not read, or a picture that is too large.
        Exception: whatever Pillow makes of damage.
    """
    from PIL import Image

    notes: list[str] = []
    kept, about = [data[:2]], []
    end = 2
    for marker, start, stop in segments(data):
        end = stop
        body = data[start + 4 : stop]
        if marker in _OTHER or (marker in _READ and body[0] != 8):
            kind = "lossless or hierarchical" if marker in _OTHER else f"{body[0]}-bit"
            raise refused(path, f"is a {kind} JPEG, which cannot be read here")
        if marker in _READ and len(body) > 5:
            height, width = struct.unpack_from(">HH", body, 1)
            check_size(width, height, path)
        if marker in {_JFIF, _ADOBE} or not (0xE0 <= marker <= 0xEF or marker == _COMMENT):
            kept.append(data[start:stop])
        else:
            about.append((marker, body))
    image = Image.open(io.BytesIO(b"".join(kept) + data[end:]), formats=("JPEG",))
    check_size(*image.size, path)
    exif = next((b for m, b in about if m == 0xE1 and b.startswith(EXIF)), None)
    xmp = next((b for m, b in about if m == 0xE1 and b.startswith(XMP)), None)
    icc = attempt(lambda: _profile(about), notes, "color profile")
    conversions: list[str] = []
    grey = image.mode == "L"
    if image.mode == "CMYK":
        image, icc = cmyk_to_rgb(image, icc, conversions), None
    return Stored(
        from_pillow(image, "RGB"),
        "JPEG",
        grey=grey,
        icc=icc,
        exif=attempt(lambda: parse_exif(exif, notes), notes, "EXIF") if exif else None,
        xmp=xmp,
        dpi=image.info.get("dpi"),
        notes=notes,
        conversions=conversions,
    )


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, stop) of what comes before the first scan, as far as it is well formed."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        start, marker = at, data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == _START_OF_SCAN:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
        if length < 3 or at > len(data):
            return
        yield marker, start, at


def _profile(about: list[tuple[int, bytes]]) -> bytes | None:
    """An ICC profile from its numbered pieces (ICC.1:2022, B.4)."""
    pieces = [b[len(ICC) :] for m, b in about if m == 0xE2 and b.startswith(ICC)]
    if not pieces:
        return None
    numbered = {piece[0]: piece[2:] for piece in pieces if len(piece) > 2}
    if sorted(numbered) != list(range(1, pieces[0][1] + 1)):
        raise ValueError("pieces are missing")
    return b"".join(numbered[n] for n in sorted(numbered))
