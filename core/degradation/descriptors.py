"""What was done to pictures, in a few numbers each, told without their originals."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import luma
from ..errors import FacewrightError, check_image

OCTAVES = 4
DESCRIPTORS = (
    "light",
    "contrast",
    "dark",
    "bright",
    "color",
    *(f"detail_{2**i}" for i in range(1, OCTAVES + 1)),
    "noise",
    "color_noise",
    "noise_in_light",
    "direction",
    "blocks",
)
"""Names of the columns of `describe_damage`."""
SMALLEST = 2 ** (OCTAVES + 1)
"""Pixels of a side that the octaves need."""
_TINY = 1e-3
_BLOCK = 8
"""Side of JPEG's blocks."""


def describe_damage(pictures: Tensor) -> Tensor:
    """Describe the damage of pictures of one kind, such as aligned faces of one size.

    With y the luma (BT.601), the columns are: mean of y, its standard deviation s, its 5 % and 95 %
    quantiles; log spread of the colours about y; for the octaves of 2 to 16 pixels the log of the
    band's spread over s (a blur takes the fine ones away); log median of the smallest diagonal
    detail, of y and of red minus blue (noise is everywhere, edges are not); log ratio of that
    detail in the lighter and the darker half (sensor noise grows with light); coherence of the
    gradients, 0 to 1 (a shake has a direction); log of how much larger steps are across a grid of 8
    pixels than elsewhere (JPEG's blocks, where nothing resized them since).

    What a picture shows enters, too: compare sets that show the same, and read differences between
    sets, not the numbers of one picture. A flat picture gives finite numbers.

    Args:
        pictures: (b, 3, h, w) in [0, 1], sides of at least `SMALLEST` pixels.

    Returns:
        (b, len(DESCRIPTORS)) float64 on the CPU; what one picture gets does not depend on others.

    Raises:
        FacewrightError: another shape, sides that are too short, NaN or infinity.
    """
    check_image(pictures, name="pictures")
    if min(pictures.shape[-2:]) < SMALLEST:
        raise FacewrightError(
            f"Damage is described from {SMALLEST} x {SMALLEST} pixels up, got "
            f"{pictures.shape[-1]} x {pictures.shape[-2]}."
        )
    rgb = pictures.detach().double().cpu()
    if not torch.isfinite(rgb.sum()):
        raise FacewrightError("`pictures` hold values that are NaN or infinite; give [0, 1].")
    # One by one: sums over a batch are rounded in another order.
    return torch.cat([_describe(one) for one in rgb.split(1)]) if len(rgb) else _nothing()


def _nothing() -> Tensor:
    return torch.empty(0, len(DESCRIPTORS), dtype=torch.float64)


def _describe(rgb: Tensor) -> Tensor:
    y = luma(rgb)
    contrast = _spread(y)
    flat = y.flatten(1)
    found = [flat.mean(1), contrast, flat.quantile(0.05, 1), flat.quantile(0.95, 1)]
    found.append(_log(_spread(rgb - y)))
    found += [_log(band) - _log(contrast) for band in _octaves(y)]
    diagonal = _diagonal(y).abs()
    found.append(_log(diagonal.flatten(1).median(1).values))
    found.append(_log(_diagonal(rgb[:, :1] - rgb[:, 2:]).abs().flatten(1).median(1).values))
    found.append(_in_light(y, diagonal))
    found.append(_coherence(y))
    found.append(_blocks(y))
    return torch.stack(found, 1)


def _log(x: Tensor) -> Tensor:
    return (x + _TINY).log()


def _spread(x: Tensor) -> Tensor:
    return x.flatten(1).std(1)


def _octaves(y: Tensor) -> list[Tensor]:
    """Spread of what each halving of the size takes away."""
    bands = []
    for _ in range(OCTAVES):
        y = y[..., : y.shape[-2] // 2 * 2, : y.shape[-1] // 2 * 2]
        smaller = F.avg_pool2d(y, 2)
        bands.append(_spread(y - F.interpolate(smaller, scale_factor=2.0)))
        y = smaller
    return bands


def _diagonal(x: Tensor) -> Tensor:
    """Haar's diagonal detail of squares of 2 x 2 pixels, (b, 1, h // 2, w // 2)."""
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    a, b = x[..., ::2, ::2], x[..., ::2, 1::2]
    c, d = x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return (a - b - c + d) / 2


def _in_light(y: Tensor, diagonal: Tensor) -> Tensor:
    light = F.avg_pool2d(y, 2).flatten(1)
    lighter = light > light.median(1, keepdim=True).values
    detail = diagonal.flatten(1)
    means = [(detail * half).sum(1) / half.sum(1).clamp(min=1) for half in (lighter, ~lighter)]
    return _log(means[0]) - _log(means[1])


def _coherence(y: Tensor) -> Tensor:
    """(l1 - l2) / (l1 + l2) of the eigenvalues of the mean structure tensor."""
    dx = (y[..., 1:, 1:] - y[..., 1:, :-1]).flatten(1)
    dy = (y[..., 1:, 1:] - y[..., :-1, 1:]).flatten(1)
    xx, yy, xy = ((a * b).mean(1) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    return ((xx - yy).square() + 4 * xy.square()).sqrt() / (xx + yy + _TINY**2)


def _blocks(y: Tensor) -> Tensor:
    """The larger of both axes; the grid begins at the picture's corner, as a file's does."""
    ratios = []
    for dim in (-1, -2):
        steps = y.diff(dim=dim).abs().mean((1, -1 if dim == -2 else -2))
        across = torch.arange(steps.shape[1]) % _BLOCK == _BLOCK - 1
        ratios.append(_log(steps[:, across].mean(1)) - _log(steps[:, ~across].mean(1)))
    return torch.maximum(*ratios)


__all__ = ["DESCRIPTORS", "SMALLEST", "describe_damage"]
