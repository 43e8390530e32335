"""Before and after in one picture."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .errors import FacewrightError, check_image

MODES = ("side by side", "split")
_GAP = 4


def compare(
    before: Tensor,
    after: Tensor,
    mode: str = "side by side",
    *,
    labels: tuple[str, str] = ("before", "after"),
) -> Tensor:
    """Join two batches picture by picture, `before` resized to the size of `after`.

    Args:
        before: (b, 3, h, w) in [0, 1], or one picture for all.
        after: (b, 3, h', w') in [0, 1], or one picture for all.
        mode: "side by side", or "split": the left half of one and the right half of the other.
        labels: written into the lower corners; empty strings write nothing.

    Returns:
        (b, 3, h', 2 w' + 4) or (b, 3, h', w') in [0, 1], float32 on the CPU.

    Raises:
        FacewrightError: an unknown mode, or batches of different length.
    """
    check_image(before, name="before")
    check_image(after, name="after")
    if mode not in MODES:
        raise FacewrightError(f"No comparison {mode!r}; known: {', '.join(MODES)}.")
    n = max(len(before), len(after)) if len(before) and len(after) else 0
    if n and not {len(before), len(after)} <= {1, n}:
        raise FacewrightError(
            f"`before` holds {len(before)} pictures and `after` {len(after)}. Connect as many "
            "of each, or a single one."
        )
    before, after = (x.float().cpu() for x in (before, after))
    h, w = after.shape[-2:]
    if n and before.shape[-2:] != (h, w):
        before = F.interpolate(before, (h, w), mode="bicubic", antialias=True).clamp(0, 1)
    split = mode == "split"
    out = torch.ones(n, 3, h, w if split else 2 * w + _GAP)
    middle = w // 2
    for i in range(n):
        left, right = before[i % len(before)], after[i % len(after)]
        if split:
            out[i, ..., :middle], out[i, ..., middle:] = left[..., :middle], right[..., middle:]
            out[i, ..., max(0, middle - 1) : middle + 1] = 1
        else:
            out[i, ..., :w], out[i, ..., w + _GAP :] = left, right
        _label(out[i], labels, w=w)
    return out


def _label(picture: Tensor, labels: tuple[str, str], *, w: int) -> None:
    """Write the labels into a (3, h, w) picture in place, white on a dark ground."""
    height, width = picture.shape[-2:]
    size = max(9, min(height, w) // 24)
    font = ImageFont.load_default(size=size)
    margin = size // 2
    for text, right in zip(labels, (False, True), strict=True):
        if not text:
            continue
        x0, y0, x1, y1 = font.getbbox(text)
        plate = Image.new("L", (round(x1 - x0) + 2 * margin, round(y1 - y0) + 2 * margin))
        ImageDraw.Draw(plate).text((margin - x0, margin - y0), text, fill=255, font=font)
        ink = torch.from_numpy(np.asarray(plate, dtype=np.float32) / 255)
        left = width - ink.shape[1] if right else 0
        area = picture[:, max(0, height - ink.shape[0]) :, max(0, left) :][..., : ink.shape[1]]
        ink = ink[-area.shape[1] :, : area.shape[2]]
        area.mul_(0.35)
        area.lerp_(torch.ones(()), ink.expand_as(area))
