"""A discriminator in latent space: the diffusion UNet's own encoder judges noised latents."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Conv2d, GroupNorm
from torch.utils.checkpoint import checkpoint

from ...core.schedule import add_noise, alpha_bar
from .._lora import MergedCall, add_lora


class _UNetEncoder(nn.Module):
    """conv_in, down blocks and mid block of a diffusers UNet2DConditionModel."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks
        self.mid_block = unet.mid_block

    def enable_gradient_checkpointing(self) -> None:
        """For the blocks as well, which the UNet would have told."""
        again = partial(checkpoint, use_reentrant=False)
        for module in self.modules():
            if hasattr(module, "gradient_checkpointing"):
                vars(module).update(gradient_checkpointing=True, _gradient_checkpointing_func=again)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """(b, c, h, w), (b,), (b, n, d) -> (b, c', h', w') at the bottleneck."""
        emb = self.time_embedding(self.time_proj(t).to(z_t.dtype))
        h = self.conv_in(z_t)
        for block in (*self.down_blocks, self.mid_block):
            if getattr(block, "has_cross_attention", False):
                h = block(h, emb, encoder_hidden_states=cond)
            else:
                h = block(h, emb)
            h = h[0] if isinstance(h, tuple) else h  # down blocks also return skip features
        return h


class LatentDiscriminator(nn.Module):
    """Patch logits for latents diffused to a random timestep.

    D(z, p) = head(UNet_down+mid(F(z, t), t, p)), F(z, t) = sqrt(a_t) z + sqrt(1 - a_t) eps, with t
    and eps drawn anew for every latent (OSDFace, arXiv:2411.17163, Eq. 15-16; backbone and head
    after DFOSD, arXiv:2410.04224). The base stays frozen under a LoRA; the head is
    conv 4x4 - GroupNorm - SiLU - conv 4x4: 6x6 logits of SD 2.1's 8x8 bottleneck at 512 px.

    Args:
        unet: a diffusers UNet2DConditionModel, used up: hand over a copy.
        rank: of the LoRA, alpha = rank.
        hidden: channels of the head; None doubles the bottleneck's (2560 in SD 2.1).
        merged: see `MergedCall`.
    """

    def __init__(
        self, unet: Any, *, rank: int = 16, hidden: int | None = None, merged: bool = False
    ) -> None:
        super().__init__()
        c: int = unet.config.block_out_channels[-1]
        hidden = hidden or 2 * c
        self.encoder = _UNetEncoder(unet)
        add_lora(self.encoder, rank, rank)
        if merged:
            self.encoder = MergedCall(self.encoder)
        self.head = nn.Sequential(
            Conv2d(c, hidden, 4, 1, 1),
            GroupNorm(32, hidden),
            nn.SiLU(),
            Conv2d(hidden, 1, 4, 1, 1),
        )
        self.alpha_bar = alpha_bar()  # no buffer: some devices have no float64

    def forward(self, z_0: Tensor, cond: Tensor) -> Tensor:
        """Logits (b, 1, h', w') of latents (b, c, h, w) under prompt tokens (b, n, d)."""
        t = torch.randint(0, len(self.alpha_bar), (len(z_0),), device=z_0.device)
        z_t = add_noise(z_0, torch.randn_like(z_0), self.alpha_bar[t.cpu()])
        return self.head(self.encoder(z_t, t, cond))
