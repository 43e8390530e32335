"""The curves of a face, shared by the landmarks and by the paint, and the 68 landmarks.

Every function takes the identity `p` and the photo `q` broadcast to the shape it is asked for.
"""

import math
from types import SimpleNamespace

import torch

from .identities import Identities
from .nuisances import Nuisances
from .pose import to_pixels, turn

BROW_HALF_WIDTH = 0.185


def brow_middle(p: SimpleNamespace, q: SimpleNamespace, t: torch.Tensor) -> torch.Tensor:
    """v of a brow's middle line; t runs from -1 (at the nose) to 1 (at the temple)."""
    arch = p.brow_arch * (1 - (t - 0.25) ** 2)
    return p.brow_v + p.eye_v - q.brow_raise - arch + 0.3 * p.brow_tilt * t + 0.04 * t.clamp(0) ** 2


def lids(
    p: SimpleNamespace, q: SimpleNamespace, t: torch.Tensor, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """v of the upper and the lower lid; t runs from -1 to 1 across the eye, left to right."""
    middle = p.eye_v - 0.12 * p.eye_tilt * t * side
    opening = p.eye_height * q.lids * (1 - t * t)
    return middle - opening, middle + 0.62 * opening


def mouth_size(
    p: SimpleNamespace, q: SimpleNamespace
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Half width, rise of the corners and opening of the mouth."""
    width = p.mouth_width * (1 + 0.22 * q.smile.clamp(0) - 0.10 * q.mouth_open)
    return width, -0.075 * q.smile, 0.115 * q.mouth_open + 0.004


def lips(p: SimpleNamespace, q: SimpleNamespace, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """v of the upper lip's outer and inner edge and the lower lip's inner and outer edge;
    t runs from -1 to 1 between the corners."""
    _, corners, opening = mouth_size(p, q)
    t2 = t * t
    middle = p.mouth_v + corners * t2
    upper_in = middle - 0.35 * opening * (1 - t2)
    lower_in = middle + 0.65 * opening * (1 - t2)
    bow = 1 - p.lip_bow * torch.exp(-((t / 0.16) ** 2))
    upper_out = upper_in - p.lip_upper * (1 - t.abs() ** 1.6) * bow
    lower_out = lower_in + p.lip_lower * (1 - t.abs() ** 2.2)
    return upper_out, upper_in, lower_in, lower_out


def jaw_drop(q: SimpleNamespace) -> torch.Tensor:
    """By how much an open mouth lengthens the lower face."""
    return 1 + 0.05 * q.mouth_open


def canonical_landmarks(people: Identities, photos: Nuisances) -> torch.Tensor:
    """The 68 points of iBUG's order in canonical coordinates, (b, 68, 2)."""
    p, q = people.broadcast(1), photos.broadcast(1)
    device, n = people.face_width.device, len(people)

    def row(*values: float) -> torch.Tensor:
        return torch.tensor(values, device=device)[None].expand(n, -1)

    def line(first: float, last: float, count: int) -> torch.Tensor:
        return torch.linspace(first, last, count, device=device)[None].expand(n, -1)

    us, vs = [], []

    def add(u: torch.Tensor, v: torch.Tensor) -> None:
        us.append(u.expand(n, -1))
        vs.append(v.expand(n, -1))

    angle = line(-0.08, math.pi + 0.08, 17)
    sin, cos = torch.sin(angle), torch.cos(angle)
    v = sin.clamp(0) ** (2 / p.jaw_power) + sin.clamp(max=0)
    reach = cos.sign() * cos.abs() ** (2 / p.jaw_power)
    add(-p.face_width * (1 - p.jaw_taper * v.clamp(0)) * reach, v * jaw_drop(q))

    for side in (-1, 1):
        t = line(-1, 1, 5)
        add(1.03 * side * p.eye_x + BROW_HALF_WIDTH * t, brow_middle(p, q, t * side))

    t = line(0.10, 0.88, 4)
    add(0 * t, t * p.nose_length)
    t = line(-1, 1, 5)
    add(t * p.nose_width, p.nose_length + 0.015 + 0.025 * (1 - t * t))

    upper = row(1, 1, 1, 1, 0, 0) > 0
    for side in (-1, 1):
        t = row(-1, -0.4, 0.4, 1, 0.4, -0.4)
        top, bottom = lids(p, q, t, side)
        add(p.eye_x * side + t * p.eye_width, torch.where(upper, top, bottom))

    width, _, _ = mouth_size(p, q)
    t_up, t_low = line(-1, 1, 7), line(2 / 3, -2 / 3, 5)
    add(t_up * width, lips(p, q, t_up)[0])
    add(t_low * width, lips(p, q, t_low)[3])
    t_up, t_low = row(-0.9, -0.35, 0, 0.35, 0.9), row(0.35, 0, -0.35)
    add(t_up * width, lips(p, q, t_up)[1])
    add(t_low * width, lips(p, q, t_low)[2])
    return torch.stack([torch.cat(us, 1), torch.cat(vs, 1)], -1)


def project(points: torch.Tensor, photos: Nuisances, camera: torch.Tensor) -> torch.Tensor:
    """Canonical points (b, k, 2) -> pixels (b, k, 2)."""
    return to_pixels(*turn(points[..., 0], points[..., 1], photos), camera)


def iris_centres(people: Identities, photos: Nuisances) -> torch.Tensor:
    """Canonical centres of the irises, left of the image first, (b, 2, 2)."""
    u = torch.stack([-people.eye_x, people.eye_x], 1) + 0.10 * photos.gaze[:, :1]
    v = (people.eye_v - 0.012 + 0.06 * photos.gaze[:, 1])[:, None].expand(-1, 2)
    return torch.stack([u, v], -1)
