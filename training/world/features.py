"""Eyes, brows, mouth, nostrils and glasses, painted onto the lit skin in small windows."""

import torch

from .anatomy import BROW_HALF_WIDTH, brow_middle, lids, lips, mouth_size
from .marks import paint_earring
from .shapes import FINE, Field, Scene, bump, coverage, fade, noise, over, smoothstep, spot, tint
from .skin import Relief


def paint_features(skin: torch.Tensor, field: Field, scene: Scene, relief: Relief) -> None:
    """All features onto `skin` (b, 3, h, w), in place."""
    p = scene.p
    width = mouth_size(p, scene.q)[0] + 0.06
    for paint, box in (
        (_paint_nostrils, (-0.3, p.nose_length - 0.2, 0.3, p.nose_length + 0.15)),
        (_paint_mouth, (-width, p.mouth_v - 0.25, width, p.mouth_v + 0.25)),
    ):
        if (window := field.window(*box)) is not None:
            paint(skin[..., *window], field.crop(window), scene, relief.shade[:, *window])
    for side in (-1, 1):
        centre = side * p.eye_x
        window = field.window(centre - 0.26, p.eye_v - 0.42, centre + 0.26, p.eye_v + 0.16)
        if window is not None:
            part, shade = field.crop(window), relief.shade[:, *window]
            _paint_eye(skin[..., *window], part, scene, shade, side)
            _paint_brow(skin[..., *window], part, scene, shade, side)
    if bool((p.glasses > 0).any()):
        _paint_glasses(skin, field, scene, relief)


def _paint_nostrils(skin: torch.Tensor, field: Field, scene: Scene, shade: torch.Tensor) -> None:
    p = scene.p
    u, v, au, nose = field.u, field.v, field.u.abs(), p.nose_length
    hole = spot(au, v, 0.48 * p.nose_width, nose + 0.012, 0.036, 0.018).clamp(0, 1)
    skin.mul_(1 - 0.72 * hole[:, None] * tint(0.85, 1.0, 1.0, u))
    ring = ((au - 0.72 * p.nose_width).square() + (v - nose + 0.012).square()).sqrt() - 0.068
    side = smoothstep(au / p.nose_width, 0.8, 1.0)
    skin.mul_((1 - 0.26 * bump((ring / 0.013).square()) * side)[:, None])


def _paint_mouth(skin: torch.Tensor, field: Field, scene: Scene, shade: torch.Tensor) -> None:
    p, q = scene.p, scene.q
    u, v, au, pixel = field.u, field.v, field.u.abs(), field.pixel
    width, corners, opening = mouth_size(p, q)
    t = (u / width).clamp(-1, 1)
    _, upper_in, lower_in, _ = lips(p, q, t)
    distance = torch.maximum(torch.maximum(upper_in - v, v - lower_in), au - 0.985 * width)
    gap = (u / (0.048 * (1 - 0.25 * t.abs()))).remainder(1)
    gap = smoothstep(torch.minimum(gap, 1 - gap), 0.0, 0.16)
    teeth = (1 - smoothstep(v - upper_in, 0.052, 0.070)) * (0.86 + 0.14 * gap) * (1 - 0.5 * t * t)
    light = (0.35 + 0.70 * shade) * teeth
    inside = tint(0.24, 0.07, 0.07, u) + tint(0.68, 0.65, 0.60, u) * light[:, None]
    over(skin, inside.clamp(0, 1), coverage(distance, pixel + 0.006))
    # Closed lips meet in a dark line; the corners sit in the cheeks.
    middle = (upper_in + lower_in) / 2
    line = bump(((v - middle) / 0.012).square()) * smoothstep(1.04 * width - au, 0.0, 0.03)
    skin.mul_((1 - 0.55 * line * (opening < 0.03).float())[:, None])
    corner = spot(au, v, width, p.mouth_v + corners, 0.024, 0.020)
    skin.mul_((1 - 0.40 * corner)[:, None])


