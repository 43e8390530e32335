"""Who a rendered person is: everything that stays the same from photo to photo."""

from dataclasses import dataclass

import torch

from .batch import ParameterBatch, SeededDraws, as_seeds

_STREAM = 11
_COLUMNS = 160
# Marks have draws of their own, so that more of them change nothing else about a person.
_MARKS_STREAM = 13
_MARKS_COLUMNS = 64

# sRGB colours, light to dark. The dark end is lighter than measured skin: at 128 px the eyes and
# the mouth must stay readable.
_SKIN = (
    (0.95, 0.79, 0.70),
    (0.93, 0.74, 0.62),
    (0.88, 0.68, 0.53),
    (0.79, 0.58, 0.44),
    (0.67, 0.47, 0.36),
    (0.56, 0.39, 0.30),
    (0.48, 0.34, 0.27),
)
_HAIR = (
    (0.09, 0.08, 0.08),
    (0.17, 0.11, 0.08),
    (0.30, 0.19, 0.11),
    (0.45, 0.29, 0.16),
    (0.66, 0.48, 0.27),
    (0.84, 0.70, 0.46),
    (0.55, 0.23, 0.10),
    (0.66, 0.65, 0.64),
)
# More saturated than measured eyes: some ten pixels have to tell them apart.
_IRIS = (
    (0.25, 0.14, 0.07),
    (0.42, 0.23, 0.08),
    (0.64, 0.41, 0.07),
    (0.24, 0.52, 0.20),
    (0.15, 0.42, 0.80),
    (0.48, 0.42, 0.68),
)
_LIPSTICK = (
    (0.80, 0.06, 0.12),
    (0.90, 0.32, 0.22),
    (0.82, 0.10, 0.46),
    (0.44, 0.07, 0.30),
    (0.58, 0.16, 0.10),
)
# Gold, silver, ruby, emerald, sapphire, amethyst, turquoise.
_JEWELS = (
    (0.96, 0.72, 0.16),
    (0.86, 0.89, 0.94),
    (0.82, 0.05, 0.14),
    (0.04, 0.60, 0.28),
    (0.10, 0.22, 0.82),
    (0.52, 0.16, 0.74),
    (0.08, 0.70, 0.72),
)


@dataclass(frozen=True)
class Identities(ParameterBatch):
    """People, one row each. Lengths are in canonical face units: the origin lies between the
    eyes, u points right and v down in the image, the chin is near v = 1. Colours are sRGB.
    """

    skin_tone: torch.Tensor  # (b,) 0 light .. 1 dark
    skin_rgb: torch.Tensor  # (b, 3)
    face_width: torch.Tensor  # half the width at the eyes
    jaw_power: torch.Tensor  # exponent of the jaw's superellipse, 2 round .. 3 square
    jaw_taper: torch.Tensor
    chin: torch.Tensor  # how far the chin stands out
    cheeks: torch.Tensor
    eye_x: torch.Tensor
    eye_v: torch.Tensor
    eye_width: torch.Tensor  # half
    eye_height: torch.Tensor
    eye_tilt: torch.Tensor
    iris_rgb: torch.Tensor  # (b, 3)
    iris_radius: torch.Tensor
    brow_v: torch.Tensor
    brow_thickness: torch.Tensor
    brow_arch: torch.Tensor
    brow_tilt: torch.Tensor
    brow_density: torch.Tensor
    nose_length: torch.Tensor
    nose_width: torch.Tensor
    nose_height: torch.Tensor
    nose_bridge: torch.Tensor
    mouth_v: torch.Tensor
    mouth_width: torch.Tensor  # half
    lip_upper: torch.Tensor
    lip_lower: torch.Tensor
    lip_red: torch.Tensor  # 0 skin-like .. 1 lipstick
    lip_bow: torch.Tensor
    lipstick: torch.Tensor  # 0 none .. 1 opaque, of colour lipstick_rgb
    lipstick_rgb: torch.Tensor  # (b, 3)
    ear_size: torch.Tensor
    hair_rgb: torch.Tensor  # (b, 3)
    hairline: torch.Tensor  # v of the hairline's middle
    hair_drop: torch.Tensor  # how far it comes down at the temples
    parting: torch.Tensor  # u of the parting
    hair_volume: torch.Tensor
    hair_length: torch.Tensor  # v where the hair behind the face ends
    hair_wave: torch.Tensor
    hair_curl: torch.Tensor  # 1 for tight curls, a round head of hair
    hair_fringe: torch.Tensor  # how far a fringe comes down the forehead
    bald: torch.Tensor  # 1 for no hair
    beard: torch.Tensor  # 0 none .. 1 dense
    moustache: torch.Tensor  # 0 none .. 1 dense
    age: torch.Tensor  # 0 .. 1
    freckles: torch.Tensor  # 0 none .. 1
    blush: torch.Tensor
    pores: torch.Tensor
    moles: torch.Tensor  # (b, 6, 4): u, v, radius, 1 if there; four small ones, then two large
    scars: torch.Tensor  # (b, 1, 7): u, v, angle, half length, half width, bend,
    # 1 if pale and raised, -1 if red and sunken, 0 if not there
    earring: torch.Tensor  # 1 if worn
    earring_ring: torch.Tensor  # 1 for a ring, 0 for a stud
    earring_radius: torch.Tensor
    earring_rgb: torch.Tensor  # (b, 3)
    glasses: torch.Tensor  # 1 if worn
    glasses_radius: torch.Tensor
    glasses_square: torch.Tensor  # exponent of the rim's superellipse, 2 round .. 5 square
    glasses_thickness: torch.Tensor
    glasses_rgb: torch.Tensor  # (b, 3)
    texture_offset: torch.Tensor  # (b, 2) where in the noise textures this person's skin lies


