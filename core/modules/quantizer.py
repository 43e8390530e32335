"""Vector quantisation: nearest codebook entries, and the choice of the most confident ones."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Embedding


class Quantized(NamedTuple):
    """What `VectorQuantizer.forward` returns."""

    z_q: Tensor
    """(..., d) codebook entries; gradients pass straight through to the input."""
    codes: Tensor
    """(...) int64 index of the nearest entry."""
    codebook_loss: Tensor
    """Scalar: mean of (sg[z] - e)^2, moves the codebook."""
    commitment_loss: Tensor
    """Scalar: mean of (z - sg[e])^2, moves the encoder; to be weighted by beta."""


class TokenSelection(NamedTuple):
    """The codes an image is summarised by, most confident first."""

    tokens: Tensor
    """(b, num_tokens) int64 codebook indices; -1 once the distinct codes are used up."""
    positions: Tensor
    """(b, num_tokens) int64 row-major cell each token was found at; -1 where there is none."""


class VectorQuantizer(nn.Module):
    """A codebook of `num_codes` vectors (van den Oord et al. 2017, arXiv:1711.00937)."""

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = Embedding(num_codes, dim)
        nn.init.uniform_(self.embedding.weight, -1 / num_codes, 1 / num_codes)

    def nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest codebook entry of every vector, by |z|^2 + |e|^2 - 2 z.e; ties: lowest index.

        Args:
            z: (..., d).

        Returns:
            codes (...) int64 and their squared distances (...), in the dtype of `z`.
        """
        e = self.embedding.weight
        # In this order of operations fp32 rounds as the released OSDFace does.
        d = z.square().sum(-1, keepdim=True) + e.square().sum(-1) - 2 * (z @ e.t())
        codes = d.argmin(-1)
        return codes, d.gather(-1, codes.unsqueeze(-1)).squeeze(-1)

    def lookup(self, tokens: Tensor) -> Tensor:
        """(...) int64 -> (..., d); a token of -1 gives a row of zeros."""
        rows = F.embedding(tokens.clamp_min(0), self.embedding.weight)
        return rows.masked_fill((tokens < 0).unsqueeze(-1), 0)

    def forward(self, z: Tensor) -> Quantized:
        """Quantise (..., d) for training: straight-through estimator and both loss terms."""
        with torch.no_grad():
            codes, _ = self.nearest(z)
        e = F.embedding(codes, self.embedding.weight)
        return Quantized(
            z + (e - z).detach(), codes, F.mse_loss(e, z.detach()), F.mse_loss(z, e.detach())
        )


def select_tokens(codes: Tensor, distances: Tensor, num_tokens: int) -> TokenSelection:
    """Keep the `num_tokens` most confident distinct codes of every image.

    Positions are walked in order of rising distance (equal distances: in row-major order); a code
    is kept the first time it appears (released OSDFace, `quantize.inference`).

    Args:
        codes: (b, n) int64 nearest code of every position.
        distances: (b, n) squared distance to it.
        num_tokens: length of the result; the rest is -1 where there are fewer distinct codes.
    """
    b, n = codes.shape
    order = distances.argsort(dim=1, stable=True)
    ranked = codes.gather(1, order)
    earlier = torch.ones(n, n, dtype=torch.bool, device=codes.device).tril(-1)
    repeated = ((ranked.unsqueeze(2) == ranked.unsqueeze(1)) & earlier).any(2)
    slot = (~repeated).cumsum(1) - 1
    # What is not kept is written to one spare column, cut off below.
    slot = slot.masked_fill(repeated | (slot >= num_tokens), num_tokens)
    empty = codes.new_full((b, num_tokens + 1), -1)
    tokens = empty.scatter(1, slot, ranked)[:, :num_tokens]
    return TokenSelection(tokens, empty.scatter(1, slot, order)[:, :num_tokens])
