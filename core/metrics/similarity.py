"""How close two batches of pictures are, one number per image.

Conventions, the same everywhere in this package: values in [0, 1] (data range 1), no cropping of
borders, no reduction of large pictures, no rounding. `mask` (b, 1, h, w) restricts a score to a
region: PSNR takes the error inside it alone, SSIM averages its map over it.

`channels` is "rgb" (the mean over the three), "y": BT.601 luma in full range,
Y = 0.299 R + 0.587 G + 0.114 B, or "y_studio": the same in studio range, from 16/255 to 235/255, as
MATLAB's and BasicSR's super-resolution scripts take it (`test_y_channel`). Published numbers differ
in this. pyiqa's `psnr` and `ssimc` are "rgb" here; its `psnry` and `ssim` are "y" (`ssim` rounds Y
to 256 levels first, about 1e-4). Studio range is 219/255 as wide, which adds
20 log10(255/219) = 1.32 dB to PSNR; how much it changes SSIM depends on the picture.

Pictures of more than `WHOLE` pixels are measured in bands of rows, so that memory stays near that
of the pictures themselves.
"""

from collections.abc import Callable
from typing import Literal

import torch

from ..color import luma, studio_luma
from ..devices import widened
from ..errors import FacewrightError, check_image
from .regions import gradients

_WINDOW = 11

WHOLE = 2**20
"""Up to this many pixels a picture is measured at once."""
BAND = 2**18
"""Pixels of a larger one that are measured at a time."""

Channels = Literal["rgb", "y", "y_studio"]
_Map = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def psnr(
    a: torch.Tensor,
    b: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    channels: Channels = "rgb",
) -> torch.Tensor:
    """Peak signal-to-noise ratio, -10 log10(mean (a - b)^2), in dB.

    Args:
        a, b: (n, 3, h, w) in [0, 1].
        mask: (n, 1, h, w), weights from 0 to 1, or None for the whole picture.
        channels: "rgb" or "y", see the top of this file.

    Returns:
        (n,) float64; infinite for equal pictures, NaN where the mask is empty.
    """
    check_pair(a, b, mask)

    def error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (_select(a, channels) - _select(b, channels)).square()

    return -10 * torch.log10(_mean_of(error, a, b, mask))


def ssim(
    a: torch.Tensor,
    b: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    channels: Channels = "rgb",
) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels and sigma 1.5,
    K = (0.01, 0.03), mean over the channels, over the pixels whose whole window lies inside the
    picture.

    Args:
        a, b: (n, 3, h, w) in [0, 1], h and w at least 11.
        mask: (n, 1, h, w) averages the map over this region.
        channels: "rgb" or "y", see the top of this file.

    Returns:
        (n,) float64 in [-1, 1], exactly 1 for equal pictures; NaN where the mask is empty.

    Raises:
        FacewrightError: shapes that do not match, or pictures smaller than the window.
    """
    check_pair(a, b, mask)
    if min(a.shape[-2:]) < _WINDOW:
        raise FacewrightError(
            f"SSIM needs pictures of at least {_WINDOW} x {_WINDOW} pixels, got "
            f"{tuple(a.shape[-2:])}; compare them by PSNR or enlarge both."
        )
    from kornia.metrics import ssim as ssim_map

    def values(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        # Without kornia's eps in the denominator, which Wang et al. do not have: equal pictures
        # give 1.
        a, b = _select(a, channels), _select(b, channels)
        return ssim_map(a, b, _WINDOW, eps=0.0, padding="valid")

    margin = _WINDOW // 2
    if mask is not None:
        mask = mask[..., margin:-margin, margin:-margin]
    return _mean_of(values, a, b, mask, lost=margin)


def edge_ratio(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Sharpness of `a` relative to `b`: the ratio of their mean absolute Sobel gradients, (n,).

    Below 1 where `a` is softer; 1 where neither has an edge, infinite where only `a` has. Noise
    counts as sharpness: read it beside PSNR or SSIM.
    """
    check_pair(a, b, mask)

    def edges(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return gradients(widened(x)).abs()

    edges_a, edges_b = (_mean_of(edges, x, x, mask, around=1) for x in (a, b))
    return torch.where((edges_a == 0) & (edges_b == 0), 1.0, edges_a / edges_b)


def feature_distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
    """Distance of two batches in the stages of an encoder, (n,).

    Mean over stages of mean (a - b)^2 / var(b), where the variance is that of the whole reference
    batch; 0 for equal features, 2 for unrelated ones of equal spread.

    Args:
        a, b: per stage (n, c, h, w); b is the reference.
    """
    if len(a) != len(b) or not a:
        raise FacewrightError(
            f"Features of the same stages are compared: got {len(a)} and {len(b)} stages."
        )
    stages = [
        (widened(x) - widened(y)).square().flatten(1).mean(1) / widened(y).var()
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(stages).mean(0)


def _select(x: torch.Tensor, channels: Channels) -> torch.Tensor:
    """(n, 3, h, w) -> float64, itself or its luma (n, 1, h, w)."""
    if channels == "rgb":
        return widened(x)
    if channels not in ("y", "y_studio"):
        raise FacewrightError(f"`channels` is 'rgb', 'y' or 'y_studio', got {channels!r}.")
    return luma(widened(x)) if channels == "y" else studio_luma(widened(x))


def _mean_of(
    measure: _Map,
    a: torch.Tensor,
    b: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    lost: int = 0,
    around: int = 0,
) -> torch.Tensor:
    """Mean over a map that is `measure`d of both pictures, (n,), in bands of rows.

    Args:
        measure: (n, 3, h, w) twice -> (n, c, h - 2 lost, w - 2 lost).
        mask: of the map.
        lost: rows at either border that have no value.
        around: rows above and below that a value depends on, besides those.
    """
    height, width = a.shape[-2] - 2 * lost, a.shape[-1]
    if a.shape[-2] * width <= WHOLE:
        return _masked_mean(measure(a, b), mask)
    rows = max(1, BAND // width)
    total = weight = widened(a.new_zeros(len(a)))
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first, last = max(0, start - around), min(height, stop + around)
        part = (x[..., first : last + 2 * lost, :] for x in (a, b))
        values = measure(*part)[..., start - first : stop - first, :].mean(1, keepdim=True)
        weights = (
            torch.ones_like(values) if mask is None else _like(mask[..., start:stop, :], values)
        )
        total = total + (values * weights).flatten(1).sum(1)
        weight = weight + weights.flatten(1).sum(1)
    return total / weight


def _masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(n, c, h, w) -> (n,), weighted by a mask (n, 1, h, w)."""
    if mask is None:
        return values.flatten(1).mean(1)
    weights = _like(mask, values)
    return (values.mean(1, keepdim=True) * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def _like(mask: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return mask.to(values.device).to(values)  # moved first, see `widened`


def check_pair(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """Raise FacewrightError unless both are pictures of one shape, and the mask is for them."""
    check_image(a, name="a")
    check_image(b, name="b")
    if a.shape != b.shape:
        raise FacewrightError(
            f"Two batches of one shape are compared: got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if mask is not None and tuple(mask.shape) != (len(a), 1, *a.shape[-2:]):
        raise FacewrightError(
            f"`mask` should be {(len(a), 1, *a.shape[-2:])} for these pictures, got "
            f"{tuple(mask.shape)}."
        )
