"""Where a restorer expects the five points of a face: eyes, nose tip, mouth corners."""

import torch
from torch import Tensor

from ..errors import FacewrightError

_REFERENCE = {
    # FFHQ alignment at 512 px, as facexlib's FaceRestoreHelper states it.
    "ffhq": (
        512,
        (
            (192.98138, 239.94708),
            (318.90277, 240.1936),
            (256.63416, 314.01935),
            (201.26117, 371.41043),
            (313.08905, 371.15118),
        ),
    ),
    # ArcFace alignment at 112 px, as insightface's face_align states it.
    "arcface": (
        112,
        (
            (38.2946, 51.6963),
            (73.5318, 51.5014),
            (56.0252, 71.7366),
            (41.5493, 92.3655),
            (70.7299, 92.2041),
        ),
    ),
}


def template(name: str, size: int) -> Tensor:
    """Five template points for a crop of `size` pixels.

    p(size) = (p + 1/2) size / reference - 1/2: pixel i has its centre at i, so that a crop of 256
    is exactly the crop of 512 with 2x2 pixels averaged.

    Args:
        name: "ffhq" (restorers) or "arcface" (identity encoders).
        size: side of the square crop in pixels, at least 1.

    Returns:
        (5, 2) float64 xy: left eye, right eye, nose tip, left and right mouth corner, where left
        is the left side of the picture.

    Raises:
        FacewrightError: unknown name or a size below 1.
    """
    if name not in _REFERENCE:
        raise FacewrightError(f"No alignment template '{name}'; known: {', '.join(_REFERENCE)}.")
    if size < 1:
        raise FacewrightError(f"A crop needs a size of at least 1 pixel, got {size}.")
    reference, points = _REFERENCE[name]
    return (torch.tensor(points, dtype=torch.float64) + 0.5) * (size / reference) - 0.5
