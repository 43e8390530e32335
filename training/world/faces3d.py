"""Rendered faces: people that never lived, with known identity and exact landmarks.

    photos(identity_seeds, photo_seeds)      portraits or FFHQ-aligned crops in one call
    render(identities, nuisances, ...)       the same from parameters
    paint_people(...)                        people with their mattes, for compositing

A face is a relief z(u, v) lit by one lamp and the sky, painted in canonical coordinates that
`pose.py` maps to pixels. Everything follows from integer seeds; nothing is stored.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...core.color import LUMA
from ...core.errors import FacewrightError
from ...core.geometry.landmarks import five_points
from .anatomy import canonical_landmarks, iris_centres, project
from .backgrounds import paint_background
from .batch import as_seeds
from .features import paint_body, paint_ears, paint_features
from .hair import paint_back_hair, paint_front_hair
from .identities import Identities, sample_identities
from .nuisances import Nuisances, sample_nuisances
from .pose import aligned_camera, portrait_camera, to_plane, turn_back
from .shapes import Field, Scene, coverage, over
from .skin import face_radius, light_face, paint_skin

# Small batches stay in the cache: on a CPU four faces at a time are faster than sixteen.
_CHUNK_PIXELS = 4 * 128 * 128


@dataclass(frozen=True)
class RenderedFaces:
    """pixels (b, 3, s, s) in [0, 1]; landmarks (b, 68, 2) in pixels, iBUG order, pixel i centred
    at i; matte (b, 1, s, s), 1 on the person and 0 on the background; camera (b, 2, 3) and the
    parameters, so that anything else about the faces can be located."""

    pixels: torch.Tensor
    landmarks: torch.Tensor
    matte: torch.Tensor
    camera: torch.Tensor
    identities: Identities
    nuisances: Nuisances

    def moles(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixel positions of the moles (b, 4, 2) and whether each is there (b, 4)."""
        people = self.identities
        points = project(people.moles[..., :2], self.nuisances, self.camera)
        return points, people.moles[..., 3] > 0

    def irises(self) -> torch.Tensor:
        """Pixel positions of the iris centres, the image's left first, (b, 2, 2)."""
        return project(iris_centres(self.identities, self.nuisances), self.nuisances, self.camera)


def camera_for(
    identities: Identities,
    nuisances: Nuisances,
    size: int,
    *,
    aligned: bool = True,
    jitter: float = 0.0,
) -> torch.Tensor:
    """Plane -> pixel matrices (b, 2, 3) of the two framings of `render`."""
    if not aligned:
        return portrait_camera(nuisances, size)
    unit = torch.eye(2, 3, device=identities.face_width.device).expand(len(identities), -1, -1)
    points = five_points(project(canonical_landmarks(identities, nuisances), nuisances, unit))
    return aligned_camera(points, nuisances, size, jitter)


