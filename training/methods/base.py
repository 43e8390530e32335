"""Pretraining of a small latent diffusion UNet: the nano stand-in for Stable Diffusion 2.1-base."""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...core.checkpoint import make_metadata, save_safetensors
from ...core.schedule import NUM_TRAIN_TIMESTEPS, add_noise, alpha_bar, eps_to_x0
from ...core.weights.nano import UNET_FORMAT, load_vae
from ..recipe import EXPORT_ONLY, Batch, Evaluation, Progress, Recipe, as_metadata
from ..settings.config import Strict


class UNetShape(Strict):
    """Arguments of diffusers' UNet2DConditionModel that differ between sizes.

    The first level has no attention. `attention_head_dim` counts heads per level, as in
    Stable Diffusion 2.1's config.
    """

    channels: int = 8
    sample_size: int = 32
    block_out_channels: tuple[int, ...] = (64, 96, 128)
    attention_head_dim: tuple[int, ...] = (2, 3, 4)
    cross_attention_dim: int = 128
    layers_per_block: int = 1
    norm_num_groups: int = 8

    def arguments(self) -> dict:
        attending = len(self.block_out_channels) - 1
        return {
            "in_channels": self.channels,
            "out_channels": self.channels,
            "sample_size": self.sample_size,
            "block_out_channels": list(self.block_out_channels),
            "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * attending,
            "up_block_types": ["CrossAttnUpBlock2D"] * attending + ["UpBlock2D"],
            "attention_head_dim": list(self.attention_head_dim),
            "cross_attention_dim": self.cross_attention_dim,
            "layers_per_block": self.layers_per_block,
            "norm_num_groups": self.norm_num_groups,
            "use_linear_projection": True,
        }


class BaseConfig(Strict):
    unet: UNetShape = UNetShape()
    vae: Path = Field(description="autoencoder exported by stage nano_vae")
    vre: Path | None = Field(None, description="VRE whose tokens are the prompt; none = zeros")
    tokens: int = Field(77, ge=1, description="length of the zero prompt")
    unprompted: float = Field(0.3, ge=0, le=1, description="share of samples with a zero prompt")


class BaseRecipe(Recipe):
    """Denoising at all timesteps: mean (eps - eps_theta(z_t, t, cond))^2 (DDPM, Eq. 14).

    The prompt is what the one-step restorer will give: the VRE's tokens of the degraded face.
    """

    stage = "nano_base"
    changeable = EXPORT_ONLY
    Config = BaseConfig
    config: BaseConfig

    def build(self) -> dict[str, nn.Module]:
        from ...core.diffusion.library import diffusers_classes

        self.alpha_bar = alpha_bar()
        return {"unet": diffusers_classes()[0](**self.config.unet.arguments())}

    def frozen(self) -> dict[str, nn.Module]:
        from ...core.methods.osdface import VisualRepresentationEmbedder

        nets: dict[str, nn.Module] = {"vae": load_vae(self.config.vae)}
        if self.config.vre:
            nets["vre"] = VisualRepresentationEmbedder.from_files(self.config.vre, untrained=True)
        return nets

    def adam_only(self) -> tuple[str, ...]:
        return ("conv_in", "conv_out", "time_embedding")

    def _cond(self, batch: Batch) -> Tensor:
        c = self.config
        if "vre" not in self.nets:
            zeros = torch.zeros(c.tokens, c.unet.cross_attention_dim, device=self.device)
            return zeros.expand(len(batch["gt"]), -1, -1)
        return self.nets["vre"](batch["lq"] if "lq" in batch else batch["gt"])

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        with torch.no_grad():
            mean, logvar = self.nets["vae"].moments(batch["gt"] * 2 - 1)
            z_0 = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
            cond = self._cond(batch)
            kept = torch.rand(len(cond), 1, 1, device=cond.device) >= self.config.unprompted
            cond = cond * kept
        t = torch.randint(0, NUM_TRAIN_TIMESTEPS, (len(z_0),), device=z_0.device)
        eps = torch.randn_like(z_0)
        z_t = add_noise(z_0, eps, self.alpha_bar[t.cpu()])
        predicted = self.nets["unet"](z_t, t, cond).sample
        return {"eps": F.mse_loss(predicted.float(), eps)}

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        errors: dict[int, list[Tensor]] = {50: [], 200: [], 399: [], 800: []}
        images: dict[str, Tensor] = {}
        for batch in batches:
            z_0, cond = self.nets["vae"].encode(batch["gt"] * 2 - 1), self._cond(batch)
            shown = {"gt": batch["gt"]}
            for t, found in errors.items():
                eps = torch.randn_like(z_0)
                z_t = add_noise(z_0, eps, self.alpha_bar[t])
                predicted = self.nets["unet"](z_t, t, cond).sample
                found.append((predicted - eps).pow(2).mean((1, 2, 3)))
                if not images:
                    x_0 = eps_to_x0(z_t, predicted, self.alpha_bar[t])
                    shown[f"x_0 at {t}"] = (self.nets["vae"].decode(x_0) + 1) / 2
            images = images or shown
        metrics = {f"eps_mse_t{t}": torch.cat(found).mean().item() for t, found in errors.items()}
        return Evaluation(metrics, images)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        path = folder / "nano_unet.safetensors"
        metadata = make_metadata(UNET_FORMAT, self.config.unet.arguments(), **as_metadata(facts))
        tensors = {k: v.half() for k, v in self.nets["unet"].state_dict().items()}
        save_safetensors(path, tensors, metadata)
        return [path]
