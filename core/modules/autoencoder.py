"""The convolutional encoder and decoder that the VRE, the face autoencoders and the nano VAE share.

Structure and parameter names follow the taming-transformers family, because released OSDFace
weights are stored under those names (`encoder.down.5.attn.0.q.weight`, ...).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn import Conv2d

from ..architecture import CLOSED, Between, SavedNetwork
from ..errors import FacewrightError
from .group_norm import GroupNorm, silu_

NORM_EPS = 1e-6
_ATTENDED = 128
"""Cells along one side of a map that attends to itself: the work grows with the fourth power."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Shape of an encoder and its mirrored decoder. The defaults are OSDFace's VRE."""

    __pydantic_config__ = CLOSED

    ch: Annotated[int, Between(1, 4096)] = 64
    """Channels of the first level."""
    ch_mult: Annotated[tuple[Annotated[int, Between(1, 64)], ...], Between(1, 10)] = (
        1, 2, 2, 2, 4, 8,
    )  # fmt: skip
    """Channel multiple per level; every level but the last halves the picture."""
    num_res_blocks: Annotated[int, Between(1, 16)] = 2
    attn_levels: Annotated[tuple[Annotated[int, Between(0, 9)], ...], Between(0, 10)] = (5,)
    """Levels whose residual blocks are each followed by self-attention."""
    mid_attn: bool = True
    z_channels: Annotated[int, Between(1, 16384)] = 512
    groups: Annotated[int, Between(1, 4096)] = 32
    """GroupNorm groups. Narrow nets need 1: many groups wipe out the mean colour."""

    def __post_init__(self) -> None:
        widths = {self.ch, *(self.ch * mult for mult in self.ch_mult)}
        if any(width % self.groups for width in widths):
            raise FacewrightError(
                f"its channels {sorted(widths)} should be multiples of its {self.groups} groups"
            )

    @property
    def factor(self) -> int:
        """Pixels per latent cell along one axis."""
        return 2 ** (len(self.ch_mult) - 1)

    def check_input(self, size: int) -> None:
        """Raise FacewrightError where an encoder of this shape cannot look at `size` pixels."""
        if size % self.factor:
            raise FacewrightError(
                f"its input_size {size} should be a multiple of {self.factor}, as its encoder "
                "halves pictures"
            )
        last = len(self.ch_mult) - 1
        attended = [i for i in self.attn_levels if i <= last] + [last] * self.mid_attn
        side = size >> min(attended, default=last)
        if side > _ATTENDED:
            raise FacewrightError(
                f"it attends to maps of {side} x {side} cells; {_ATTENDED} x {_ATTENDED} are the "
                "most"
            )


def _norm(channels: int, groups: int) -> GroupNorm:
    return GroupNorm(groups, channels, eps=NORM_EPS)


