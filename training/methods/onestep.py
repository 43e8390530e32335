"""Stage 2 of OSDFace (arXiv:2411.17163, Sec. 3.3): one denoising step learns to restore faces.

Trained are a LoRA of the UNet and the projection of the prompt tokens; VAE and embedder stay
frozen. With other weights and a nano backbone the same stage trains the bundled demo models.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from ...core.errors import FacewrightError
from ...core.modules.identity import IdentityEncoder
from ...core.people.recogniser import Crop, load_recogniser
from ...core.restorer import ONE_STEP_TIMESTEP, one_step
from .._backbone import load_backbone
from .._lora import MergedCall
from .._text import TextEncoder
from ..losses.adversarial import discriminator_loss, generator_loss
from ..losses.extractors import Distance, ExtractorConfig
from ..losses.identity import IdentityEnsemble, IdentityLoss
from ..losses.latent_discriminator import LatentDiscriminator
from ..losses.perceptual import feature_distance as feature_loss
from ..losses.pixel import box_weights, chroma, sobel
from ..recipe import Batch, Evaluation, Progress
from ..settings.config import Strict
from ._carried import carry_on
from ._latent import LatentConfig, LatentRecipe
from ._prompts import PROMPT, OtherPictures, PromptKind, exported, projection_of
from .vre import load_embedder


class RecogniserConfig(Strict):
    """The face recogniser of the identity term."""

    kind: Literal["file", "nano"] = Field(
        "file",
        description="file: ArcFace, AdaFace or any other that `load_recogniser` knows, cropped and "
        "coloured as it was trained; nano: an identity encoder of rendered faces",
    )
    path: Path
    crop: Crop | None = Field(
        None, description="kind nano: arcface (default), or full for the whole aligned face"
    )

    @model_validator(mode="after")
    def _own_crop(self) -> "RecogniserConfig":
        if self.kind == "file" and self.crop is not None:
            raise ValueError("a recogniser's file knows its crop; leave `crop` out")
        return self

    def load(self) -> nn.Module:
        """(restored, gt) -> the identity term."""
        if self.kind == "nano":
            return IdentityLoss(IdentityEncoder.from_file(self.path), self.crop or "arcface")
        return IdentityEnsemble([load_recogniser(self.path)])


class DiscriminatorConfig(Strict):
    rank: int = Field(16, ge=1)
    hidden: int | None = Field(None, description="channels of the head; default twice the UNet's")
    start: float = Field(0.0, ge=0, le=1, description="share of the budget; trains from here on")
    ramp: float = Field(0.0, ge=0, le=1, description="share over which the weight then rises")
    condition: Annotated[
        Literal["prompt", "null"], BeforeValidator(lambda v: "null" if v is None else v)
    ] = Field("prompt", description="null: it judges without the prompt")
    carry_on: Path | None = Field(
        None,
        description="run of onestep or honestface whose discriminator goes on: its folder, its "
        "`checkpoints`, or one of those; none: a fresh one",
    )


class Weights(Strict):
    """Weights of the generator's terms. The defaults are OSDFace's; 0 leaves a term out.

    The paper prints no value but the MSE's; the others follow published trainers of its family.
    """

    mse: float = Field(1.0, ge=0, description="on [0, 1]")
    perceptual: float = Field(1.0, ge=0, description="of `perceptual`, lambda_per of Eq. 12")
    identity: float = Field(0.1, ge=0, description="lambda_ID of Eq. 12")
    gan: float = Field(5e-3, ge=0, description="lambda_dis of Eq. 12")
    latent: float = Field(0.0, ge=0, description="MSE of latents")
    l1: float = Field(0.0, ge=0)
    edges: float = Field(0.0, ge=0, description="L1 of Sobel gradients")
    chroma: float = Field(0.0, ge=0, description="L1 of colour without brightness")
    features: float = Field(0.0, ge=0, description="squared feature distance, stages alike")
    face: float = Field(1.0, gt=0, description="pixels in the face box count this much more")


class OneStepConfig(LatentConfig):
    vre: Path = Field(description="embedder file of vre-associate")
    start: Path | None = Field(None, description="LoRA file to go on from; none: a fresh one")
    prompt: PromptKind = Field("vre", description=PROMPT)
    text: Path | None = Field(
        None, description="diffusers folder of SD 2.1-base, for its text encoder; of `prompt: dape`"
    )
    timestep: int = Field(ONE_STEP_TIMESTEP, ge=0, le=999)
    decoded: int | None = Field(
        None,
        ge=1,
        description="samples of a batch whose picture is decoded and compared, for memory; the "
        "others learn through the discriminator and `latent` alone. None: all",
    )
    weights: Weights = Weights.model_validate({})
    perceptual: Distance = Field(
        "ea-dists",
        description="the perceptual term: DISTS or LPIPS over `extractor`, ea- with the same "
        "distance of the pictures' edges (Eq. 14); none: without it",
    )
    extractor: ExtractorConfig | None = Field(None, description="of `perceptual` and `features`")
    recogniser: RecogniserConfig | None = Field(None, description="of `identity`")
    discriminator: DiscriminatorConfig = DiscriminatorConfig.model_validate({})
    name: str = Field("onestep", description="start of the exported files' names")

    @model_validator(mode="after")
    def _tags_are_read(self) -> "OneStepConfig":
        if self.prompt == "dape" and self.text is None:
            raise ValueError(
                "`prompt: dape` reads tags with SD 2.1's text encoder: name the diffusers folder "
                "as `text`. DAPE itself (SeeSR's tagger, a LoRA of RAM) is not part of facewright: "
                "run SeeSR's code on the degraded pictures, put what it says of a.png into a.txt "
                "beside it, and set `data.captions: true`"
            )
        if self.prompt != "dape" and self.text is not None:
            raise ValueError("`text` is read with `prompt: dape` alone; leave it out")
        return self

    @property
    def perceives(self) -> bool:
        """Whether the perceptual term is on."""
        return self.perceptual != "none" and self.weights.perceptual > 0

    @property
    def recognises(self) -> bool:
        """Whether a recogniser of the identity term is named."""
        return self.recogniser is not None

    @model_validator(mode="after")
    def _nothing_missing(self) -> Self:
        """A term that has a weight and no network would be left out without a word."""
        w = self.weights
        if self.extractor is None and (self.perceives or w.features):
            key, off = ("features", "weights: {features: 0}")
            if self.perceives:
                key, off = ("perceptual", "perceptual: none")
            raise ValueError(
                f"`weights.{key}` is {getattr(w, key):g}, and no `extractor` names the network "
                f"that this term looks through; name its file, or write `{off}`"
            )
        if w.identity and not self.recognises:
            raise ValueError(
                f"`weights.identity` is {w.identity:g}, and no face recogniser is named; name "
                "its file, or write `weights: {identity: 0}`"
            )
        return self


class Generator(nn.Module):
    """What is trained: z_lq and the codebook rows of its tokens -> z_0 and the prompt.

    z_0 by OSDFace's Eq. 2 (`core.restorer.one_step`), as `restore_one_step` does it.
    """

    def __init__(self, unet: nn.Module, projection: nn.Module, timestep: int) -> None:
        super().__init__()
        self.unet, self.embedding_change = unet, projection
        self.timestep = timestep

    def forward(self, z_lq: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(b, c, h, w), (b, n, d) -> z_0 (b, c, h, w), prompt tokens (b, n, d_out).

        Where the prompt is a control, `rows` are what its projection takes.
        """
        cond = self.embedding_change(rows)

        def predict(z: Tensor, t: int, prompt: Tensor) -> Tensor:
            return self.unet(z, t, encoder_hidden_states=prompt).sample

        return one_step(predict, z_lq, self.timestep, cond), cond


