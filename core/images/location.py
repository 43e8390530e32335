"""Where a picture was taken, left out of a file whose pixels stay as they are stored.

Positions lie in the GPS directory of the EXIF (CIPA DC-008, 4.6.6), in XMP (exif:GPS..., names of
cities), in IPTC records (IIM 4.2, 2:90 to 2:101), in makers' notes, which nobody can read for sure,
and in what phones put behind the picture: a second one, or a video with its own position.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from .jpeg import EXIF, ICC, XMP, segments
from .metadata import ORIENTATION, attempt, parse_exif, without_place
from .picture import Encoded
from .png import SIGNATURE, chunk

_WORDS = re.compile(
    rb"gps|latitude|longitude|location|iso.?6709|geotag|city|country|province|photoshop:state",
    re.IGNORECASE,
)
_IPTC = re.compile(rb"\x1c\x02[\x1a\x1b\x5a\x5c\x5f\x64\x65]")
_TURNED = re.compile(rb'tiff:Orientation(?:="|>)[2-8]\b')
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MOST = 64 * 2**20
"""Bytes that compressed text may unfold to."""
_WEBP_XMP = 0x04
"""Flag of a WebP's VP8X chunk."""


class _StoreAnewError(Exception):
    """The place cannot be taken out of this file alone."""


def without_location(known: Encoded, notes: list[str]) -> Encoded | None:
    """The file without a place; None where only storing the picture anew leaves it out.

    Args:
        notes: told what else had to go.
    """
    parts = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "BMP": _all, "PPM": _all}.get(known.format)
    if parts is None:
        return None
    told: list[str] = []
    try:
        data = b"".join(parts(known.data, told))
    except (_StoreAnewError, struct.error, zlib.error, IndexError):
        return None
    notes += dict.fromkeys(told)
    return Encoded(data, known.format, known.conversions)


def _all(data: bytes, told: list[str]) -> Iterator[bytes]:
    yield data


def _exif(raw: bytes, told: list[str]) -> bytes:
    kept = without_place(raw, told)
    if kept is None:
        raise _StoreAnewError
    return kept


def _orients(raw: bytes) -> bool:
    """Whether EXIF says how the picture is turned; else XMP may."""
    exif = attempt(lambda: parse_exif(raw, []), [], "EXIF")
    return exif is not None and ORIENTATION in exif


def _kept(raw: bytes, what: str, told: list[str], turned: bool) -> bool:
    """Whether a packet of metadata may stay; `turned`: EXIF says how the picture is turned."""
    speaks = _WORDS.search(raw.replace(b"\0", b"")) or (what == "IPTC" and _IPTC.search(raw))
    if not speaks:
        return True
    if _TURNED.search(raw) and not turned:
        raise _StoreAnewError
    told.append(f"its {what} speaks of a place and was left out")
    return False


def _jpeg(data: bytes, told: list[str]) -> Iterator[bytes]:
    yield data[:2]
    end, found = 2, [(m, start, stop, data[start + 4 : stop]) for m, start, stop in segments(data)]
    about = (body for marker, _, _, body in found if marker == 0xE1 and body.startswith(EXIF))
    turned = any(map(_orients, about))
    for marker, start, stop, body in found:
        end = stop
        if marker == 0xE1 and body.startswith(EXIF):
            kept = _exif(body, told)
            yield struct.pack(">2sH", b"\xff\xe1", len(kept) + 2) + kept
        elif marker in (0xE1, 0xED):
            xmp = marker == 0xE1 and body.startswith((XMP, b"http://ns.adobe.com/xmp/"))
            if _kept(body, "XMP" if xmp else "IPTC", told, turned):
                yield data[start:stop]
        elif not 0xE1 <= marker <= 0xEF or marker == 0xEE or body.startswith(ICC):
            yield data[start:stop]
        else:
            told.append("a program's own notes in it were left out, as they may speak of a place")
    stop = _end_of_jpeg(data, end)
    if stop < len(data):
        told.append("what followed the picture in its file (a second one, a video) was left out")
    yield data[end:stop]


def _end_of_jpeg(data: bytes, at: int) -> int:
    """Behind the end marker of the picture whose first scan begins at `at`."""
    while found := _NEXT_MARKER.search(data, at):
        at = found.end()
        if data[at - 1] == 0xD9:
            return at
        at += struct.unpack_from(">H", data, at)[0]
    return len(data)


def _png(data: bytes, told: list[str]) -> Iterator[bytes]:
    yield data[: len(SIGNATURE)]
    at, turned = len(SIGNATURE), False
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body, start = data[at + 8 : at + 8 + length], at
        at += 12 + length
        keyword = body.partition(b"\0")[0]
        if kind == b"eXIf":
            turned = _orients(body)
            yield chunk(kind, _exif(body, told).removeprefix(EXIF))
            continue
        if kind in (b"tEXt", b"zTXt", b"iTXt") and keyword.startswith(b"Raw profile type"):
            if keyword.lower().endswith((b"exif", b"app1")):
                raise _StoreAnewError  # the picture's orientation may be in it
            told.append("its IPTC or XMP was left out, as it may speak of a place")
            continue
        if kind == b"iTXt" and keyword == b"XML:com.adobe.xmp":
            if not _kept(_itxt(body), "XMP", told, turned):
                continue
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and _WORDS.search(keyword):
            told.append("its text on a place was left out")
            continue
        yield data[start:at]
        if kind == b"IEND":
            return


def _itxt(body: bytes) -> bytes:
    """What an international text chunk says."""
    packed, rest = body.partition(b"\0")[2][:1], body.partition(b"\0")[2][2:]
    text = rest.split(b"\0", 2)[-1]
    return zlib.decompressobj().decompress(text, _MOST) if packed == b"\1" else text


def _webp(data: bytes, told: list[str]) -> Iterator[bytes]:
    """RIFF: chunks of even length; the first, VP8X, says which others there are."""
    at, chunks, gone = 12, [], 0
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    turned = any(kind == b"EXIF" and _orients(body) for kind, body in chunks)
    kept = []
    for kind, given in chunks:
        body = given
        if kind == b"EXIF":
            body = _exif(given, told).removeprefix(EXIF)
        elif kind == b"XMP " and not _kept(given, "XMP", told, turned):
            gone |= _WEBP_XMP
            continue
        kept.append((kind, body))
    whole = b"WEBP"
    for kind, given in kept:
        flags = bytes([given[0] & ~gone]) + given[1:] if kind == b"VP8X" else given
        whole += kind + struct.pack("<I", len(flags)) + flags + b"\0" * (len(flags) % 2)
    yield b"RIFF" + struct.pack("<I", len(whole)) + whole
