"""Hair: the part behind the face and the part before it."""

import torch

from .shapes import FINE, FRACTAL, Field, Scene, coverage, fade, noise, over, smoothstep

_HEAD_TOP = 1.02


def paint_back_hair(canvas: torch.Tensor, matte: torch.Tensor, field: Field, scene: Scene) -> None:
    """What of the hair lies behind neck and ears, down to its tips."""
    p, (light_x, _, _) = scene.p, scene.light
    u, v, pixel = field.u, field.v, field.pixel
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]
    width_units = u.abs()

    sway = p.hair_wave * 0.05 * torch.sin(v * (3 + 4 * p.hair_wave) + offset_u)
    locks = noise(u * 9 + offset_u, offset_v + 0 * v, FRACTAL)
    lumps = noise(u * 14 + offset_u, v * 14 + offset_v, FRACTAL)
    short = 1 - smoothstep(p.hair_length, 0.0, 0.3)
    length = torch.where(short > 0.5, 0.42, p.hair_length)
    spread = 0.10 * smoothstep(v, -0.2, 1.0) * length.clamp(0, 1)
    half = p.face_width * 1.01 + 0.9 * p.hair_volume + spread + sway * u.sign()
    half = half + p.hair_curl * 0.018 * lumps
    # Short hair narrows to the nape, behind the ears.
    nape = (0.9 * p.hair_volume + 0.16 * p.face_width) * short
    half = half - nape * smoothstep(v, -0.25, 0.30)
    crown = torch.sqrt((u / half).square() + ((v + 0.1) / (0.97 + 0.9 * p.hair_volume)).square())
    # Below the crown: a curtain whose corners are round and whose tips end in locks.
    corner = (width_units / half).clamp(0.4, 1.2).sub(0.4).square()
    tip = length - 0.05 * locks.abs() - 0.7 * corner
    curtain = torch.maximum(width_units - half, v - tip)
    distance = torch.where(v < -0.1, (crown - 1) * 0.8, curtain)

    strands = noise((u + sway) * 60 + offset_u, v * 3 + offset_v, FINE) * fade(60, pixel)
    broad = noise((u + sway) * 22 + offset_v, v * 2.2 + offset_u, FRACTAL)
    curls = noise(u * 34 + offset_u, v * 34 + offset_v, FINE) * fade(34, pixel)
    texture = torch.where(
        p.hair_curl > 0, 0.20 * curls + 0.14 * lumps, 0.20 * strands + 0.20 * broad
    )
    shade = 0.52 + 0.10 * light_x * u - 0.10 * smoothstep(v, -0.3, 0.6)
    glow = 0.10 * smoothstep(distance, -0.10, 0.0)  # light through the outline
    colour = p.hair_rgb * ((shade + glow) * (1 + texture)).clamp(0.1, 1.6)[:, None]
    over(canvas, colour, coverage(distance, pixel + 0.012) * (1 - p.bald), matte)


def paint_front_hair(
    canvas: torch.Tensor, matte: torch.Tensor, field: Field, scene: Scene, head: torch.Tensor
) -> None:
    """Hair on the skull, combed away from the parting, its edge the hairline.

    Args:
        head: coverage of the head, (b, h, w), which the hair casts its shadow on.
    """
    p, q = scene.p, scene.q
    light_x, light_y, _ = scene.light
    u, v, pixel = field.u, field.v, field.pixel
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]

    # Strands radiate from a point above the parting: polar coordinates follow them.
    du, dv = u - 0.6 * p.parting, (v + 1.32).clamp(min=0.06)
    angle, radius = torch.atan2(du, dv), torch.sqrt(du * du + dv * dv)
    bend = p.hair_wave * 0.05 * torch.sin(radius * 9 + offset_u)
    strands = noise((angle + bend) * 62 + offset_u, radius * 4 + offset_v, FINE) * fade(60, pixel)
    broad = noise((angle + bend) * 22 + offset_v, radius * 2.5 + offset_u, FRACTAL)
    curls = noise(u * 34 + offset_u, v * 34 + offset_v, FINE) * fade(34, pixel)
    lumps = noise(u * 14 + offset_u, v * 14 + offset_v, FRACTAL)
    curly = p.hair_curl > 0

    across = (u.abs() / p.face_width).clamp(max=1.35)
    sweep = 0.16 * p.parting * u
    fringe = p.hair_fringe * torch.exp(-(((u + 0.3 * p.parting) / 0.46) ** 4))
    edge = p.hairline + p.hair_drop * across**3.2 + fringe + sweep
    # Short hair ends above the ears; long hair runs on into the curtain behind them.
    edge = torch.where(p.hair_length < 0.3, edge.clamp(max=0.02), edge)
    edge = edge + torch.where(curly, 0.016 * lumps, 0.028 * broad * (0.4 + 2 * p.hair_fringe))
    volume = p.hair_volume
    outline = torch.sqrt(
        (u / (p.face_width * 1.03 + 0.5 * volume)).square()
        + ((v + 0.05) / (_HEAD_TOP - 0.02 + 0.8 * volume)).square()
    )
    outline = (outline - 1) * 0.8 + torch.where(curly, 0.014 * lumps, 0.004 * broad)
    below = (v - edge) * 0.8
    present = 1 - p.bald
    alpha = coverage(torch.maximum(outline, below), pixel + 0.022) * present

    shadow = torch.exp(-((v - edge).clamp(0) / 0.05).square()) * head * (1 - alpha)
    canvas.mul_((1 - 0.22 * shadow * present)[:, None])

    # A band of sheen across the strands, the parting dark, the edges in the face's shade.
    sheen = torch.exp(-(((radius - 0.60 - 0.05 * broad - 0.08 * light_y) / 0.13) ** 2))
    away = smoothstep(angle.abs(), 0.0, 0.10)
    facing = (light_x * u / p.face_width - 0.7 * light_y * (-v) + 0.3).clamp(-0.3, 1)
    shade = 0.46 + 0.30 * q.ambient + 0.40 * q.key * facing - 0.16 * smoothstep(below, -0.14, 0.0)
    ringlets = 0.24 * (0.8 - curls.abs()) + 0.12 * lumps
    texture = torch.where(curly, ringlets, 0.24 * strands + 0.20 * broad)
    tone = (shade * (1 + texture) * (0.72 + 0.28 * away)).clamp(0.1, 1.9)
    gloss = torch.where(curly, 0.3, 1.0) * sheen * (0.10 + 0.07 * strands) * q.key
    colour = p.hair_rgb * tone[:, None] + (0.6 * p.hair_rgb + 0.22) * gloss.clamp(0)[:, None]
    over(canvas, colour.clamp(0, 1), alpha, matte)
