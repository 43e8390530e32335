"""Stage 1 of OSDFace (arXiv:2411.17163, Sec. 3.2): codebooks of HQ and LQ faces, then association.

Three stages, each a run of its own: `vre-hq` and `vre-lq` train one vector-quantised autoencoder
each to reproduce its own input; `vre-associate` trains both on and aligns their features. What
stays is the LQ encoder with its codebook: the visual representation embedder.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from ...core.checkpoint import (
    load_strict,
    make_metadata,
    read_config,
    read_tensors,
    save_safetensors,
)
from ...core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from ...core.modules.autoencoder import AutoencoderConfig, Decoder
from ...core.modules.quantizer import Quantized
from ..config import Strict
from ..losses.adversarial import (
    PatchDiscriminator,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from ..losses.association import association_loss, retrieval_rate
from ..losses.extractors import ExtractorConfig
from ..losses.perceptual import feature_distance
from ..losses.vq import CodebookCare, usage, vq_loss
from ..recipe import Batch, Evaluation, Progress, Recipe

AUTOENCODER_FORMAT = "osdface-vq-autoencoder"


class EncoderShape(Strict):
    """See `core.modules.autoencoder.AutoencoderConfig`."""

    ch: int = 64
    ch_mult: tuple[int, ...] = (1, 2, 2, 2, 4, 8)
    num_res_blocks: int = 2
    attn_levels: tuple[int, ...] = (5,)
    mid_attn: bool = True
    z_channels: int = 512
    groups: int = 32


class EmbedderShape(Strict):
    """See `core.methods.osdface.VREConfig`."""

    encoder: EncoderShape = EncoderShape()
    num_codes: int = 1024
    num_tokens: int = 77
    input_size: int = Field(512, description="side in pixels everything is resized to")
    proj_hidden: int = 256
    proj_out: int = Field(1024, description="cross-attention width of the restorer's UNet")

    def to_vre(self) -> VREConfig:
        values = self.model_dump()
        encoder = AutoencoderConfig(**values.pop("encoder"))
        return VREConfig(encoder=encoder, double_norm=False, **values)


class CodebookCareConfig(Strict):
    """Keeps codes in use (see `losses.vq.CodebookCare`); the published training does without."""

    init_step: int = Field(5, ge=1)
    revive_every: int = Field(20, ge=1)
    revive_until: float = Field(0.8, ge=0, le=1, description="share of the budget")


class VRERecipeConfig(Strict):
    shape: EmbedderShape = EmbedderShape()
    beta: float = Field(0.25, ge=0, description="weight of the commitment term, Eq. 7")
    perceptual: float = Field(1.0, ge=0, description="weight of the feature distance, Eq. 7")
    extractor: ExtractorConfig | None = Field(None, description="what `perceptual` looks through")
    relative_features: bool = Field(False, description="stages weighed alike")
    gan: float = Field(0.8, ge=0, description="share of the adaptive weight, Eq. 8; 0 = no GAN")
    gan_start: float = Field(0.15, ge=0, le=1, description="share of the budget")
    gan_ch: int = 64
    gan_layers: int = 3
    gan_norm: Literal["batch", "group"] = "batch"
    codebook_care: CodebookCareConfig | None = None


class SingleConfig(VRERecipeConfig):
    init: Path | None = Field(None, description="autoencoder file to start from")


class AssociateConfig(VRERecipeConfig):
    hq: Path = Field(description="autoencoder file of vre-hq")
    lq: Path = Field(description="autoencoder file of vre-lq")
    association: float = Field(1.0, ge=0, description="lambda_assoc, Eq. 11")
    negatives: Literal["batch", "image"] = Field("batch", description="see association_loss")
    name: str = Field("vre", description="file name of the exported embedder")
    half: bool = Field(False, description="store the embedder in float16")


class Reconstruction(NamedTuple):
    """What one branch makes of its images."""

    target: Tensor
    """(b, 3, s, s) in [-1, 1]: the images as the encoder saw them."""
    restored: Tensor
    """Like `target`, not clamped."""
    features: Tensor
    """(b, d, h, w) before quantisation."""
    quantized: Quantized


class VQAutoencoder(VisualRepresentationEmbedder):
    """The embedder together with the decoder that trains it; the prompt projection stays as is."""

    def __init__(self, config: VREConfig) -> None:
        super().__init__(config)
        z = config.encoder.z_channels
        self.post_quant_conv = nn.Conv2d(z, z, 1)
        self.decoder = Decoder(config.encoder)
        self.embedding_change.requires_grad_(False)

    def forward(self, images: Tensor) -> Reconstruction:
        """(b, 3, h, w) in [0, 1]."""
        target = self.prepare(images)
        features = self.quant_conv(self.encoder(target))
        quantized = self.quantize(rearrange(features, "b d h w -> b h w d"))
        z_q = rearrange(quantized.z_q, "b h w d -> b d h w")
        restored = self.decoder(self.post_quant_conv(z_q))
        return Reconstruction(target, restored, features, quantized)

    def embedder(self) -> VisualRepresentationEmbedder:
        """What a restorer needs of it."""
        vre = VisualRepresentationEmbedder(self.config)
        wanted = vre.state_dict().keys()
        vre.load_state_dict({k: v for k, v in self.state_dict().items() if k in wanted})
        return vre.eval()

    def write(self, path: Path, facts: dict) -> Path:
        metadata = make_metadata(AUTOENCODER_FORMAT, asdict(self.config))
        metadata["facewright.training"] = json.dumps(facts)
        save_safetensors(path, self.state_dict(), metadata)
        return path

    @classmethod
    def read(cls, path: Path) -> "VQAutoencoder":
        """Raises CheckpointError where the file is none of ours."""
        tensors, metadata = read_tensors(path)
        model = cls(VREConfig.from_dict(read_config(metadata, AUTOENCODER_FORMAT, source=path)))
        load_strict(model, tensors, source=str(path))
        return model


class _VQRecipe(Recipe):
    """VQGAN training of one or more branches: L_1 + L_per + L_dis + L_VQ each (Eq. 7-8)."""

    branches: ClassVar[dict[str, str]] = {}
    """Branch name -> key of the batch it reproduces."""

    def _load(self, branch: str) -> VQAutoencoder:
        raise NotImplementedError

    def build(self) -> dict[str, nn.Module]:
        config = self.config
        self.autoencoders = {branch: self._load(branch) for branch in self.branches}
        nets: dict[str, nn.Module] = dict(self.autoencoders)
        if config.gan:
            for branch in self.branches:
                nets[f"d_{branch}"] = PatchDiscriminator(
                    config.gan_ch, config.gan_layers, config.gan_norm
                )
        care = config.codebook_care
        self.care = {
            branch: CodebookCare(net.quantize, **care.model_dump())
            for branch, net in self.autoencoders.items()
            if care
        }
        return nets

    def frozen(self) -> dict[str, nn.Module]:
        extractor = self.config.extractor
        return {"extractor": extractor.load()} if extractor else {}

    def phases(self) -> dict[str, tuple[str, ...]]:
        phases = {"autoencoder": tuple(self.branches)}
        if self.config.gan:
            phases["discriminator"] = tuple(f"d_{branch}" for branch in self.branches)
        return phases

    def adam_only(self) -> tuple[str, ...]:
        return ("conv_in", "conv_out", "quant_conv", "embedding")

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        adversarial = bool(self.config.gan) and progress.fraction >= self.config.gan_start
        if phase == "discriminator":
            return self._discriminator(batch) if adversarial else None
        terms = {}
        for branch, key in self.branches.items():
            out = self.nets[branch](batch[key])
            batch[f"{branch}_target"] = out.target
            batch[f"{branch}_restored"] = out.restored.detach()
            if len(self.branches) > 1:
                batch[f"{branch}_features"] = out.features
            if branch in self.care:
                features = rearrange(out.features, "b d h w -> b h w d")
                self.care[branch].observe(features, out.quantized.codes)
            terms |= {f"{branch}_{k}": v for k, v in self._terms(branch, out, adversarial).items()}
        return terms

    def _terms(self, branch: str, out: Reconstruction, adversarial: bool) -> dict[str, Tensor]:
        config = self.config
        terms = {"l1": (out.restored - out.target).abs().mean()}
        if config.extractor and config.perceptual:
            look = self.nets["extractor"].features
            restored, target = look((out.restored + 1) / 2), look((out.target + 1) / 2)
            distance = feature_distance(restored, target, relative=config.relative_features)
            terms["perceptual"] = config.perceptual * distance
        if adversarial:
            (logits,) = self.nets[f"d_{branch}"](out.restored)
            loss = hinge_generator_loss(logits)
            last = self.autoencoders[branch].decoder.conv_out.weight
            weight = adaptive_weight(torch.stack([*terms.values()]).sum(), loss, last)
            terms["gan"] = config.gan * weight * loss
        terms["vq"] = vq_loss(out.quantized, config.beta)
        return terms

    def _discriminator(self, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        for branch in self.branches:
            real, fake = self.nets[f"d_{branch}"](
                batch[f"{branch}_target"], batch[f"{branch}_restored"]
            )
            terms[f"{branch}_hinge"] = hinge_discriminator_loss(real, fake)
        return terms

    def after_step(self, progress: Progress) -> None:
        for branch, care in self.care.items():
            moved = care.after_step(progress.step, progress.fraction)
            if moved:
                self.monitor[f"{branch}_moved_codes"] = moved

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Per branch: PSNR of its own input, codes in use, perplexity, distinct codes per image."""
        seen: dict[str, list] = {}
        images: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            out = {b: self.nets[b](batch[key]) for b, key in self.branches.items()}
            for branch, r in out.items():
                restored = r.restored.clamp(-1, 1)
                mse = ((restored - r.target) / 2).square().mean((1, 2, 3))
                seen.setdefault(f"{branch}_psnr", []).append(-10 * mse.log10())
                seen.setdefault(f"{branch}_codes", []).append(r.quantized.codes.flatten(1))
                if number == 0:
                    images[branch] = (r.target + 1) / 2
                    images[f"{branch}_restored"] = (restored + 1) / 2
            if len(out) == 2:
                rate = retrieval_rate(*(r.features for r in out.values()))
                seen.setdefault("retrieval", []).append(rate.reshape(1))
        metrics = {}
        for name, values in seen.items():
            value = torch.cat(values)
            if not name.endswith("_codes"):
                metrics[name] = value.mean().item()
                continue
            metrics[name], metrics[name.replace("codes", "perplexity")] = usage(
                value, self.config.shape.num_codes
            )
            distinct = [len(row.unique()) for row in value]
            metrics[name.replace("codes", "codes_per_image")] = sum(distinct) / len(distinct)
        return Evaluation(metrics, images)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        return [
            net.write(folder / f"vq_{branch}.safetensors", facts)
            for branch, net in self.autoencoders.items()
        ]


