"""The directory of a TIFF: tags as they stand, checked when they are asked for (TIFF 6.0, 2).

Own code, because one broken tag must not cost the picture, as where a decoder reads both at once.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 8: "i2", 9: "i4", 10: "i4", 13: "u4",
            16: "u8", 18: "u8"}  # fmt: skip
_FRACTIONS = {5, 10}
_DOUBLE = 12
"""The last type of 1992; those after it are of BigTIFF."""
SUBFILE, REDUCED = 254, 1
"""What kind of page it is; the bit of a smaller version of another."""
_POINTERS = (0x8769, 0x8825)
"""To the directories of EXIF and GPS."""
_MOST_EXIF = 16 * 2**20
"""Bytes that EXIF may have; cameras write a few thousand."""
_MOST_PAGES = 10_000


Tags = dict[int, tuple[int, memoryview]]


class TagError(ValueError):
    """A tag that is needed is missing or not what it should be."""


@dataclass(frozen=True)
class Directory:
    """Tags of the first page."""

    order: str
    """"<" or ">"."""
    big: bool
    pages: int
    tags: Tags = field(repr=False)
    """Type and raw value by code."""
    lost: int = 0
    """Entries that lead out of the file."""

    def numbers(self, code: int, default: tuple[int, ...] | None = None) -> list[int]:
        """Whole numbers; of fractions, numerators and denominators in turn.

        Raises:
            TagError: no such tag and no default, or a tag of another type.
        """
        if code not in self.tags:
            if default is None:
                raise TagError(f"tag {code} is missing")
            return list(default)
        kind, raw = self.tags[code]
        if kind not in _NUMBERS or not raw:
            raise TagError(f"tag {code} holds no numbers")
        return np.frombuffer(raw, self.order + _NUMBERS[kind]).tolist()

    def number(self, code: int, default: int | None = None) -> int:
        """The first of them."""
        return self.numbers(code, None if default is None else (default,))[0]

    def fractions(self, code: int) -> list[float]:
        """
        Raises:
            TagError: no such tag, or one of another type.
            ZeroDivisionError: one that is no number.
        """
        values = self.numbers(code)
        if self.tags[code][0] not in _FRACTIONS:
            return [float(v) for v in values]
        return [n / d for n, d in zip(values[::2], values[1::2], strict=True)]

    def raw(self, code: int) -> bytes | None:
        return bytes(self.tags[code][1]) if code in self.tags else None


def is_tiff(data: bytes) -> bool:
    return data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def read_directory(data: bytes) -> Directory:
    """
    Raises:
        TagError: the file has no directory, or one that ends early.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = b"+" in data[:4]
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    except struct.error as error:
        raise TagError("its header ends early") from error
    tags, lost = _parsed(data, first, order, big)
    return Directory(order, big, _pages(data, first, order, big), tags, lost)


def _parsed(data: bytes, at: int, order: str, big: bool) -> tuple[Tags, int]:
    """Tags, and how many were left out because they lead out of the file.

    Values are no copies: any number of entries may show the same part of the file.
    """
    whole, lost = memoryview(data), 0
    count, entry, offset = _forms(order, big)
    inline = entry.size - 4 - offset.size
    tags: Tags = {}
    try:
        (number,) = count.unpack_from(data, at)
        at += count.size
        for place in range(at, at + number * entry.size, entry.size):
            code, kind, many, value = entry.unpack_from(data, place)
            size = _SIZES.get(kind, 0) * many
            if size > inline:
                (start,) = offset.unpack(value)
                value = whole[start : start + size]
            if len(value) < size:
                lost += 1
            elif size:
                tags.setdefault(code, (kind, memoryview(value)[:size]))
    except struct.error as error:
        raise TagError("a directory ends early") from error
    return tags, lost


def _forms(order: str, big: bool) -> tuple[struct.Struct, struct.Struct, struct.Struct]:
    """Of a number of entries, an entry and an offset."""
    forms = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    count, entry, offset = (struct.Struct(order + form) for form in forms)
    return count, entry, offset


def exif_of(data: bytes, wanted: Collection[int]) -> tuple[bytes | None, int]:
    """The tags `wanted`, and the EXIF and GPS directories, as a directory of their own.

    Those of the container stay behind.

    Returns:
        None where there are none; and how many entries were broken and left out.

    Raises:
        TagError: a directory is damaged.
    """
    page = read_directory(data)
    parts: list[Tags] = [{code: page.tags[code] for code in wanted if code in page.tags}]
    lost = page.lost
    for pointer in _POINTERS:
        part: Tags = {}
        if pointer in page.tags:
            part, more = _parsed(data, page.number(pointer), page.order, page.big)
            lost += more
        parts.append({code: entry for code, entry in part.items() if entry[0] <= _DOUBLE})
    if not any(parts):
        return None, lost
    # Every directory is followed by its values; the first one's pointers lead to the others.
    sizes = [_length(part) for part in parts]
    if sum(sizes) > _MOST_EXIF:
        raise TagError(f"it claims {sum(sizes)} bytes")
    at = 8 + sizes[0] + 12 * sum(map(bool, parts[1:]))
    for pointer, part, size in zip(_POINTERS, parts[1:], sizes[1:], strict=True):
        if part:
            parts[0][pointer] = (4, memoryview(struct.pack(page.order + "I", at)))
            at += size
    whole = (b"II*\0" if page.order == "<" else b"MM\0*") + struct.pack(page.order + "I", 8)
    for index, part in enumerate(parts):
        if part or not index:
            whole += _classic(part, page.order, len(whole))
    return whole, lost


def _length(part: Tags) -> int:
    aside = sum(len(raw) + len(raw) % 2 for _, raw in part.values() if len(raw) > 4)
    return 2 + 12 * len(part) + 4 + aside


def _classic(part: Tags, order: str, at: int) -> bytes:
    entries, aside = b"", b""
    after = at + 2 + 12 * len(part) + 4
    for code, (kind, raw) in sorted(part.items()):
        value = bytes(raw).ljust(4, b"\0")
        if len(raw) > 4:
            value = struct.pack(order + "I", after + len(aside))
            aside += bytes(raw) + b"\0" * (len(raw) % 2)
        entries += struct.pack(order + "HHI", code, kind, len(raw) // _SIZES[kind]) + value
    return struct.pack(order + "H", len(part)) + entries + b"\0\0\0\0" + aside


def _pages(data: bytes, first: int, order: str, big: bool) -> int:
    """Directories in the chain, without smaller versions of the first page.

    A chain that bites its tail, or leads nowhere, ends there.
    """
    count, entry, offset = _forms(order, big)
    seen: set[int] = set()
    at, reduced = first, 0
    while at and at not in seen and len(seen) < _MOST_PAGES and at + count.size <= len(data):
        seen.add(at)
        (number,) = count.unpack_from(data, at)
        end = at + count.size + number * entry.size
        if end + offset.size > len(data):
            break
        if len(seen) > 1 and number:
            # Tags go up, and this is the lowest.
            code, kind, _, value = entry.unpack_from(data, at + count.size)
            bits = struct.unpack(order + ("I" if kind == 4 else "H2x"), value[:4])[0]
            reduced += code == SUBFILE and bool(bits & REDUCED)
        (at,) = offset.unpack_from(data, end)
    return len(seen) - reduced
