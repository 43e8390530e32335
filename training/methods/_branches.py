"""Autoencoders of good and of degraded faces: what the VRE's and FLIPNET's have in common.

A stage trains one or two branches, each to reproduce its own input, judged by pixels, features and
a discriminator; with two branches their features can be drawn together.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import Conv2d

from ...core.architecture import SavedNetwork
from ...core.checkpoint import read_tensors
from ...core.modules.autoencoder import Decoder
from ..losses.adversarial import GAN_LOSSES, GanLoss, PatchDiscriminator, adaptive_weight
from ..losses.association import association_loss, retrieval_rate
from ..losses.extractors import ExtractorConfig
from ..losses.perceptual import feature_distance
from ..recipe import EXPORT_ONLY, Batch, Evaluation, Progress, Recipe, as_metadata
from ..settings.config import Strict


class EncoderShape(Strict):
    """See `core.modules.autoencoder.AutoencoderConfig`."""

    ch: int = 64
    ch_mult: tuple[int, ...] = (1, 2, 2, 2, 4, 8)
    num_res_blocks: int = 2
    attn_levels: tuple[int, ...] = (5,)
    mid_attn: bool = True
    z_channels: int = 512
    groups: int = 32


class BranchConfig(Strict):
    """L_1 + perceptual L_per + gan L_adv of every branch."""

    perceptual: float = Field(1.0, ge=0, description="weight of the perceptual term")
    extractor: ExtractorConfig | None = Field(None, description="what `perceptual` looks through")
    distance: Literal["features", "lpips"] = Field(
        "features",
        description="of that term: squared differences of feature maps (OSDFace, Eq. 7), or LPIPS, "
        "as in DAEFR's code, from about 0.1 to 0.5 where raw maps of VGG give far larger numbers",
    )
    relative_features: bool = Field(
        False,
        description="distance features: every stage divided by the variance of its map, so that "
        "stages count alike and maps with nothing in common are about 2 apart",
    )
    gan: float = Field(0.8, ge=0, description="share of the adaptive weight; 0 = no GAN")
    gan_start: float = Field(0.15, ge=0, le=1, description="share of the budget")
    gan_loss: GanLoss = Field(
        "hinge",
        description="log: -log D(real) - log(1 - D(fake)), against which the generator minimises "
        "-log D(fake); log-saturating: against which it minimises log(1 - D(fake))",
    )
    gan_ch: int = 64
    gan_layers: int = 3
    gan_norm: Literal["batch", "group"] = "batch"

    @model_validator(mode="after")
    def _nothing_missing(self) -> Self:
        """A term that has a weight and no network would be left out without a word."""
        if self.perceptual and self.extractor is None:
            raise ValueError(
                f"`perceptual` is {self.perceptual:g}, and no `extractor` names the network that "
                "this term looks through; name its file, or write `perceptual: 0`"
            )
        if self.distance == "lpips" and self.relative_features:
            raise ValueError(
                "`relative_features` is for `distance: features` alone; leave it out for lpips"
            )
        return self


class BranchOutput(Protocol):
    """What one branch makes of its images."""

    @property
    def target(self) -> Tensor:
        """(b, 3, s, s) in [-1, 1]: the images as the encoder saw them."""
        ...

    @property
    def restored(self) -> Tensor:
        """Like `target`, not clamped."""
        ...

    @property
    def features(self) -> Tensor:
        """(b, d, h, w): what association compares."""
        ...


class AssociatingConfig(Protocol):
    """What an `AssociatingRecipe` reads of its section."""

    association: float
    negatives: Literal["batch", "image"]
    name: str
    half: bool


class WithDecoder(SavedNetwork):
    """First base of an encoder that `core` knows: the decoder that trains it, and files of both."""

    what = "an autoencoder"
    encoder_type: ClassVar[type[nn.Module]]
    """What a restorer needs of it: the second base, whose weights have the same names."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        z = config.encoder.z_channels
        self.post_quant_conv = Conv2d(z, z, 1)
        self.decoder = Decoder(config.encoder)

    def without_decoder(self) -> Any:
        """The `encoder_type`, on the CPU."""
        alone = self.encoder_type(self.config)
        wanted = alone.state_dict().keys()
        alone.load_state_dict({k: v for k, v in self.state_dict().items() if k in wanted})
        return alone.eval()

    def write(self, path: Path, facts: dict) -> Path:
        SavedNetwork.save(self, path, dtype=None, **as_metadata(facts))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises CheckpointError where the file is none of ours."""
        return cls.from_tensors(*read_tensors(path), source=str(path), frozen=False)


class BranchRecipe(Recipe):
    """VQGAN-like training of one or more branches, without what is special to their latents."""

    changeable = EXPORT_ONLY
    config: BranchConfig

    autoencoder: ClassVar[type[WithDecoder]]
    """Takes (b, 3, h, w) in [0, 1] and gives a BranchOutput."""
    prefix: ClassVar[str]
    """Of the names of its files."""
    branches: Mapping[str, str] = MappingProxyType({})
    """Branch name -> key of the batch it reproduces."""

    def _load(self, branch: str) -> WithDecoder:
        """The autoencoder that a branch begins with."""
        raise NotImplementedError

    def _latent_terms(self, branch: str, out: BranchOutput) -> dict[str, Tensor]:
        """Terms on the branch's latents; they do not count in the adaptive weight."""
        return {}

    def build(self) -> dict[str, nn.Module]:
        config = self.config
        self.autoencoders = {branch: self._load(branch) for branch in self.branches}
        nets: dict[str, nn.Module] = dict(self.autoencoders)
        if config.gan:
            for branch in self.branches:
                nets[f"d_{branch}"] = PatchDiscriminator(
                    config.gan_ch, config.gan_layers, config.gan_norm
                )
        return nets

    def frozen(self) -> dict[str, nn.Module]:
        extractor, distance = self.config.extractor, self.config.distance
        if extractor is None:
            return {}
        if distance == "lpips":
            return {"perceptual": extractor.load_lpips()}
        return {"extractor": extractor.load()}

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
            terms |= {f"{branch}_{k}": v for k, v in self._terms(branch, out, adversarial).items()}
        return terms

    def _terms(self, branch: str, out: BranchOutput, adversarial: bool) -> dict[str, Tensor]:
        config = self.config
        terms = {"l1": (out.restored - out.target).abs().mean()}
        if config.perceptual and "perceptual" in self.nets:
            pair = (out.restored + 1) / 2, (out.target + 1) / 2
            terms["perceptual"] = config.perceptual * self.nets["perceptual"](*pair).mean()
        elif config.perceptual:
            look = self.nets["extractor"].features
            restored, target = look((out.restored + 1) / 2), look((out.target + 1) / 2)
            distance = feature_distance(restored, target, relative=config.relative_features)
            terms["perceptual"] = config.perceptual * distance
        if adversarial:
            (logits,) = self.nets[f"d_{branch}"](out.restored)
            generator_loss, _ = GAN_LOSSES[config.gan_loss]
            loss = generator_loss(logits)
            last = self.autoencoders[branch].decoder.conv_out.weight
            weight = adaptive_weight(torch.stack([*terms.values()]).sum(), loss, last)
            terms["gan"] = config.gan * weight * loss
        return terms | self._latent_terms(branch, out)

    def _discriminator(self, batch: Batch) -> dict[str, Tensor]:
        terms, kind = {}, self.config.gan_loss
        _, discriminator_loss = GAN_LOSSES[kind]
        for branch in self.branches:
            real, fake = self.nets[f"d_{branch}"](
                batch[f"{branch}_target"], batch[f"{branch}_restored"]
            )
            terms[f"{branch}_{kind}"] = discriminator_loss(real, fake)
        return terms

    def _scores(self, branch: str, out: BranchOutput) -> dict[str, Tensor]:
        """Per branch and batch, (b,) or (b, ...) each."""
        mse = ((out.restored.clamp(-1, 1) - out.target) / 2).square().mean((1, 2, 3))
        return {f"{branch}_psnr": -10 * mse.log10()}

    def _summary(self, name: str, values: Tensor) -> dict[str, float]:
        """What is reported of all values of a score."""
        return {name: values.mean().item()}

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """PSNR of every branch's own input, and how many LQ tokens find their HQ partner."""
        seen: dict[str, list[Tensor]] = {}
        images: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            out = {b: self.nets[b](batch[key]) for b, key in self.branches.items()}
            for branch, r in out.items():
                for name, value in self._scores(branch, r).items():
                    seen.setdefault(name, []).append(value)
                if number == 0:
                    images[branch] = (r.target + 1) / 2
                    images[f"{branch}_restored"] = (r.restored.clamp(-1, 1) + 1) / 2
            if len(out) == 2:
                rate = retrieval_rate(*(r.features for r in out.values()))
                seen.setdefault("retrieval", []).append(rate.reshape(1))
        metrics: dict[str, float] = {}
        for name, values in seen.items():
            metrics |= self._summary(name, torch.cat(values))
        return Evaluation(metrics, images)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        return [
            net.write(folder / f"{self.prefix}_{branch}.safetensors", facts)
            for branch, net in self.autoencoders.items()
        ]


class AssociatingRecipe(BranchRecipe):
    """First base of a stage that trains both branches on and draws their features together."""

    needs_lq = True
    branches = MappingProxyType({"hq": "gt", "lq": "lq"})
    config: AssociatingConfig

    def _load(self, branch: str) -> WithDecoder:
        return self.autoencoder.read(getattr(self.config, branch))

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        terms = super().losses(phase, batch, progress)
        if phase == "autoencoder" and terms is not None:
            hq, lq = batch.pop("hq_features"), batch.pop("lq_features")
            loss = association_loss(hq, lq, negatives=self.config.negatives)
            terms["association"] = self.config.association * loss
        return terms

    def _save_encoder(self, folder: Path, facts: dict, **options: Any) -> Path:
        """The LQ encoder without its decoder: what the next stage and the nodes read."""
        path = folder / f"{self.config.name}.safetensors"
        dtype = torch.float16 if self.config.half else torch.float32
        encoder = self.autoencoders["lq"].without_decoder()
        encoder.save(path, dtype=dtype, **options, **as_metadata(facts))
        return path
