"""PNG: pixels from the chunks that hold them, the rest apart, so that neither spoils the other.

Own code, because Pillow cuts colours of 16 bits to 8, and OpenCV keeps nothing but the pixels.
After the PNG specification, third edition: section 5 (chunks), 9 (filtering), 11 (their content).
"""

import io
import os
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

import numpy as np

from ..errors import FacewrightError
from .metadata import attempt, orientation, parse_exif
from .picture import Picture, Stored, bands, check_size, damaged, from_pillow, pages, silence

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AFTER_HEADER = len(SIGNATURE) + 25
"""Length of a PNG's signature and IHDR chunk."""
_MOST_METADATA = 64 * 2**20
"""Bytes that a compressed chunk may unfold to."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_TEXT = b"text "
"""Before the keyword of what is text."""
_RAW_EXIF = _TEXT + b"Raw profile type exif"
_XMP = _TEXT + b"XML:com.adobe.xmp"
_SPACE = {b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
"""Chunks that say what the values of pixels look like, and their lengths."""
_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
"""Of Adam7: first column and row, steps between them."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    color: int
    compression: int
    filters: int
    interlace: int


def read_png(data: bytes, path: object) -> Stored:
    """
    Raises:
        FacewrightError: damaged, animated, or too large.
    """
    notes: list[str] = []
    chunks, rows = _chunks(data, path, notes)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise damaged(path, "its header is missing")
    header = _Header(*struct.unpack(">IIBBBBB", chunks[b"IHDR"]))
    check_size(header.width, header.height, path)
    frames = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        raise pages(path, frames)
    deep = header.depth == 16
    array = _decode_16(header, rows, path) if deep else _decode_8(header, chunks, rows)
    if header.color in {0, 2} and b"tRNS" in chunks:
        array = _see_through(array, header, chunks[b"tRNS"], notes)
    stored = Stored(array, "PNG", grey=header.color in {0, 4}, notes=notes)
    _metadata(stored, chunks)
    return stored


def _chunks(data: bytes, path: object, notes: list[str]) -> tuple[dict[bytes, bytes], bytes]:
    """The first chunk of each kind, text by its keyword; and all IDAT chunks joined."""
    found: dict[bytes, bytes] = {}
    rows, at = [], len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        at += 12 + length
        if len(check) == 4 and int.from_bytes(check, "big") != zlib.crc32(kind + body):
            if not kind[0] & 0x20:  # upper case: needed for the pixels
                raise damaged(path, "a checksum is wrong")
            notes.append("a piece of its metadata is damaged and was left out")
            continue
        if kind == b"IDAT":
            rows.append(body)
        elif kind == b"IEND":
            break
        elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
            found.setdefault(_TEXT + body.partition(b"\0")[0], kind + body)
        else:
            found.setdefault(kind, body)
    return found, b"".join(rows)


def png_size(file: BinaryIO, path: object) -> tuple[int, int]:
    """Width and height, upright; rows are skipped, and what lies behind them is read.

    Raises:
        Exception: whatever damage leads to.
    """
    parts = [file.read(len(SIGNATURE))]
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            file.seek(length + 4, os.SEEK_CUR)
        else:
            parts += [head, file.read(length + 4)]
    chunks, _ = _chunks(b"".join(parts), path, [])
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    about = Stored(np.empty((0, 0, 3), np.uint8), "PNG")
    _metadata(about, chunks)
    turned = orientation(about.exif, about.xmp, []) >= 5
    return (height, width) if turned else (width, height)


def _decode_8(header: _Header, chunks: dict[bytes, bytes], rows: bytes) -> np.ndarray:
    from PIL import Image

    needed = [(b"IHDR", chunks[b"IHDR"])]
    if header.color == 3:
        needed += [(kind, chunks[kind]) for kind in (b"PLTE", b"tRNS") if kind in chunks]
    image = Image.open(io.BytesIO(_file(needed, rows)), formats=("PNG",))
    alpha = image.mode in {"LA", "RGBA"} or "transparency" in image.info
    return from_pillow(image, "RGBA" if alpha else "RGB")


def _decode_16(header: _Header, rows: bytes, path: object) -> np.ndarray:
    try:
        import cv2
    except ImportError as error:
        raise FacewrightError(
            f"{path} has 16 bits per channel; reading it needs OpenCV. Install it with "
            '`pip install "facewright[headless]"`.'
        ) from error
    if header.color not in {0, 2, 4, 6}:
        raise damaged(path, "its header contradicts itself")
    _check_rows(header, rows, path)
    plain = _file([(b"IHDR", struct.pack(">IIBBBBB", *header))], rows)
    with silence():
        array = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise damaged(path, "its rows cannot be decoded")
    if array.ndim == 2:
        return array[..., None].repeat(3, axis=2)
    for row in array:
        row[:, :3] = row[:, 2::-1].copy()
    return array


def _check_rows(header: _Header, rows: bytes, path: object) -> None:
    """Of rows that end early, or have unknown filters, OpenCV makes a picture all the same."""
    expected, at = _filtered_bytes(header), 0
    step = expected if header.interlace else expected // header.height
    unfolding, folded = zlib.decompressobj(), rows
    while at < expected:
        part = unfolding.decompress(folded, min(expected - at, 2**24))
        if not part:
            raise damaged(path, "it ends early")
        filters = np.frombuffer(part, np.uint8)[-at % step :: step]
        if not header.interlace and filters.size and filters.max() > 4:
            raise damaged(path, "a row has an unknown filter")
        at += len(part)
        folded = unfolding.unconsumed_tail