def sample_identities(seeds: int | list[int] | torch.Tensor) -> Identities:
    """The people with these seeds. Person k is the same whatever the batch.

    Args:
        seeds: integers from 0 up.

    Raises:
        FacewrightError: a seed is negative.
    """
    seeds = as_seeds(seeds)
    draw = SeededDraws(seeds, _STREAM, _COLUMNS)
    marks = SeededDraws(seeds, _MARKS_STREAM, _MARKS_COLUMNS)
    uniform, normal = draw.uniform, draw.normal
    number = torch.Tensor.float

    # One hidden axis ties brows, jaw, lips, hair length and beards together, as in people.
    rugged = uniform(0, 1)
    tone = uniform(0, 1) ** 1.25
    skin = _palette(_SKIN, tone * 6) * (1 + normal(0, 0.02, 1)) * (1 + normal(0, 0.008, 3))
    dark = draw.below((tone - 0.25) / 0.6)
    iris = torch.where(dark, uniform(0, 2.6).floor(), uniform(0, 6).floor())
    age = 0.8 * uniform(0, 1) ** 1.6
    grey = draw.below((age - 0.35) * 1.2)
    colour = torch.where(dark, uniform(0, 2.4).floor(), uniform(0.4, 7).floor())
    hair = _palette(_HAIR, torch.where(grey, torch.full_like(colour, 7), colour))
    hair = hair * (1 + normal(0, 0.08, 1)) * (1 + normal(0, 0.02, 3))

    long = draw.below(0.85 - 0.75 * rugged)
    length = torch.where(long, uniform(0.35, 1.55), uniform(-0.35, 0.05))
    curl = draw.below(0.08 + 0.22 * dark.float())
    bald = draw.below(0.16 * rugged)
    fringe = torch.where(draw.below(0.3), uniform(0.12, 0.30), torch.zeros_like(tone))
    bearded = draw.below(0.75 * rugged - 0.1) & ~long
    beard = torch.where(bearded, uniform(0.35, 1), torch.zeros_like(tone))
    moustache = torch.where(
        draw.below(torch.where(bearded, 0.75, 0.10 * rugged)), uniform(0.5, 1), 0.0 * tone
    )
    worn = draw.below(0.24)

    # Anywhere between two neighbours on the palette: hazel, olive and teal too.
    iris = iris + marks.uniform(-0.5, 0.5)
    brightness = 1 + marks.normal(0, 0.14, 1)
    large_moles, scars = _large_moles(marks), _scars(marks, tone)
    made_up = marks.below(0.60 - 0.55 * rugged) & (beard == 0) & (moustache == 0)
    lipstick = marks.uniform(0.65, 0.95) * made_up
    lipstick_rgb = _palette(_LIPSTICK, marks.uniform(0, 5).floor())
    earring = marks.below(0.60 - 0.45 * rugged)
    ring = marks.below(0.45)
    stud_radius, ring_radius = marks.uniform(0.036, 0.052), marks.uniform(0.080, 0.125)
    jewel = _palette(_JEWELS, marks.uniform(0, 7).floor())
    return Identities(
        skin_tone=tone,
        skin_rgb=skin.clamp(0.1, 1),
        face_width=normal(0.69, 0.03) + 0.03 * rugged,
        jaw_power=uniform(1.9, 2.4) + 0.4 * rugged,
        jaw_taper=uniform(0.10, 0.26) - 0.08 * rugged,
        chin=uniform(0.02, 0.12),
        cheeks=uniform(0.0, 0.16),
        eye_x=normal(0.305, 0.016),
        eye_v=normal(0.0, 0.02),
        eye_width=normal(0.174, 0.009),
        eye_height=normal(0.100, 0.010) - 0.010 * rugged,
        eye_tilt=normal(0.02, 0.10),
        iris_rgb=(_palette(_IRIS, iris) * brightness * (1 + normal(0, 0.10, 3))).clamp(0.04, 1),
        iris_radius=normal(0.086, 0.004),
        brow_v=normal(-0.200, 0.020) + 0.015 * rugged,
        brow_thickness=uniform(0.020, 0.036) + 0.020 * rugged,
        brow_arch=uniform(0.0, 0.07) - 0.02 * rugged,
        brow_tilt=normal(0, 0.06),
        brow_density=uniform(0.6, 1.0),
        nose_length=normal(0.385, 0.024),
        nose_width=normal(0.128, 0.016) + 0.012 * rugged,
        nose_height=uniform(0.16, 0.32),
        nose_bridge=uniform(0.04, 0.07),
        mouth_v=normal(0.635, 0.020),
        mouth_width=normal(0.235, 0.022),
        lip_upper=uniform(0.036, 0.070) - 0.010 * rugged,
        lip_lower=uniform(0.055, 0.092) - 0.010 * rugged,
        lip_red=uniform(0.15, 1.0) * (1 - 0.7 * rugged),
        lip_bow=uniform(0.1, 0.5),
        lipstick=lipstick,
        lipstick_rgb=lipstick_rgb,
        ear_size=normal(1.0, 0.10),
        hair_rgb=hair.clamp(0.05, 0.95),
        hairline=normal(-0.60, 0.05) - 0.08 * rugged * age,
        hair_drop=uniform(0.35, 0.75),
        parting=uniform(-0.45, 0.45),
        hair_volume=uniform(0.05, 0.24) + 0.16 * curl,
        hair_length=torch.where(curl, length.clamp(max=0.6), length),
        hair_wave=uniform(0, 1),
        hair_curl=number(curl),
        hair_fringe=fringe,
        bald=number(bald),
        beard=beard,
        moustache=moustache,
        age=age,
        freckles=uniform(-1.2, 1.0).clamp(min=0) * (1 - tone),
        blush=uniform(0, 0.5),
        pores=uniform(0.1, 0.5),
        moles=torch.cat(
            [
                torch.stack(
                    [
                        uniform(-0.50, 0.50, 4),
                        uniform(0.12, 0.85, 4),
                        uniform(0.014, 0.026, 4),
                        number(uniform(0, 1, 4) < 0.3),
                    ],
                    -1,
                ),
                large_moles,
            ],
            1,
        ),
        scars=scars,
        earring=number(earring),
        earring_ring=number(ring),
        earring_radius=torch.where(ring, ring_radius, stud_radius),
        earring_rgb=jewel,
        glasses=number(worn),
        glasses_radius=uniform(0.20, 0.25),
        glasses_square=uniform(2.0, 5.0),
        glasses_thickness=uniform(0.016, 0.030),
        glasses_rgb=uniform(0.02, 0.6, 3) * uniform(0.2, 1.0, 1),
        texture_offset=uniform(0, 256, 2),
    )


