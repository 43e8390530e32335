"""Identity loss: one minus the cosine of two faces' embeddings."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Crop = Literal["full", "arcface"]

# The best similarity from the FFHQ five-point template (512 px) to ArcFace's (112 px) has scale
# 0.2921 and no rotation worth mentioning, so on FFHQ-aligned faces ArcFace's alignment is a crop.
_ARCFACE_BOX = (64.8 / 512, 61.2 / 512, 448.2 / 512, 444.7 / 512)
_ARCFACE_SIZE = 112


def arcface_crop(faces: Tensor) -> Tensor:
    """(b, 3, s, s) FFHQ-aligned faces -> (b, 3, 112, 112) as ArcFace aligns them; differentiable.

    The box x in [64.8, 448.2], y in [61.2, 444.7] of 512, resampled bilinearly with antialiasing.
    """
    size = faces.shape[-1]
    x0, y0, x1, y1 = (round(v * size) for v in _ARCFACE_BOX)
    return F.interpolate(
        faces[..., y0:y1, x0:x1],
        (_ARCFACE_SIZE, _ARCFACE_SIZE),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )


class IdentityLoss(nn.Module):
    """1 - cos(F(restored), F(gt)), averaged over the batch (OSDFace, arXiv:2411.17163, Eq. 13).

    Args:
        encoder: (b, 3, h, w) in [0, 1] -> (b, d); frozen.
        crop: "full" hands over the whole aligned face; "arcface" first cuts it as `arcface_crop`.
    """

    def __init__(self, encoder: nn.Module, crop: Crop = "full") -> None:
        super().__init__()
        self.encoder = encoder
        self.crop = arcface_crop if crop == "arcface" else nn.Identity()

    def forward(self, restored: Tensor, gt: Tensor) -> Tensor:
        """Scalar in [0, 2]; images (b, 3, s, s) in [0, 1]."""
        embedding = self.encoder(self.crop(restored))
        return 1 - F.cosine_similarity(embedding, self.encoder(self.crop(gt)), dim=1).mean()
