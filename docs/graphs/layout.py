"""Where the frames of a workflow stand: columns of nodes, frames beside and below each other.

What is laid out has measured heights (sizes.json), so nothing reaches over its neighbour in either
kind of nodes that the editor draws.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Box = tuple[int, int, int, int]
"""x, y, width and height; the title of a node stands above its y."""
Point = tuple[float, float]

TITLE, FOOTER = 30, 30
"""Above a node, and the line that the editor hangs below one whose file is missing."""
APART = TITLE + FOOTER + 45
"""Between two nodes in a column: 45 pixels stay free whatever the editor adds."""
BESIDE = 100
"""Between two columns, be they in one frame or in two: room for wires."""
MARGIN, HEAD = 20, 120
GRID = 10
BELOW = 130
"""Between two rows of frames: the wires that lead from one to the other."""
_WIDEST, _MOST = 1.9, 1.98
"""A screen is that many times as wide as high, and so is a workflow at most."""
_GROWTH = 240
"""Pixels by which a node that shows a picture grows, at most, where its column has room."""


class Item(Protocol):
    """A node or a note."""

    box: Box
    grows: bool


@dataclass
class Frame:
    """Items that stay together, in reading order; `framed` if the editor draws a frame."""

    items: Sequence[Item]
    framed: bool = True
    columns: list[list[Item]] = field(default_factory=list)
    box: Box = (0, 0, 0, 0)

    def arrange(self, height: int) -> None:
        """As few columns as fit into a height, of about the same height each."""
        for count in range(1, len(self.items) + 1):
            splits = itertools.combinations(range(1, len(self.items)), count - 1)
            best = min((self._split(cuts) for cuts in splits), key=_tallest)
            if _tallest(best) <= height or count == len(self.items):
                self.columns = best
                return

    def _split(self, cuts: tuple[int, ...]) -> list[list[Item]]:
        ends = (0, *cuts, len(self.items))
        return [list(self.items[a:b]) for a, b in itertools.pairwise(ends)]

    @property
    def width(self) -> int:
        return sum(_wide(column) for column in self.columns) + BESIDE * (len(self.columns) - 1)

    @property
    def height(self) -> int:
        return _tallest(self.columns)


def _wide(column: Sequence[Item]) -> int:
    return max(item.box[2] for item in column)


def _high(column: Sequence[Item]) -> int:
    return sum(item.box[3] for item in column) + APART * (len(column) - 1)


def _tallest(columns: list[list[Item]]) -> int:
    return max(map(_high, columns))


_FRAMES_APART = FOOTER + MARGIN + BESIDE // 2 + HEAD
"""From the lowest node of a frame to the highest of the frame below it in the same slot."""
Slot = list[Frame]
"""Frames that stand one below the other."""


def _slot_high(slot: Slot) -> int:
    return sum(frame.height for frame in slot) + _FRAMES_APART * (len(slot) - 1)


def _slot_wide(slot: Slot) -> int:
    return max(frame.width for frame in slot)


def _row_wide(row: Sequence[Slot]) -> int:
    return sum(_slot_wide(slot) + BESIDE for slot in row) - BESIDE


def _row_high(row: Sequence[Slot]) -> int:
    return max(map(_slot_high, row))


def _slots(frames: Sequence[Frame], height: int, stack: bool) -> list[Slot]:
    """Frames from left to right; those that fit stand below the one before."""
    slots: list[Slot] = []
    for frame in frames:
        frame.arrange(height)
        last = slots[-1] if slots else []
        fits = last and _slot_high([*last, frame]) <= height
        after_notes = len(last) == 1 and not last[0].framed
        if fits and (stack or after_notes) and abs(_slot_wide(last) - frame.width) <= 2 * BESIDE:
            last.append(frame)
        else:
            slots.append([frame])
    return slots


def _rows(slots: list[Slot]) -> Iterator[list[list[Slot]]]:
    for count in range(3):
        for cuts in itertools.combinations(range(1, len(slots)), count):
            ends = (0, *cuts, len(slots))
            yield [slots[a:b] for a, b in itertools.pairwise(ends)]


def _cost(rows: list[list[Slot]]) -> float:
    """How small a screen shows it, plus what leads the eye back."""
    wide = max(map(_row_wide, rows)) + 2 * MARGIN
    high = sum(_row_high(row) + HEAD + MARGIN + FOOTER for row in rows) + BELOW * (len(rows) - 1)
    stacked = sum(len(slot) - 1 for row in rows for slot in row)
    ragged = sum(max(map(_row_wide, rows)) - _row_wide(row) for row in rows)
    high = max(high, wide / _MOST)
    return max(wide, _WIDEST * high) + 150 * (len(rows) - 1) + 150 * stacked + 0.3 * ragged


def arrange(frames: Sequence[Frame]) -> None:
    """Place every item so that the whole is as large as possible on a screen."""
    found: tuple[float, int, bool, int] | None = None
    for height, stack in itertools.product(range(500, 2400, 50), (False, True)):
        for index, rows in enumerate(_rows(_slots(frames, height, stack))):
            cost = _cost(rows), height, stack, index
            found = min(found or cost, cost)
    assert found
    _, height, stack, index = found
    rows = next(itertools.islice(_rows(_slots(frames, height, stack)), index, None))
    wide = max(map(_row_wide, rows)) + 2 * MARGIN
    around = HEAD + FOOTER + MARGIN
    least = (wide / _MOST - BELOW * (len(rows) - 1)) / len(rows) - around
    y = 0
    for row in rows:
        high, x = max(_row_high(row), math.ceil(least / GRID) * GRID), 0
        for slot in row:
            _place(slot, x, y, high)
            x += _slot_wide(slot) + BESIDE
        y += high + FOOTER + MARGIN + BELOW + HEAD


def _place(slot: Slot, x: int, y: int, high: int) -> None:
    """Frames of a slot get its width and share its height; so do the nodes of a column."""
    framed = sum(frame.framed for frame in slot) or len(slot)
    bottom = y + high
    share = (high - _slot_high(slot)) // framed // GRID * GRID
    for frame in slot:
        spare = share if frame.framed or framed == len(slot) else 0
        if frame is slot[-1]:
            spare = bottom - y - frame.height
        room, left = frame.height + spare, x
        across, down = _slot_wide(slot) + 2 * MARGIN, HEAD + room + FOOTER + MARGIN
        frame.box = x - MARGIN, y - HEAD, across, down
        for column in frame.columns:
            last = column is frame.columns[-1]
            width = x + _slot_wide(slot) - left if last else _wide(column)
            growing = sum(item.grows for item in column)
            more = min((room - _high(column)) // growing // GRID * GRID, _GROWTH) if growing else 0
            top = y
            for item in column:
                height = item.box[3] + (more if item.grows else 0)
                item.box = left, top, width, height
                top += height + APART
            left += width + BESIDE
        y += room + _FRAMES_APART


def screen(boxes: Sequence[Box]) -> tuple[float, Point]:
    """Scale and offset with which the editor shows all of it below its bars, on 1920 by 1080."""
    left, top = (min(box[i] for box in boxes) for i in (0, 1))
    right, bottom = (max(box[i] + box[i + 2] for box in boxes) for i in (0, 1))
    scale = round(min(1780 / (right - left), 930 / (bottom - top), 1), 3)
    return scale, (round(80 / scale - left), round(70 / scale - top))