def _paint_eye(
    skin: torch.Tensor, field: Field, scene: Scene, shade: torch.Tensor, side: int
) -> None:
    p, q = scene.p, scene.q
    u, v, pixel = field.u, field.v, field.pixel
    light_x = scene.light[0]
    t = (u - p.eye_x * side) / p.eye_width
    top, bottom = lids(p, q, t, side)
    inside = t.abs() < 1
    alpha = coverage(torch.maximum(top - v, v - bottom), pixel + 0.004) * inside

    # The white, shaded towards the corners, a little lighter than the skin's light alone would
    # make it: eyes carry the likeness.
    light = (0.46 + 0.50 * shade).clamp(0.5, 1.02) * (1 - 0.26 * t.abs() ** 3).clamp(0.5)
    eye = tint(0.95, 0.94, 0.93, u) * light[:, None]
    tear = spot(t * side, v, -0.95, p.eye_v, 0.22, 0.05)
    eye = eye * (1 - 0.25 * tear[:, None] * tint(0.0, 1.0, 1.0, u))

    x = u - p.eye_x * side - 0.10 * q.gaze[:, 0]
    y = v - (p.eye_v - 0.012) - 0.06 * q.gaze[:, 1]
    r = (x * x + y * y).sqrt()
    share = r / p.iris_radius
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]
    rays = noise(torch.atan2(y, x) * 22 + offset_u, r * 60 + offset_v, FINE) * fade(110, pixel)
    # Lit from above, the lower half of an iris glows; its rim is dark.
    tone = 1.0 + 0.22 * rays + 0.40 * smoothstep(y, -0.03, 0.05)
    tone = tone - 0.62 * smoothstep(share, 0.80, 1.0)
    iris = p.iris_rgb * tone.clamp(0.15, 1.9)[:, None]
    over(eye, iris, coverage(r - p.iris_radius, pixel + 0.006))
    over(eye, tint(0.02, 0.02, 0.02, u), coverage(r - 0.42 * p.iris_radius, pixel + 0.004))
    glint = ((x - 0.026 * light_x.sign()).square() + (y + 0.028).square()).sqrt() - 0.020
    over(eye, tint(0.98, 0.98, 0.98, u), 0.95 * coverage(glint, pixel + 0.004))
    echo = ((x + 0.028 * light_x.sign()).square() + (y - 0.030).square()).sqrt() - 0.012
    over(eye, tint(0.9, 0.93, 0.97, u), 0.28 * coverage(echo, pixel + 0.006))
    eye = eye * (0.62 + 0.38 * smoothstep(v - top, 0.0, 0.05))[:, None]
    over(skin, eye.clamp(0, 1), alpha)

    # Lashes thicken outwards; thin lines must not vanish below a pixel, hence the widths.
    reach = 1 - smoothstep(t.abs(), 0.92, 1.12)
    thick = 0.013 + 0.006 * (t * side).clamp(0)
    lash = 0.88 * bump(((v - top + 0.004) / torch.maximum(thick, 0.5 * pixel)).square()) * reach
    low = 0.30 * bump(((v - bottom - 0.003) / 0.010).square()) * reach
    skin.mul_((1 - torch.maximum(lash, low))[:, None])


def _paint_brow(
    skin: torch.Tensor, field: Field, scene: Scene, shade: torch.Tensor, side: int
) -> None:
    p = scene.p
    u, v, pixel = field.u, field.v, field.pixel
    t = (u - 1.03 * p.eye_x * side) / BROW_HALF_WIDTH * side
    thick = p.brow_thickness * (1 - 0.55 * smoothstep(t, 0.0, 1.0))
    depth = thick - (v - brow_middle(p, scene.q, t)).abs()
    offset_u, offset_v = p.texture_offset[:, 0], p.texture_offset[:, 1]
    across, along = 0.75 * u * side + 1.1 * v, 0.8 * v - 0.35 * u * side
    hairs = noise(across * 110 + offset_u, along * 24 + offset_v, FINE) * fade(110, pixel)
    alpha = smoothstep(depth / (thick + 0.012) + 0.22 * hairs, -0.30, 0.70)
    alpha = alpha * (1 - smoothstep(t.abs(), 0.88, 1.08)) * p.brow_density
    tone = (0.52 + 0.12 * hairs).clamp(0.15, 1) * (0.55 + 0.45 * shade)
    over(skin, p.hair_rgb * tone[:, None], alpha.clamp(0, 0.95))


