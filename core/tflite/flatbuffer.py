"""FlatBuffers from strangers: tables and vectors, with every offset and length held to the file.

Layout after the public format description (https://flatbuffers.dev/internals): a table starts with
the signed distance back to its vtable, which lists where each field lies in it; vectors, texts and
tables inside are reached by an unsigned distance forward. Nothing here follows more than one such
distance by itself, so data that point at each other cannot keep a reader busy.
"""

import struct

import numpy as np

from ..errors import CheckpointError, shorten

_KINDS = {
    "i8": struct.Struct("<b"),
    "u8": struct.Struct("<B"),
    "u16": struct.Struct("<H"),
    "i32": struct.Struct("<i"),
    "u32": struct.Struct("<I"),
    "u64": struct.Struct("<Q"),
}


class Flatbuffer:
    """The bytes of one file, and how it is spoken of."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data = data
        self.source = shorten(source, 200)  # often a whole path

    def refusal(
        self, why: str, *, advice: str = "Take the official file, unchanged."
    ) -> CheckpointError:
        """The error of a file that `why`: the rest of a sentence that starts with its name."""
        return CheckpointError(f"{self.source} {why}. {advice}")

    def number(self, kind: str, at: int) -> int:
        form = _KINDS[kind]
        self.check(at, form.size)
        return form.unpack_from(self.data, at)[0]

    def check(self, at: int, size: int) -> None:
        if at < 0 or at + size > len(self.data):
            raise self.refusal(
                f"is cut off or damaged: it has {len(self.data)} bytes and refers to {size} more "
                f"at {at}"
            )

    def root(self) -> "Table":
        return Table(self, self.number("u32", 0))


class Table:
    """One table; its fields by their number in the schema, `None` or a default where absent."""

    def __init__(self, file: Flatbuffer, at: int) -> None:
        self.file, self._at = file, at
        self._vtable = at - file.number("i32", at)
        self._slots = file.number("u16", self._vtable)
        self._size = file.number("u16", self._vtable + 2)
        file.check(self._vtable, self._slots)
        file.check(at, self._size)

    def number(self, field: int, kind: str, default: int = 0) -> int:
        at = self._place(field)
        return default if at is None else self.file.number(kind, at)

    def table(self, field: int) -> "Table | None":
        at = self._target(field)
        return None if at is None else Table(self.file, at)

    def tables(self, field: int, *, most: int) -> "list[Table]":
        """The tables of a vector, refused where there are more than `most`."""
        offsets = self.vector(field, "<u4")
        if len(offsets) > most:
            raise self.file.refusal(
                f"lists {len(offsets)} entries where at most {most} are expected"
            )
        start = (self._target(field) or 0) + 4
        return [Table(self.file, start + 4 * i + int(o)) for i, o in enumerate(offsets)]

    def vector(self, field: int, dtype: str) -> np.ndarray:
        """The numbers of a vector, where they lie in the file; empty where it is absent."""
        at = self._target(field)
        if at is None:
            return np.empty(0, dtype)
        length = self.file.number("u32", at)
        self.file.check(at + 4, length * np.dtype(dtype).itemsize)
        return np.frombuffer(self.file.data, dtype, length, at + 4)

    def text(self, field: int, most: int = 200) -> str:
        return self.vector(field, "u1")[:most].tobytes().decode("utf-8", errors="replace")

    def _target(self, field: int) -> int | None:
        at = self._place(field)
        return None if at is None else at + self.file.number("u32", at)

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._slots:
            return None
        offset = self.file.number("u16", self._vtable + slot)
        if offset >= self._size:
            raise self.file.refusal("is damaged: a field lies outside its table")
        return self._at + offset if offset else None
