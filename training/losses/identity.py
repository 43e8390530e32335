"""Identity loss: one minus the cosine of two faces' embeddings."""

import torch.nn.functional as F
from torch import Tensor, nn

from ...core.recognition import Crop, arcface_crop


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
