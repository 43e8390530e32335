"""The worst and best cases as one picture, for mail and slides."""

import io
from collections.abc import Sequence
from typing import Any

from .cases import Extremes, Shown, thumbnail
from .comparison import direction
from .pairing import GT

_CELL = 256
_GAP = 10
_GUTTER = 40
"""Between the worst and the best."""
_TEXT = 15
_LINE = _TEXT + 7
_INK, _FAINT, _PAPER, _EMPTY = "#111111", "#555555", "#ffffff", "#e6e6e6"


def draw_sheet(ends: Extremes, order: Sequence[str]) -> bytes:
    """PNG: the worst cases at the left, the best at the right, each a row from LQ to GT with the
    names and values written above the pictures.

    Args:
        ends: which cases.
        order: of the versions: LQ and the methods.
    """
    from PIL import Image, ImageDraw

    blocks = [(heading, cases) for heading, cases in ends.headings if cases]
    names = {v for _, cases in blocks for shown in cases for v in shown.versions}
    versions = [name for name in (*order, GT) if name in names]
    column = max(len(versions) * (_CELL + _GAP) - _GAP, 420)
    width = 2 * _GAP + len(blocks) * (column + _GUTTER) - _GUTTER
    most = max(len(cases) for _, cases in blocks)
    height = 2 * _GAP + 2 * _LINE + most * (2 * _LINE + _CELL + 2 * _GAP)
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    bottom = 0
    for at, (heading, cases) in enumerate(blocks):
        left, y = _GAP + at * (column + _GUTTER), _GAP
        text = f"{heading} ({direction(ends.metric)})"
        _write(draw, (left, y), text, left + column, size=_TEXT + 5)
        y += 2 * _LINE
        for place, shown in enumerate(cases, 1):
            _write(draw, (left, y), f"{place}. {shown.case.name}", left + column)
            y = _pictures(image, draw, (left, y + _LINE), shown, versions)
        bottom = max(bottom, y)
    buffer = io.BytesIO()
    image.crop((0, 0, width, bottom)).save(buffer, "PNG")
    return buffer.getvalue()


def _pictures(
    image: Any, draw: Any, at: tuple[int, int], shown: Shown, versions: Sequence[str]
) -> int:
    """Draw the versions of one case; returns where the next case begins."""
    x, y = at
    top = y + _LINE
    tallest = 64
    for version in versions:
        value = shown.values.get(version)
        label = version if value is None else f"{version}: {value}"
        _write(draw, (x, y), label, x + _CELL, color=_FAINT)
        path = shown.versions.get(version)
        if path is None:
            draw.rectangle((x, top, x + _CELL - 1, top + 63), fill=_EMPTY)
            _write(draw, (x + 8, top + 20), "not there", x + _CELL, color=_FAINT)
        else:
            small = thumbnail(path, _CELL)
            image.paste(small, (x, top))
            tallest = max(tallest, small.height)
        x += _CELL + _GAP
    return top + tallest + 2 * _GAP


def _write(
    draw: Any, at: tuple[int, int], text: str, end: int, *, size: int = _TEXT, color: str = _INK
) -> None:
    """Write one line, shortened in its middle where it would pass `end`."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=size)
    room = end - at[0] - 4
    keep = len(text)
    shown = text
    while keep > 8 and draw.textlength(shown, font=font) > room:
        keep -= 1
        shown = f"{text[: keep // 2]}...{text[len(text) - keep // 2 :]}"
    draw.text(at, shown, fill=color, font=font)
