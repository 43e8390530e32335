"""A VAE, diffusers' or the nano models' own, for inference and for training."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..modules.autoencoder import AutoencoderKL as NanoAutoencoder
from ..modules.autoencoder import posterior_sample
from ..modules.fast import use_fast_layers
from .overflow import dtype_of, overflowed, widen


def moments(module: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (b, c, h / f, w / f) of the latents of pixels in [-1, 1]."""
    if isinstance(module, NanoAutoencoder):
        return module.moments(pixels)
    posterior = module.encode(pixels).latent_dist
    return posterior.mean, posterior.logvar


def decoded(module: Any, z: Tensor) -> Tensor:
    """Pixels about [-1, 1] of unscaled latents, not clamped; differentiable."""
    found = module.decode(z)
    return found if isinstance(module, NanoAutoencoder) else found.sample


class Vae:
    """VAE of the headless host: pixels [-1, 1] to unscaled latents and back."""

    module: Any
    """diffusers' or ours."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval().requires_grad_(False)
        config = self.module.config
        if isinstance(module, NanoAutoencoder):
            self.factor: int = config.factor
        else:
            use_fast_layers(module, convolutions=True)
            self.factor = 2 ** (len(config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, pixels: Tensor, generator: Generator | None = None) -> Tensor:
        """Posterior mean, or a sample where a generator is given; in float32 where float16 ends."""
        encoder = self.module.encoder
        mean, logvar = moments(self.module, _cast(pixels, encoder))
        if overflowed(mean, encoder) and torch.isfinite(pixels).all():
            widen(encoder, self.module.quant_conv, what="The VAE's encoder")
            mean, logvar = moments(self.module, _cast(pixels, encoder))
        z = mean if generator is None else posterior_sample(mean, logvar, generator)
        return z.to(pixels.dtype)

    @torch.no_grad()
    def decode(self, z: Tensor, *, full_precision: bool = False) -> Tensor:
        """Pixels, not clamped; `full_precision` stays for all that is decoded afterwards."""
        decoder = self.module.decoder
        if full_precision and dtype_of(decoder) != torch.float32:
            widen(decoder, self.module.post_quant_conv, what="The VAE's decoder")
        return decoded(self.module, _cast(z, decoder)).to(z.dtype)


def _cast(x: Tensor, half: nn.Module) -> Tensor:
    first = next(half.parameters())
    return x.to(first.device, first.dtype, memory_format=torch.channels_last)
