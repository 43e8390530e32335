"""Where the frames of a workflow stand: columns of nodes, frames beside and below each other.

What is laid out has measured heights (sizes.json), so nothing reaches over its neighbour in either
kind of nodes that the editor draws.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Box = tuple[int, int, int, int]
"""x, y, width and height; the title of a node stands above its y."""
Point = tuple[float, float]

TITLE = 30
"""Above a node."""
APART = TITLE + 50
"""Between two nodes in a column: 45 pixels at least, on the grid."""
BESIDE = 70
"""Between two columns, be they in one frame or in two: room for wires."""
MARGIN, HEAD = 20, 90
GRID = 10
_FRAMES_APART = MARGIN + 20 + HEAD
"""From the lowest node of a frame to the highest of the frame below it: room for wires, too."""
WINDOW, FILLED, PADDING = (1920, 1040), 0.75, 10
"""Of an editor on a usual screen: newer ones fit the nodes of a template, and as much around them,
into so much of it."""
READABLE = 0.6
"""A little more than 8/14: with less zoom, newer editors write no text on classic nodes."""
_MOST = 1.98
"""A workflow is that many times as wide as high, at most."""
_BACK = 10
"""A frame below another one leads the eye back by its width, and must be worth this part of it."""
_WIDENED = 160
"""Pixels that a column of nodes may get for frames below each other to be equally wide."""
_WIDEST_NOTE = 900
_GROWTH = 240
"""Pixels by which a node that shows a picture grows, at most, where its column has room."""


class Item(Protocol):
    """A node or a note."""

    box: Box
    grows: bool

    @property
    def widens(self) -> bool:
        """Whether it may be wider than its box says."""
        ...

    def high(self, width: int) -> int:
        """The height it needs when it is so wide."""
        ...


@dataclass
class Frame:
    """Items that stay together, in reading order; `framed` if the editor draws a frame."""

    items: Sequence[Item]
    framed: bool = True
    box: Box = (0, 0, 0, 0)

    @property
    def least(self) -> int:
        """The width that its title needs."""
        return 0

    def blocks(self) -> Iterator["_Block"]:
        """All ways to divide the items into columns, in order; notes in one, of many widths."""
        count = len(self.items)
        if not self.framed:
            for wide in range(_wide(self.items), _WIDEST_NOTE, 2 * GRID):
                yield _Block(wide, _high(self.items, wide), 0, [list(self.items)], self)
            return
        for cuts in range(count):
            for split in itertools.combinations(range(1, count), cuts):
                columns = self._split(split)
                high = max(_high(column, _wide(column)) for column in columns)
                wide = sum(map(_wide, columns)) + BESIDE * cuts
                wide = max(wide, self.least - 2 * MARGIN)
                yield _Block(wide, high, 0, columns, self)

    def _split(self, cuts: tuple[int, ...]) -> list[list[Item]]:
        ends = (0, *cuts, len(self.items))
        return [list(self.items[a:b]) for a, b in itertools.pairwise(ends)]


def _wide(column: Sequence[Item]) -> int:
    return max(item.box[2] for item in column)


def _high(column: Sequence[Item], wide: int) -> int:
    return sum(item.high(wide) for item in column) + APART * (len(column) - 1)


class _Block(NamedTuple):
    """Frames side by side or one below the other, or a single one: the room of its nodes."""

    wide: int
    high: int
    leads: int
    """What it costs, as width, that the eye is led back."""
    parts: Sequence[Any]
    """Blocks, or the columns of its one frame."""
    of: "Frame | Callable[[_Block, _Block], _Block | None]"
    """Its one frame, or what joins its parts."""


def _beside(one: _Block, other: _Block) -> _Block:
    wide, high = one.wide + BESIDE + other.wide, max(one.high, other.high)
    return _Block(wide, high, one.leads + other.leads, _parts(one, other, _beside), _beside)


def _below(one: _Block, other: _Block) -> _Block | None:
    """None if one would have to be widened too much, since both get the same width."""
    parts = _parts(one, other, _below)
    wide = max(part.wide for part in parts)
    framed = [part for part in parts if not _is_notes(part)]
    if any(wide - part.wide > _WIDENED * _columns(part) for part in framed):
        return None
    back = wide // _BACK if framed == parts else 0
    high = one.high + _FRAMES_APART + other.high
    return _Block(wide, high, one.leads + other.leads + back, parts, _below)


def _is_notes(block: _Block) -> bool:
    return isinstance(block.of, Frame) and not block.of.framed


def _columns(block: _Block) -> int:
    if isinstance(block.of, Frame):
        return len(block.parts)
    counts = map(_columns, block.parts)
    return sum(counts) if block.of is _beside else min(counts)


def _parts(one: _Block, other: _Block, join: Callable) -> list[_Block]:
    return [p for block in (one, other) for p in (block.parts if block.of is join else [block])]


def _best(blocks: Iterable[_Block | None]) -> list[_Block]:
    """Those of which no other one is both less wide and less high."""
    kept: list[_Block] = []
    there = (block for block in blocks if block)
    for block in sorted(there, key=lambda block: (block.wide + block.leads, block.high)):
        if not kept or block.high < kept[-1].high:
            kept.append(block)
    return kept


def opening_zoom(wide: float, high: float) -> float:
    """With which newer editors open a template whose nodes, titles and all, take so much room."""
    return min(
        FILLED * window / (size + 2 * PADDING)
        for window, size in zip(WINDOW, (wide, high), strict=True)
    )


def _merit(block: _Block) -> tuple[float, ...]:
    """Whether its text can be read when it opens; then, whether frames can be read in order."""
    zoom = opening_zoom(block.wide, block.high + TITLE)
    return min(zoom, READABLE), -block.leads, zoom


def arrange(frames: Sequence[Frame]) -> None:
    """Place every item so that the whole is as large as possible when it is opened."""
    found: dict[tuple[int, int], list[_Block]] = {}
    for many, start in itertools.product(range(1, len(frames) + 1), range(len(frames))):
        end = start + many
        if many == 1:
            found[start, end] = _best(frames[start].blocks())
        elif end <= len(frames):
            pairs = itertools.chain.from_iterable(
                itertools.product(found[start, middle], found[middle, end])
                for middle in range(start + 1, end)
            )
            found[start, end] = _best(join(*pair) for pair in pairs for join in (_beside, _below))
    whole = max(found[0, len(frames)], key=_merit)
    least = (whole.wide + 2 * MARGIN) / _MOST - HEAD - MARGIN
    _place(whole, 0, 0, whole.wide, max(whole.high, math.ceil(least / GRID) * GRID))


def _place(block: _Block, x: int, y: int, wide: int, high: int) -> None:
    """Parts share the spare room of a block."""
    if isinstance(block.of, Frame):
        _place_columns(block.of, block.parts, x, y, wide, high)
    elif block.of is _beside:
        each = _shared(wide - block.wide, [_columns(part) for part in block.parts])
        for part, more in zip(block.parts, each, strict=True):
            _place(part, x, y, part.wide + more, high)
            x += part.wide + more + BESIDE
    else:
        spare = high - block.high
        notes = [_is_notes(part) for part in block.parts]
        share = spare // (notes.count(False) or 1) // GRID * GRID
        for part, note in zip(block.parts, notes, strict=True):
            last = part is block.parts[-1]
            more = spare if last else 0 if note else share
            _place(part, x, y, wide, part.high + more)
            y, spare = y + part.high + more + _FRAMES_APART, spare - more


def _place_columns(
    frame: Frame, columns: Sequence[list[Item]], x: int, y: int, wide: int, high: int
) -> None:
    """Columns share the spare width, the nodes of a column its spare height."""
    if not frame.framed:
        wide = min(wide, _WIDEST_NOTE)
    frame.box = x - MARGIN, y - HEAD, wide + 2 * MARGIN, HEAD + high + MARGIN
    widths = [_wide(column) for column in columns]
    each = _shared(wide - sum(widths) - BESIDE * (len(columns) - 1), [1] * len(columns))
    for column, width in zip(columns, map(sum, zip(widths, each, strict=True)), strict=True):
        growing = sum(item.grows for item in column)
        spare = high - _high(column, width)
        more = min(spare // growing // GRID * GRID, _GROWTH) if growing else 0
        top = y
        for item in column:
            height = item.high(width) + (more if item.grows else 0)
            item.box = x, top, width if item.widens else item.box[2], height
            top += height + APART
        x += width + BESIDE


def _shared(spare: int, weights: list[int]) -> list[int]:
    """Spare pixels, divided by weights; the last one gets what does not fit the grid."""
    each = [spare * weight // sum(weights) // GRID * GRID for weight in weights]
    return [*each[:-1], spare - sum(each[:-1])]


def screen(boxes: Sequence[Box]) -> tuple[float, Point]:
    """Scale and offset with which the editor shows all of it below its bars, on 1920 by 1080.

    It is what older editors open a workflow with.
    """
    left, top = (min(box[i] for box in boxes) for i in (0, 1))
    right, bottom = (max(box[i] + box[i + 2] for box in boxes) for i in (0, 1))
    scale = round(min(1780 / (right - left), 930 / (bottom - top), 1), 3)
    return scale, (round(80 / scale - left), round(70 / scale - top))
