"""Where a point of the face lies in the picture, both ways.

    canonical (u, v)  --turn: yaw, pitch-->  plane (x, y)  --camera (2, 3)-->  pixels

The turn treats the face as a shallow relief z(u, v): x = u cos(yaw) + z sin(yaw),
y = v + 0.8 z sin(pitch). It is exact forwards, so landmarks are exact; backwards it is a
contraction that a few fixed-point steps solve to hundredths of a pixel.
"""

import torch

from ...core.geometry.templates import template
from .nuisances import Nuisances

_STEPS = 6


def relief(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Depth of the face, towards the camera, without its small features."""
    head = 1 + 0.25 * (1.25 * u * u + 0.82 * (v - 0.05) ** 2)
    nose = 1 + 0.25 * ((u / 0.21) ** 2 + ((v - 0.30) / 0.30) ** 2)
    return 0.52 / (head * head) ** 2 + 0.09 / (nose * nose) ** 2


def turn(u: torch.Tensor, v: torch.Tensor, photos: Nuisances) -> tuple[torch.Tensor, torch.Tensor]:
    """Canonical -> plane; u and v are (b, ...)."""
    yaw, pitch = _angles(photos, u.ndim)
    z = relief(u, v)
    return u * torch.cos(yaw) + z * torch.sin(yaw), v + 0.8 * z * torch.sin(pitch)


def turn_back(
    x: torch.Tensor, y: torch.Tensor, photos: Nuisances
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plane -> canonical, the inverse of `turn`."""
    yaw, pitch = _angles(photos, x.ndim)
    inverse_cos, tan, sin = 1 / torch.cos(yaw), torch.tan(yaw), 0.8 * torch.sin(pitch)
    x = x * inverse_cos
    u, v = x, y
    for _ in range(_STEPS):
        z = relief(u, v)
        u, v = x - z * tan, y - z * sin
    return u, v


def _angles(photos: Nuisances, axes: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (-1,) + (1,) * (axes - 1)
    return photos.yaw.reshape(shape), photos.pitch.reshape(shape)


def portrait_camera(photos: Nuisances, size: int) -> torch.Tensor:
    """Plane -> pixels for a portrait as a camera would frame it, (b, 2, 3)."""
    centre = (photos.shift + 1) * (size / 2) - 0.5
    return similarity(photos.scale * (size / 2), photos.roll, centre)


def aligned_camera(
    plane_points: torch.Tensor, photos: Nuisances, size: int, jitter: float
) -> torch.Tensor:
    """Plane -> pixels of an FFHQ-aligned crop, (b, 2, 3).

    The least-squares similarity from the five points to the template (Umeyama 1991, in complex
    form), followed by an error such as a detector makes.

    Args:
        plane_points: five points in plane coordinates, (b, 5, 2).
        jitter: 1 gives errors of 1 % of the size in position, 2 % in scale and 0.02 rad.
    """
    target = template(size).float().to(plane_points)
    p = torch.view_as_complex(plane_points.double().contiguous())
    q = torch.view_as_complex(target.double().contiguous())[None]
    p_mean, q_mean = p.mean(1, keepdim=True), q.mean(1, keepdim=True)
    factor = ((p - p_mean).conj() * (q - q_mean)).sum(1) / (p - p_mean).abs().square().sum(1)
    shift = q_mean[:, 0] - factor * p_mean[:, 0]

    error = photos.jitter.double() * jitter
    middle = complex((size - 1) / 2, (size - 1) / 2)
    wobble = torch.polar(torch.exp(0.02 * error[:, 2]), 0.02 * error[:, 3])
    factor = factor * wobble
    shift = (shift - middle) * wobble + middle
    shift = shift + torch.complex(error[:, 0], error[:, 1]) * 0.01 * size
    return similarity(factor.abs(), factor.angle(), torch.view_as_real(shift)).float()


def similarity(scale: torch.Tensor, angle: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """(b,), (b,) and (b, 2) -> matrices (b, 2, 3) that rotate clockwise in the image."""
    c, s = scale * torch.cos(angle), scale * torch.sin(angle)
    return torch.stack(
        [torch.stack([c, -s, shift[:, 0]], -1), torch.stack([s, c, shift[:, 1]], -1)], 1
    )


def to_pixels(x: torch.Tensor, y: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Plane points (b, k), (b, k) -> pixels (b, k, 2)."""
    points = torch.stack([x, y], -1)
    return points @ camera[:, :, :2].transpose(1, 2) + camera[:, None, :, 2]


def to_plane(camera: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Plane coordinates of every pixel, two maps (b, h, w)."""
    inverse = torch.linalg.inv(camera[:, :, :2].double()).float()
    xs = torch.arange(width, device=camera.device, dtype=camera.dtype)[None, None]
    ys = torch.arange(height, device=camera.device, dtype=camera.dtype)[None, :, None]
    dx, dy = xs - camera[:, 0, 2, None, None], ys - camera[:, 1, 2, None, None]
    m = inverse[..., None, None]
    return m[:, 0, 0] * dx + m[:, 0, 1] * dy, m[:, 1, 0] * dx + m[:, 1, 1] * dy
