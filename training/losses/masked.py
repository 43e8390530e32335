"""Masked face alignment: a local perceptual loss where landmarks are (HonestFace, Sec. 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import FacewrightError
from ...core.metrics.optional import lpips_missing, lpips_network

SHARPNESS = 10.0
"""k of Eq. 11."""
_EPS = 1e-6
_BACKGROUND = 0.5
"""B of Eq. 12, "neutral": mid-grey."""


def attention_mask(heatmaps: Tensor, size: int, sharpness: float = SHARPNESS) -> Tensor:
    """M of Eq. 10-11: mean over landmarks, 1 - exp(-k M_raw), then 0 to 1 in every picture.

    Args:
        heatmaps: (b, landmarks, h, w); negative values count as 0.
        size: side of the pictures in pixels.

    Returns:
        (b, 1, size, size) in [0, 1]; all 0 for constant heatmaps. No gradient.
    """
    raw = heatmaps.detach().clamp(min=0).mean(1, keepdim=True)
    raw = F.interpolate(raw, (size, size), mode="bilinear", align_corners=False)
    m = 1 - (-sharpness * raw).exp()
    low, high = m.amin((2, 3), keepdim=True), m.amax((2, 3), keepdim=True)
    return (m - low) / (high - low + _EPS)


class MaskedFaceAlignment(nn.Module):
    """d(M x + (1 - M) B, M y + (1 - M) B) (Eq. 12-13).

    Args:
        distance: (b, 3, h, w) in [0, 1], twice -> scalar or one value per picture; LPIPS in the
            paper.
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, restored: Tensor, gt: Tensor, mask: Tensor) -> Tensor:
        """Scalar mean over the batch; mask (b, 1, h, w)."""
        background = (1 - mask) * _BACKGROUND
        return self.distance(mask * restored + background, mask * gt + background).mean()


class MeanSquaredError(nn.Module):
    """For the ablation of the distance."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean()


class Lpips(nn.Module):
    """LPIPS v0.1 (Zhang et al., arXiv:1801.03924) from the `lpips` package and the user's weights.

    Args:
        net: "alex" or "vgg".

    Raises:
        FacewrightError: package or backbone missing, with where to get it.
    """

    def __init__(self, net: str) -> None:
        super().__init__()
        if reason := lpips_missing(net):
            raise FacewrightError(reason)
        self.net = lpips_network(net)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x, y, normalize=True).flatten()
