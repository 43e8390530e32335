"""Both eyes of a face, cut out by its landmarks, and what their places tell of its turn."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..devices import widened
from ..errors import FacewrightError
from .warp import shrunk

EYES = {68: (range(36, 42), range(42, 48)), 98: (range(60, 68), range(68, 76))}
"""Lid contours of the left and the right eye, as seen in the picture."""
NOSE_TIP = {68: 30, 98: 54}
NOSE = 0.6
"""Depth of the nose tip before the eyes in eye distances: 0.57 to 0.64 on MediaPipe's canonical
face model, by where on an eye is measured. The nose of a rendered face is a third as deep."""
_LARGEST = 512
_ENLARGE, _SMALLEST = 1.4, 28 / 512
"""An eye's box: half-side 1.4 times half the eye's width, at least 28 pixels of 512."""


def eye_crops(faces: Tensor, landmarks: Tensor, size: int) -> Tensor:
    """Squares around both eyes, (b, 2, 3, size, size): the left one in the picture first.

    Centre: the mean of the lid contour. Half-side: 1.4 times half the contour's width, at least
    28 pixels of 512 (closed and turned eyes). Beyond the picture its border is repeated. Faces of
    more than 512 pixels are brought to 512 first, or the samples would skip pixels.

    Args:
        faces: (b, 3, s, s).
        landmarks: (b, k, 2) in pixels, k = 68 (iBUG) or 98 (WFLW).

    Raises:
        FacewrightError: another number of landmarks.
    """
    k, side = landmarks.shape[1], faces.shape[-1]
    if k not in EYES:
        raise FacewrightError(f"Eyes are known for 68 and 98 landmarks, got {k}.")
    if side > _LARGEST:
        landmarks = (landmarks + 0.5) * (_LARGEST / side) - 0.5
        faces, side = shrunk(faces, _LARGEST), _LARGEST
    crops = []
    for contour in EYES[k]:
        points = landmarks[:, list(contour)].to(faces)
        half_width = (points[..., 0].amax(1) - points[..., 0].amin(1)) / 2
        half = (_ENLARGE * half_width).clamp(min=_SMALLEST * side)
        # affine_grid counts from -1 to 1 over the picture's outer borders; pixel i's centre is i.
        centre = (points.mean(1) + 0.5) * 2 / side - 1
        theta = faces.new_zeros(len(faces), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 2 * half / side
        theta[:, :, 2] = centre
        grid = F.affine_grid(theta, [len(faces), 3, size, size], align_corners=False)
        crops.append(F.grid_sample(faces, grid, padding_mode="border", align_corners=False))
    return torch.stack(crops, 1)


def eye_distance(landmarks: Tensor) -> Tensor:
    """Between the centres of both eyes, (b, 68 or 98, 2) -> (b,) in the unit of the landmarks."""
    first, second = (widened(landmarks[:, part]).mean(1) for part in EYES[landmarks.shape[1]])
    return (first - second).norm(dim=1)


def estimate_yaw(points5: Tensor, nose: float = NOSE) -> float:
    """How far a face is turned to a side, in degrees from 0 to 90, from its five points.

    Seen from afar, eyes at (-a, 0) and (a, 0) and a nose tip `nose` 2a before their middle turn by
    yaw to an eye distance of 2a cos(yaw) and a nose tip off by 2a nose sin(yaw), so that
    tan(yaw) = offset along the eyes' line / (nose x eye distance). An estimate, better than ten
    degrees for most heads; roll does not matter.

    Args:
        points5: (5, 2) eyes, nose tip, mouth corners.
        nose: how deep the nose is, in eye distances.
    """
    left, right, tip = points5[:3].cpu().double()
    across = right - left
    distance = float(across.norm())
    if distance == 0:
        return 90.0
    offset = float((tip - (left + right) / 2) @ across) / distance**2
    return math.degrees(math.atan(abs(offset) / nose))


def yaw_of(landmarks: Tensor, nose: float = NOSE) -> float:
    """`estimate_yaw` of dense landmarks (68 or 98, 2)."""
    count = len(landmarks)
    eyes = [landmarks[part].mean(0) for part in EYES[count]]
    return estimate_yaw(torch.stack([*eyes, landmarks[NOSE_TIP[count]]]), nose)
