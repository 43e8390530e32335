"""What cameras and weather do to a picture: the rendered world's stand-in for real degradations.

FLIPNET learns real degradations from pairs (haze, low light, sensor noise, camera shake). Rendered
faces get theirs here: a family of its own that blur, resize, white noise and JPEG (see
`core.degradation`) cannot make, and that a degrading model should learn from pairs alone.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import FacewrightError, check_image

DAMAGES = ("haze", "low light", "motion", "sensor noise")
_STREAM = 71
"""Keeps these draws apart from those of `core.degradation` for the same seed."""
_GAMMA = 2.2
"""Light adds up before the camera's tone curve: haze, darkness and shake act on pixel^2.2."""
_RADIUS = 7
"""Half the side of the motion kernel in a 128-pixel picture."""


def real_damage(gt: Tensor, seeds: list[int]) -> tuple[Tensor, list[tuple[str, ...]]]:
    """Damage each picture by one or two of `DAMAGES`; a function of picture and seed alone.

    With J the scene in linear light:

        haze           I = J T + A (1 - T), T = exp(-beta d), d a smooth depth (Koschmieder's law)
        low light      I = (g J)^gamma, g the share of light that came in, gamma the tone curve's
        motion         I = k * J, k the path of a shaking camera
        sensor noise   I = J + sqrt(a J + b) n: shot noise grows with light, read noise does not

    Args:
        gt: (b, 3, h, w) in [0, 1].
        seeds: one per picture, from 0 up.

    Returns:
        lq like `gt`, rounded to 1/255, and the names of each picture's damages in order.

    Raises:
        FacewrightError: no picture, or not one seed per picture.
    """
    check_image(gt, name="gt")
    if len(seeds) != len(gt):
        raise FacewrightError(f"Give one seed per image: {len(gt)} images, {len(seeds)} seeds.")
    pictures, names = [], []
    for picture, seed in zip(gt, seeds, strict=True):
        rng = np.random.default_rng([_STREAM, int(seed)])
        chosen = _draw(rng)
        light = picture.float().clamp(0, 1) ** _GAMMA
        for name in chosen:
            light = _APPLY[name](light, rng).clamp(0, 1)
        pictures.append((light ** (1 / _GAMMA) * 255).round() / 255)
        names.append(chosen)
    return torch.stack(pictures).to(gt), names


def _draw(rng: np.random.Generator) -> tuple[str, ...]:
    """One or two damages, in the order light meets them: air, darkness, shake, sensor."""
    count = 1 + int(rng.random() < 0.6)
    chosen = set(rng.choice(len(DAMAGES), count, replace=False).tolist())
    return tuple(name for i, name in enumerate(DAMAGES) if i in chosen)


def _haze(light: Tensor, rng: np.random.Generator) -> Tensor:
    h, w = light.shape[-2:]
    # Depth: a slanted plane and a few soft hills, so that haze thickens smoothly somewhere.
    coarse = torch.from_numpy(rng.random((1, 1, 3, 3))).to(light)
    hills = F.interpolate(coarse, (h, w), mode="bicubic", align_corners=True)[0, 0]
    angle = rng.uniform(0, 2 * math.pi)
    y = torch.linspace(-1, 1, h, device=light.device, dtype=light.dtype)[:, None]
    x = torch.linspace(-1, 1, w, device=light.device, dtype=light.dtype)[None]
    plane = 0.5 + 0.35 * (math.cos(angle) * x + math.sin(angle) * y)
    depth = (0.5 * plane + 0.5 * hills).clamp(min=0)
    through = torch.exp(-rng.uniform(0.8, 2.6) * depth)
    grey, tint = rng.uniform(0.45, 0.8), rng.normal(0, 0.03, 3)
    air = torch.from_numpy(grey + tint).to(light).clamp(0, 1)[:, None, None]
    return light * through + air * (1 - through)


def _low_light(light: Tensor, rng: np.random.Generator) -> Tensor:
    gain, gamma = rng.uniform(0.06, 0.45), rng.uniform(0.9, 1.5)
    # What little light there is has a colour: bulbs are warm, dusk is cold.
    warm = rng.uniform(-0.25, 0.25)
    colour = torch.tensor([1 + warm, 1.0, 1 - warm], dtype=light.dtype, device=light.device)
    return (gain * colour[:, None, None] * light).clamp(min=0) ** gamma


def _motion(light: Tensor, rng: np.random.Generator) -> Tensor:
    h, w = light.shape[-2:]
    kernel = torch.from_numpy(_path(rng, min(h, w) / 128)).to(light)
    r = kernel.shape[-1] // 2
    padded = F.pad(light[None], (r, r, r, r), mode="replicate")
    weight = kernel.expand(3, 1, -1, -1)
    return F.conv2d(padded, weight, groups=3)[0]


def _path(rng: np.random.Generator, scale: float) -> np.ndarray:
    """(taps, taps) kernel of a slightly bent stroke, each dot spread over four pixels."""
    taps = 2 * max(1, round(_RADIUS * scale)) + 1
    length, bend = rng.uniform(0.35, 0.9) * (taps - 2), rng.uniform(-0.6, 0.6)
    angle = rng.uniform(0, math.pi)
    s = np.linspace(-0.5, 0.5, 8 * taps)
    along, across = s * length, bend * (s**2 - 1 / 12) * length
    x = taps // 2 + math.cos(angle) * along - math.sin(angle) * across
    y = taps // 2 + math.sin(angle) * along + math.cos(angle) * across
    # Cameras do not move evenly: one end of the stroke is brighter.
    amount = 1 + rng.uniform(-0.8, 0.8) * 2 * s
    kernel = np.zeros((taps + 1, taps + 1))
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            share = np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0))
            inside_y, inside_x = np.clip(y0 + dy, 0, taps), np.clip(x0 + dx, 0, taps)
            np.add.at(kernel, (inside_y, inside_x), amount * share)
    kernel = kernel[:taps, :taps]
    return kernel / kernel.sum()


def _sensor_noise(light: Tensor, rng: np.random.Generator) -> Tensor:
    shot, read = np.exp(rng.uniform(math.log(0.004), math.log(0.035))), rng.uniform(0.001, 0.015)
    noise = torch.from_numpy(rng.standard_normal(light.shape)).to(light)
    return light + (shot * light + read**2).sqrt() * noise


_APPLY: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = dict(
    zip(DAMAGES, (_haze, _low_light, _motion, _sensor_noise), strict=True)
)
