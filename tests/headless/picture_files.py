"""Picture files made by hand, bit by bit, of kinds that libraries write wrongly or not at all."""

import struct
import zlib

import numpy as np

TURNED = {
    # Where the first row and column of what is stored lie in the picture (TIFF 6.0, tag 274).
    1: lambda a: a,
    2: lambda a: np.flip(a, 1),
    3: lambda a: np.rot90(a, 2),
    4: lambda a: np.flip(a, 0),
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}
"""What shows a picture with such an orientation upright."""


def packed(values, bits, order=">"):
    """(h, n) whole numbers as rows of bytes."""
    if bits == 16:
        return values.astype(f"{order}u2").view(np.uint8).reshape(len(values), -1)
    ones = (values[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(values), -1).astype(np.uint8), axis=1)


def tiff(
    samples,
    bits=8,
    photometric=2,
    *,
    order="<",
    planar=False,
    extra=(),
    orientation=None,
    rows_per_strip=None,
    tile=None,
    predictor=1,
    deflate=False,
    backwards=False,
    big=False,
    tags=None,
    compression=None,
):
    """A TIFF of (h, w, c) whole numbers.

    Args:
        tags: more of them, (type, values) by code; values None leaves one out.
        compression: the tag's value where it is a lie.
    """
    height, width, channels = samples.shape
    groups = np.split(samples, channels, 2) if planar else [samples]
    segments = []
    for group in groups:
        if tile:
            down, across = tile
            pad = (0, -height % down), (0, -width % across), (0, 0)
            whole = np.pad(group, pad, mode="edge")
            parts = [
                whole[y : y + down, x : x + across]
                for y in range(0, whole.shape[0], down)
                for x in range(0, whole.shape[1], across)
            ]
        else:
            step = rows_per_strip or height
            parts = [group[y : y + step] for y in range(0, height, step)]
        for part in parts:
            values = part.astype(np.uint16 if bits == 16 else np.uint8 if bits <= 8 else np.uint16)
            if predictor == 2:
                values = values.copy()
                values[:, 1:] -= values[:, :-1].copy()
            raw = packed(values.reshape(len(part), -1), bits, order).tobytes()
            raw = zlib.compress(raw) if deflate else raw
            segments.append(raw.translate(REVERSED) if backwards else raw)
    found = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [compression or (8 if deflate else 1)]),
        262: (3, [photometric]),
        277: (3, [channels]),
        284: (3, [2 if planar else 1]),
    }
    if tile:
        found |= {322: (4, [tile[1]]), 323: (4, [tile[0]])}
    else:
        found[278] = (4, [rows_per_strip or height])
    if extra:
        found[338] = (3, list(extra))
    if orientation:
        found[274] = (3, [orientation])
    if predictor != 1:
        found[317] = (3, [predictor])
    if backwards:
        found[266] = (3, [2])
    found |= tags or {}
    found = {code: entry for code, entry in found.items() if entry[1] is not None}
    return laid_out(found, segments, (324, 325) if tile else (273, 279), order, big)


REVERSED = bytes(sum(((v >> i) & 1) << (7 - i) for i in range(8)) for v in range(256))
_CODES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "I", 7: "B", 12: "d", 16: "Q"}


def laid_out(tags, segments, where, order, big):
    long, head = ("Q", 16) if big else ("I", 8)
    offset_type = 16 if big else 4
    start, body = head, b""
    offsets = []
    for segment in segments:
        offsets.append(start + len(body))
        body += segment + b"\0" * (len(segment) % 2)
    tags = tags | {
        where[0]: (offset_type, offsets),
        where[1]: (offset_type, list(map(len, segments))),
    }
    entries, aside = [], b""
    for code, (kind, values) in sorted(tags.items()):
        if kind == 2:
            values = [bytes([c]) for c in values]
        raw = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
        count = len(values) // (2 if kind == 5 else 1)
        inline = 8 if big else 4
        if len(raw) > inline:
            place = start + len(body) + len(aside)
            aside += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(order + long, place)
        entries.append(
            struct.pack(f"{order}HH{long}", code, kind, count) + raw.ljust(inline, b"\0")
        )
    at = start + len(body) + len(aside)
    directory = struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries)
    directory += struct.pack(order + long, 0)
    name = b"II" if order == "<" else b"MM"
    if big:
        header = name + struct.pack(order + "HHHQ", 43, 8, 0, at)
    else:
        header = name + struct.pack(order + "HI", 42, at)
    return header + body + aside + directory


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip


def png(samples, depth, color, *, interlace=False, before=(), after=(), filters=True):
    """A PNG of (h, w, c) whole numbers; rows take the filters 0 to 4 in turn.

    Args:
        before, after: chunks around the rows.
    """
    height, width = samples.shape[:2]
    passes = ADAM7 if interlace else ((0, 0, 1, 1),)
    rows = b""
    for x, y, dx, dy in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            rows += _filtered(packed(part.reshape(len(part), -1), depth), depth, color, filters)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlace))
    half = len(squeezed := zlib.compress(rows)) // 2
    data = [(b"IDAT", squeezed[:half]), (b"IDAT", squeezed[half:])]
    chunks = [(b"IHDR", header), *before, *data, *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def _filtered(rows, depth, color, filters):
    step = max(1, depth * _CHANNELS[color] // 8)
    above = np.zeros(rows.shape[1], np.int64)
    out = b""
    for y, row in enumerate(rows.astype(np.int64)):
        left = np.concatenate([np.zeros(step, np.int64), row[:-step]])[: len(row)]
        corner = np.concatenate([np.zeros(step, np.int64), above[:-step]])[: len(row)]
        guess = left + above - corner
        far = [abs(guess - v) for v in (left, above, corner)]
        paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left,
                         np.where(far[1] <= far[2], above, corner))  # fmt: skip
        kind = y % 5 if filters else 0
        predicted = (0, left, above, (left + above) // 2, paeth)[kind]
        out += bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
