"""FLIPNET's BoostHub at one site: attention from one image branch into another (Eq. 4)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import LoraError, shorten

MODES = ("restore", "degrade")
"""What a BoostHub is trained for: the condition is the degraded image, or the good one."""
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(q, k, v, heads) -> result, all (b, n, d) with the heads side by side in d."""


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax(Q K^T / sqrt(d_head)) V for (b, n, d) tensors whose heads lie side by side."""
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")


class _Linear(nn.Linear):
    """Goes to where its input is: hosts move and cast the UNet, and these follow."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x)
        return F.linear(x, self.weight.to(x), bias)


class BoostHub(nn.Module):
    """Attention of the input branch into the condition branch at one site (Eq. 4).

    W_O starts at zero, weight and bias, so that a fresh BoostHub changes nothing.

    Args:
        dim: channels of the features, d.
        heads: of the attention; as many as the self-attention beside it.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = _Linear(dim, dim, bias=False)
        self.to_k = _Linear(dim, dim, bias=False)
        self.to_v = _Linear(dim, dim, bias=False)
        self.to_out = _Linear(dim, dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def project(self, f_y: Tensor) -> tuple[Tensor, Tensor]:
        """K_y = W_Ky F_y and V_y = W_Vy F_y, each (b, m, d)."""
        return self.to_k(f_y), self.to_v(f_y)

    def read(self, f_x: Tensor, k: Tensor, v: Tensor, attention: Attention = attend) -> Tensor:
        """F_ro for features (b, n, d) from keys and values (b, m, d)."""
        return self.to_out(attention(self.to_q(f_x), k, v, self.heads))

    def forward(self, f_x: Tensor, f_y: Tensor) -> Tensor:
        """F_ro (b, n, d) of features f_x (b, n, d) and f_y (b, m, d), both after the LayerNorm."""
        return self.read(f_x, *self.project(f_y))


@dataclass
class Conditioning:
    """What BoostHubs know of the condition branch during one run of the sampler.

    Attributes:
        phi: enhance weight of Eq. 5; 0 leaves the self-attention untouched, bit for bit.
        phase: "capture" while the condition branch runs alone, "read" afterwards; "joint" where
            the last `rows` rows of every call are the condition branch.
        rows: of the condition branch in a joint call.
        kept: site -> K_y, V_y, each (b, m, d) with b the images of the condition.
    """

    phi: float = 1.0
    phase: Literal["capture", "read", "joint"] = "capture"
    rows: int = 0
    kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict) -> "Conditioning":
        return self  # hosts copy their options; the state of a run is one


def check_loras(mode: str, loras: Iterable[Mapping[str, str]]) -> None:
    """Refuse a model whose LoRA does not belong to its BoostHub (FLIPNET).

    Args:
        mode: what the BoostHub was trained for, "restore" or "degrade".
        loras: metadata of the LoRA files on the model. What says nothing of its method is taken.

    Raises:
        LoraError: `method` or `mode` of a file is another.
    """
    for metadata in loras:
        method, theirs = metadata.get("method", "flipnet"), metadata.get("mode", mode)
        if method != "flipnet" or theirs != mode:
            purpose = (
                f"to {shorten(theirs)}"
                if method == "flipnet"
                else f"for the method {shorten(method)}"
            )
            raise LoraError(
                f"The LoRA on this model was trained {purpose}, but these BoostHub weights were "
                f"trained to {mode}. Take the LoRA and the BoostHub of one training."
            )
