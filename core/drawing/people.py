"""Faces of people on sheets, each with words below it: who is who, to be looked through."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from .paint import fitting, font_of, pixels_of
from .sheet import within

SIDE = 192
"""Of a face on a sheet, in pixels."""
PER_SHEET = 48
_COLUMNS = 8
_GAP = 8
_LETTERS = 15
_TITLE = 24
_GROUND, _TEXT, _QUIET, _EMPTY = (250, 250, 250), (20, 20, 20), (110, 110, 110), (210, 210, 210)


def people_sheet(
    title: str, faces: Sequence[Tensor | None], captions: Sequence[Sequence[str]]
) -> Tensor:
    """Faces in rows, below each some lines of words, and a line above all.

    Args:
        faces: at most `PER_SHEET`; (3, h, w) in [0, 1] of any sizes, or None for a grey square.
        captions: lines for each, the last one paler; what is too long loses its middle.

    Returns:
        (3, H, W) in [0, 1], float32 on the CPU.
    """
    large = font_of(_TITLE, title)
    line = round(1.35 * _LETTERS)
    columns = min(_COLUMNS, max(len(faces), 3))
    rows = max(1, -(-len(faces) // columns))
    lines = max(map(len, captions), default=0)
    top, high = 2 * _TITLE, SIDE + lines * line + _GAP
    width, height = columns * (SIDE + _GAP) + _GAP, top + rows * (high + _GAP)
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    shown = fitting(title, width - 2 * _GAP, large)
    draw.text((_GAP, top // 2), shown, _TEXT, large, anchor="lm")
    places = [
        (_GAP + i % columns * (SIDE + _GAP), top + i // columns * (high + _GAP))
        for i in range(len(faces))
    ]
    for (x, y), face, words in zip(places, faces, captions, strict=True):
        if face is None:
            draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), fill=_EMPTY)
        for number, text in enumerate(words):
            color = _QUIET if number == len(words) - 1 else _TEXT
            font = font_of(_LETTERS, text)
            shown = fitting(text, SIDE, font)
            draw.text((x, y + SIDE + 2 + number * line), shown, color, font)
    pixels = pixels_of(sheet)
    for (x, y), face in zip(places, faces, strict=True):
        if face is not None:
            small = within(face, SIDE)
            h, w = small.shape[-2:]
            pixels[:, y : y + h, x : x + w] = small
    return pixels


def pages(count: int) -> list[slice]:
    """Which of `count` faces stand on which sheet."""
    return [slice(i, i + PER_SHEET) for i in range(0, count, PER_SHEET)]
