"""Give a restored picture the colours of the picture it came from."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import FacewrightError

COLOR_MODES = ("none", "adain", "wavelet", "lab")
"""Modes `match_color` knows."""
MOMENT_MODES = ("adain", "lab")
"""Those that only scale and shift channels."""

LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in the luma of ITU-R BT.601, in full range: as JPEG and OpenCV have it."""
YCBCR = (LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Red, green and blue in JPEG's Y, Cb and Cr (ITU-T T.871)."""


def match_color(x: Tensor, ref: Tensor, mode: str) -> Tensor:
    """Move the colours of `x` towards those of `ref`.

    - "none": x.
    - "adain": every channel takes over mean and standard deviation of `ref`
      (Huang and Belongie, arXiv:1703.06868, Eq. 8).
    - "wavelet": low frequencies of `ref`, high ones of `x`, see `wavelet_low`.
    - "lab": in CIELAB, a* and b* take over mean and standard deviation of `ref`, L* its mean only:
      contrast is what the restorer worked on (after Reinhard et al., IEEE CG&A 21(5), 2001).

    Args:
        x, ref: (b, 3, h, w) sRGB in [0, 1], same shape; b = 0 is fine.
        mode: one of `COLOR_MODES`.

    Returns:
        Like `x`, in [0, 1] (for "none" `x` itself).

    Raises:
        FacewrightError: an unknown mode or shapes that differ.
    """
    if mode not in COLOR_MODES:
        raise FacewrightError(f"No colour mode '{mode}'; known: {', '.join(COLOR_MODES)}.")
    if x.shape != ref.shape or x.ndim != 4 or x.shape[1] != 3:
        raise FacewrightError(
            "Colours are matched between two pictures of one shape (b, 3, h, w), got "
            f"{tuple(x.shape)} and {tuple(ref.shape)}."
        )
    if mode == "none" or x.numel() == 0:
        return x
    if mode in MOMENT_MODES:
        return change_color(x, color_change(x, ref, mode), mode)
    work, target = x.float(), ref.to(x.device).float()
    # = high(x) + low(ref), both filters being linear
    return (work + wavelet_low(target - work)).clamp(0, 1).to(x)


def color_change(x: Tensor, ref: Tensor, mode: str) -> Tensor:
    """How "adain" or "lab" of `match_color` change the channels: (b, 2, 3) gains and offsets.

    Few numbers per picture, which can be smoothed over the frames of a video before they are used.
    """
    return change_of_moments(color_moments(x, mode), color_moments(ref, mode).to(x.device), mode)


def color_moments(x: Tensor, mode: str) -> Tensor:
    """Variances and means of the channels that `mode` changes, (b, 2, 3)."""
    x = rgb_to_lab(x.float()) if mode == "lab" else x.float()
    return torch.stack([x.var((2, 3), correction=0), x.mean((2, 3))], 1)


def change_of_moments(own: Tensor, wanted: Tensor, mode: str, eps: float = 1e-6) -> Tensor:
    """`color_change` of a picture with the moments `own` to those `wanted`, (b, 2, 3) each."""
    gain = ((wanted[:, 0] + eps) / (own[:, 0] + eps)).sqrt()
    if mode == "lab":
        gain[:, 0] = 1
    return torch.stack([gain, wanted[:, 1] - gain * own[:, 1]], 1)


def change_color(x: Tensor, change: Tensor, mode: str) -> Tensor:
    """`x` (b, 3, h, w) with channels scaled and shifted by what `color_change` gave, in [0, 1]."""
    gain, offset = change.to(x.device)[..., None, None].unbind(1)
    if mode == "lab":
        work = lab_to_rgb(rgb_to_lab(x.float()) * gain + offset)
    else:
        work = x.float() * gain + offset
    return work.clamp(0, 1).to(x)


def wavelet_low(x: Tensor, levels: int = 5) -> Tensor:
    """What remains after removing `levels` detail planes of the à-trous wavelet transform.

    c_{i+1} = h_i * c_i, h_i the 3x3 binomial kernel with 2^i - 1 zeros between its taps; the detail
    planes are c_i - c_{i+1} (Holschneider et al., 1989). Borders are replicated.

    Args:
        x: (b, c, h, w).
        levels: the filter reaches 2^levels - 1 pixels.
    """
    for i in range(levels):
        gap = 2**i
        for axis in (2, 3):
            n = x.shape[axis]
            padding = (0, 0, gap, gap) if axis == 2 else (gap, gap, 0, 0)
            wide = F.pad(x, padding, "replicate")
            before, after = wide.narrow(axis, 0, n), wide.narrow(axis, 2 * gap, n)
            x = x / 2 + (before + after) / 4
    return x


def luma(rgb: Tensor, dim: int = -3) -> Tensor:
    """Brightness as `LUMA` weighs it; `dim` has the three channels, and one afterwards."""
    red, green, blue = rgb.split(1, dim)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def studio_luma(rgb: Tensor, dim: int = -3) -> Tensor:
    """`luma` in studio range, from 16/255 for black to 235/255 for white (ITU-R BT.601), with the
    rounded coefficients that MATLAB's `rgb2ycbcr` has and others copied."""
    red, green, blue = rgb.split(1, dim)
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB (b, 3, h, w) in [0, 1] -> CIELAB, D65, 2 degree observer; L* in [0, 100]."""
    from kornia.color import rgb_to_lab

    return rgb_to_lab(rgb)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Inverse of `rgb_to_lab`; colours outside the sRGB gamut leave [0, 1]."""
    from kornia.color import lab_to_rgb

    return lab_to_rgb(lab, clip=False)
