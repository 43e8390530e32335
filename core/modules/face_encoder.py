"""Face tokens that carry what a restoration needs: the encoder of a reconstruction, and an adapter.

FLIPNET (Sec. 3.2, "BFR-oriented face embeddings"): two autoencoders learn to reproduce good and
degraded faces, then their latents are drawn together; afterwards the encoder of degraded faces
alone turns a photograph into tokens, and a small adapter brings them to the text tokens' width.
"""

import os
from dataclasses import dataclass, field
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn import Conv2d, LayerNorm, Linear

from ..architecture import CLOSED, Between, SavedNetwork
from ..checkpoint import read_tensors
from ..checkpoint.identify import marked_trained
from ..errors import CheckpointError, FacewrightError, check_image
from .autoencoder import AutoencoderConfig, Encoder

_ADAPTER = "facewright.adapter"
"""Metadata of a file: "trained", or "untrained" as face-associate leaves it."""


@dataclass(frozen=True, kw_only=True)
class FaceEncoderConfig:
    """Shape of a `FaceEncoder`. The defaults are latent diffusion's kl-f32 at 512 pixels."""

    __pydantic_config__ = CLOSED

    encoder: AutoencoderConfig = field(
        default_factory=lambda: AutoencoderConfig(
            ch=128, ch_mult=(1, 1, 2, 2, 4, 4), attn_levels=(4, 5), z_channels=64
        )
    )
    input_size: Annotated[int, Between(1, 2048)] = 512
    """Side in pixels of the square every image is resized to."""
    hidden: Annotated[int, Between(1, 16384)] = 512
    width: Annotated[int, Between(1, 16384)] = 1024
    """Channels of the tokens: the UNet's cross-attention width."""

    @property
    def num_tokens(self) -> int:
        return (self.input_size // self.encoder.factor) ** 2

    def __post_init__(self) -> None:
        self.encoder.check_input(self.input_size)


class TokenAdapter(nn.Module):
    """tau: per token Linear, GELU, Linear, LayerNorm, and where in the face it lies.

    Cross-attention does not see the order of its tokens, so each has a learned position.
    """

    def __init__(self, z: int, hidden: int, width: int, num_tokens: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(z, hidden), nn.GELU(), Linear(hidden, width), LayerNorm(width)
        )
        self.positions = nn.Parameter(torch.randn(num_tokens, width) * 0.02)

    def forward(self, z: Tensor) -> Tensor:
        """(b, n, z), or one vector of the whole face (b, 1, z) -> (b, n, width)."""
        return self.layers(z) + self.positions


class FaceEncoder(SavedNetwork):
    """Aligned faces -> face tokens c_id = tau(E_l(y))."""

    format = "flipnet-face-encoder"
    config_type = FaceEncoderConfig
    what = "a face encoder"
    config: FaceEncoderConfig

    def __init__(self, config: FaceEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FaceEncoderConfig()
        z = config.encoder.z_channels
        self.encoder = Encoder(config.encoder, c_out=2 * z)
        self.quant_conv = Conv2d(2 * z, 2 * z, 1)
        self.adapter = TokenAdapter(z, config.hidden, config.width, config.num_tokens)

    def prepare(self, faces: Tensor) -> Tensor:
        """(b, 3, h, w) in [0, 1] -> (b, 3, s, s) in [-1, 1], as the encoder sees them."""
        check_image(faces, name="faces")
        size = (self.config.input_size,) * 2
        x = faces.to(self.quant_conv.weight)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        return x * 2 - 1

    def moments(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each (b, z, h', w')."""
        mean, logvar = self.quant_conv(self.encoder(prepared)).chunk(2, dim=1)
        return mean, logvar

    def latents(self, faces: Tensor) -> Tensor:
        """Posterior means (b, n, z), row by row over the picture, before the adapter."""
        mean, _ = self.moments(self.prepare(faces))
        return rearrange(mean, "b z h w -> b (h w) z")

    def forward(self, faces: Tensor) -> Tensor:
        """(b, 3, h, w) in [0, 1], any h and w -> tokens (b, n, width)."""
        return self.adapter(self.latents(faces))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        trained: bool = True,
        dtype: torch.dtype | None = None,
        **extra: str,
    ) -> None:
        """Write one safetensors file that `from_file` reads; None keeps the dtype.

        Args:
            trained: False where the adapter is as it was made, and its tokens are noise.
        """
        mark = {_ADAPTER: "trained" if trained else "untrained"}
        super().save(path, dtype=dtype, **extra, **mark)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, untrained: bool = False) -> Self:
        """Load a file written by `save`, float32, frozen, in eval mode.

        Args:
            untrained: take a file whose adapter is still to be trained as well.

        Raises:
            CheckpointError: the file is something else, does not hold all tensors, or has an
                adapter that was never trained.
        """
        tensors, metadata = read_tensors(path)
        if not untrained and not marked_trained(metadata, _ADAPTER, "face-associate"):
            raise CheckpointError(
                f"{path} comes from the training stage face-associate: its adapter has not been "
                "trained yet, and its face tokens would be noise. Use the file whose name ends in "
                "_face_encoder.safetensors that the stage flipnet-restore exports beside its LoRA "
                "and its BoostHub."
            )
        return cls.from_tensors(tensors, metadata, source=str(path))


def append_tokens(text: Tensor, faces: Tensor) -> Tensor:
    """One prompt per face: text tokens (1 or b, n, d), then face tokens (b, m, d).

    Raises:
        FacewrightError: other widths, or texts for another number of faces.
    """
    if text.shape[-1] != faces.shape[-1]:
        raise FacewrightError(
            f"The prompt has {text.shape[-1]} channels, the face tokens have {faces.shape[-1]}. "
            "Use the face encoder and the text encoder that belong to the same model."
        )
    if len(text) not in (1, len(faces)):
        raise FacewrightError(
            f"The prompt is for {len(text)} images, but there are {len(faces)} faces. Give one "
            "prompt for all, or one for each face."
        )
    return torch.cat([text.expand(len(faces), -1, -1), faces.to(text)], dim=1)
