"""Regions of a face to score in, and image gradients."""

import torch

from ..errors import FacewrightError


def face_box_mask(landmarks: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """The box of each face's landmarks, its top raised by 20 % of its height for the forehead.

    Args:
        landmarks: (b, k, 2) in pixels, pixel i centred at i.
        size: side of the picture, or (height, width).

    Returns:
        (b, 1, h, w) float32, 1 at the pixels whose centre lies inside.
    """
    if landmarks.ndim != 3 or landmarks.shape[-1] != 2:
        raise FacewrightError(f"`landmarks` should be (b, k, 2), got {tuple(landmarks.shape)}.")
    height, width = (size, size) if isinstance(size, int) else size
    low, high = landmarks.amin(1), landmarks.amax(1)
    top = low[:, 1] - 0.2 * (high[:, 1] - low[:, 1])
    xs = torch.arange(width, device=landmarks.device)[None]
    ys = torch.arange(height, device=landmarks.device)[None]
    inside_x = (xs >= low[:, :1]) & (xs <= high[:, :1])
    inside_y = (ys >= top[:, None]) & (ys <= high[:, 1:])
    return (inside_y[:, None, :, None] & inside_x[:, None, None, :]).float()


def gradients(x: torch.Tensor) -> torch.Tensor:
    """Sobel gradients per channel, scaled to differences per pixel: (b, c, h, w) -> (b, 2c, h, w),
    x and y in turn; borders replicated."""
    from kornia.filters import spatial_gradient

    return spatial_gradient(x, "sobel").flatten(1, 2)
