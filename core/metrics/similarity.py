"""How close two batches of pictures are, one number per image.

Conventions, the same everywhere in this package: values in [0, 1] (data range 1), no cropping of
borders, no reduction of large pictures, no rounding. `mask` (b, 1, h, w) restricts a score to a
region: PSNR takes the error inside it alone, SSIM averages its map over it.

`channels` is "rgb" (the mean over the three) or "y": BT.601 luma in full range,
Y = 0.299 R + 0.587 G + 0.114 B. Published numbers differ in this. pyiqa's `psnr` and `ssimc` are
"rgb" here; its `psnry` and `ssim` are "y" (`ssim` rounds Y to 256 levels first, about 1e-4). The
studio-range Y of MATLAB's and OpenCV's super-resolution scripts is 219/255 as large, which adds
20 log10(255/219) = 1.32 dB to PSNR.
"""

from typing import Literal

import torch

from ..color import luma
from ..devices import widened
from ..errors import FacewrightError, check_image
from .regions import gradients

_WINDOW = 11

Channels = Literal["rgb", "y"]


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
    error = _select(a, channels) - _select(b, channels)
    return -10 * torch.log10(_masked_mean(error.square(), mask))


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

    # Without kornia's eps in the denominator, which Wang et al. do not have: equal pictures give 1.
    values = ssim_map(_select(a, channels), _select(b, channels), _WINDOW, eps=0.0, padding="valid")
    margin = _WINDOW // 2
    if mask is not None:
        mask = mask[..., margin:-margin, margin:-margin]
    return _masked_mean(values, mask)


def edge_ratio(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Sharpness of `a` relative to `b`: the ratio of their mean absolute Sobel gradients, (n,).

    Below 1 where `a` is softer; 1 where neither has an edge, infinite where only `a` has. Noise
    counts as sharpness: read it beside PSNR or SSIM.
    """
    check_pair(a, b, mask)
    edges_a = _masked_mean(gradients(widened(a)).abs(), mask)
    edges_b = _masked_mean(gradients(widened(b)).abs(), mask)
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
    if channels != "y":
        raise FacewrightError(f"`channels` is 'rgb' or 'y', got {channels!r}.")
    return luma(widened(x))


def _masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(n, c, h, w) -> (n,), weighted by a mask (n, 1, h, w)."""
    if mask is None:
        return values.flatten(1).mean(1)
    weights = mask.to(values.device).to(values)  # moved first, see `widened`
    return (values.mean(1, keepdim=True) * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


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
