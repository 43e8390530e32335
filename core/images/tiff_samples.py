"""The samples of a TIFF as they are stored, whatever they mean (TIFF 6.0, 3 to 15)."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from .picture import check_size, refused, silence
from .tiff_tags import Directory, TagError

NONE, LZW, OLD_JPEG, JPEG, PACKBITS = 1, 5, 6, 7, 32773
_FAX = {2, 3, 4}
_ZLIB = {8, 32946}
_LIBTIFF = {LZW: "LZW", PACKBITS: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
_PREDICTED = {LZW, 34925, 50000} | _ZLIB
_OTHER = {OLD_JPEG: "old-style JPEG", 32809: "ThunderScan", 33003: "JPEG 2000",
          33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG",
          50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}  # fmt: skip
_MOST_SAMPLES = 16
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_YCBCR = 6


class UnreadableKindError(ValueError):
    """A kind of TIFF that is not read; the message continues "a TIFF with"."""


@dataclass(frozen=True)
class Layout:
    """How the samples of a page lie in its file."""

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    compression: int
    planar: bool
    predictor: int
    backwards: bool
    """Bits of a byte run from the lowest to the highest."""
    segment: tuple[int, int]
    """Width and height of a tile or strip."""
    subsampling: tuple[int, int]
    """Of the colour of YCbCr, across and down."""

    @property
    def inner(self) -> int:
        """Samples of a pixel that lie in one segment."""
        return 1 if self.planar else self.samples

    @property
    def units(self) -> bool:
        """Uncompressed YCbCr lies in units of several pixels."""
        ycbcr = self.photometric == _YCBCR and self.compression != JPEG and not self.planar
        return ycbcr and self.subsampling != (1, 1)


def read_layout(page: Directory, path: object) -> Layout:
    """
    Raises:
        TagError: tags that are missing or contradict each other.
        UnreadableKindError: a kind that is not read.
        FacewrightError: too many pixels.
    """
    width, height = page.number(256), page.number(257)
    check_size(width, height, path)
    samples = page.number(277, 1)
    bits = set(page.numbers(258, (1,)))
    formats = set(page.numbers(339, (1,)))
    compression = page.number(259, NONE)
    if not 1 <= samples <= _MOST_SAMPLES:
        raise UnreadableKindError(f"{samples} channels")
    if len(bits) > 1:
        raise UnreadableKindError("channels of different depth")
    depth = bits.pop()
    if formats - {1, 4} or not 1 <= depth <= 16:
        names = {1: "whole", 2: "signed whole", 3: "floating-point", 4: "whole"}
        kind = " and ".join(sorted({names.get(f, "complex or unknown") for f in formats}))
        what = f"stores {depth}-bit values ({kind} numbers), whose white point is unknown"
        raise refused(path, what)
    planar = page.number(284, 1) == 2 and samples > 1
    if 322 in page.tags:
        segment = page.number(322), page.number(323)
    else:
        segment = width, min(page.number(278, height), height)
    if not (0 < segment[0] <= 2 * width + 4096 and 0 < segment[1] <= 2 * height + 4096):
        raise TagError(f"tiles of {segment[0]} x {segment[1]} pixels")
    photometric = page.number(262, _usual(samples, compression))
    across, down = (*page.numbers(530, (2, 2)), 1)[:2] if photometric == _YCBCR else (1, 1)
    layout = Layout(
        width,
        height,
        samples,
        depth,
        photometric,
        compression,
        planar,
        page.number(317, 1) if compression in _PREDICTED else 1,
        page.number(266, 1) == 2,
        segment,
        (across, down),
    )
    _check(layout)
    return layout


def _usual(samples: int, compression: int) -> int:
    """What colours are where a file does not say: as libtiff takes it."""
    if samples >= 3:
        return 2
    return 0 if compression in _FAX else 1


def _check(layout: Layout) -> None:
    """Raise UnreadableKindError for combinations that have no decoder here."""
    compression, bits = layout.compression, layout.bits
    known = {NONE, JPEG} | _FAX | _ZLIB | _LIBTIFF.keys()
    if compression not in known:
        raise UnreadableKindError(
            f"{_OTHER.get(compression, f'unknown ({compression})')} compression"
        )
    if layout.predictor not in {1, 2} or (layout.predictor == 2 and bits not in {8, 16}):
        raise UnreadableKindError(f"predictor {layout.predictor} at {bits} bits")
    if compression in _FAX and (bits, layout.samples) != (1, 1):
        raise UnreadableKindError(f"fax compression of {layout.samples} x {bits} bits")
    if compression == JPEG and (bits != 8 or layout.inner not in {1, 3, 4}):
        raise UnreadableKindError(f"JPEG compression of {layout.inner} x {bits} bits")
    if layout.photometric == _YCBCR:
        if bits != 8 or layout.samples != 3:
            raise UnreadableKindError(f"YCbCr of {layout.samples} x {bits} bits")
        if not set(layout.subsampling) <= {1, 2, 4}:
            raise UnreadableKindError(f"YCbCr subsampled {layout.subsampling}")
        if layout.planar and layout.subsampling != (1, 1):
            raise UnreadableKindError("planar subsampled YCbCr")
        if layout.units and layout.predictor == 2:
            raise UnreadableKindError("a predictor over subsampled YCbCr")


def read_samples(data: bytes, page: Directory, layout: Layout) -> np.ndarray:
    """(h, w, samples) uint8 or, above 8 bits, uint16; YCbCr in JPEG has become RGB.

    Raises:
        TagError: segments that are missing or too short.
        UnreadableKindError: a compression that this Pillow does not know.
        Exception: whatever Pillow and zlib make of damage.
    """
    across, down = layout.segment
    columns, rows = -(-layout.width // across), -(-layout.height // down)
    planes = layout.samples if layout.planar else 1
    tiled = 322 in page.tags
    offsets = page.numbers(324 if tiled else 273)
    counts = page.numbers(325 if tiled else 279, () if len(offsets) == 1 else None)
    counts = counts or [len(data) - offsets[0]]
    if min(len(offsets), len(counts)) < columns * rows * planes:
        raise TagError("it ends early")
    if columns * rows * planes > layout.width * layout.height * planes:
        raise TagError("more tiles than pixels")
    if sum(min(n, len(data)) for n in counts[: columns * rows * planes]) > 16 * len(data):
        raise TagError("its parts overlap")
    kind = np.uint8 if layout.bits <= 8 else np.uint16
    out = np.zeros((layout.height, layout.width, layout.samples), kind)
    for index in range(columns * rows * planes):
        plane, at = divmod(index, columns * rows)
        y, x = (at // columns) * down, (at % columns) * across
        high = down if tiled else min(down, layout.height - y)
        raw = data[offsets[index] : offsets[index] + counts[index]]
        segment = _segment(raw, page, layout, (across, high))
        where = out[y : y + high, x : x + across]
        part = segment[: where.shape[0], : where.shape[1]]
        if layout.planar:
            where[..., plane] = part[..., 0]
        else:
            where[:] = part
    return out


def _segment(raw: bytes, page: Directory, layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """(h, w, inner)"""
    width, height = size
    if layout.compression == JPEG:
        return _jpeg(raw, page, layout, size)
    if layout.units:
        return _ycbcr_units(raw, page, layout, size)
    bits = layout.bits
    row = -(-width * layout.inner * bits // 8)
    raw = _unpacked(raw, page, layout, (row, height), width)
    stored = np.frombuffer(raw, np.uint8, row * height).reshape(height, row)
    if bits == 8:
        values = stored.reshape(height, width, layout.inner)
    elif bits == 16:
        values = stored.view(f"{page.order}u2").reshape(height, width, layout.inner)
        values = values.astype(np.uint16)
    else:
        ones = np.unpackbits(stored, axis=1)[:, : width * layout.inner * bits]
        ones = ones.reshape(height, width, layout.inner, bits)
        values = np.zeros(ones.shape[:3], np.uint8 if bits < 8 else np.uint16)
        for bit in range(bits):
            values = (values << 1) | ones[..., bit]
    if layout.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=values.dtype)
    return values


def _unpacked(
    raw: bytes, page: Directory, layout: Layout, size: tuple[int, int], width: int
) -> bytes:
    """The bytes of a segment without compression, as many as `size` asks for.

    Args:
        size: bytes of a row, and rows.
    """
    compression = layout.compression
    if layout.backwards and compression not in _FAX:
        raw = raw.translate(_REVERSED)
    if compression in _ZLIB:
        raw = zlib.decompressobj().decompress(raw, size[0] * size[1])
    elif compression in _FAX:
        raw = _by_libtiff(raw, compression, (width, size[1]), 1, page)
    elif compression != NONE:
        raw = _by_libtiff(raw, compression, size, 8, page)
    if len(raw) < size[0] * size[1]:
        raise TagError("it ends early")
    return raw


def _by_libtiff(
    raw: bytes, compression: int, size: tuple[int, int], bits: int, page: Directory
) -> bytes:
    """Unpack with the decoder in Pillow: as the rows of a grey picture, which mean nothing else."""
    from PIL import Image, features

    if not features.check_codec("libtiff"):
        name = _LIBTIFF.get(compression, "fax")
        raise UnreadableKindError(f"{name} compression, which this Pillow was built without")
    tags = {256: size[0], 257: size[1], 258: bits, 259: compression, 262: 1, 273: 0, 277: 1,
            278: size[1], 279: len(raw)}  # fmt: skip
    if compression in _FAX:
        options = 293 if compression == 4 else 292
        tags |= {266: page.number(266, 1), options: page.number(options, 0)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + b"\0\0\0\0"
    whole = b"II*\0\x08\0\0\0" + directory + raw
    image = Image.open(io.BytesIO(whole), formats=("TIFF",))
    with silence():
        return image.tobytes()


def _jpeg(raw: bytes, page: Directory, layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """A segment that is a JPEG, whose tables lie in a tag (TIFF Technical Note 2)."""
    from PIL import Image

    tables = page.raw(347) or b""
    # What says whether three components are RGB: without it, decoders guess.
    transform = 1 if layout.photometric == _YCBCR else 0
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    whole = raw[:2] + (adobe if layout.inner > 1 else b"") + tables[2:-2] + raw[2:]
    image = Image.open(io.BytesIO(whole), formats=("JPEG",))
    if len(image.getbands()) != layout.inner or any(
        a < b for a, b in zip(image.size, size, strict=True)
    ):
        raise TagError("its tiles are not what it says")
    if image.size[0] > 2 * size[0] + 64 or image.size[1] > 2 * size[1] + 64:
        raise TagError("its tiles are too large")
    array = np.asarray(image).reshape(image.height, image.width, layout.inner)
    # Pillow turns four components round, as Adobe's own files need it and TIFF does not.
    return 255 - array if layout.inner == 4 else array


def _ycbcr_units(raw: bytes, page: Directory, layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3): the colour of a unit repeated for each of its pixels (TIFF 6.0, 21)."""
    across, down = layout.subsampling
    columns, rows = -(-size[0] // across), -(-size[1] // down)
    luma = across * down
    raw = _unpacked(raw, page, layout, (columns * (luma + 2), rows), 0)
    units = np.frombuffer(raw, np.uint8, rows * columns * (luma + 2))
    units = units.reshape(rows, columns, luma + 2)
    y = units[..., :luma].reshape(rows, columns, down, across).transpose(0, 2, 1, 3)
    color = units[..., luma:].repeat(down, axis=0).repeat(across, axis=1)
    y = y.reshape(rows * down, columns * across, 1)
    return np.concatenate([y, color], axis=2)[: size[1], : size[0]]