def _large_moles(draw: SeededDraws) -> torch.Tensor:
    """(b, 2, 4): none, one or two, on different sides of the face."""
    first = draw.below(0.60)
    there = torch.stack([first, first & draw.below(0.35)], 1)
    side = torch.where(draw.below(0.5), 1.0, -1.0)
    u, v = _open_skin(draw, 2)
    u = u * torch.stack([side, -side], 1)
    return torch.stack([u, v, draw.uniform(0.036, 0.050, 2), there.float()], -1)


def _scars(draw: SeededDraws, tone: torch.Tensor) -> torch.Tensor:
    """(b, 1, 7): a short line, more often pale the darker the skin, so that it shows."""
    there, pale = draw.below(0.35), draw.below(1.4 * tone)
    side = torch.where(draw.below(0.5), 1.0, -1.0)
    u, v = _open_skin(draw, 1)
    angle, half = draw.uniform(-0.9, 0.9, 1), draw.uniform(0.075, 0.140, 1)
    width, bend = draw.uniform(0.014, 0.022, 1), draw.uniform(-0.15, 0.15, 1)
    kind = (torch.where(pale, 1.0, -1.0) * there)[:, None]
    return torch.stack([u * side[:, None], v, angle, half, width, bend, kind], -1)


def _open_skin(draw: SeededDraws, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """|u| and v (b, count) of places that no feature covers: cheeks, chin or forehead."""
    where = draw.uniform(0, 1, count)
    cheek_u, cheek_v = draw.uniform(0.24, 0.46, count), draw.uniform(0.20, 0.52, count)
    chin_u, chin_v = draw.uniform(0.06, 0.28, count), draw.uniform(0.78, 0.86, count)
    brow_u, brow_v = draw.uniform(0.00, 0.32, count), draw.uniform(-0.46, -0.36, count)
    chin, brow = where > 0.85, (where > 0.65) & (where <= 0.85)
    u = torch.where(chin, chin_u, torch.where(brow, brow_u, cheek_u))
    return u, torch.where(chin, chin_v, torch.where(brow, brow_v, cheek_v))


def _palette(colours: tuple[tuple[float, ...], ...], position: torch.Tensor) -> torch.Tensor:
    """(b,) positions along a list of colours -> (b, 3), linear in between."""
    table = torch.tensor(colours)
    position = position.clamp(0, len(colours) - 1 - 1e-4)
    index = position.long()
    weight = (position - index)[:, None]
    return table[index] * (1 - weight) + table[index + 1] * weight