class OneStepRecipe(LatentRecipe):
    """L = MSE + l_per EA-DISTS + l_ID L_ID + l_dis L_G (Eq. 12), alternating with L_D (Eq. 16)."""

    stage = "onestep"
    method = "osdface"
    workflow = "osdface_restore"
    settings = (
        "Load LoRA (all modules).lora={name}_lora.safetensors",
        "Load Face Embedder (VRE).embedder={name}_vre.safetensors",
        "Load Face Embedder (VRE).projector=none",
    )
    goes_into = "`start` (the LoRA) and `vre` (the embedder) of stage `honestface`"
    Config = OneStepConfig
    config: OneStepConfig
    large = ("codec", "generator.unet", "discriminator.encoder")
    needs_lq = True

    def build(self) -> dict[str, nn.Module]:
        c = self.config
        self.backbone = load_backbone(c.backbone)
        self.vre = load_embedder(c.vre)
        self.vre.check_tells(f"stage `{self.stage}`")
        self.others = OtherPictures()
        unet = self.backbone.unet
        nets: dict[str, nn.Module] = {}
        if c.weights.gan:
            nets["discriminator"] = LatentDiscriminator(
                copy.deepcopy(unet),
                rank=c.discriminator.rank,
                hidden=c.discriminator.hidden,
                merged=c.merged,
            )
            if c.discriminator.carry_on:
                carry_on(nets["discriminator"], c.discriminator.carry_on)
        self._begin_lora(c.start)
        called = MergedCall(unet) if c.merged else unet
        own = copy.deepcopy(self.vre.embedding_change)
        projection = projection_of(c.prompt, self.vre.config, own)
        if c.prompt == "dape":
            self.workflow, self.settings = "", self.settings[:1]
            self.remarks.append(
                "The prompt was the text beside each picture, so that there is no embedder to "
                "export. In a graph, CLIP Text Encode of the picture's tags goes into One-Step "
                "Restore (OSDFace)."
            )
        return {"generator": self._generator(called, projection), **nets}

    def _generator(self, unet: nn.Module, projection: nn.Module) -> nn.Module:
        return Generator(unet, projection, self.config.timestep)

    def frozen(self) -> dict[str, nn.Module]:
        c, nets = self.config, super().frozen()
        nets["vre"] = self.vre
        if c.text:
            nets["text"] = TextEncoder(c.text)
        if c.extractor and c.perceives:
            nets["perceptual"] = c.extractor.load_perceptual(c.perceptual)
        if c.extractor and c.weights.features:
            nets["extractor"] = c.extractor.load()
        if c.recogniser and c.weights.identity:
            nets["identity"] = c.recogniser.load()
        return nets

    def phases(self) -> dict[str, tuple[str, ...]]:
        phases = {"generator": ("generator",)}
        if self.config.weights.gan:
            phases["discriminator"] = ("discriminator",)
        return phases

    def adam_only(self) -> tuple[str, ...]:
        return ("embedding_change", "head")

    @torch.no_grad()
    def _inputs(self, batch: Batch, *, sample: bool) -> tuple[Tensor, ...]:
        """What the generator takes: latent of the degraded faces, codebook rows of their tokens."""
        rows = self._rows(batch)
        return self._encode(batch, "lq", sample=sample), rows

    def _rows(self, batch: Batch) -> Tensor:
        """(b, n, d) that the projection of the prompt takes."""
        kind, vre, b = self.config.prompt, self.nets["vre"], len(batch["lq"])
        if kind == "dape":
            if "caption" not in batch:
                raise FacewrightError(
                    "`prompt: dape` takes its tags from the text beside each picture, and there is "
                    "none beside these. Set `data.captions: true`, and put what DAPE says of a.png "
                    "into a.txt."
                )
            return self.nets["text"](batch["caption"])
        if kind in ("learned", "zeros"):
            return batch["lq"].new_zeros(b, vre.config.num_tokens, vre.config.proj_out)
        tokens = self.remembered("tokens", "vre", batch, "lq", vre.tokenize)
        if kind == "shuffled":
            training = self.nets["generator"].training
            tokens = (self.others.drawn if training else self.others.given)(tokens)
        return vre.quantize.lookup(tokens)

    def extra_state(self) -> dict:
        return {} if self.others.codes is None else {"others": self.others.codes}

    def load_extra_state(self, state: dict) -> None:
        self.others.codes = state.get("others")

    def _adversarial(self, progress: Progress) -> float:
        """Weight of the generator's adversarial term now; 0 before the discriminator's start."""
        d = self.config.discriminator
        if not self.config.weights.gan or progress.fraction < d.start:
            return 0.0
        ramp = min(1.0, (progress.fraction - d.start) / d.ramp) if d.ramp else 1.0
        return self.config.weights.gan * ramp

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        if phase == "discriminator":
            return self._judge(batch) if "z_fake" in batch else None
        c, sample = self.config, self.config.sample_latents
        inputs = self._inputs(batch, sample=sample)
        gan = self._adversarial(progress)
        # The discriminator trains from its start on, also while the weight is still 0.
        judged = c.weights.gan and progress.fraction >= c.discriminator.start
        z_gt = self._encode(batch, "gt", sample=sample) if judged or c.weights.latent else None
        z_0, cond = self.nets["generator"](*inputs)
        n = min(c.decoded or len(z_0), len(z_0))  # the first ones: a batch is in random order
        seen = {k: v[:n] for k, v in batch.items()}
        # Not clamped: an overshooting pixel must still feel its error.
        terms = self._compare(self._decode(z_0[:n]), seen)
        if c.weights.latent:
            terms["latent"] = c.weights.latent * (z_0 - z_gt).square().mean()
        if judged:
            prompt = torch.zeros_like(cond) if c.discriminator.condition == "null" else cond
            batch |= {"z_real": z_gt, "z_fake": z_0.detach(), "prompt": prompt.detach()}
        if gan:
            terms["gan"] = gan * generator_loss(self.nets["discriminator"](z_0, prompt))
        return terms

    def _compare(self, restored: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Terms between images in [0, 1]."""
        w, gt = self.config.weights, batch["gt"]
        error = restored - gt
        pixel = box_weights(batch["box"], gt.shape[-1], w.face) if w.face != 1 else 1.0
        terms = {
            "mse": w.mse * (pixel * error.square()).mean(),
            "l1": w.l1 * (pixel * error.abs()).mean() if w.l1 else None,
            "edges": w.edges * sobel(error).abs().mean() if w.edges else None,
            "chroma": w.chroma * chroma(error).abs().mean() if w.chroma else None,
        }
        if "perceptual" in self.nets:
            terms["perceptual"] = w.perceptual * self.nets["perceptual"](restored, gt).mean()
        if "extractor" in self.nets:
            look = self.nets["extractor"].features
            with torch.no_grad():
                wanted = look(gt)
            terms["features"] = w.features * feature_loss(look(restored), wanted, relative=True)
        if "identity" in self.nets:
            terms["identity"] = w.identity * self.nets["identity"](restored, gt)
        return {k: v for k, v in terms.items() if v is not None}

    def _judge(self, batch: Batch) -> dict[str, Tensor]:
        # One call: in multi-process training every call of a wrapped network expects a backward.
        z, prompt = torch.cat([batch.pop("z_real"), batch.pop("z_fake")]), batch.pop("prompt")
        real, fake = self.nets["discriminator"](z, torch.cat([prompt, prompt])).chunk(2)
        self.monitor["discriminator/real"] = real.detach().mean()
        self.monitor["discriminator/fake"] = fake.detach().mean()
        return {"bce": discriminator_loss(real, fake)}

    def restore(self, batch: Batch) -> Tensor:
        """(b, 3, h, w) in [0, 1]: `lq` restored as inference does it (posterior mean)."""
        z_0, _ = self.nets["generator"](*self._inputs(batch, sample=False))
        return self._decode(z_0).clamp(0, 1)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """lq and restored against gt in the face box, and the VAE's ceiling."""
        seen: dict[str, list[Tensor]] = {}
        images: dict[str, Tensor] = {}
        for batch in batches:
            shown = self._shown(batch)
            for name, picture in shown.items():
                for key, value in self._scores(picture, batch).items():
                    seen.setdefault(f"{name}/{key}", []).append(value)
            images = images or {**shown, "gt": batch["gt"]}
        return Evaluation({k: torch.cat(v).mean().item() for k, v in seen.items()}, images)

    def _shown(self, batch: Batch) -> dict[str, Tensor]:
        """What is scored against gt and drawn beside it, by name."""
        ceiling = self._decode(self._encode(batch, "gt", sample=False)).clamp(0, 1)
        return {"lq": batch["lq"], "restored": self.restore(batch), "VAE(gt)": ceiling}

    def export(self, folder: Path, facts: dict) -> list[Path]:
        """The LoRA, and the embedder with the projection that was trained with it."""
        c, generator = self.config, self.nets["generator"]
        unet = generator.unet.module if c.merged else generator.unet
        lora = self._save_lora(folder, unet, facts, timestep=str(c.timestep))
        if c.prompt == "dape":
            return [lora]
        dtype, training = self._stored(facts)
        vre = exported(self.vre, c.prompt, generator.embedding_change, self.others)
        embedder = folder / f"{c.name}_vre.safetensors"
        vre.save(embedder, dtype=dtype, trained=True, **training)
        return [lora, embedder]