def _paint_glasses(skin: torch.Tensor, field: Field, scene: Scene, relief: Relief) -> None:
    p = scene.p
    window = field.window(-2.0, p.eye_v - 0.35, 2.0, p.eye_v + 0.40)
    if window is None:
        return
    skin, part, wrap = skin[..., *window], field.crop(window), relief.wrap[:, *window]
    u, v, au, pixel = part.u, part.v, part.u.abs(), part.pixel
    light_x = scene.light[0]
    centre, radius, power, thick = (
        p.eye_x * 1.02,
        p.glasses_radius,
        p.glasses_square,
        torch.maximum(p.glasses_thickness, 0.7 * pixel),
    )
    across = ((au - centre) / radius).abs() ** power
    down = ((v - p.eye_v - 0.025) / (0.80 * radius)).abs() ** power
    lens = ((across + down).clamp(min=1e-6) ** (1 / power) - 1) * 0.9 * radius
    glass = coverage(lens, pixel) * p.glasses
    glare = smoothstep(torch.sin((1.2 * u - v) * 9 + 3 * light_x), 0.8, 1.0)
    over(skin, tint(0.92, 0.95, 1.0, u), glass * (0.03 + 0.13 * glare))

    rim = lens.abs() - thick
    arc = v - p.eye_v + 0.03 - 0.03 * (1 - (u / 0.1).square())
    bridge = torch.maximum(arc.abs() - 0.8 * thick, au - (centre - 0.97 * radius))
    temple = torch.maximum((v - p.eye_v + 0.03).abs() - 0.9 * thick, centre + 0.95 * radius - au)
    frame = torch.minimum(torch.minimum(rim, bridge), temple)
    below = torch.minimum(torch.minimum(rim, bridge).clamp(0) / 0.025, torch.full_like(u, 2.0))
    skin.mul_((1 - 0.20 * bump(below.square()) * p.glasses)[:, None])
    gleam = bump(((lens + 0.25 * thick) / 0.008).square()) * smoothstep(p.eye_v - v, 0.0, 0.1)
    colour = p.glasses_rgb * (0.65 + 0.6 * wrap)[:, None] + 0.30 * gleam[:, None]
    over(skin, colour.clamp(0, 1), coverage(frame, pixel) * p.glasses)


def paint_body(
    canvas: torch.Tensor, matte: torch.Tensor, field: Field, scene: Scene, level: torch.Tensor
) -> None:
    """Neck and clothes. `level` (b, 1, 1) is the light on the face, for the neck to match."""
    p, q = scene.p, scene.q
    u, v, au, pixel = field.u, field.v, field.u.abs(), field.pixel
    light_x = scene.light[0]
    half = 0.60 * p.face_width + 0.10 * smoothstep(v, 0.9, 1.6)
    neck = torch.maximum(au - half, 0.5 - v)
    under_chin = 0.60 + 0.40 * smoothstep(v, 0.95, 1.40)
    side = 1 - 0.22 * (u / half).square().clamp(max=1) + 0.18 * light_x * u / half
    tone = level * under_chin * side
    over(canvas, 0.97 * p.skin_rgb * tone[:, None], coverage(neck, pixel + 0.006), matte)

    # Shoulders slope from the neck, then round off into the arms.
    top = 1.27 + 0.16 * (au - 0.40).clamp(0) + 1.1 * (au - 0.95).clamp(0).square()
    open_neck = 0.18 * bump((u / 0.34).square()) + 0.34 * q.neckline * bump((u / 0.20).square())
    neckline = top + open_neck - v
    cloth = torch.maximum(neckline, au - 1.62)
    fold = bump(((u - 0.5 * light_x - 0.35 * (v - 1.9)) / 0.16).square())
    tone = 0.80 + 0.15 * light_x * u - 0.12 * (au / 1.6).square() - 0.05 * fold
    over(canvas, q.clothes_rgb * tone[:, None], coverage(cloth, pixel + 0.004), matte)
    collar = bump(((neckline + 0.040) / 0.026).square()) * (1 - smoothstep(au, 0.46, 0.62))
    over(canvas, q.trim_rgb * tone[:, None], 0.9 * collar)


def paint_ears(
    canvas: torch.Tensor, matte: torch.Tensor, field: Field, scene: Scene, level: torch.Tensor
) -> None:
    """Both ears with their earrings; the one on the far side slips behind the head."""
    p, q = scene.p, scene.q
    light_x = scene.light[0]
    for side in (-1, 1):
        centre = p.face_width * 1.0 + 0.015 - 0.16 * side * torch.sin(q.yaw)
        x = (field.u * side - centre) / (0.095 * p.ear_size)
        # Wider above, a lobe below.
        y = (field.v - 0.09) / (0.185 * p.ear_size)
        r = ((x / (1 - 0.25 * y)).square() + y * y).sqrt()
        hollow = spot(x, y, -0.10, -0.10, 0.42, 0.42) - 0.5 * spot(x, y, -0.15, 0.15, 0.16, 0.22)
        rim = 0.10 * smoothstep(r, 0.70, 0.95)
        tone = level * (0.90 + 0.22 * light_x * side + rim) - 0.34 * hollow
        colour = p.skin_rgb * tint(1.0, 0.88, 0.84, field.u) * tone.clamp(0.15, 1.3)[:, None]
        over(canvas, colour, coverage((r - 1) * 0.10, field.pixel + 0.006), matte)
        paint_earring(canvas, matte, field, scene, level, side, centre)
