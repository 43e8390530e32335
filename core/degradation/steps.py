"""The steps that are not linear, on one image (h, 3, w): noise, JPEG, colour and rounding."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..color import luma
from ..devices import narrowed, widened


def apply_step(x: Tensor, step: Mapping[str, Any]) -> Tensor:
    """One step of a recipe, already checked; x may be written over."""
    match step["op"]:
        case "noise":
            return add_noise(x, step["sigma"], step["seed"], grey="grey" in step)
        case "poisson":
            return add_poisson(x, step["scale"], step["seed"], grey="grey" in step)
        case "jpeg":
            return jpeg(x.transpose(0, 1), step["quality"]).transpose(0, 1).contiguous()
        case "shift":
            return (x + x.new_tensor(step["rgb"])[:, None]).clamp_(0, 1)
        case "grey":
            return luma(x, 1).expand_as(x).contiguous()
        case "brightness":
            return (x * step["amount"]).clamp_(0, 1)
        case "contrast":
            return _blend(x, narrowed(widened(luma(x, 1)).mean(), x), step["amount"])
        case "saturation":
            return _blend(x, luma(x, 1), step["amount"])
        case "hue":
            return _turn_hue(x, step["amount"])
        case _:
            return x.clamp(0, 1).mul_(255).round_().div_(255)


def add_noise(x: Tensor, sigma: float, seed: int, *, grey: bool = False) -> Tensor:
    """x (h, 3, w) + sigma n, clipped to [0, 1]; n is drawn as (3, h, w), or where `grey` as
    (1, h, w) for all channels, on the CPU everywhere."""
    height, channels, width = x.shape
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(
        1 if grey else channels,
        height,
        width,
        generator=generator,
        dtype=torch.float32,
        device="cpu",
    )
    return x.add_(noise.mul_(sigma).to(x.device).transpose(0, 1)).clamp_(0, 1)


def add_poisson(x: Tensor, scale: float, seed: int, *, grey: bool = False) -> Tensor:
    """x (h, 3, w) + scale (Poisson(v y) / v - y), clipped to [0, 1] (Real-ESRGAN's).

    y is x, or where `grey` its brightness, in 8 bits, and v the number of its values that occur,
    rounded up to a power of 2. Drawn as (channels, h, w) on the CPU everywhere.
    """
    y = (luma(x, 1) if grey else x).transpose(0, 1).cpu()
    levels = y.clamp(0, 1).mul(255).round_()
    occurring = torch.bincount(levels.flatten().to(torch.int64), minlength=256).count_nonzero()
    values = float(2 ** int(occurring - 1).bit_length())
    y = levels.div_(255)
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.poisson(y * values, generator=generator).div_(values).sub_(y)
    return x.add_(noise.mul_(scale).to(x.device).transpose(0, 1)).clamp_(0, 1)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Through a 4:2:0 JPEG of libjpeg and back.

    Args:
        x: (3, h, w), clipped to [0, 1] and rounded to 8 bits.
        quality: 1 to 100.
    """
    planes = x.clamp(0, 1).mul_(255).round_().to(torch.uint8).contiguous().cpu().numpy()
    buffer = io.BytesIO()
    # Pillow weaves and parts the channels several times faster than a transposed copy does.
    picture = Image.merge("RGB", [Image.fromarray(plane) for plane in planes])
    picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    decoded = Image.open(buffer, formats=("JPEG",)).split()
    planes = torch.stack([torch.from_numpy(np.array(plane)) for plane in decoded])
    return planes.to(x.device).to(x.dtype).div_(255)


def _blend(x: Tensor, other: Tensor, share: float) -> Tensor:
    """torchvision's: share of x, the rest of the other, clipped; share may exceed 1."""
    return (share * x + (1 - share) * other).clamp_(0, 1)


def _turn_hue(x: Tensor, turn: float) -> Tensor:
    """Hue + turn (of a full circle) at the same saturation and value of the HSV cone."""
    red, green, blue = x.unbind(1)
    value, lowest = x.amax(1), x.amin(1)
    chroma = value - lowest
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turn
    # A channel falls from value by chroma as the hue moves away from it (period 6).
    channels = []
    for offset in (5, 3, 1):
        k = torch.remainder(hue + offset, 6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)
