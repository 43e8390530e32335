"""Pixel terms that compare restored and gt directly, optionally with the face weighted up."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.color import luma
from .masks import box_mask


def box_weights(box: Tensor, size: int, face: float) -> Tensor:
    """(b, 1, size, size) weights, `face` inside the boxes to 1 outside, mean 1 per image.

    Args:
        box: (b, 4) x0, y0, x1, y1 in pixels.
        face: weight of a pixel inside, relative to one outside.
    """
    weights = 1 + (face - 1) * box_mask(box, size, size)
    return weights / weights.mean((1, 2, 3), keepdim=True)


def sobel(images: Tensor) -> Tensor:
    """Horizontal and vertical Sobel gradients per channel, scaled so that a unit ramp gives 2.

    (b, c, h, w) -> (b, 2c, h, w), zero padding.
    """
    k = images.new_tensor(((1, 0, -1), (2, 0, -2), (1, 0, -1))) / 4
    kernels = torch.stack([k, k.T])[:, None].repeat(images.shape[1], 1, 1, 1)
    return F.conv2d(images, kernels, padding=1, groups=images.shape[1])


def chroma(images: Tensor) -> Tensor:
    """Colour without brightness: each channel minus BT.601 luma."""
    return images - luma(images)
