"""The diffusion model a stage trains against: a UNet and a frozen VAE, from files or random."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..core.architecture import build
from ..core.diffusion.vae import decoded, moments
from ..core.errors import CheckpointError
from ..core.weights.nano import load_vae, unet_config, unet_tensors
from .settings.config import Strict


class BackboneConfig(Strict):
    """Where UNet and VAE come from."""

    source: Literal["sd", "nano", "random"] = Field(
        "sd", description="sd: SD 2.1-base; nano: two nano files; random: a shallow net for trials"
    )
    path: Path | None = Field(None, description="sd: single file or diffusers folder")
    unet: Path | None = Field(None, description="nano: the UNet")
    vae: Path | None = Field(None, description="nano: the autoencoder")

    @model_validator(mode="after")
    def _paths(self) -> "BackboneConfig":
        needed = {"sd": ("path",), "nano": ("unet", "vae"), "random": ()}[self.source]
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise ValueError(f"source {self.source} needs {' and '.join(missing)}")
        return self


class Codec(nn.Module):
    """A frozen VAE with differentiable `decode`; latents are scaled as the UNet expects them."""

    vae: Any
    """diffusers' or ours."""

    def __init__(self, vae: nn.Module, scaling_factor: float) -> None:
        super().__init__()
        self.vae = vae
        self.scaling_factor = scaling_factor

    @torch.no_grad()
    def moments(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) in [-1, 1] -> (b, 2 c, h / f, w / f): the posterior's mean and logvar."""
        return torch.cat(moments(self.vae, pixels), 1).float()

    def latents(self, moments: Tensor, *, sample: bool) -> Tensor:
        """z_0 (b, c, h / f, w / f): a posterior sample or its mean."""
        mean, logvar = moments.chunk(2, 1)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean) if sample else mean
        return z * self.scaling_factor

    def decode(self, z_0: Tensor) -> Tensor:
        """Pixels in [-1, 1], not clamped."""
        return decoded(self.vae, z_0 / self.scaling_factor)


@dataclass(frozen=True)
class TrainingBackbone:
    """What `load_backbone` returns."""

    unet: Any
    """diffusers' UNet2DConditionModel."""
    codec: Codec
    name: str
    """For the metadata of what is trained on it."""


def load_backbone(config: BackboneConfig) -> TrainingBackbone:
    """UNet (a diffusers UNet2DConditionModel) and VAE, in float32 on the CPU.

    Raises:
        CheckpointError: a file is missing or holds another model.
    """
    if config.source == "sd" and config.path:
        return _sd(config.path)
    if config.source == "nano" and config.unet and config.vae:
        return _nano(config.unet, config.vae)
    return _random()


def _sd(path: Path) -> TrainingBackbone:
    from ..core.diffusion.loading import Place, load_checkpoint

    # The fast format of this machine may be bfloat16, to which weights would be rounded for good.
    model, vae = load_checkpoint(path, Place(torch.float32, torch.device("cpu")))
    if vae is None:
        raise CheckpointError(f"{path} holds no VAE. Use a whole SD 2.1-base checkpoint.")
    return TrainingBackbone(model.unet, Codec(vae.module, model.scaling_factor), model.name)


def _nano(unet_path: Path, vae_path: Path) -> TrainingBackbone:
    from ..core.diffusion.library import diffusers_classes

    config, tensors = unet_config(unet_path), unet_tensors(unet_path)
    unet = build(
        lambda: diffusers_classes()[0].from_config(config),
        tensors,
        source=str(unet_path),
        frozen=False,
    )
    return TrainingBackbone(unet, Codec(load_vae(vae_path), 1.0), unet_path.stem)


def _random() -> TrainingBackbone:
    """SD 2.1-base's layout with few narrow layers: for trying a config out, not for training."""
    from ..core.diffusion.library import diffusers_classes

    unet_class, vae_class = diffusers_classes()
    unet = unet_class(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        attention_head_dim=(1, 2, 2, 2),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )
    vae = vae_class(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
    )
    return TrainingBackbone(unet, Codec(vae, 0.18215), "random")
