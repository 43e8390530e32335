"""What changes from photo to photo: pose, expression, light, clothes, background."""

import math
from dataclasses import dataclass

import torch

from .batch import ParameterBatch, SeededDraws, as_seeds

_STREAM = 23
_COLUMNS = 160
_LIGHTS = 5


@dataclass(frozen=True)
class Nuisances(ParameterBatch):
    """Photographs, one row each. Angles in radians, lengths in canonical face units."""

    yaw: torch.Tensor  # (b,) positive: the face turns to the right of the image
    pitch: torch.Tensor  # positive: it looks down
    roll: torch.Tensor  # in the portrait framing: clockwise
    scale: torch.Tensor  # portrait framing: face units per half picture
    shift: torch.Tensor  # (b, 2) portrait framing: of the face's origin, in half pictures
    jitter: torch.Tensor  # (b, 4) standard normal: x, y, log size, roll error of an alignment
    smile: torch.Tensor  # -0.35 .. 1
    mouth_open: torch.Tensor  # 0 .. 1
    lids: torch.Tensor  # height of the eye opening, 1 at rest
    gaze: torch.Tensor  # (b, 2)
    brow_raise: torch.Tensor
    light: torch.Tensor  # (b, 3) unit vector towards the key light; z towards the camera
    ambient: torch.Tensor
    key: torch.Tensor
    temperature: torch.Tensor  # red gain minus one; blue gets the opposite
    exposure: torch.Tensor  # factor on the automatic exposure
    background: torch.Tensor  # (b, 2, 3) the two colours it fades between
    background_angle: torch.Tensor
    background_round: torch.Tensor  # 1: a vignette instead of a straight fade
    lights: torch.Tensor  # (b, 5, 7) blurred lights: x, y, radius, strength, rgb
    clothes_rgb: torch.Tensor  # (b, 3)
    trim_rgb: torch.Tensor  # (b, 3) collar or shirt under a jacket
    neckline: torch.Tensor  # 0 round .. 1 deep V


def sample_nuisances(seeds: int | list[int] | torch.Tensor, *, strength: float = 1.0) -> Nuisances:
    """The photographs with these seeds. Photo k is the same whatever the batch.

    Args:
        seeds: integers from 0 up.
        strength: scales pose, expression and gaze; 0 gives frontal, neutral faces.

    Raises:
        FacewrightError: a seed is negative.
    """
    draw = SeededDraws(as_seeds(seeds), _STREAM, _COLUMNS)
    uniform, normal = draw.uniform, draw.normal

    azimuth, elevation = uniform(-1.0, 1.0), uniform(0.05, 0.85)
    light = torch.stack(
        [
            torch.sin(azimuth) * torch.cos(elevation),
            -torch.sin(elevation),
            torch.cos(azimuth) * torch.cos(elevation),
        ],
        -1,
    )
    first = 0.16 + 0.48 * uniform(0, 1, 1) + 0.22 * uniform(0, 1, 3)
    second = first * uniform(0.55, 1.10, 1) + 0.12 * uniform(-0.5, 0.5, 3)
    shown = (uniform(0, 1, 1) < 0.45).float()
    lights = torch.cat(
        [
            uniform(-1.1, 1.1, _LIGHTS, 1),
            uniform(-1.1, 0.7, _LIGHTS, 1),
            uniform(0.14, 0.36, _LIGHTS, 1),
            uniform(-0.10, 0.16, _LIGHTS, 1) * shown[:, None],
            uniform(0.7, 1.3, _LIGHTS, 3),
        ],
        -1,
    )
    return Nuisances(
        yaw=uniform(-0.36, 0.36) * strength,
        pitch=uniform(-0.12, 0.12) * strength,
        roll=normal(0, 0.08) * strength,
        scale=0.76 + uniform(-0.06, 0.06) * strength,
        shift=torch.tensor([0.0, 0.05]) + uniform(-0.06, 0.06, 2) * strength,
        jitter=normal(0, 1, 4),
        smile=uniform(-0.35, 1.0) * strength,
        mouth_open=uniform(-0.8, 1.0).clamp(min=0) * strength,
        lids=1 - uniform(-0.12, 0.22) * strength,
        gaze=torch.cat([uniform(-0.35, 0.35, 1), uniform(-0.2, 0.2, 1)], 1) * strength,
        brow_raise=uniform(-0.03, 0.06) * strength,
        light=light,
        ambient=uniform(0.44, 0.60),
        key=uniform(0.42, 0.66),
        temperature=normal(0.01, 0.02),
        exposure=uniform(0.92, 1.08),
        background=torch.stack([first, second], 1).clamp(0.04, 0.96),
        background_angle=uniform(0, math.pi),
        background_round=(uniform(0, 1) < 0.35).float(),
        lights=lights,
        clothes_rgb=(0.06 + 0.5 * uniform(0, 1, 1) + 0.3 * uniform(-0.5, 1, 3)).clamp(0.04, 0.9),
        trim_rgb=(0.15 + 0.7 * uniform(0, 1, 1) + 0.2 * uniform(-0.5, 0.5, 3)).clamp(0.04, 0.95),
        neckline=uniform(0, 1),
    )
