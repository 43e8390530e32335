"""Pretraining of a small latent diffusion UNet: the nano stand-in for Stable Diffusion 2.1-base."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...core.checkpoint import make_metadata, save_safetensors
from ...core.methods.osdface import PromptProjection
from ...core.schedule import NUM_TRAIN_TIMESTEPS, add_noise, alpha_bar, eps_to_x0
from ...core.weights.nano import UNET_FORMAT, load_vae, unet_tensors
from ..recipe import EXPORT_ONLY, Batch, Evaluation, Progress, Recipe, as_metadata
from ..settings.config import Strict
from ._prompts import OtherPictures, exported
from .vre import load_embedder

_MEASURED = (50, 200, 399, 600, 800, 950)
"""Timesteps at which held-out noise predictions are scored."""


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
    start: Path | None = Field(
        None, description="nano UNet to go on from, of the shape `unet`; none: random weights"
    )
    vre: Path | None = Field(None, description="VRE whose tokens are the prompt; none = zeros")
    projection: Literal["kept", "trained"] = Field(
        "kept",
        description="trained: the VRE's projection of codes to prompt tokens learns with the UNet, "
        "from tokens of rms 1 unless `start` goes on, and the embedder is exported too",
    )
    tokens: int = Field(77, ge=1, description="length of the zero prompt")
    unprompted: float = Field(0.3, ge=0, le=1, description="share of samples with a zero prompt")
    clean_prompt: float = Field(
        0.0, ge=0, le=1, description="share of prompts read from the good face, not the degraded"
    )
    weighting: Literal["eps", "v"] = Field(
        "eps", description="v: errors divided by alpha_bar(t), so that late timesteps count too"
    )
    lateness: float = Field(
        1.0,
        gt=0,
        description="t = 1000 u^lateness, u uniform; below 1 draws late timesteps oftener",
    )

    @model_validator(mode="after")
    def _projects(self) -> Self:
        if self.projection == "trained" and self.vre is None:
            raise ValueError(
                "`projection: trained` is a part of the embedder; name its file, `vre`"
            )
        return self


class Denoiser(nn.Module):
    """What is trained: the UNet and, where it is trained too, the projection of the prompt."""

    def __init__(self, unet: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.unet, self.embedding_change = unet, projection

    def forward(self, z_t: Tensor, t: Tensor, rows: Tensor, told: Tensor) -> Tensor:
        """eps (b, c, h, w) of z_t at timesteps t (b,).

        Args:
            rows: (b, n, d) that the projection takes: codebook rows, or tokens where it is kept.
            told: (b,) whose prompt is not zero.
        """
        cond = self.embedding_change(rows) * told.to(z_t)[:, None, None]
        return self.unet(z_t, t, cond).sample


class BaseRecipe(Recipe):
    """Denoising at all timesteps: mean w(t) (eps - eps_theta(z_t, t, cond))^2 (DDPM, Eq. 14).

    The prompt is what the one-step restorer will give: the VRE's tokens of the degraded face, or of
    the good one (`clean_prompt`), which say more than z_t does.
    """

    stage = "nano_base"
    changeable = EXPORT_ONLY
    Config = BaseConfig
    config: BaseConfig

    def build(self) -> dict[str, nn.Module]:
        from ...core.diffusion.library import diffusers_classes

        c = self.config
        self.alpha_bar = alpha_bar()
        unet = diffusers_classes()[0](**c.unet.arguments())
        if c.start:
            unet.load_state_dict({k: v.float() for k, v in unet_tensors(c.start).items()})
        projection: nn.Module = nn.Identity()
        if c.vre:
            self.vre = load_embedder(c.vre).requires_grad_(False)
        if c.projection == "trained":
            projection = copy.deepcopy(self.vre.embedding_change).requires_grad_(True)
            if c.start is None:
                standardise(projection, self.vre.quantize.embedding.weight)
        return {"denoiser": Denoiser(unet, projection)}

    def frozen(self) -> dict[str, nn.Module]:
        nets: dict[str, nn.Module] = {"vae": load_vae(self.config.vae)}
        if self.config.vre:
            nets["vre"] = self.vre
        return nets

    def adam_only(self) -> tuple[str, ...]:
        return ("conv_in", "conv_out", "time_embedding", "embedding_change")

    def _rows(self, batch: Batch, *, clean: float) -> Tensor:
        """What `Denoiser` takes; the share `clean` of the prompts is read from the good faces."""
        c, b = self.config, len(batch["gt"])
        if "vre" not in self.nets:
            return torch.zeros(b, c.tokens, c.unet.cross_attention_dim, device=self.device)
        vre = self.nets["vre"]
        if clean == 0 and "lq" in batch:
            tokens = vre.tokenize(batch["lq"])
        else:
            tokens = self.remembered("tokens", "vre", batch, "gt", vre.tokenize)
            if clean < 1 and "lq" in batch:
                read = torch.rand(b, device=tokens.device) >= clean
                tokens = tokens.clone()
                tokens[read] = vre.tokenize(batch["lq"][read])
        return vre.quantize.lookup(tokens) if c.projection == "trained" else vre.embed(tokens)

    def _moments(self, batch: Batch) -> tuple[Tensor, Tensor]:
        def moments(pictures: Tensor) -> Tensor:
            return torch.cat(self.nets["vae"].moments(pictures * 2 - 1), 1)

        mean, logvar = self.remembered("moments", "vae", batch, "gt", moments).chunk(2, 1)
        return mean, logvar

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        c = self.config
        with torch.no_grad():
            mean, logvar = self._moments(batch)
            z_0 = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
            rows = self._rows(batch, clean=c.clean_prompt)
            told = torch.rand(len(rows), device=rows.device) >= c.unprompted
        u = torch.rand(len(z_0), device=z_0.device)
        t = (u.pow(c.lateness) * NUM_TRAIN_TIMESTEPS).long().clamp(max=NUM_TRAIN_TIMESTEPS - 1)
        eps = torch.randn_like(z_0)
        level = self.alpha_bar[t.cpu()]
        predicted = self.nets["denoiser"](add_noise(z_0, eps, level), t, rows, told)
        error = (predicted.float() - eps).square().mean((1, 2, 3))
        return {"eps": (error / level.to(error) if c.weighting == "v" else error).mean()}

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """eps errors by timestep, and by how much somebody else's prompt raises them.

        Prompts are read from the good faces where training reads such, else from the degraded.
        """
        clean = float(self.config.clean_prompt > 0)
        errors: dict[int, list[Tensor]] = {t: [] for t in _MEASURED}
        others: dict[int, list[Tensor]] = {t: [] for t in _MEASURED}
        images: dict[str, Tensor] = {}
        for batch in batches:
            z_0, rows = self._moments(batch)[0], self._rows(batch, clean=clean)
            shown = {"gt": batch["gt"]}
            told = torch.ones(len(z_0), dtype=torch.bool, device=z_0.device)
            for t in _MEASURED:
                eps = torch.randn_like(z_0)
                z_t = add_noise(z_0, eps, self.alpha_bar[t])
                at = torch.full((len(z_0),), t, device=z_0.device)
                own, other = (
                    self.nets["denoiser"](z_t, at, r, told) for r in (rows, rows.roll(1, 0))
                )
                errors[t].append((own - eps).square().mean((1, 2, 3)))
                others[t].append((other - eps).square().mean((1, 2, 3)))
                if not images:
                    x_0 = eps_to_x0(z_t, own, self.alpha_bar[t])
                    shown[f"x_0 at {t}"] = (self.nets["vae"].decode(x_0) + 1) / 2
            images = images or shown
        metrics = {f"eps_mse_t{t}": torch.cat(found).mean().item() for t, found in errors.items()}
        for t, found in others.items():
            ratio = torch.cat(found).mean() / torch.cat(errors[t]).mean()
            metrics[f"other_prompt_t{t}"] = ratio.item() - 1
        return Evaluation(metrics, images)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        """The UNet and, where its projection was trained, the embedder it listens to."""
        denoiser, training = self.nets["denoiser"], as_metadata(facts)
        path = folder / "nano_unet.safetensors"
        metadata = make_metadata(UNET_FORMAT, self.config.unet.arguments(), **training)
        tensors = {k: v.half() for k, v in denoiser.unet.state_dict().items()}
        save_safetensors(path, tensors, metadata)
        if self.config.projection == "kept":
            return [path]
        embedder = folder / "nano_vre.safetensors"
        vre = exported(self.vre, "vre", denoiser.embedding_change, OtherPictures())
        vre.save(embedder, dtype=torch.float16, trained=True, **training)
        return [path, embedder]


def standardise(projection: PromptProjection, rows: Tensor) -> None:
    """Rescale a fresh projection, in place, until the tokens of the codes have rms 1 and both of
    its layers vary as much from code to code as SiLU bends.

    Args:
        rows: (n, d) the codebook.
    """
    with torch.no_grad():
        mean, std = rows.mean(0), rows.std(0).clamp(min=1e-6)
        first, second = projection.conv1, projection.conv2
        assert first.bias is not None and second.bias is not None
        # conv1 sees standardised rows: W (x - mean) / std + b.
        gain = 1.2 * first.weight.new_tensor(3.0).sqrt()  # its default weights have std 1/sqrt(3 d)
        first.weight.mul_(gain / std[None, :, None])
        first.bias.copy_(-(first.weight[..., 0] @ mean))
        hidden = F.silu(F.linear(rows, first.weight[..., 0], first.bias))
        out = F.linear(hidden, second.weight[..., 0])
        second.weight.div_(out.std())
        second.bias.copy_(-(out / out.std()).mean(0))
        second_out = F.linear(hidden, second.weight[..., 0], second.bias)
        factor = 1.0
        for _ in range(50):  # rms of SiLU(factor x) rises with factor
            factor /= F.silu(factor * second_out).square().mean().sqrt().item()
        second.weight.mul_(factor)
        second.bias.mul_(factor)
