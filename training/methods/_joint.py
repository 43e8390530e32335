"""FLIPNET's two branches as one network call, for training and for the pictures it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...core.diffusion.boosthub import attach_boosthubs
from ...core.diffusion.branches import looking_at
from ...core.methods.flipnet import BoostHubs, Conditioning
from ...core.modules.face_encoder import TokenAdapter
from .._lora import MergedCall


class Prompt(NamedTuple):
    """Tokens (b, n, d) that cross-attention reads, and which of them are there (b, n)."""

    tokens: Tensor
    there: Tensor | None = None

    def for_unet(self, repeats: int = 1) -> dict[str, Tensor | None]:
        there = None if self.there is None else self.there.repeat(repeats, 1)
        return {
            "encoder_hidden_states": self.tokens.repeat(repeats, 1, 1),
            "encoder_attention_mask": there,
        }


class JointDenoiser(nn.Module):
    """What is trained. Rows of a joint call: the input branch, then the condition branch."""

    def __init__(
        self, unet: nn.Module, hubs: BoostHubs, adapter: TokenAdapter | None, *, merged: bool
    ) -> None:
        super().__init__()
        self.state = Conditioning()
        attach_boosthubs(unet, hubs, self.state)
        self.unet = MergedCall(unet) if merged else unet
        self.hubs, self.adapter = hubs, adapter

    @property
    def bare_unet(self) -> nn.Module:
        return self.unet.module if isinstance(self.unet, MergedCall) else self.unet

    def prompt(self, text: Tensor, faces: Tensor | None, kept: Tensor | None = None) -> Prompt:
        """Text tokens, then face tokens; a face that is not kept leaves no token behind.

        Args:
            text: (b, n, d).
            faces: (b, m, z) latents of the face encoder, (b, 1, z) of a recogniser, or None.
            kept: (b,) bool; None keeps all.
        """
        if faces is None or self.adapter is None:
            return Prompt(text)
        seen = self.adapter(faces).to(text)
        tokens = torch.cat([text, seen], 1)
        if kept is None:
            return Prompt(tokens)
        there = kept[:, None].expand(-1, seen.shape[1])
        return Prompt(
            tokens, torch.cat([torch.ones_like(text[..., 0], dtype=torch.bool), there], 1)
        )

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        text: Tensor,
        faces: Tensor | None,
        kept: Tensor | None,
        phi: float,
    ) -> Tensor:
        """eps of both branches: (2 b, c, h, w) at timesteps (2 b,), one prompt for both (Eq. 7)."""
        self.state.phase, self.state.phi, self.state.rows = "joint", phi, len(z_t) // 2
        prompt = self.prompt(text, faces, kept).for_unet(repeats=2)
        return self.unet(z_t, t, **prompt).sample

    @contextmanager
    def looking_at(self, z_y: Tensor, prompt: Prompt) -> Iterator[None]:
        """Run the clean condition (b, c, h, w) alone, at t = 0; see `branches.looking_at`."""
        with looking_at(self.state, lambda: self.unet(z_y, 0, **prompt.for_unet())):
            yield

    def denoise(self, z_t: Tensor, t: int, prompt: Prompt, *, phi: float = 1.0) -> Tensor:
        """eps of the input branch (b, c, h, w), inside `looking_at`."""
        self.state.phi = phi
        return self.unet(z_t, t, **prompt.for_unet()).sample
