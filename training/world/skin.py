"""The face's relief, its light, and the colour of its skin."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .anatomy import jaw_drop, lips, mouth_size
from .marks import Marks, find_marks, paint_marks, raise_marks
from .shapes import (
    FINE,
    FRACTAL,
    Field,
    Scene,
    bump,
    coverage,
    fade,
    noise,
    over,
    smoothstep,
    spot,
    tint,
)


@dataclass
class Relief:
    """A face as a lit surface; maps are (b, h, w)."""

    radius: torch.Tensor  # 0 in the middle of the face, 1 on its outline
    shade: torch.Tensor  # diffuse light
    gloss: torch.Tensor  # mirrored light
    wrap: torch.Tensor  # the key light's part of the shade, 0..1
    terminator: torch.Tensor  # where light turns to shadow, where skin glows red
    grain: torch.Tensor  # low-frequency noise of this person's skin
    marks: Marks  # moles and scars


def face_radius(field: Field, scene: Scene) -> torch.Tensor:
    """A superellipse below the eyes, an ellipse above: 1 on the outline of the face."""
    p = scene.p
    v = field.v / torch.where(field.v > 0, jaw_drop(scene.q), 1.0)
    down = v.clamp(0)
    power = torch.where(v > 0, p.jaw_power, 2.0)
    half = p.face_width * (1 - p.jaw_taper * down)
    rise = torch.where(v > 0, v, v * (1 / 1.02)).abs()
    return ((field.u.abs() / half).clamp(min=1e-4) ** power + rise.clamp(min=1e-4) ** power) ** (
        1 / power
    )


def light_face(field: Field, scene: Scene, radius: torch.Tensor) -> Relief:
    """Build the relief, take its normals, light it."""
    p, q = scene.p, scene.q
    u, v, pixel = field.u, field.v, field.pixel
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]
    grain = noise(u * 26 + offset_u, v * 26 + offset_v, FRACTAL, 2)

    height = _bones(field, scene, radius)
    height += _folds(field, scene, grain[:, 0])
    marks = find_marks(field, scene)
    raise_marks(height, marks)
    pores = noise(u * 75 + offset_v, v * 75 + offset_u, FINE) * fade(75, pixel)
    height += p.pores * 0.0016 * pores + 0.0008 * grain[:, 0]

    padded = F.pad(height[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    slope = 0.5 / pixel
    slope_x = ((padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * slope).clamp_(-3, 3)
    slope_y = ((padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * slope).clamp_(-3, 3)
    normal_z = (1 + slope_x.square() + slope_y.square()).rsqrt_()
    normal_x, normal_y = -slope_x * normal_z, -slope_y * normal_z

    light_x, light_y, light_z = scene.light
    cosine = normal_x * light_x + normal_y * light_y + normal_z * light_z
    wrap = ((cosine + 0.30) / 1.30).clamp(0)
    half_z = light_z + 1
    halfway = (light_x**2 + light_y**2 + half_z**2).rsqrt()
    gloss = (normal_x * light_x + normal_y * light_y + normal_z * half_z) * halfway
    gloss = gloss.clamp_(0).pow(26)

    nose = p.nose_length
    cast = spot(u, v, -0.12 * light_x.sign(), nose - 0.03, 0.08, 0.13) * light_x.abs()
    cast = cast * smoothstep(-(u * light_x.sign()), 0.0, 0.06) * 0.35
    _, _, _, lip_bottom = lips(p, q, (u / mouth_size(p, q)[0]).clamp(-1, 1))
    occlusion = (
        1
        - 0.24 * spot(u, v, 0, nose + 0.055, 0.12, 0.035)
        - 0.20 * spot(u, v, 0, lip_bottom + 0.035, 0.16, 0.03)
        - 0.10 * smoothstep(radius, 0.82, 1.0)
    )
    sky = q.ambient * (0.90 - 0.12 * normal_y + 0.10 * normal_z)
    shade = (sky + q.key * wrap * (1 - cast)) * occlusion
    terminator = (1 - 3 * (cosine - 0.05).abs()).clamp_(0)
    return Relief(radius, shade, gloss, wrap, terminator, grain[:, 0], marks)


def _bones(field: Field, scene: Scene, radius: torch.Tensor) -> torch.Tensor:
    """Skull, nose, eye sockets, cheeks, chin, lips."""
    p, q = scene.p, scene.q
    u, v, nose = field.u, field.v, p.nose_length
    au = u.abs()
    # Beyond its outline the relief keeps falling, so that the edge is not lit like a plateau.
    height = 0.80 * (1 - radius * radius).clamp(min=0.006).sqrt() - 3 * (radius - 0.997).clamp(0)
    growth = smoothstep(v, -0.12, 0.385)
    ridge = bump((u / (p.nose_bridge * (1 + 0.8 * growth))).square())
    height += p.nose_height * 0.72 * growth * ridge * (1 - smoothstep(v - nose, -0.02, 0.06))
    height += p.nose_height * 0.62 * spot(u, v, 0, nose - 0.045, 0.085, 0.075)
    height += p.nose_height * 0.42 * spot(au, v, p.nose_width * 0.72, nose - 0.012, 0.05, 0.052)
    height -= 0.060 * spot(au, v, 0.98 * p.eye_x, p.eye_v - 0.03, 0.19, 0.115)
    height += 0.060 * spot(au, v, p.eye_x, p.eye_v, 0.125, 0.075)
    height += 0.040 * spot(au, v, 0.95 * p.eye_x, p.brow_v + p.eye_v + 0.01, 0.22, 0.06)
    height += (p.cheeks + 0.05 * q.smile.clamp(0)) * spot(au, v, 0.40, 0.30, 0.19, 0.16)
    height += p.chin * spot(u, v, 0, 0.90 * jaw_drop(q), 0.18, 0.12)

    t = (u / mouth_size(p, q)[0]).clamp(-1, 1)
    upper_out, upper_in, lower_in, lower_out = lips(p, q, t)
    open_part = 1 - t * t
    upper = ((v - (upper_out + upper_in) / 2) / (0.7 * p.lip_upper + 0.004)).square()
    lower = ((v - (lower_in + lower_out) / 2) / (0.6 * p.lip_lower + 0.004)).square()
    height += (0.045 * bump(upper) + 0.075 * bump(lower)) * open_part
    height -= 0.022 * spot(u, v, 0, (nose + p.mouth_v) / 2, 0.028, 0.07)
    return height


def _folds(field: Field, scene: Scene, grain: torch.Tensor) -> torch.Tensor:
    """Wrinkles of age and of expression."""
    p, q = scene.p, scene.q
    u, v, au = field.u, field.v, field.u.abs()
    smile = q.smile.clamp(0)
    lines = torch.sin((v + 0.03 * torch.cos(3 * u) + 0.012 * grain) * 62)
    folds = -0.0045 * p.age * lines * spot(u, v, 0, -0.42, 0.42, 0.13)
    cheek_line = p.nose_width * 1.05 + (v - p.nose_length) * (0.62 + 0.25 * q.smile)
    ends = smoothstep(v - p.nose_length, -0.05, 0.05) * (1 - smoothstep(v - p.mouth_v, -0.02, 0.12))
    folds -= (0.005 + 0.016 * p.age + 0.012 * smile) * bump(((au - cheek_line) / 0.048) ** 2) * ends
    outer = au - p.eye_x - 1.12 * p.eye_width
    crow = torch.sin((v - p.eye_v).abs() * 70 + outer * 25)
    folds -= 0.005 * p.age * crow * spot(outer, v, 0.07, p.eye_v + 0.01, 0.07, 0.085)
    bag = v - p.eye_v - 0.125 - 0.05 * (1 - ((au - p.eye_x) / 0.17).square()).clamp(-1, 1)
    bag_width = bump(((au - p.eye_x) / 0.13).square())
    folds -= (0.004 + 0.014 * p.age) * bump((bag / 0.020).square()) * bag_width
    t = ((au - p.eye_x) / (1.15 * p.eye_width)).clamp(-1, 1)
    crease = v - (p.eye_v - 1.35 * p.eye_height * q.lids * (1 - t * t) - 0.016)
    folds -= 0.020 * bump((crease / 0.013).square()) * bag_width
    return folds


def paint_skin(field: Field, scene: Scene, relief: Relief) -> torch.Tensor:
    """Lit skin with blush, freckles, moles, scars, lips and beard, (b, 3, h, w)."""
    p, q = scene.p, scene.q
    u, v, au = field.u, field.v, field.u.abs()
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]
    nose, grain = p.nose_length, relief.grain

    albedo = p.skin_rgb * (1 + 0.015 * grain)[:, None]
    red = p.blush * 0.16 * spot(au, v, 0.40, 0.32, 0.18, 0.14)
    red = red + 0.07 * spot(u, v, 0, nose - 0.03, 0.11, 0.09)
    red = red + 0.04 * spot(au, v, p.eye_x, p.eye_v + 0.11, 0.13, 0.05) + 0.012 * grain
    albedo = albedo * (1 - red[:, None] * tint(-0.25, 1.0, 0.9, u))
    where = spot(au, v, 0.30, 0.22, 0.26, 0.15) + 0.35 * spot(u, v, 0, -0.35, 0.4, 0.2)
    dots = noise(u * 80 + offset_v, v * 80 + offset_u, FINE)
    freckles = smoothstep(dots, 0.95, 1.5) * p.freckles * where.clamp(0, 1)
    albedo = albedo * (1 - freckles[:, None] * tint(0.28, 0.42, 0.50, u))
    paint_marks(albedo, scene, relief.marks)

    lip, lip_shine = _lip_cover(field, scene)
    skin_lip = p.skin_rgb * tint(0.93, 0.66, 0.63, u)
    lipstick = tint(0.80, 0.27, 0.31, u).expand_as(skin_lip)
    lip_rgb = skin_lip.lerp(lipstick, 0.45 * p.lip_red.reshape(-1, 1, 1, 1))
    lip_rgb = lip_rgb.lerp(p.lipstick_rgb, p.lipstick.reshape(-1, 1, 1, 1))
    over(albedo, lip_rgb, 0.92 * lip)
    beard, strand = _beard_cover(field, scene, relief)
    beard = beard * (1 - lip)
    over(albedo, p.hair_rgb * (0.62 + 0.16 * strand).clamp(0.2, 1.2)[:, None], beard)

    warm = torch.stack([1 + q.temperature, torch.ones_like(q.temperature), 1 - q.temperature], 1)
    lit = albedo * (relief.shade[:, None] * warm)
    lit += p.skin_rgb * tint(0.06, 0.015, 0.0, u) * relief.terminator[:, None]
    shine = 0.13 + 0.08 * spot(u, v, 0, -0.1, 0.12, 0.5) + 0.30 * lip * lip_shine
    lit += (relief.gloss * shine * (1 - beard) * q.key)[:, None]
    return lit


def _lip_cover(field: Field, scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Coverage of both lips with the mouth between them, and how far down the lower lip."""
    p, q = scene.p, scene.q
    width = mouth_size(p, q)[0]
    upper_out, _, lower_in, lower_out = lips(p, q, (field.u / width).clamp(-1, 1))
    distance = torch.maximum(upper_out - field.v, field.v - lower_out)
    distance = torch.maximum(distance, field.u.abs() - width)
    down = ((field.v - lower_in) / (lower_out - lower_in).clamp(min=1e-3)).clamp(0, 1)
    return coverage(distance, field.pixel + 0.010), down


