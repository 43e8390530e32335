"""Kernels of blurs and resizing weights, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

TOLERANCE = 1e-6
"""Largest error, for pixels in [0, 1], of a kernel written as a sum of separable ones."""
MOST_TERMS = 64
_TINY = 1e-6


def blur_kernel(step: Mapping[str, Any]) -> np.ndarray:
    """Weights (taps, taps) of a linear filter, in rows and columns, with the sum 1.

    With q = (u / sigma)^2 + (v / sigma_y)^2, u along `angle` (from x towards y) and v across it,
    cut off to a square: exp(-q / 2) of a Gaussian, exp(-q^beta / 2) of a "generalized" and
    1 / (1 + q^beta) of a "plateau" one (BasicSR's). A "sinc" is the circular low-pass filter
    w J_1(w r) / (2 pi r) with w its `cutoff` in radians per pixel.
    """
    offsets = _offsets(step["taps"])
    dy, dx = offsets[:, None], offsets[None]
    if step["op"] == "sinc":
        kernel = _low_pass(np.sqrt(dx**2 + dy**2), step["cutoff"])
        return kernel / kernel.sum()
    angle, sigma_y = step.get("angle", 0.0), step.get("sigma_y", step["sigma"])
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    q = (along / max(step["sigma"], _TINY)) ** 2 + (across / max(sigma_y, _TINY)) ** 2
    match step.get("shape"):
        case "generalized":
            kernel = np.exp(-0.5 * q ** step["beta"])
        case "plateau":
            kernel = 1 / (1 + q ** step["beta"])
        case _:
            kernel = np.exp(-0.5 * q)
    return kernel / kernel.sum()


def _low_pass(radius: np.ndarray, cutoff: float) -> np.ndarray:
    waves = torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy()
    safe = np.where(radius > 0, radius, 1.0)
    return np.where(radius > 0, cutoff * waves / (2 * np.pi * safe), cutoff**2 / (4 * np.pi))


def is_round_gaussian(step: Mapping[str, Any]) -> bool:
    """Whether the kernel is one row times one column."""
    return step["op"] == "blur" and "angle" not in step and "shape" not in step


def separable_terms(step: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows (r, taps) and columns (r, taps) with kernel = sum of rows[i] x columns[i].

    One term where the kernel is a round Gaussian. Any other is taken apart by cross approximation
    with full pivoting (its largest entry's row and column are taken away until what is left sums to
    less than TOLERANCE): nearly as few terms as a singular value decomposition, in plain
    arithmetic that no thread count changes. None where MOST_TERMS do not suffice.
    """
    if is_round_gaussian(step):
        weights = np.exp(-0.5 * (_offsets(step["taps"]) / max(step["sigma"], _TINY)) ** 2)
        weights = (weights / weights.sum())[None]
        return weights, weights
    left = blur_kernel(step)
    rows, columns = [], []
    while (size := np.abs(left)).sum() > TOLERANCE:
        if len(rows) == MOST_TERMS:
            return None
        i, j = divmod(int(size.argmax()), len(left))
        # The pivot's root on either side keeps both factors of the same size.
        root = np.sqrt(abs(left[i, j]))
        rows.append(left[:, j] / (left[i, j] / root))
        columns.append(left[i] / root)
        left = left - rows[-1][:, None] * columns[-1]
    return np.array(rows), np.array(columns)


def _offsets(taps: int) -> np.ndarray:
    return np.arange(taps, dtype=np.float64) - taps // 2


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Fold indices into 0 .. size - 1 by reflection about the first and last pixel's centre.

    Again and again where a kernel is longer than the image, which is what fails in
    implementations that pad.
    """
    if size == 1:
        return np.zeros_like(index)
    index = index % (2 * (size - 1))
    return np.minimum(index, 2 * (size - 1) - index)


def resize_weights(size: int, new: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Source index and weight (new, taps) of each target pixel along one axis.

    "area" averages the source interval that a target pixel covers; "bilinear" and "bicubic"
    (Keys 1981, a = -0.75) interpolate at its centre without antialiasing, as OpenCV and torch do.
    Indices are in order and repeat at the borders.
    """
    ratio = size / new
    target = np.arange(new, dtype=np.float64)[:, None]
    if mode == "area":
        left = target * ratio
        index = np.floor(left).astype(np.int64) + np.arange(int(np.ceil(ratio)) + 1)
        overlap = np.minimum(left + ratio, index + 1) - np.maximum(left, index)
        return index.clip(0, size - 1), overlap.clip(0) / ratio
    centre = (target + 0.5) * ratio - 0.5
    if mode == "bilinear":
        centre = centre.clip(0, size - 1)
    start = np.floor(centre)
    index = start + np.arange(2 if mode == "bilinear" else 4) - (mode == "bicubic")
    distance = np.abs(centre - index)
    weight = 1 - distance if mode == "bilinear" else _cubic(distance)
    return index.astype(np.int64).clip(0, size - 1), weight


def _cubic(d: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
