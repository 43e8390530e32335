"""The oval of a face in its crop: jaw and forehead, without hair, ears and neck.

An outline is convex and stored by its support function h(n) = max over its points p of n . p, in
`DIRECTIONS` directions n; the signed distance of x from it is then min over n of h(n) - n . x,
exact but for the directions in between. Outlines of one face can be averaged number by number.
Lengths are shares of the crop's side, from its middle.
"""

import math

import torch
from torch import Tensor

from .warp import transform

DIRECTIONS = 96
"""Between two of them a straight edge bulges by a sixtieth of its length at most."""
_HALF_WIDTH, _UP, _DOWN = 0.285, 0.29, 0.405
"""Of the mean face in FFHQ's template, an ellipse above the crop's middle and another below.

The lower one lies on the median jaw of 478-point meshes of photographs within a hundredth."""
_LIFT, _POWER = 0.7, 2.5
"""The forehead's top lies as much of the way from the nose's base to the brows above the brows, and
it is the upper half of a superellipse of this power. No landmarks lie there."""
_POINTS = {  # number of landmarks: jaw, brows, the nose's base
    68: (slice(0, 17), slice(17, 27), 33),  # iBUG
    98: (slice(0, 33), slice(33, 51), 57),  # WFLW
}


def _normals() -> Tensor:
    angle = torch.arange(DIRECTIONS, dtype=torch.float64) * (2 * math.pi / DIRECTIONS)
    return torch.stack([angle.cos(), angle.sin()], 1)


def mean_outline() -> Tensor:
    """(DIRECTIONS,) float64: where a face is in a crop of which no landmarks are known."""
    x, y = _normals().unbind(1)
    return ((_HALF_WIDTH * x).square() + (torch.where(y > 0, _DOWN, _UP) * y).square()).sqrt()


def outlines_of(landmarks: Tensor | None, matrix: Tensor, size: int) -> Tensor:
    """Outlines of faces: the convex hull of jaw, brows and forehead, or the mean one.

    Args:
        landmarks: (n, k, 2) in picture pixels. With k of 68 (iBUG) or 98 (WFLW) the hull is that of
            the jaw line and of the brows lifted to the forehead; others say nothing of it.
        matrix: (n, 2, 3), picture -> crop.
        size: of the crops.

    Returns:
        (n, DIRECTIONS) float64.
    """
    if landmarks is None or landmarks.shape[1] not in _POINTS:
        return mean_outline().expand(len(matrix), -1)
    jaw, brows, base = _POINTS[landmarks.shape[1]]
    points = (transform(matrix, landmarks.detach().cpu().double()) + 0.5) / size - 0.5
    line, ends = points[:, brows], points[:, jaw][:, [0, -1]]
    middle, between = line.mean(1), ends.mean(1)
    rise = middle + _LIFT * (middle - points[:, base]) - between
    half = (ends[:, 1] - ends[:, 0]) / 2
    angle = torch.linspace(0, math.pi, 33, dtype=torch.float64)
    across, up = (v.sign() * v.abs() ** (2 / _POWER) for v in (angle.cos(), angle.sin()))
    forehead = between[:, None] + across[:, None] * half[:, None] + up[:, None] * rise[:, None]
    found = (torch.cat([points[:, jaw], line, forehead], 1) @ _normals().T).amax(1)
    return torch.where(found.isfinite(), found, mean_outline())


def depth_in(outline: Tensor, size: int) -> Tensor:
    """How deep the pixels of a crop lie in an outline, negative outside: (size, size) in sides."""
    at = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    depth = torch.full((size, size), math.inf)
    for (x, y), reach in zip(_normals().tolist(), outline.tolist(), strict=True):
        depth = torch.minimum(depth, reach - (at * x)[None] - (at * y)[:, None])
    return depth
