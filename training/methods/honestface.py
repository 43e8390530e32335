"""HonestFace (arXiv:2505.18469): OSDFace's second stage goes on, with photographs of the person.

Trained are the LoRA, the projection of the prompt tokens and the identity embedder; VAE, embedder,
recognisers and the extractor of the eyes stay frozen.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...core.errors import FacewrightError
from ...core.faces import dense_landmarker, load_analyzer
from ...core.methods.honestface import (
    IDEConfig,
    Identity,
    IdentityEmbedder,
    IdentityTokens,
    eye_channels,
    load_eye_extractor,
)
from ...core.modules.eye_extractor import EyeFeatures
from ...core.people.recogniser import fingerprint, load_recogniser
from ..losses.identity import IdentityEnsemble
from ..losses.masked import (
    SHARPNESS,
    Lpips,
    MaskedFaceAlignment,
    MeanSquaredError,
    attention_mask,
)
from ..losses.perceptual import FeatureLpips
from ..recipe import Batch, as_metadata
from ..settings.config import ConfigError, Strict, TrainConfig
from ..settings.data_sections import Photographs
from .onestep import Generator, OneStepConfig, OneStepRecipe, Weights


class LandmarkerConfig(Strict):
    """Whose landmarks choose the reference and make the mask."""

    kind: Literal["facexlib", "insightface", "nano"] = "facexlib"
    path: Path | None = Field(None, description="folder of its weights; none: the usual ones")


class EmbedderConfig(Strict):
    """The identity embedder (IDE)."""

    recogniser: Path = Field(description="weights of the face identity encoder, such as ArcFace's")
    extractor: Path = Field(description="torchvision's VGG-16, or a nano identity encoder")
    landmarker: LandmarkerConfig = LandmarkerConfig.model_validate({})
    queries: int = Field(7, ge=1, description="n2; n1 is 4")
    hidden: int = Field(256, ge=1)
    eye_size: int = Field(80, ge=16, description="side of the eye crops in pixels")
    eye_features: EyeFeatures = Field(
        "stages",
        description='"layer 0" and "layer 2" of the extractor: its first and third stage; or '
        "layers: features[0] and features[2] of torchvision's VGG-16",
    )
    identity_values: Literal["embeddings", "linear"] = Field(
        "embeddings",
        description="what the face identity encoder averages over the references: the recogniser's "
        "embeddings, or linear: learned maps of them, in 4 heads",
    )
    fusion: Literal["mix", "attention", "append"] = Field(
        "mix",
        description="of 77 + 11 tokens to 77. mix: a learned matrix; attention: the 77 ask the 11; "
        "append: the 66 most confident and the 11",
    )
    gain: float = Field(
        1.0, gt=0, description="length of the references' tokens, in lengths of codebook rows"
    )
    use_eyes: bool = Field(True, description="false: without the facial feature extractor")
    use_identity: bool = Field(True, description="false: without the face identity encoder")
    drop_references: float = Field(
        0.1, ge=0, le=1, description="share of samples that see none: then it works without as well"
    )


class HonestFaceWeights(Weights):
    """The paper lists the terms and no weights; these go on with OSDFace's."""

    mfa: float = Field(1.0, ge=0, description="masked face alignment")


class HonestFaceConfig(OneStepConfig):
    embedder: EmbedderConfig
    weights: HonestFaceWeights = HonestFaceWeights.model_validate({})
    recognisers: tuple[Path, ...] = Field(
        (), description="weights of the identity term's ensemble: ArcFace and AdaFace in the paper"
    )
    recogniser: None = Field(None, description="OSDFace's; here it is `recognisers`")
    prompt: Literal["vre"] = Field("vre", description="controls are `onestep`'s alone")
    mfa_distance: Literal["lpips-alex", "lpips-vgg", "features", "dists", "mse"] = Field(
        "lpips-alex", description="features: LPIPS without its heads, over `extractor`"
    )
    mfa_sharpness: float = Field(SHARPNESS, gt=0, description="k of Eq. 11")

    @property
    def recognises(self) -> bool:
        return bool(self.recognisers)

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        if self.backbone.source == "sd" and "start" not in self.model_fields_set:
            raise ValueError(
                "HonestFace goes on from OSDFace's LoRA, and `start` names none; name its file, or "
                "write `start: null` to begin with a fresh one"
            )
        return self


class ReferenceGenerator(Generator):
    """z_lq, codebook rows and what the references say -> z_0 and the prompt."""

    def __init__(
        self, unet: nn.Module, projection: nn.Module, timestep: int, ide: IdentityTokens
    ) -> None:
        super().__init__(unet, projection, timestep)
        self.ide = ide

    def forward(self, z_lq: Tensor, rows: Tensor, *identity: Tensor) -> tuple[Tensor, Tensor]:
        """`identity`: the fields of an `Identity`, in their order."""
        return super().forward(z_lq, self.ide(rows, Identity(**_named(identity))))


