"""Facial landmarks: reductions and templates, all in pixels with pixel i centred at i."""

import torch

from ..errors import FacewrightError
from .templates import template


def ffhq_five_points(size: int) -> torch.Tensor:
    """The FFHQ template for square crops of `size` pixels, (5, 2) float32; see `template`."""
    return template("ffhq", size).float()


def five_points(landmarks: torch.Tensor) -> torch.Tensor:
    """Eye centres, nose tip and mouth corners of iBUG-68 landmarks, (b, 68, 2) -> (b, 5, 2).

    An eye's centre is the mean of its six lid points (36-41 and 42-47); the nose tip is point 30,
    the mouth corners are 48 and 54.

    Raises:
        FacewrightError: the landmarks are not (b, 68, 2).
    """
    if landmarks.ndim != 3 or tuple(landmarks.shape[1:]) != (68, 2):
        raise FacewrightError(
            f"`landmarks` should be (b, 68, 2) points in the iBUG order, "
            f"got {tuple(landmarks.shape)}; add the batch axis or use another point set's reader."
        )
    return torch.stack(
        [
            landmarks[:, 36:42].mean(1),
            landmarks[:, 42:48].mean(1),
            landmarks[:, 30],
            landmarks[:, 48],
            landmarks[:, 54],
        ],
        1,
    )
