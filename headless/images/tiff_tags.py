"""The directory of a TIFF: tags as they stand, checked when they are asked for (TIFF 6.0, 2)."""

import struct
from dataclasses import dataclass, field

import numpy as np

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 8: "i2", 9: "i4", 10: "i4", 13: "u4",
            16: "u8", 18: "u8"}  # fmt: skip
_FRACTIONS = {5, 10}
_MOST_PAGES = 10_000


class TagError(ValueError):
    """A tag that is needed is missing or not what it should be."""


@dataclass(frozen=True)
class Directory:
    """Tags of the first page."""

    order: str
    """"<" or ">"."""
    pages: int
    tags: dict[int, tuple[int, bytes]] = field(repr=False)
    """Type and raw value by code."""

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
        return self.tags[code][1] if code in self.tags else None


def is_tiff(data: bytes) -> bool:
    return data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def read_directory(data: bytes) -> Directory:
    """
    Raises:
        TagError: the file has no directory, or one that ends early.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = b"+" in data[:4]
    count, entry, offset = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    inline = 8 if big else 4
    try:
        (first,) = struct.unpack_from(order + offset, data, 8 if big else 4)
        tags: dict[int, tuple[int, bytes]] = {}
        for code, kind, number, value in _entries(data, first, order, count, entry):
            size = _SIZES.get(kind, 0) * number
            if size > inline:
                (start,) = struct.unpack(order + offset, value)
                value = data[start : start + size]
            if _SIZES.get(kind) and len(value) >= size:
                tags.setdefault(code, (kind, value[:size]))
        return Directory(order, _pages(data, first, order, count, entry, offset), tags)
    except struct.error as error:
        raise TagError("its directory ends early") from error


def _entries(data: bytes, at: int, order: str, count: str, entry: str):
    (number,) = struct.unpack_from(order + count, data, at)
    at += struct.calcsize(order + count)
    for index in range(number):
        yield struct.unpack_from(order + entry, data, at + index * struct.calcsize(order + entry))


def _pages(data: bytes, first: int, order: str, count: str, entry: str, offset: str) -> int:
    """Directories in the chain; one that bites its tail, or leads nowhere, ends there."""
    seen: set[int] = set()
    at = first
    while at and at not in seen and len(seen) < _MOST_PAGES:
        if at + struct.calcsize(order + count) > len(data):
            break
        (number,) = struct.unpack_from(order + count, data, at)
        end = at + struct.calcsize(order + count) + number * struct.calcsize(order + entry)
        seen.add(at)
        if end + struct.calcsize(offset) > len(data):
            break
        (at,) = struct.unpack_from(order + offset, data, end)
    return len(seen)
