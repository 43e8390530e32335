"""Group pictures: several rendered people side by side before one background."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...core.errors import FacewrightError
from .anatomy import canonical_landmarks, project
from .backgrounds import paint_background
from .batch import SeededDraws
from .faces3d import paint_people
from .identities import Identities, sample_identities
from .nuisances import Nuisances, sample_nuisances
from .pose import similarity

_STREAM = 41
_COLUMNS = 64
_MAX_PEOPLE = 8
# From the top of big hair to the chin and across the ears, in canonical units.
_FACE_HEIGHT = 1.9
# Seeds of people and photos that nobody names by hand.
_FAR = 2**41


@dataclass(frozen=True)
class GroupScene:
    """pixels (3, h, w) in [0, 1]; per person, from left to right: landmarks (n, 68, 2) in pixels,
    boxes (n, 4) as x0, y0, x1, y1 around the landmarks with the forehead, and identity seeds."""

    pixels: torch.Tensor
    landmarks: torch.Tensor
    boxes: torch.Tensor
    identity_seeds: list[int]


@torch.no_grad()
def group_scene(
    seed: int,
    people: int | list[int] = 4,
    *,
    width: int = 960,
    height: int = 540,
    supersample: int = 1,
) -> GroupScene:
    """A group picture, the same for the same arguments.

    Args:
        seed: of places, poses, light and background, from 0 up.
        people: how many (their identities then follow from `seed`), or the identity seeds.
        supersample: draw at this multiple and average, for finer edges.

    Raises:
        FacewrightError: not 1 to 8 people, or a picture too narrow for them.
    """
    if isinstance(people, int):
        people = [_FAR + _MAX_PEOPLE * seed + i for i in range(people)]
    count = len(people)
    if not 1 <= count <= _MAX_PEOPLE:
        raise FacewrightError(f"A group has 1 to {_MAX_PEOPLE} people, got {count}.")
    room = width / count
    if min(room, height / 2) < 32:
        raise FacewrightError(
            f"{width} x {height} pixels give each of {count} people {room:.0f} pixels; a face "
            f"needs at least 32. Ask for fewer people or a larger picture."
        )
    draw = SeededDraws([seed], _STREAM, _COLUMNS)
    size = draw.uniform(0.80, 1.0, _MAX_PEOPLE)[0, :count]
    shift = draw.uniform(-0.06, 0.06, _MAX_PEOPLE, 2)[0, :count]
    roll = draw.normal(0.0, 0.07, _MAX_PEOPLE)[0, :count]
    depth = draw.uniform(0, 1, _MAX_PEOPLE)[0, :count]
    first_back = bool(draw.below(0.5))

    identities = sample_identities(people)
    photos = sample_nuisances([_FAR + _MAX_PEOPLE * seed + i for i in range(count)])
    # One lamp and one camera for all.
    for name in ("light", "ambient", "key", "temperature"):
        value = getattr(photos, name)
        value[:] = value[:1].clone()

    # Every second person stands half a head behind and a little higher.
    behind = (torch.arange(count) % 2 == int(first_back)).float()
    if count < 3:
        behind = behind * 0.3
    unit = min(0.98 * room / (2 * 0.86), 0.50 * height / _FACE_HEIGHT)
    scale = unit * size * (1 - 0.14 * behind)
    centre = torch.stack(
        [
            (torch.arange(count) + 0.5 + shift[:, 0]) * room,
            height * (0.46 + 0.7 * shift[:, 1]) - 0.65 * unit * behind,
        ],
        1,
    )
    camera = similarity(scale, roll, centre)

    big = (height * supersample, width * supersample)
    fine = camera * supersample
    fine[:, :, 2] += (supersample - 1) / 2
    backdrop = sample_nuisances([_FAR + seed])
    canvas = paint_background(backdrop, *big)[0]
    for i in torch.argsort(behind * 2 + depth, descending=True).tolist():
        _add_person(canvas, identities.take([i]), photos.take([i]), fine[i : i + 1])
    if supersample > 1:
        canvas = F.avg_pool2d(canvas[None], supersample)[0]

    landmarks = project(canonical_landmarks(identities, photos), photos, camera)
    low, high = landmarks.amin(1), landmarks.amax(1)
    low[:, 1] -= 0.2 * (high[:, 1] - low[:, 1])
    boxes = torch.cat([low, high], 1)
    return GroupScene(canvas.clamp(0, 1), landmarks, boxes, list(people))


def _add_person(
    canvas: torch.Tensor, identity: Identities, photo: Nuisances, camera: torch.Tensor
) -> None:
    """Paint one person over the canvas (3, h, w), in place, within their columns alone."""
    height, width = canvas.shape[-2:]
    reach = 1.90 * float(camera[0, :, 0].norm())
    middle = float(camera[0, 0, 2])
    left, right = max(0, int(middle - reach)), min(width, int(middle + reach) + 1)
    camera = camera.clone()
    camera[:, 0, 2] -= left
    colour, matte = paint_people(identity, photo, camera, height, right - left)
    part = canvas[:, :, left:right]
    part.mul_(1 - matte[0]).add_(colour[0])
