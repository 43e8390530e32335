"""What drawings are made of: text, marks, and paint that is laid over pictures."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Color = tuple[int, int, int]

GREEN, AMBER, RED, GREY = (84, 190, 108), (240, 170, 40), (226, 72, 60), (150, 150, 150)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


Font = ImageFont.FreeTypeFont

_SYSTEM = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "Arial.ttf", "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc", "msyh.ttc", "meiryo.ttc", "malgun.ttf", "PingFang.ttc",
    "Hiragino Sans GB.ttc", "wqy-zenhei.ttc", "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)  # fmt: skip
"""Letters that systems have, one or the other; Pillow's own are those of English alone."""
_IN_NO_FONT = "\U0010fffd"


def font_of(size: float, text: str = "") -> Font:
    """Letters of `size` pixels: Pillow's own, or where these lack some of `text` those of this
    system that lack the fewest."""
    own = _own(size)
    missing = {c for c in text if _lacks(own, c)}
    if not missing:
        return own
    return min((own, *_of_system(size)), key=lambda font: sum(_lacks(font, c) for c in missing))


def legible(text: str, font: Font) -> str:
    """`text` without letters that a font would show as boxes: é becomes e, and what cannot be said
    otherwise its code, such as U+5B50."""
    return "".join(c if not _lacks(font, c) else _otherwise(c, font) for c in text)


def _otherwise(letter: str, font: Font) -> str:
    plain = unicodedata.normalize("NFKD", letter.replace("ß", "ss"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    shown = plain and not any(_lacks(font, c) for c in plain)
    return plain if shown else "" if unicodedata.combining(letter) else f"U+{ord(letter):04X}"


@lru_cache(maxsize=32)
def _own(size: float) -> Font:
    return cast(Font, ImageFont.load_default(size=size))


def _of_system(size: float) -> Iterator[Font]:
    return (font for name in _SYSTEM if (font := _named(name, size)) is not None)


@lru_cache(maxsize=256)
def _named(name: str, size: float) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:  # this system has others
        return None


@lru_cache(maxsize=4096)
def _lacks(font: Font, letter: str) -> bool:
    if letter.isascii():
        return False
    try:
        shape, box = (cast(Any, font.getmask(c)) for c in (letter, _IN_NO_FONT))
    except UnicodeError:  # bytes of a file's name that are no text
        return True
    return shape.size == box.size and bytes(shape) == bytes(box)


def pixels_of(sheet: Image.Image) -> Tensor:
    """(c, h, w) float32 in [0, 1] of an 8-bit picture with c channels."""
    pixels = torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]


def lay_over(picture: Tensor, sheet: Image.Image, at: tuple[int, int] = (0, 0)) -> None:
    """Lay an RGBA sheet over a (3, h, w) picture in place, its left top corner `at` x and y.

    Where nothing was painted the picture keeps its bits: a trip through 8 bit would change them.
    """
    paint = pixels_of(sheet)
    area = picture[:, at[1] : at[1] + sheet.height, at[0] : at[0] + sheet.width]
    area.copy_(torch.where(paint[3] > 0, area.lerp(paint[:3], paint[3]), area))


def mark(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], r: float, color: Color, shape: str = "disc"
) -> None:
    """A "disc", "ring", "triangle" or "square" of radius `r`."""
    x, y = at
    box = (x - r, y - r, x + r, y + r)
    if shape == "ring":
        draw.ellipse(box, outline=color, width=max(1, round(r / 3)))
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=color)
    elif shape == "square":
        draw.rectangle(box, fill=color)
    else:
        draw.ellipse(box, fill=color)


def fitting(text: str, room: float, font: Font) -> str:
    """`legible` text, its middle left out where it is wider than `room` pixels."""
    text = legible(text, font)
    shown, keep = text, len(text)
    while keep and font.getlength(shown) > room:
        keep -= 1
        shown = f"{text[: keep // 2]}...{text[len(text) - (keep + 1) // 2 :]}"
    return shown


def wrapped(text: str, room: float, font: Font) -> list[str]:
    """Lines of whole words, each at most `room` pixels wide where its words are."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def plate(
    text: str,
    width: int,
    height: int,
    size: float,
    *,
    at: tuple[float, float] = (0, 0),
    color: Color = BLACK,
    ground: Color = WHITE,
) -> Tensor:
    """A line of text on a (3, height, width) plate, cut in its middle where it would leave it.

    Args:
        size: of the letters in pixels.
        at: x and y where it begins, the top of its letters.
    """
    sheet, font = Image.new("RGB", (width, height), ground), font_of(size, text)
    shown = fitting(text, width - at[0], font)
    ImageDraw.Draw(sheet).text(at, shown, color, font)
    return pixels_of(sheet)
