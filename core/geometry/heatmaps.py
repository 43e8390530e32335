"""Heatmaps of landmarks, in the layout of the FAN landmarker: 64 x 64 cells over a square crop.

Cell j holds the pixels whose positions, counted from the crop's edge, lie in
[j, j + 1) s / 64; its centre is pixel (j + 1/2) s / 64 - 1/2, where pixel i has its centre at i.
"""

import torch
from torch import Tensor

from ..errors import FacewrightError

CELLS = 64
"""Cells along a side of FAN's heatmaps."""


def cells_to_pixels(cells: Tensor, crop_size: int, cells_per_side: int = CELLS) -> Tensor:
    """Positions in cells, 0 at the centre of the first -> pixels of a crop of `crop_size`."""
    return (cells + 0.5) * (crop_size / cells_per_side) - 0.5


def pixels_to_cells(points: Tensor, crop_size: int, cells_per_side: int = CELLS) -> Tensor:
    """The inverse of `cells_to_pixels`."""
    return (points + 0.5) * (cells_per_side / crop_size) - 0.5


def gaussian_heatmaps(
    points: Tensor, crop_size: int, size: int = CELLS, sigma: float = 1.5
) -> Tensor:
    """What a landmarker that gives points only would draw as heatmaps.

    exp(-d^2 / (2 sigma^2)) around every point, with d in cells; 1 at the point itself, so that the
    largest cell is a little lower where the point lies between cells.

    Args:
        points: (n, k, 2) xy in pixels of the crop; points outside it give what reaches inside.
        crop_size: side of the square crop in pixels.
        size: cells along a side.
        sigma: in cells.

    Returns:
        (n, k, size, size) in [0, 1], rows are y; dtype and device of `points`.

    Raises:
        FacewrightError: points of another shape, or sizes that are not positive.
    """
    if points.ndim != 3 or points.shape[2] != 2 or not points.is_floating_point():
        raise FacewrightError(
            f"`points` should be floating point landmarks (n, k, 2) in pixels, got "
            f"{tuple(points.shape)} {points.dtype}."
        )
    if crop_size < 1 or size < 1 or not sigma > 0:
        raise FacewrightError(
            "Heatmaps need a crop, a side and a sigma above 0, got "
            f"crop_size {crop_size}, size {size}, sigma {sigma}."
        )
    centres = torch.arange(size, dtype=points.dtype, device=points.device)
    distance = pixels_to_cells(points, crop_size, size)[..., None] - centres
    x, y = distance.square().div(-2 * sigma**2).exp().unbind(2)
    return y[..., :, None] * x[..., None, :]