@torch.no_grad()
def render(
    identities: Identities,
    nuisances: Nuisances,
    size: int = 128,
    *,
    aligned: bool = True,
    jitter: float = 0.0,
    supersample: int = 1,
) -> RenderedFaces:
    """Draw person i in photo i.

    Args:
        size: side of the square pictures in pixels.
        aligned: True frames faces as a restorer sees them, on the FFHQ five-point template;
            False as a camera would, with varying size, place and roll.
        jitter: size of the alignment's error; 1 resembles a good detector, 0 is exact.
        supersample: draw at this multiple and average, for finer edges.

    Raises:
        FacewrightError: the two batches differ in length, or size or supersample is below 1.
    """
    if len(identities) != len(nuisances):
        raise FacewrightError(
            f"Each photo needs one person: got {len(identities)} identities and "
            f"{len(nuisances)} nuisances; repeat with `.take`."
        )
    if size < 1 or supersample < 1:
        raise FacewrightError(
            f"`size` and `supersample` should be at least 1, got {size} and {supersample}."
        )
    camera = camera_for(identities, nuisances, size, aligned=aligned, jitter=jitter)
    big = size * supersample
    fine_camera = camera * supersample
    fine_camera[:, :, 2] += (supersample - 1) / 2  # pixel i spans i s .. i s + s - 1

    chunk = max(1, _CHUNK_PIXELS // big**2)
    parts = []
    for start in range(0, len(identities), chunk):
        index = list(range(start, min(start + chunk, len(identities))))
        people, photos = identities.take(index), nuisances.take(index)
        colour, matte = paint_people(people, photos, fine_camera[index], big, big)
        picture = colour + (1 - matte) * paint_background(photos, big, big)
        if supersample > 1:
            picture, matte = F.avg_pool2d(picture, supersample), F.avg_pool2d(matte, supersample)
        parts.append((picture.clamp_(0, 1), matte))
    pixels = torch.cat([a for a, _ in parts] or [camera.new_zeros(0, 3, size, size)])
    matte = torch.cat([b for _, b in parts] or [camera.new_zeros(0, 1, size, size)])
    landmarks = project(canonical_landmarks(identities, nuisances), nuisances, camera)
    return RenderedFaces(pixels, landmarks, matte, camera, identities, nuisances)


def photos(
    identity_seeds: int | list[int] | torch.Tensor,
    photo_seeds: int | list[int] | torch.Tensor,
    size: int = 128,
    *,
    aligned: bool = True,
    jitter: float = 0.0,
    supersample: int = 1,
) -> RenderedFaces:
    """Photo `photo_seeds[i]` of person `identity_seeds[i]`; a single seed of either serves all.

    Several photos of one person: `photos(7, [0, 1, 2])`. The other arguments are `render`'s own.

    Raises:
        FacewrightError: the lists differ in length, or a seed is negative.
    """
    people, pictures = as_seeds(identity_seeds), as_seeds(photo_seeds)
    if len(people) == 1:
        people = people * len(pictures)
    if len(pictures) == 1:
        pictures = pictures * len(people)
    identities, nuisances = sample_identities(people), sample_nuisances(pictures)
    return render(
        identities, nuisances, size, aligned=aligned, jitter=jitter, supersample=supersample
    )


@torch.no_grad()
def paint_people(
    identities: Identities, nuisances: Nuisances, camera: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """People without a background.

    Args:
        camera: plane -> pixel matrices, (b, 2, 3).

    Returns:
        Colours already multiplied by the matte, (b, 3, h, w), and the matte, (b, 1, h, w).
    """
    x, y = to_plane(camera, height, width)
    u, v = turn_back(x, y, nuisances)
    pixel = torch.linalg.det(camera[:, :, :2]).abs().rsqrt()[:, None, None]
    field = Field(u, v, pixel)
    scene = Scene(identities.broadcast(2), nuisances.broadcast(2))
    canvas = torch.zeros(len(identities), 3, height, width, device=u.device)
    matte = torch.zeros(len(identities), height, width, device=u.device)
    half = identities.face_width.max() + 0.15
    window = field.window(-half, -1.10, half, 1.15)
    if window is None:  # a picture that shows no part of the face
        paint_back_hair(canvas, matte, field, scene)
        paint_body(canvas, matte, field, scene, 0.75 * torch.ones_like(pixel))
        return canvas, matte[:, None]

    face = field.crop(window)
    radius = face_radius(face, scene)
    relief = light_face(face, scene, radius)
    core = (radius < 0.75).float()
    count = core.sum((1, 2), keepdim=True).clamp(1)
    level = (relief.shade * core).sum((1, 2), keepdim=True) / count

    paint_back_hair(canvas, matte, field, scene)
    paint_body(canvas, matte, field, scene, level)
    paint_ears(canvas, matte, field, scene, level)
    skin = paint_skin(face, scene, relief)
    paint_features(skin, face, scene, relief)
    inside = coverage((radius - 1) * 0.72, pixel + 0.004)
    over(canvas[..., *window], skin, inside, matte[:, *window])
    head = torch.zeros_like(matte)
    head[:, *window] = inside
    paint_front_hair(canvas, matte, field, scene, head)
    gain = _exposure(identities, nuisances, level)
    return _shoulder(canvas * gain[..., None]), matte[:, None]


def _exposure(identities: Identities, nuisances: Nuisances, level: torch.Tensor) -> torch.Tensor:
    """Gain (b, 1, 1) of a camera that exposes for the face: dark skin stays darker than light
    skin, but by less than its albedo, so that its features stay readable."""
    weights = torch.tensor(LUMA, device=level.device)
    luminance = (identities.skin_rgb * weights).sum(1)[:, None, None]
    wanted = 0.24 + 0.54 * luminance
    gain = wanted / (luminance * level).clamp(min=0.05)
    return gain.clamp(0.6, 2.2) * nuisances.exposure[:, None, None]


def _shoulder(x: torch.Tensor) -> torch.Tensor:
    """Highlights bend towards 1 instead of clipping."""
    excess = (x - 0.8).clamp(0)
    return x - excess + excess / (1 + 4 * excess)
