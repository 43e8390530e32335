"""Several labelled pictures on one sheet."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import FacewrightError, check_image
from .paint import font_of, legible, pixels_of

GAP = 4
_SHAPE = 1.6
"""Width over height that a sheet aims at: that of a screen."""


def contact_sheet(
    pictures: Sequence[Tensor], labels: Sequence[str], columns: int | None = None
) -> Tensor:
    """Lay pictures out row by row, each with its label in the lower left corner.

    Args:
        pictures: (3, h, w) in [0, 1], at least one; smaller ones stand in the middle of a cell.
        labels: one per picture; an empty string writes nothing.
        columns: by default as many as give the sheet the shape of a screen.

    Returns:
        (3, H, W) in [0, 1], float32 on the CPU; white where there is no picture.

    Raises:
        FacewrightError: no pictures, not one label each, or fewer than one column.
    """
    if not pictures or len(labels) != len(pictures):
        raise FacewrightError(
            "A sheet needs at least one picture and a label for each: got "
            f"{len(pictures)} pictures and {len(labels)} labels."
        )
    for picture in pictures:
        check_image(picture[None], name="picture")
    height = max(p.shape[-2] for p in pictures)
    width = max(p.shape[-1] for p in pictures)
    if columns is None:
        columns = math.ceil(math.sqrt(len(pictures) * _SHAPE * height / width))
    if columns < 1:
        raise FacewrightError(f"A sheet has at least one column, got {columns}.")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    sheet = torch.ones(3, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        h, w = picture.shape[-2:]
        top = i // columns * (height + GAP) + (height - h) // 2
        left = i % columns * (width + GAP) + (width - w) // 2
        cell = sheet[:, top : top + h, left : left + w]
        cell.copy_(picture)
        # Larger than on a picture of its own: a sheet is looked at reduced.
        write_label(cell, label, size=max(9, min(h, w) // 14))
    return sheet


def stacked(parts: Sequence[Tensor], *, across: bool = False, gap: int = 0) -> Tensor:
    """Pictures (3, h, w) one below the other, or beside each other, on white."""
    along, other = (2, 1) if across else (1, 2)
    longest = max(part.shape[other] for part in parts)
    padded = []
    for i, part in enumerate(parts):
        room = [0, longest - part.shape[other]], [0, gap * (i < len(parts) - 1)]
        padded.append(F.pad(part, [*room[across], *room[not across]], value=1.0))
    return torch.cat(padded, along)


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """(3, height, width) float32 in [0, 1] on the CPU; the picture itself where it is that size."""
    picture = picture.float().cpu()
    size = (height, width)
    if picture.shape[-2:] == size:
        return picture
    smaller = height < picture.shape[-2] or width < picture.shape[-1]
    return F.interpolate(picture[None], size, mode="bicubic", antialias=smaller)[0].clamp(0, 1)


def within(picture: Tensor, side: int) -> Tensor:
    """(3, h, w) with a longer side of `side` pixels."""
    h, w = picture.shape[-2:]
    factor = side / max(h, w)
    return resized(picture, max(1, round(h * factor)), max(1, round(w * factor)))


def write_label(
    picture: Tensor, text: str, *, right: bool = False, size: int | None = None
) -> None:
    """Write `text` into a lower corner of a (3, h, w) picture in place, white on a dark ground.

    Args:
        right: the right corner instead of the left.
        size: of the letters in pixels; by default in proportion to the picture.
    """
    if not text:
        return
    height, width = picture.shape[-2:]
    size = size or max(9, min(height, width) // 24)
    font = font_of(size, text)
    text, margin = legible(text, font), size // 2
    x0, _, x1, _ = font.getbbox(text)
    # As high for every text, so that labels side by side stand on one line.
    plate = Image.new("L", (round(x1 - x0) + 2 * margin, sum(font.getmetrics()) + margin))
    ImageDraw.Draw(plate).text((margin - x0, margin // 2), text, fill=255, font=font)
    ink = pixels_of(plate)[0]
    left = width - ink.shape[1] if right else 0
    area = picture[:, max(0, height - ink.shape[0]) :, max(0, left) :][..., : ink.shape[1]]
    ink = ink[-area.shape[1] :, : area.shape[2]]
    area.mul_(0.35)
    area.lerp_(torch.ones(()), ink.expand_as(area))