class _SingleRecipe(_VQRecipe):
    Config = SingleConfig

    def _load(self, branch: str) -> VQAutoencoder:
        init = self.config.init
        return VQAutoencoder.read(init) if init else VQAutoencoder(self.config.shape.to_vre())


class HQRecipe(_SingleRecipe):
    """The dictionary of good faces."""

    stage = "vre-hq"
    branches: ClassVar = {"hq": "gt"}


class LQRecipe(_SingleRecipe):
    """The dictionary of degraded faces, started from the HQ one; reproduces the LQ image itself."""

    stage = "vre-lq"
    needs_lq = True
    branches: ClassVar = {"lq": "lq"}


class AssociateRecipe(_VQRecipe):
    """Both branches trained on with L_total = L_VQ(HQ) + L_VQ(LQ) + lambda L_assoc (Eq. 9-11)."""

    stage = "vre-associate"
    needs_lq = True
    Config = AssociateConfig
    branches: ClassVar = {"hq": "gt", "lq": "lq"}

    def _load(self, branch: str) -> VQAutoencoder:
        return VQAutoencoder.read(getattr(self.config, branch))

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        terms = super().losses(phase, batch, progress)
        if phase == "autoencoder":
            loss = association_loss(
                batch.pop("hq_features"),
                batch.pop("lq_features"),
                negatives=self.config.negatives,
            )
            terms["association"] = self.config.association * loss
        return terms

    def export(self, folder: Path, facts: dict) -> list[Path]:
        path = folder / f"{self.config.name}.safetensors"
        dtype = torch.float16 if self.config.half else torch.float32
        self.autoencoders["lq"].embedder().save(path, dtype=dtype)
        return [*super().export(folder, facts), path]