def _beard_cover(field: Field, scene: Scene, relief: Relief) -> tuple[torch.Tensor, torch.Tensor]:
    """Coverage of beard and moustache, and the noise of their strands."""
    p, q = scene.p, scene.q
    u, v, au = field.u, field.v, field.u.abs()
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]
    strand = noise(u * 96 + offset_u + 1.5 * relief.grain, v * 30 + offset_v, FINE)
    strand = strand * fade(96, field.pixel).clamp(min=0.15)
    width, _, opening = mouth_size(p, q)
    upper_out, _, _, lower_out = lips(p, q, (u / width).clamp(-1, 1))
    # Along the jaw from the ears down, closing under the mouth.
    jaw = smoothstep(v + 0.30 * au, 0.50, 0.68) * smoothstep(relief.radius, 0.42, 0.62)
    jaw = jaw * smoothstep(au + 0.85 * (v - lower_out).clamp(0), 0.10, 0.24)
    jaw = jaw * (1 - spot(u, v, 0, p.mouth_v, 0.62 * width, 0.045 + 0.6 * opening))
    middle = (p.nose_length + upper_out) / 2 + 0.022 + 0.05 * au
    lip_hair = bump(((v - middle) / 0.036).square()) * smoothstep(1.15 * width - au, 0.0, 0.06)
    cover = torch.maximum(p.beard * jaw, 1.2 * p.moustache * lip_hair)
    cover = cover * (1.0 + 0.25 * strand) * (1.05 + 0.06 * relief.grain)
    return cover.clamp(0, 0.95), strand