class HonestFaceRecipe(OneStepRecipe):
    """OSDFace's terms, L_ID over an ensemble (Eq. 8) and L_MFA (Eq. 13)."""

    stage = "honestface"
    method = "honestface"
    workflow = "honestface_restore"
    settings = (
        *OneStepRecipe.settings,
        "Load Identity Embedder (IDE).embedder={name}_ide.safetensors",
    )
    goes_into = ""
    Config = HonestFaceConfig
    config: HonestFaceConfig

    def check_data(self, config: TrainConfig) -> None:
        data, dropped = config.data, self.config.embedder.drop_references
        if dropped == 1:
            return
        if not data.references:
            raise ConfigError(
                "HonestFace learns from photographs of the person, and the section `data:` gives "
                "it none. Write `references: 4` there (and `identity: parent`, with a folder for "
                "each person), or `drop_references: 1` into `recipe.embedder` to train without."
            )
        if isinstance(data, Photographs) and data.identity == "file":
            raise ConfigError(
                "With `identity: file` every picture is a person of its own, so that none has "
                "another photograph to refer to. Write `identity: parent` into the section "
                "`data:`, with a folder for each person."
            )

    def build(self) -> dict[str, nn.Module]:
        c = self.config.embedder
        self.recogniser = load_recogniser(c.recogniser)
        self.extractor = load_eye_extractor(c.extractor)
        analyzer = load_analyzer(c.landmarker.kind, c.landmarker.path, self.device)
        self.ide_parts = {"recogniser": self.recogniser, "extractor": self.extractor}
        self.landmarker = dense_landmarker(analyzer)
        return super().build()

    def _described(self) -> IDEConfig:
        c, vre = self.config.embedder, self.vre.config
        colour, structure = eye_channels(self.extractor, c.eye_features)
        try:
            return IDEConfig(
                width=vre.encoder.z_channels,
                vre_tokens=vre.num_tokens,
                queries=c.queries,
                hidden=c.hidden,
                eye_size=c.eye_size,
                colour_channels=colour,
                structure_channels=structure,
                recogniser_dim=self.recogniser.dim,
                recogniser=self.recogniser.id,
                extractor=fingerprint(self.extractor),
                use_eyes=c.use_eyes,
                use_identity=c.use_identity,
                fusion=c.fusion,
                eye_features=c.eye_features,
                identity_values=c.identity_values,
            )
        except FacewrightError as error:
            raise ConfigError(
                f"`recipe.embedder` describes what cannot be built: {error}. Change it there."
            ) from error

    def _generator(self, unet: nn.Module, projection: nn.Module) -> nn.Module:
        parts = self.ide_parts
        self.ide = IdentityEmbedder(self._described(), landmarker=self.landmarker, **parts)
        rows = self.vre.quantize.embedding.weight
        self.ide.learned.fusion.scale.copy_(self.config.embedder.gain * rows.square().mean().sqrt())
        return ReferenceGenerator(unet, projection, self.config.timestep, self.ide.learned)

    def frozen(self) -> dict[str, nn.Module]:
        c = self.config
        nets = {**super().frozen(), **{f"ide_{k}": v for k, v in self.ide_parts.items()}}
        if c.recognisers and c.weights.identity:
            nets["identity"] = IdentityEnsemble([load_recogniser(p) for p in c.recognisers])
        if c.weights.mfa:
            nets["mfa"] = MaskedFaceAlignment(self._mfa_distance())
        return nets

    def _mfa_distance(self) -> nn.Module:
        c = self.config
        if c.mfa_distance == "mse":
            return MeanSquaredError()
        if c.mfa_distance.startswith("lpips"):
            return Lpips(c.mfa_distance.removeprefix("lpips-"))
        if c.extractor is None:
            raise ConfigError(f"`mfa_distance: {c.mfa_distance}` needs `extractor`. Name its file.")
        if c.mfa_distance == "dists":
            return c.extractor.load_dists()
        return FeatureLpips(c.extractor.load())

    @torch.no_grad()
    def _inputs(self, batch: Batch, *, sample: bool) -> tuple[Tensor, ...]:
        identity = self.look_at(batch)
        if self.nets["generator"].training:
            identity = self._some_forgotten(identity)
        return (*super()._inputs(batch, sample=sample), *_values(identity))

    def look_at(self, batch: Batch) -> Identity:
        """What a batch's references say; there may be none."""
        lq = batch["lq"]
        if "references" in batch:
            return self.ide.look_at(batch["references"], batch["valid"], lq)
        none = torch.zeros(len(lq), 1, dtype=torch.bool, device=lq.device)
        return self.ide.look_at(lq[:, None], none, lq)

    def _some_forgotten(self, identity: Identity) -> Identity:
        b = len(identity.chosen)
        lost = torch.rand(b, device=identity.chosen.device) < self.config.embedder.drop_references
        return replace(
            identity,
            valid=identity.valid & ~lost[:, None],
            chosen=identity.chosen.masked_fill(lost, -1),
        )

    def _compare(self, restored: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = super()._compare(restored, batch)
        if "mfa" in self.nets:
            with torch.no_grad():
                heatmaps = self.landmarker.heatmaps(batch["lq"]).to(restored)
            mask = attention_mask(heatmaps, restored.shape[-1], self.config.mfa_sharpness)
            terms["mfa"] = self.config.weights.mfa * self.nets["mfa"](restored, batch["gt"], mask)
        return terms

    def _shown(self, batch: Batch) -> dict[str, Tensor]:
        """Beside OSDFace's: the same without references, and with those of somebody else."""
        shown = super()._shown(batch)
        if "references" in batch:
            others = {k: batch[k].roll(1, 0) for k in ("references", "valid")}
            nobody = {**batch, "valid": torch.zeros_like(batch["valid"])}
            shown["no references"] = self.restore(nobody)
            shown["wrong references"] = self.restore({**batch, **others})
        return shown

    def export(self, folder: Path, facts: dict) -> list[Path]:
        """OSDFace's files, and the identity embedder."""
        path = folder / f"{self.config.name}_ide.safetensors"
        self.ide.save(path, half=self.config.half, **as_metadata(facts))
        return [*super().export(folder, facts), path]


def _values(identity: Identity) -> tuple[Tensor, ...]:
    return tuple(getattr(identity, f.name) for f in fields(identity))


def _named(values: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip((f.name for f in fields(Identity)), values, strict=True))