class ResBlock(nn.Module):
    """norm, swish, conv, twice, plus the input (through a 1x1 conv where channels change)."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(c_in, groups)
        self.conv1 = Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = _norm(c_out, groups)
        self.conv2 = Conv2d(c_out, c_out, 3, padding=1)
        if c_in != c_out:
            self.nin_shortcut = Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu_(self.norm1(x)))
        h = self.conv2(silu_(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions of a feature map."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels, groups)
        # Never used when an image attends to itself; kept because released files contain it.
        # Frozen: several processes would wait for the gradient of every weight that is not.
        self.norm2 = _norm(channels, groups).requires_grad_(False)
        self.q = Conv2d(channels, channels, 1)
        self.k = Conv2d(channels, channels, 1)
        self.v = Conv2d(channels, channels, 1)
        self.proj_out = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        n = self.norm1(x)
        q, k, v = (rearrange(f(n), "b c h w -> b 1 (h w) c") for f in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(rearrange(out, "b 1 (h w) c -> b c h w", h=h, w=w))


class Downsample(nn.Module):
    """Halve by a strided conv; zeros on the right and bottom edge only, as in the released nets."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double by nearest neighbour, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Level(nn.Module):
    downsample: Downsample
    upsample: Upsample

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList()
        self.attn = nn.ModuleList()

    def forward(self, h: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            h = block(h)
            if len(self.attn):
                h = self.attn[i](h)
        if hasattr(self, "downsample"):
            h = self.downsample(h)
        return self.upsample(h) if hasattr(self, "upsample") else h


class _Mid(nn.Module):
    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        if attention:
            self.attn_1 = AttnBlock(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, h: Tensor) -> Tensor:
        h = self.block_1(h)
        if hasattr(self, "attn_1"):
            h = self.attn_1(h)
        return self.block_2(h)


class Encoder(nn.Module):
    """(b, 3, h, w) -> (b, c_out, h / factor, w / factor); c_out defaults to `z_channels`."""

    def __init__(self, config: AutoencoderConfig, c_out: int | None = None) -> None:
        super().__init__()
        ch, groups = config.ch, config.groups
        self.conv_in = Conv2d(3, ch, 3, padding=1)
        self.down = nn.ModuleList()
        last = len(config.ch_mult) - 1
        for i, mult in enumerate(config.ch_mult):
            level = _Level()
            for _ in range(config.num_res_blocks):
                level.block.append(ResBlock(ch, config.ch * mult, groups))
                ch = config.ch * mult
                if i in config.attn_levels:
                    level.attn.append(AttnBlock(ch, groups))
            if i != last:
                level.downsample = Downsample(ch)
            self.down.append(level)
        self.mid = _Mid(ch, groups, config.mid_attn)
        self.norm_out = _norm(ch, groups)
        self.conv_out = Conv2d(ch, c_out or config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(silu_(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """(b, z_channels, h, w) -> (b, 3, h * factor, w * factor); one more block per level."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        ch, groups = config.ch * config.ch_mult[-1], config.groups
        self.conv_in = Conv2d(config.z_channels, ch, 3, padding=1)
        self.mid = _Mid(ch, groups, config.mid_attn)
        levels = []
        for i in reversed(range(len(config.ch_mult))):
            level = _Level()
            for _ in range(config.num_res_blocks + 1):
                level.block.append(ResBlock(ch, config.ch * config.ch_mult[i], groups))
                ch = config.ch * config.ch_mult[i]
                if i in config.attn_levels:
                    level.attn.append(AttnBlock(ch, groups))
            if i != 0:
                level.upsample = Upsample(ch)
            levels.append(level)
        # Stored from fine to coarse, like the encoder's levels; run from coarse to fine.
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = _norm(ch, groups)
        self.conv_out = Conv2d(ch, 3, 3, padding=1)

    def features(self, z: Tensor) -> Tensor:
        """Everything before the last convolution, whose weight GAN losses balance against."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return silu_(self.norm_out(h))

    def forward(self, z: Tensor) -> Tensor:
        return self.conv_out(self.features(z))


class AutoencoderKL(SavedNetwork):
    """Variational autoencoder with per-channel normalised latents (the nano models' VAE).

    Pixels (b, 3, h, w) in [-1, 1], latents (b, z_channels, h / factor, w / factor). The latent's
    mean and standard deviation are folded into `quant_conv` and `post_quant_conv` when training
    ends, so latents leave here with unit variance and the scaling factor is 1.
    """

    format = "nano-vae"
    config_type = AutoencoderConfig
    what = "an autoencoder"
    stored = torch.float16
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        z = config.z_channels
        self.encoder = Encoder(config, c_out=2 * z)
        self.decoder = Decoder(config)
        self.quant_conv = Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = Conv2d(z, z, 1)

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | pixels), each (b, z, h', w')."""
        mean, logvar = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Posterior mean, or a sample of it where a generator is given."""
        mean, logvar = self.moments(pixels)
        return mean if generator is None else posterior_sample(mean, logvar, generator)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))


def posterior_sample(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from N(mean, exp(logvar)); a seed gives the same noise in every number format."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device)
    return mean + (0.5 * logvar).exp() * noise.to(mean)
