"""Identity losses: one minus the cosine of two faces' embeddings, of one recogniser or several."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import FacewrightError
from ...core.people.recogniser import Crop, Recogniser, arcface_crop


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
        restored = restored.to(gt)  # a CPU resamples no bfloat16
        embedding = self.encoder(self.crop(restored))
        return 1 - F.cosine_similarity(embedding, self.encoder(self.crop(gt)), dim=1).mean()


class IdentityEnsemble(nn.Module):
    """sum_m mean_b(1 - cos(F_m(restored), F_m(gt))) over recognisers F_m (HonestFace, Eq. 8).

    Several recognisers agree on who somebody is and hardly on how to be fooled. Each is handed its
    own crop, colour order and range. The paper takes ArcFace and AdaFace.

    Args:
        recognisers: at least one, no two alike; frozen already.

    Raises:
        FacewrightError: none, or one of them twice.
    """

    def __init__(self, recognisers: Sequence[Recogniser]) -> None:
        super().__init__()
        ids = [recogniser.id for recogniser in recognisers]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if not ids or twice:
            raise FacewrightError(
                f"The identity loss takes one or more different recognisers, got "
                f"{f'{twice[0]} twice' if twice else 'none'}."
            )
        self.recognisers = nn.ModuleList(recognisers)

    def forward(self, restored: Tensor, gt: Tensor) -> Tensor:
        """Scalar in [0, 2 m]; FFHQ-aligned (b, 3, s, s) in [0, 1], gradients for `restored` only.

        Pixels outside [0, 1] are looked at as they are.
        """
        total = restored.new_zeros((), dtype=torch.float32)
        for recogniser in self.recognisers:
            with torch.no_grad():
                wanted = recogniser(gt)
            total = total + 1 - (recogniser(restored) * wanted).sum(1).mean()
        return total
