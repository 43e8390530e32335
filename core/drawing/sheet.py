"""Several labelled pictures on one sheet."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import FacewrightError, check_image

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
    font = ImageFont.load_default(size=size)
    margin = size // 2
    x0, _, x1, _ = font.getbbox(text)
    # As high for every text, so that labels side by side stand on one line.
    plate = Image.new("L", (round(x1 - x0) + 2 * margin, sum(font.getmetrics()) + margin))
    ImageDraw.Draw(plate).text((margin - x0, margin // 2), text, fill=255, font=font)
    ink = torch.from_numpy(np.asarray(plate, dtype=np.float32) / 255)
    left = width - ink.shape[1] if right else 0
    area = picture[:, max(0, height - ink.shape[0]) :, max(0, left) :][..., : ink.shape[1]]
    ink = ink[-area.shape[1] :, : area.shape[2]]
    area.mul_(0.35)
    area.lerp_(torch.ones(()), ink.expand_as(area))
