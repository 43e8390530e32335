"""Regions of pixels with soft borders."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def depth_of(region: Tensor, most: float) -> Tensor:
    """How deep pixels lie in a region, negative outside: Euclidean, exact up to `most`.

    The distance to the nearest pixel of the other kind less 1/2, as the border runs between them;
    no more than `most` pixels are told apart. What lies beyond the picture's edge is of no kind.
    Columns first, then the least of x^2 + column^2 along rows (Saito and Toriwaki, 1994).

    Args:
        region: (h, w) bool.

    Returns:
        (h, w) float32 in pixels.
    """
    reach = math.ceil(most) + 1
    inside, outside = (_distance_to(~region, reach), _distance_to(region, reach))
    return torch.where(region, inside - 0.5, 0.5 - outside)


def _distance_to(there: Tensor, reach: int) -> Tensor:
    """Distance of every pixel to the nearest of `there`, at most `reach`."""
    height = len(there)
    rows = torch.arange(height, device=there.device)[:, None]
    last = torch.where(there, rows, -reach).cummax(0).values
    after = torch.where(there, rows, height + reach).flip(0).cummin(0).values.flip(0)
    column = torch.minimum(rows - last, after - rows).clamp(max=reach).float().square()
    best = column.clone()
    padded = F.pad(column, (reach, reach), value=float(reach**2))
    for shift in range(-reach, reach + 1):
        moved = padded[:, reach + shift : reach + shift + column.shape[1]]
        best = torch.minimum(best, moved + shift**2)
    return best.sqrt().clamp(max=reach)


def soft_region(depth: Tensor, grow: float, feather: float) -> Tensor:
    """0 outside a region, rising over `feather` to 1 inside it.

    smoothstep((depth + grow) / feather): `grow` moves the border outwards, a negative one inwards;
    `feather` 0 leaves it hard.
    """
    depth = depth + grow
    if feather <= 0:
        return (depth > 0).float()
    t = (depth / feather).clamp(0, 1)
    return t * t * (3 - 2 * t)
