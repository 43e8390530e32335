"""Where a restorer expects the five points of a face: eyes, nose tip, mouth corners."""

import torch
from torch import Tensor

from ..errors import FacewrightError

_SIDE = 512
_FFHQ = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
"""FFHQ's alignment at 512 px, as facexlib's FaceRestoreHelper states it."""


def template(size: int) -> Tensor:
    """Five points of FFHQ's template for a square crop of `size` pixels.

    p(size) = (p + 1/2) size / 512 - 1/2: pixel i has its centre at i, so that a crop of 256 is
    exactly the crop of 512 with 2x2 pixels averaged.

    Returns:
        (5, 2) float64 xy: left eye, right eye, nose tip, left and right mouth corner, where left
        is the left side of the picture.

    Raises:
        FacewrightError: a size below 1.
    """
    if size < 1:
        raise FacewrightError(f"A crop needs a size of at least 1 pixel, got {size}.")
    return (torch.tensor(_FFHQ, dtype=torch.float64) + 0.5) * (size / _SIDE) - 0.5
