"""Both eyes of a face, cut out by its landmarks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError
from .warp import shrunk

EYES = {68: (range(36, 42), range(42, 48)), 98: (range(60, 68), range(68, 76))}
"""Lid contours of the left and the right eye, as seen in the picture."""
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
