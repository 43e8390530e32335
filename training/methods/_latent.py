"""What recipes that train on the latents of a frozen VAE have in common."""

import logging
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.metrics import edge_ratio, feature_distance, psnr, ssim
from ...core.modules.identity import IdentityEncoder
from .._backbone import BackboneConfig, TrainingBackbone
from .._lora import LORA_LAYERS, LoraLayers, begin_lora, save_lora
from ..losses.masks import box_mask
from ..recipe import EXPORT_ONLY, Batch, Recipe, as_metadata
from ..settings.config import Strict

log = logging.getLogger(__name__)


class LatentConfig(Strict):
    """Of a recipe that trains a LoRA of a UNet on the latents of a frozen VAE."""

    backbone: BackboneConfig
    rank: int = Field(16, ge=1)
    alpha: float = Field(16, gt=0)
    lora_layers: LoraLayers = Field("all", description=LORA_LAYERS)
    merged: bool = Field(
        False, description="merge the LoRA into the weights in every step: faster for small UNets"
    )
    sample_latents: bool = Field(True, description="posterior samples of the VAE, or its mean")
    metric_encoder: Path | None = Field(
        None, description="nano identity encoder that no loss uses; adds scores to validation"
    )
    name: str = Field(description="start of the exported files' names")
    half: bool = Field(False, description="export in float16")


class LatentRecipe(Recipe):
    """A recipe whose frozen network `codec` is a `_backbone.Codec`."""

    changeable = (*EXPORT_ONLY, "weights.*")
    config: LatentConfig
    backbone: TrainingBackbone

    def _begin_lora(self, start: Path | None) -> None:
        """Put the LoRA on the UNet of `backbone`, and note what is not as the config says."""
        c = self.config
        said = begin_lora(
            self.backbone.unet, c.lora_layers, rank=c.rank, alpha=c.alpha, start=start
        )
        for sentence in said:
            log.warning("%s", sentence)
        self.remarks += said

    def _encode(self, batch: Batch, key: str, *, sample: bool) -> Tensor:
        """z_0 of the pictures batch[key]; the posterior comes from the cache if it can."""
        codec = self.nets["codec"]

        def moments(pictures: Tensor) -> Tensor:
            return codec.moments(pictures * 2 - 1)

        known = self.remembered("moments", "codec", batch, key, moments)
        return codec.latents(known, sample=sample)

    def _decode(self, z_0: Tensor) -> Tensor:
        """Pictures about [0, 1], not clamped."""
        return (self.nets["codec"].decode(z_0) + 1) / 2

    def frozen(self) -> dict[str, nn.Module]:
        nets: dict[str, nn.Module] = {"codec": self.backbone.codec}
        if self.config.metric_encoder:
            nets["metric"] = IdentityEncoder.from_file(self.config.metric_encoder)
        return nets

    def _scores(self, picture: Tensor, batch: Batch) -> dict[str, Tensor]:
        """(b,) per score of pictures in [0, 1], against gt.

        The first three are of the face box; features and identity (a cosine) see the whole picture.
        """
        gt, mask = batch["gt"], box_mask(batch["box"], *picture.shape[-2:])
        scores = {
            "psnr": psnr(picture, gt, mask),
            "ssim": ssim(picture, gt, mask),
            "edges": edge_ratio(picture, gt, mask),
        }
        if encoder := self.nets.get("metric"):
            a, b = encoder.features(picture), encoder.features(gt)
            scores["features"] = feature_distance(a[:3], b[:3])
            scores["identity"] = (encoder.embed(a[-1]) * encoder.embed(b[-1])).sum(1)
        return scores

    def _stored(self, facts: dict) -> tuple[torch.dtype, dict[str, str]]:
        """Type and metadata of exported files."""
        dtype = torch.float16 if self.config.half else torch.float32
        return dtype, as_metadata(facts)

    def _save_lora(self, folder: Path, unet: nn.Module, facts: dict, **more: str) -> Path:
        path = folder / f"{self.config.name}_lora.safetensors"
        dtype, training = self._stored(facts)
        about = {"method": self.method, **more, **training}
        save_lora(path, unet, base=self.backbone.name, dtype=dtype, facts=about)
        return path
