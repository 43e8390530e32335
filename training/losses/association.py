"""Feature association: the tokens of an HQ face and of its LQ version find each other."""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

LOGIT_SCALE = 1 / 0.07
"""Fixed inverse temperature of CLIP's start (arXiv:2103.00020)."""


def association_loss(
    hq: Tensor, lq: Tensor, *, negatives: Literal["batch", "image"] = "batch"
) -> Tensor:
    """Cross-entropy along both axes of the token similarity matrix, averaged.

    M = s <z_H,i / |z_H,i|, z_L,j / |z_L,j|>, targets on the diagonal,
    L = (CE(M) + CE(M^T)) / 2 (OSDFace, arXiv:2411.17163, Eq. 9-10).

    Args:
        hq, lq: (b, d, h, w) features before quantisation.
        negatives: "image" compares tokens within an image (h w by h w, the equation as printed);
            "batch" within the whole batch, so other faces count as negatives too.
    """
    layout = "b d h w -> b (h w) d" if negatives == "image" else "b d h w -> 1 (b h w) d"
    hq, lq = (F.normalize(rearrange(z, layout), dim=-1) for z in (hq, lq))
    logits = LOGIT_SCALE * hq @ lq.transpose(1, 2)
    target = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    along_lq = F.cross_entropy(logits.transpose(1, 2), target)
    along_hq = F.cross_entropy(logits, target)
    return (along_hq + along_lq) / 2


def retrieval_rate(hq: Tensor, lq: Tensor) -> Tensor:
    """Share of LQ tokens whose nearest HQ token of the same image is the one at their place."""
    hq, lq = (F.normalize(rearrange(z, "b d h w -> b (h w) d"), dim=-1) for z in (hq, lq))
    best = (lq @ hq.transpose(1, 2)).argmax(-1)
    return (best == torch.arange(best.shape[1], device=best.device)).float().mean()
