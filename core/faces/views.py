"""Square views of a picture for networks that see a small square: whole, turned, in tiles.

A view is an affine map (2, 3) float64 from shares of its sides, 0 to 1, to pixels of the picture.
Sampling is that of MediaPipe's published graphs (ImageToTensorCalculator, Apache-2.0): bilinear,
without smoothing however much it shrinks, rounded to 8 bits, and value i of n lies at the share
i / n. So coordinates in shares of a network's side map to pixels by the view alone.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_TILED_FROM = 896
"""Pictures with a longer side than this, in pixels, are looked at in tiles, too."""
_TILE = 640
"""Side of a tile in pixels, at least."""
_PER_SIDE = 6
"""Tiles along the longer side, at most."""
_OVERLAP = 0.25
"""Of neighbouring tiles, in shares of their side, at least."""


def view(middle: Tensor, size: Tensor, angle: Tensor) -> Tensor:
    """Rectangles of width and height `size` about `middle`, rolled clockwise: views (n, 2, 3).

    Args:
        middle, size: (n, 2) in pixels.
        angle: (n,) in radians.
    """
    middle, size = middle.double(), size.double()
    c, s = angle.double().cos(), angle.double().sin()
    turn = torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)
    linear = turn * size[:, None]
    return torch.cat([linear, (middle - linear.sum(2) / 2)[..., None]], 2)


def whole(height: int, width: int, turns: Sequence[float] = (0.0,)) -> Tensor:
    """The picture in the middle of a square, once per roll in radians."""
    angle = torch.tensor(turns, dtype=torch.float64)
    extent = torch.tensor([width, height], dtype=torch.float64)
    c, s = angle.cos().abs()[:, None], angle.sin().abs()[:, None]
    side = (c * extent + s * extent.flip(0)).amax(1, keepdim=True)
    return view((extent / 2).expand(len(angle), 2), side.expand(-1, 2), angle)


def tiles(height: int, width: int) -> Tensor:
    """Overlapping squares that cover a large picture, at most 6 along a side; none for others."""
    longer = max(height, width)
    if longer <= _TILED_FROM:
        return torch.zeros(0, 2, 3, dtype=torch.float64)
    step = 1 - _OVERLAP
    side = max(_TILE, longer / (1 + (_PER_SIDE - 1) * step))
    along = []
    for extent in (width, height):
        count = 1 + max(0, math.ceil((extent / side - 1) / step - 1e-9))
        room = max(0.0, extent - side)
        spots = [side / 2 + room * i / max(1, count - 1) for i in range(count)]
        along.append(torch.tensor(spots if room else [extent / 2], dtype=torch.float64))
    middle = torch.stack(torch.meshgrid(*along, indexing="xy"), -1).flatten(0, 1)
    return view(middle, torch.full_like(middle, side), torch.zeros(len(middle)))


def sample(images: Tensor, views: Tensor, size: int, *, border: str = "border") -> Tensor:
    """What the views show, (n, size, size, 3) float32 in [0, 1], in steps of 1 / 255.

    Args:
        images: (1, 3, h, w) that all views are of, or (n, 3, h, w), one each; RGB in [0, 1].
        views: (n, 2, 3).
        border: beyond the picture, "border" repeats its edge and "zeros" is black.
    """
    height, width = images.shape[-2:]
    shares = torch.arange(size, dtype=torch.float64) / size
    grid = torch.stack(torch.meshgrid(shares, shares, indexing="xy"), -1).view(-1, 2)
    at = grid @ views[..., :2].mT + views[..., None, :, 2]
    extent = torch.tensor([width, height], dtype=torch.float64)
    at = ((2 * at + 1) / extent - 1).float().to(images.device)  # float64 is not known everywhere
    n = len(views)
    # One tall grid where the picture is one: it is not copied for every view.
    at = at.view(1, n * size, size, 2) if len(images) == 1 else at.view(n, size, size, 2)
    seen = F.grid_sample(images.float(), at, padding_mode=border, align_corners=False)
    seen = seen.clamp(0, 1).mul(255).round().div(255).permute(0, 2, 3, 1)
    return seen.reshape(n, size, size, 3)
