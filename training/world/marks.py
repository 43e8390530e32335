"""Marks of single people, painted in small windows: moles, scars, earrings.

A mark belongs to a person, not to a face in general: what a reference photo knows and no prior can
guess. Each is drawn within its own window of its own person, so that rare marks cost little.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .shapes import Field, Scene, bump, coverage, over, smoothstep, tint

_RAISED = 0.03
"""Radius from which a mole is raised, in face units; smaller ones are flat."""
_EAR_HEIGHT = 0.185
"""Half the height of an ear of size 1, in face units."""
_STRIDE = 2
"""Every how many pixels a mark is looked for: less than the narrowest window is wide."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Mark:
    """One mark of photo `photo` where it can be seen: its numbers as in `Identities`, and the part
    of the field around it with that part's rows and columns."""

    photo: slice
    numbers: list[float]
    part: Field
    window: Window

    def of(self, maps: torch.Tensor) -> torch.Tensor:
        """Cut the same part out of maps (b, ..., h, w): a view (1, ..., rows, columns)."""
        return maps[(self.photo, ..., *self.window)]


@dataclass(frozen=True)
class Marks:
    """What is to be drawn on a few faces."""

    moles: list[Mark]
    scars: list[Mark]


def find_marks(field: Field, scene: Scene) -> Marks:
    """The moles and scars that lie inside the field."""
    return Marks(
        _located(field, scene.p.moles.tolist(), reach=lambda mole: 1.5 * mole[2]),
        _located(field, scene.p.scars.tolist(), reach=lambda scar: 1.3 * scar[3]),
    )


def raise_marks(height: torch.Tensor, marks: Marks) -> None:
    """Large moles and scars onto the relief `height` (b, h, w), in place."""
    for mark in marks.moles:
        u, v, radius, _ = mark.numbers
        if radius >= _RAISED:
            distance = (mark.part.u - u).square() + (mark.part.v - v).square()
            mark.of(height).add_(bump(distance / (0.75 * radius) ** 2), alpha=0.30 * radius)
    for mark in marks.scars:
        along, across = _along_scar(mark)
        *_, width, _, kind = mark.numbers
        ridge = bump((across / (0.9 * width)).square()) * (1 - along.square()).clamp(0)
        mark.of(height).add_(ridge, alpha=0.45 * width * kind)


def paint_marks(albedo: torch.Tensor, scene: Scene, marks: Marks) -> None:
    """Moles and scars onto unlit skin (b, 3, h, w), in place."""
    skin = scene.p.skin_rgb
    brown = skin * tint(0.40, 0.33, 0.30, skin)
    for mark in marks.moles:
        u, v, radius, _ = mark.numbers
        distance = ((mark.part.u - u).square() + (mark.part.v - v).square()).sqrt() - radius
        cover = 0.85 * coverage(distance, mark.part.pixel + 0.006)
        over(mark.of(albedo), brown[mark.photo], cover)
    for mark in marks.scars:
        along, across = _along_scar(mark)
        half = mark.numbers[4] * (1 - along.square()).clamp(0).sqrt()
        cover = coverage(across.abs() - half, mark.part.pixel + 0.010)
        cover = 0.9 * cover * smoothstep(along.abs(), 1.0, 0.8)
        own = skin[mark.photo]
        pale = mark.numbers[6] > 0
        colour = (
            own.lerp(tint(1.0, 0.88, 0.83, own), 0.55)
            if pale
            else own * tint(0.76, 0.54, 0.51, own)
        )
        over(mark.of(albedo), colour, cover)


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
    rows = zip(
        *(x.flatten().tolist() for x in (p.earring, p.earring_ring, p.earring_radius)),
        *(x.flatten().tolist() for x in (p.ear_size, centre)),
        strict=True,
    )
    # A ring is seen at an angle: narrower than high.
    places = [
        [
            [
                side * (middle + 0.015),
                0.09 + 0.86 * _EAR_HEIGHT * size + 0.8 * radius * ring,
                radius,
                1 - 0.38 * ring,
                worn,
            ]
        ]
        for worn, ring, radius, size, middle in rows
    ]
    for mark in _located(field, places, reach=lambda numbers: numbers[2]):
        u, v, radius, width, _ = mark.numbers
        part, one = mark.part, mark.photo
        x, y = (part.u - u) / width, part.v - v
        distance = (x * x + y * y).sqrt()
        if width < 1:
            thick = torch.maximum(torch.full_like(part.pixel, 0.17 * radius), 0.55 * part.pixel)
            distance = (distance - 0.85 * radius).abs() - thick
        else:
            distance = distance - radius
        light_x = scene.light[0][one]
        tone = level[one] * (0.80 + 0.35 / radius * (light_x * x - 0.8 * y))
        gleam = (x - 0.35 * radius * light_x.sign()).square() + (y + 0.35 * radius).square()
        shine = 0.8 * bump(gleam / (0.34 * radius) ** 2)
        colour = p.earring_rgb[one] * tone.clamp(0.25, 1.3)[:, None] + shine[:, None]
        cover = coverage(distance, part.pixel + 0.004)
        over(mark.of(canvas), colour.clamp(0, 1), cover, mark.of(matte))


def _located(
    field: Field, tables: list[list[list[float]]], reach: Callable[[list[float]], float]
) -> list[Mark]:
    """The marks of each photo that are there and inside the field.

    Args:
        tables: per photo its marks: u, v, ..., and last 0 where there is none.
        reach: how far from (u, v) a mark goes.
    """
    found = []
    pixels = field.pixel.flatten().tolist()
    for i, (table, pixel) in enumerate(zip(tables, pixels, strict=True)):
        there = [numbers for numbers in table if numbers[-1] != 0]
        if not there:
            continue
        one = slice(i, i + 1)
        whole = Field(field.u[one], field.v[one], field.pixel[one])
        coarse = Field(
            whole.u[:, ::_STRIDE, ::_STRIDE], whole.v[:, ::_STRIDE, ::_STRIDE], whole.pixel
        )
        for numbers in there:
            u, v = numbers[:2]
            margin = reach(numbers) + 2 * pixel
            window = coarse.window(u - margin, v - margin, u + margin, v + margin)
            if window is not None:
                rows, columns = (slice(_STRIDE * x.start, _STRIDE * x.stop) for x in window)
                found.append(Mark(one, numbers, whole.crop((rows, columns)), (rows, columns)))
    return found


def _along_scar(mark: Mark) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a point lies along a scar, -1 to 1 between its ends, and how far beside it."""
    u, v, angle, half, _, bend, _ = mark.numbers
    x, y = mark.part.u - u, mark.part.v - v
    along = (x * math.cos(angle) + y * math.sin(angle)) / half
    across = y * math.cos(angle) - x * math.sin(angle)
    return along, across - bend * half * (1 - along.square())
