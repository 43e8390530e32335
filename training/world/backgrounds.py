"""Smooth backgrounds: a soft fade between two colours and a few blurred lights.

They carry little detail on purpose: what a model learns and what a score measures should be faces.
"""

import torch

from .nuisances import Nuisances
from .shapes import smoothstep


def paint_background(photos: Nuisances, height: int, width: int) -> torch.Tensor:
    """(b, 3, h, w) in [0, 1]."""
    device = photos.yaw.device
    unit = min(height, width) / 2
    ys = (torch.arange(height, device=device) - (height - 1) / 2)[None, :, None] / unit
    xs = (torch.arange(width, device=device) - (width - 1) / 2)[None, None] / unit
    reach = max(height, width) / (2 * unit)
    angle = photos.background_angle[:, None, None]
    straight = 0.5 + 0.42 * (xs * torch.cos(angle) + ys * torch.sin(angle)) / reach
    round_ = 0.5 + 0.5 * torch.cos((xs * xs + ys * ys).sqrt() * (1.9 / reach))
    t = torch.where(photos.background_round[:, None, None] > 0, round_, straight).clamp(0, 1)
    first, second = photos.background[:, 0, :, None, None], photos.background[:, 1, :, None, None]
    picture = first.lerp(second, t[:, None])
    if bool((photos.lights[..., 3] != 0).any()):
        for x, y, radius, strength, *rgb in _columns(photos.lights):
            distance = ((xs - x * reach).square() + (ys - y).square()).sqrt() / radius
            disc = (1 - smoothstep(distance, 0.72, 1.15)) * strength
            picture = picture + disc[:, None] * torch.stack(rgb, 1)
    return picture.clamp(0, 1)


def _columns(lights: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Per light its seven numbers, each (b, 1, 1)."""
    return [light[:, :, None, None].unbind(1) for light in lights.unbind(1)]
