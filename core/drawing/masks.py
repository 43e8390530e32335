"""What a mask leaves out, seen on the faces."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .paint import RED


def draw_masks(crops: Tensor, masks: Tensor) -> Tensor:
    """Crops (n, 3, s, s) in [0, 1], red and dark where a mask (n, s', s') is 0; float32, CPU."""
    pixels, kept = crops.detach().float().cpu(), masks.detach().float().cpu()[:, None]
    if len(kept) and kept.shape[-2:] != pixels.shape[-2:]:
        kept = F.interpolate(kept, pixels.shape[-2:], mode="bilinear", antialias=True)
    paint = torch.tensor(RED).view(3, 1, 1) / 255
    return pixels.lerp(0.4 * pixels + 0.3 * paint, 1 - kept)
