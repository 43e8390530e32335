"""Training a codebook: its loss, how much of it is used, and how to keep it in use."""

import torch
import torch.distributed as dist
from torch import Tensor

from ...core.modules.quantizer import Quantized, VectorQuantizer


def vq_loss(quantized: Quantized, beta: float = 0.25) -> Tensor:
    """|sg[z] - e|^2 + beta |z - sg[e]|^2 (OSDFace, arXiv:2411.17163, Eq. 7).

    beta is on the commitment term, as the equation prints it; some released trainers of this
    family have it on the codebook term.
    """
    return quantized.codebook_loss + beta * quantized.commitment_loss


def usage(codes: Tensor, num_codes: int) -> tuple[int, float]:
    """How many codes occur, and the perplexity exp(entropy) of their frequencies."""
    counts = torch.bincount(codes.flatten(), minlength=num_codes).cpu().double()
    p = counts[counts > 0] / counts.sum()
    return int((counts > 0).sum()), float((-(p * p.log()).sum()).exp())


class CodebookCare:
    """Starts a codebook from data and moves codes that are no longer used back to the data.

    Without it a small codebook trained briefly collapses to a few codes, because only codes that
    are near some feature ever receive a gradient. Released OSDFace training does without.

    With several processes a code is in use where one of them uses it, and all take the codes that
    the first moved, to features of its own pictures.

    Args:
        quantizer: the codebook.
        init_step: step at which all codes become features of the current batch.
        revive_every: steps between revivals.
        revive_until: share of the budget after which codes are left alone.
    """

    def __init__(
        self,
        quantizer: VectorQuantizer,
        *,
        init_step: int = 5,
        revive_every: int = 20,
        revive_until: float = 0.8,
    ) -> None:
        self.quantizer = quantizer
        self.init_step, self.revive_every = init_step, revive_every
        self.revive_until = revive_until
        self.used = torch.zeros(len(quantizer.embedding.weight), dtype=torch.bool)
        """Codes in use since the last revival: what a checkpoint has to know."""
        self.recent = torch.empty(0)

    def observe(self, features: Tensor, codes: Tensor) -> None:
        """Note what one training batch used; features (..., d), codes (...)."""
        recent = features.detach().flatten(0, -2)
        self.recent = recent[recent.isfinite().all(-1)]  # NaN in a codebook would stay there
        self.used[codes.flatten().cpu()] = True

    @torch.no_grad()
    def after_step(self, step: int, fraction: float) -> int:
        """Initialise or revive if it is time; returns how many codes moved.

        `step` counts finished steps from 0.
        """
        weight = self.quantizer.embedding.weight
        if dist.is_initialized():
            used = self.used.to(weight.device, torch.uint8)
            dist.all_reduce(used, dist.ReduceOp.MAX)
            self.used = used.bool().cpu()
        if step == self.init_step:
            lost = torch.ones_like(self.used)
        elif step > 0 and step % self.revive_every == 0 and fraction < self.revive_until:
            lost = ~self.used
        else:
            return 0
        count = int(lost.sum())
        if count and len(self.recent):
            pick = torch.randint(len(self.recent), (count,))
            weight[lost.to(weight.device)] = self.recent[pick.to(self.recent.device)].to(weight)
        if dist.is_initialized():
            dist.broadcast(weight, 0)
        self.used.zero_()
        return count
