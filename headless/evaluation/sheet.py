"""The worst and best cases as one picture, for mail and slides."""

import io
from collections.abc import Sequence
from typing import Any

from .cases import Extremes, Shown, thumbnail
from .comparison import direction
from .pairing import GT

_CELL = 256
_GAP = 10
_TEXT = 15
_INK, _FAINT, _PAPER, _EMPTY = "#111111", "#555555", "#ffffff", "#e6e6e6"


def draw_sheet(ends: Extremes, order: Sequence[str]) -> bytes:
    """PNG: one row per case, its versions from LQ to GT side by side, names and values written.

    Args:
        ends: which cases.
        order: of the versions: LQ and the methods.
    """
    from PIL import Image, ImageDraw

    names = {v for _, cases in ends.headings for shown in cases for v in shown.versions}
    versions = [name for name in (*order, GT) if name in names]
    lines = 2 * _line_height()
    width = max(_GAP + len(versions) * (_CELL + _GAP), 640)
    height = _GAP
    blocks = [(heading, cases) for heading, cases in ends.headings if cases]
    for _, cases in blocks:
        height += 2 * _line_height() + len(cases) * (lines + _CELL + _GAP)
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    y = _GAP
    for heading, cases in blocks:
        _write(draw, (_GAP, y), f"{heading} ({direction(ends.metric)})", width, size=_TEXT + 4)
        y += 2 * _line_height() - 6
        for place, shown in enumerate(cases, 1):
            y = _row(image, draw, y, place, shown, versions)
        y += 6
    buffer = io.BytesIO()
    image.crop((0, 0, width, y)).save(buffer, "PNG")
    return buffer.getvalue()


def _row(image: Any, draw: Any, y: int, place: int, shown: Shown, versions: list[str]) -> int:
    """Draw one case; returns where the next one begins."""
    _write(draw, (_GAP, y), f"{place}. {shown.case.name}: {shown.score}", image.width)
    y += _line_height()
    tallest = 1
    for at, version in enumerate(versions):
        x = _GAP + at * (_CELL + _GAP)
        _write(draw, (x, y), version, x + _CELL, color=_FAINT)
        path = shown.versions.get(version)
        top = y + _line_height()
        if path is None:
            draw.rectangle((x, top, x + _CELL - 1, top + 63), fill=_EMPTY)
            _write(draw, (x + 8, top + 20), "not there", x + _CELL, color=_FAINT)
            continue
        small = thumbnail(path, _CELL)
        image.paste(small, (x, top))
        tallest = max(tallest, small.height)
    return y + _line_height() + tallest + _GAP


def _line_height() -> int:
    return _TEXT + 7


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