def _filtered_bytes(header: _Header) -> int:
    """Length of all rows before compression, each with its filter's number."""
    pixel = 2 * _CHANNELS[header.color]
    if not header.interlace:
        return header.height * (1 + header.width * pixel)
    total = 0
    for x, y, dx, dy in _PASSES:
        width, height = -(-(header.width - x) // dx), -(-(header.height - y) // dy)
        total += height * (1 + width * pixel) if width > 0 and height > 0 else 0
    return total


def _see_through(array: np.ndarray, header: _Header, key: bytes, notes: list[str]) -> np.ndarray:
    """With alpha: 0 where all samples are those of tRNS."""
    channels = _CHANNELS[header.color]
    if len(key) != 2 * channels:
        notes.append("its transparent color is damaged and was left out")
        return array
    samples = np.frombuffer(key, ">u2").astype(np.int64) & (2**header.depth - 1)
    if header.depth < 8:
        samples = samples * 255 // (2**header.depth - 1)
    top = np.iinfo(array.dtype).max
    hidden = (array == samples.astype(array.dtype)).all(axis=2)
    alpha = np.where(hidden, 0, top).astype(array.dtype)
    return np.dstack([array, alpha])


def _metadata(stored: Stored, chunks: dict[bytes, bytes]) -> None:
    def inflated(data: bytes) -> bytes:
        unfolding = zlib.decompressobj()
        whole = unfolding.decompress(data, _MOST_METADATA)
        if not unfolding.eof:
            raise ValueError("it ends early or is too long")
        return whole

    def text(keyword: bytes) -> bytes:
        kind, body = chunks[keyword][:4], chunks[keyword][4:].partition(b"\0")[2]
        if kind == b"iTXt":
            packed, (_, _, body) = body[:1], body[2:].split(b"\0", 2)
            return inflated(body) if packed == b"\1" else body
        return inflated(body[1:]) if kind == b"zTXt" else body

    def raw_exif() -> bytes:
        return bytes.fromhex("".join(text(_RAW_EXIF).decode("latin-1").split("\n")[3:]))

    notes = stored.notes
    if b"iCCP" in chunks:
        packed = chunks[b"iCCP"].partition(b"\0")[2][1:]
        stored.icc = attempt(lambda: inflated(packed), notes, "color profile")
    if b"eXIf" in chunks:
        stored.exif = attempt(lambda: parse_exif(chunks[b"eXIf"], notes), notes, "EXIF")
    elif _RAW_EXIF in chunks:  # as ImageMagick wrote it before there was eXIf
        stored.exif = attempt(lambda: parse_exif(raw_exif(), notes), notes, "EXIF")
    if _XMP in chunks:
        stored.xmp = attempt(lambda: text(_XMP), notes, "XMP")
    stored.space = {k: chunks[k] for k, n in _SPACE.items() if len(chunks.get(k, b"")) == n}
    if len(chunks.get(b"pHYs", b"")) == 9 and chunks[b"pHYs"][8] == 1:
        across, down = struct.unpack_from(">II", chunks[b"pHYs"])
        stored.dpi = (across * 0.0254, down * 0.0254)


def encode_png_16(array: np.ndarray, like: Picture, exif: bytes | None, icc: bytes | None) -> bytes:
    """PNG with 16 bits per channel, which Pillow cannot write; rows use the "up" filter."""
    height, width, channels = array.shape
    folding, folded = zlib.compressobj(6), []
    above = np.zeros((1, width * channels * 2), np.uint8)
    for span in bands(height, width):
        rows = np.ascontiguousarray(array[span], dtype=">u2").view(np.uint8)
        rows = rows.reshape(len(rows), -1)
        filtered = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)
        np.subtract(rows, np.vstack([above, rows[:-1]]), out=filtered[:, 1:])
        folded.append(folding.compress(filtered.data))
        above = rows[-1:]
    folded.append(folding.flush())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPE[channels], 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if like.dpi:
        per_metre = (round(value / 0.0254) for value in like.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    return _file(chunks, b"".join(folded))


def with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """A PNG with tEXt chunks after its header, which readers find before the pixels.

    What it said under the same keywords goes.
    """
    said = tuple(key.encode("latin-1") + b"\0" for key in text)
    parts, at = [png[:_AFTER_HEADER]], _AFTER_HEADER
    parts += [
        chunk(b"tEXt", start + value.encode("latin-1"))
        for start, value in zip(said, text.values(), strict=True)
    ]
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        end = at + 12 + length
        is_text = kind in {b"tEXt", b"zTXt", b"iTXt"}
        if not (is_text and png[at + 8 : end].startswith(said)):
            parts.append(png[at:end])
        at = end
    return b"".join(parts)


def with_space(png: bytes, space: Mapping[bytes, bytes]) -> bytes:
    """A PNG that says what its values look like, as the one did that its pixels come from."""
    chunks = b"".join(chunk(kind, body) for kind, body in space.items())
    return png[:_AFTER_HEADER] + chunks + png[_AFTER_HEADER:]


def is_srgb(space: Mapping[bytes, bytes]) -> bool:
    """Whether these chunks describe what is taken for granted without them."""
    if b"cICP" in space:
        return space[b"cICP"] == bytes([1, 13, 0, 1])
    if b"sRGB" in space:
        return True
    (gamma,) = struct.unpack(">I", space.get(b"gAMA", struct.pack(">I", 45455)))
    corners = struct.unpack(">8I", space.get(b"cHRM", struct.pack(">8I", *_SRGB)))
    near = all(abs(a - b) <= 1000 for a, b in zip(corners, _SRGB, strict=True))
    return near and abs(gamma - 45455) <= 1000


def _file(chunks: list[tuple[bytes, bytes]], rows: bytes) -> bytes:
    whole = [*chunks, (b"IDAT", rows), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*c) for c in whole)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
