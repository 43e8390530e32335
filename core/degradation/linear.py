"""Blur and resize, exactly, at any size."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Full float32 products whatever the caller allows; the caller's setting comes back."""
    allowed = torch.get_float32_matmul_precision()
    try:
        if allowed != "highest":
            torch.set_float32_matmul_precision("highest")
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if allowed != "highest":
            torch.set_float32_matmul_precision(allowed)


def apply_linear(x: Tensor, steps: Sequence[Mapping[str, Any]]) -> Tensor:
    """x (h, 3, w) through blurs and resizes."""
    for step in steps:
        height, _, width = x.shape
        if step["op"] == "resize":
            rows, columns = (
                torch.from_numpy(resize_weights(old, new, step["mode"])).float()
                for old, new in zip((height, width), step["size"], strict=True)
            )
            x = torch.einsum("ah,hcw,bw->acb", rows, x, columns)
        else:
            x = _blur(x, step)
    return x


def resize_weights(size: int, new: int, mode: str) -> np.ndarray:
    ratio = size / new
    matrix = np.zeros((new, size))
    if mode == "area":
        left = np.arange(new)[:, None] * ratio
        cell = np.arange(size)[None]
        overlap = np.minimum(left + ratio, cell + 1) - np.maximum(left, cell)
        return overlap.clip(0) / ratio
    centre = (np.arange(new) + 0.5) * ratio - 0.5
    if mode == "bilinear":
        centre = centre.clip(0, size - 1)
    start = np.floor(centre)
    for tap in (0, 1) if mode == "bilinear" else (-1, 0, 1, 2):
        distance = np.abs(centre - start - tap)
        weight = 1 - distance if mode == "bilinear" else _cubic(distance)
        index = (start + tap).astype(int).clip(0, size - 1)
        np.add.at(matrix, (np.arange(new), index), weight)
    return matrix


def _cubic(d: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    if size == 1:
        return np.zeros_like(index)
    index = index % (2 * (size - 1))
    return np.minimum(index, 2 * (size - 1) - index)


def _blur(x: Tensor, step: Mapping[str, Any]) -> Tensor:
    reach = step["taps"] // 2
    offsets = np.arange(-reach, reach + 1.0)
    dy, dx = offsets[:, None], offsets[None]
    angle, sigma_y = step.get("angle", 0.0), step.get("sigma_y", step["sigma"])
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    kernel = np.exp(
        -0.5 * ((along / max(step["sigma"], 1e-6)) ** 2 + (across / max(sigma_y, 1e-6)) ** 2)
    )
    kernel = torch.from_numpy(kernel / kernel.sum()).float()
    height, _, width = x.shape
    ys = torch.from_numpy(_reflect(np.arange(-reach, height + reach), height))
    xs = torch.from_numpy(_reflect(np.arange(-reach, width + reach), width))
    padded = x[ys][:, :, xs].transpose(0, 1)
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=padded.shape[-2:])
    blurred = torch.fft.irfft2(spectrum, s=padded.shape[-2:])
    return blurred[:, 2 * reach :, 2 * reach :].transpose(0, 1).contiguous()
