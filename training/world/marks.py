"""Marks of single people, painted in small windows: moles, scars, earrings.

A mark belongs to a person, not to a face in general: what a reference photo knows and no prior can
guess. Each is drawn within its own window of its own person, so that rare marks cost little.
"""

from collections.abc import Iterator

import torch

from .shapes import Field, Scene, bump, coverage, over, smoothstep, tint

_RAISED = 0.03
"""Radius from which a mole is raised, in face units; smaller ones are flat."""
_EAR_HEIGHT = 0.185
"""Half the height of an ear of size 1, in face units."""


def raise_marks(height: torch.Tensor, field: Field, scene: Scene) -> None:
    """Large moles and scars onto the relief `height` (b, h, w), in place."""
    for i, (u, v, radius, _) in _those_there(scene.p.moles):
        if radius < _RAISED:
            continue
        for part, window in _around(field, i, u, v, 1.5 * radius):
            distance = (part.u - u).square() + (part.v - v).square()
            height[i : i + 1, *window] += 0.30 * radius * bump(distance / (0.75 * radius) ** 2)
    for i, scar in _those_there(scene.p.scars):
        for part, window in _around(field, i, scar[0], scar[1], 1.3 * scar[3]):
            along, across = _along_scar(part, scar)
            ridge = bump((across / (0.9 * scar[4])).square()) * (1 - along.square()).clamp(0)
            height[i : i + 1, *window] += 0.45 * scar[4] * scar[6] * ridge


def paint_marks(albedo: torch.Tensor, field: Field, scene: Scene) -> None:
    """Moles and scars onto unlit skin (b, 3, h, w), in place."""
    p = scene.p
    for i, (u, v, radius, _) in _those_there(p.moles):
        for part, window in _around(field, i, u, v, radius):
            distance = ((part.u - u).square() + (part.v - v).square()).sqrt() - radius
            cover = 0.85 * coverage(distance, part.pixel + 0.006)
            colour = p.skin_rgb[i : i + 1] * tint(0.40, 0.33, 0.30, part.u)
            over(albedo[i : i + 1, :, *window], colour, cover)
    for i, scar in _those_there(p.scars):
        for part, window in _around(field, i, scar[0], scar[1], 1.3 * scar[3]):
            along, across = _along_scar(part, scar)
            half = scar[4] * (1 - along.square()).clamp(0).sqrt()
            cover = coverage(across.abs() - half, part.pixel + 0.010)
            cover = cover * smoothstep(along.abs(), 1.0, 0.8)
            skin = p.skin_rgb[i : i + 1]
            pale = skin.lerp(tint(1.0, 0.88, 0.83, part.u), 0.55)
            red = skin * tint(0.76, 0.54, 0.51, part.u)
            colour = pale if scar[6] > 0 else red
            over(albedo[i : i + 1, :, *window], colour, 0.9 * cover)


def paint_earring(
    canvas: torch.Tensor,
    matte: torch.Tensor,
    field: Field,
    scene: Scene,
    level: torch.Tensor,
    side: int,
    centre: torch.Tensor,
) -> None:
    """The earring of one ear, a stud on the lobe or a ring that hangs from it.

    Args:
        level: light on the face, (b, 1, 1).
        side: -1 for the ear on the image's left, 1 for the right.
        centre: distance of the ear's middle from the face's axis, (b, 1, 1).
    """
    p = scene.p
    for i in (p.earring.flatten() > 0).nonzero()[:, 0].tolist():
        one = slice(i, i + 1)
        radius, ring = float(p.earring_radius[i]), bool(p.earring_ring[i] > 0)
        u = side * (float(centre[i]) + 0.015)
        v = 0.09 + 0.86 * _EAR_HEIGHT * float(p.ear_size[i])
        # A ring is seen at an angle: narrower than high.
        width, v = (0.62, v + 0.8 * radius) if ring else (1.0, v)
        for part, window in _around(field, i, u, v, radius):
            x, y = (part.u - u) / width, part.v - v
            r = (x * x + y * y).sqrt()
            thick = torch.maximum(0.17 * torch.full_like(part.pixel, radius), 0.55 * part.pixel)
            distance = (r - 0.85 * radius).abs() - thick if ring else r - radius
            light_x = scene.light[0][one]
            facing = (light_x * x - 0.8 * y) / radius
            tone = level[one] * (0.80 + 0.35 * facing)
            gleam = (x - 0.35 * radius * light_x.sign()).square() + (y + 0.35 * radius).square()
            shine = 0.8 * bump(gleam / (0.34 * radius) ** 2)
            colour = p.earring_rgb[one] * tone.clamp(0.25, 1.3)[:, None] + shine[:, None]
            cover = coverage(distance, part.pixel + 0.004)
            over(canvas[one, :, *window], colour.clamp(0, 1), cover, matte[one, *window])


def _those_there(table: torch.Tensor) -> Iterator[tuple[int, list[float]]]:
    """(i, numbers) of each mark in a table (b, n, k) whose last number is not 0."""
    for i, j in (table[..., -1] != 0).nonzero().tolist():
        yield i, table[i, j].tolist()


def _around(
    field: Field, i: int, u: float, v: float, reach: float
) -> Iterator[tuple[Field, tuple[slice, slice]]]:
    """Photo `i` near a point: the part of the field and its window, or nothing out of sight."""
    one = Field(field.u[i : i + 1], field.v[i : i + 1], field.pixel[i : i + 1])
    margin = reach + 2 * float(one.pixel)
    window = one.window(u - margin, v - margin, u + margin, v + margin)
    if window is not None:
        yield one.crop(window), window


def _along_scar(field: Field, scar: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a point lies along a scar, -1 to 1 between its ends, and how far beside it."""
    u, v, angle, half, _, bend, _ = scar
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    x, y = field.u - u, field.v - v
    along = (x * cos + y * sin) / half
    return along, y * cos - x * sin - bend * half * (1 - along.square())
