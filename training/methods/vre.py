"""Stage 1 of OSDFace (arXiv:2411.17163, Sec. 3.2): codebooks of HQ and LQ faces, then association.

Three stages, each a run of its own: `vre-hq` and `vre-lq` train one vector-quantised autoencoder
each to reproduce its own input; `vre-associate` trains both on and aligns their features. What
stays is the LQ encoder with its codebook: the visual representation embedder.
"""

from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from ...core.checkpoint.identify import identify
from ...core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from ...core.modules.autoencoder import AutoencoderConfig
from ...core.modules.quantizer import Quantized
from ..losses.vq import CodebookCare, usage, vq_loss
from ..recipe import Progress
from ..settings.config import Strict
from ._branches import AssociatingRecipe, BranchConfig, BranchRecipe, EncoderShape, WithDecoder


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


class VRERecipeConfig(BranchConfig):
    """L_1 + L_per + L_dis (Eq. 7-8) of `BranchConfig`, and L_VQ."""

    shape: EmbedderShape = EmbedderShape.model_validate({})
    beta: float = Field(0.25, ge=0, description="weight of the commitment term, Eq. 7")
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
    """What one branch makes of its images; see `_branches.BranchOutput`."""

    target: Tensor
    restored: Tensor
    features: Tensor
    """Before quantisation."""
    quantized: Quantized


class VQAutoencoder(WithDecoder, VisualRepresentationEmbedder):
    """The embedder together with the decoder that trains it; the prompt projection stays as is."""

    format = "osdface-vq-autoencoder"
    encoder_type = VisualRepresentationEmbedder
    config_type = VREConfig

    def __init__(self, config: VREConfig) -> None:
        super().__init__(config)
        self.embedding_change.requires_grad_(False)

    def forward(self, images: Tensor) -> Reconstruction:
        """(b, 3, h, w) in [0, 1]."""
        target = self.prepare(images)
        features = self.quant_conv(self.encoder(target))
        quantized = self.quantize(rearrange(features, "b d h w -> b h w d"))
        z_q = rearrange(quantized.z_q, "b h w d -> b d h w")
        restored = self.decoder(self.post_quant_conv(z_q))
        return Reconstruction(target, restored, features, quantized)


def load_embedder(path: Path) -> VisualRepresentationEmbedder:
    """The embedder of a file: of vre-associate or of `facewright convert`, or that within an
    autoencoder of vre-lq, which was never drawn towards good faces.

    Raises:
        CheckpointError: another kind of file, or not all of one.
    """
    if identify(path).kind != VQAutoencoder.format:
        return VisualRepresentationEmbedder.from_files(path, untrained=True)
    return VQAutoencoder.read(path).without_decoder().requires_grad_(False)


class _VQRecipe(BranchRecipe):
    """VQGAN training of one or more branches: L_1 + L_per + L_dis + L_VQ each (Eq. 7-8)."""

    method = "osdface"
    autoencoder = VQAutoencoder
    prefix = "vq"
    config: VRERecipeConfig
    autoencoders: dict[str, VQAutoencoder]

    def build(self) -> dict[str, nn.Module]:
        nets = super().build()
        care = self.config.codebook_care
        self.care = {
            branch: CodebookCare(net.quantize, **care.model_dump())
            for branch, net in self.autoencoders.items()
            if care
        }
        return nets

    def _latent_terms(self, branch: str, out: Reconstruction) -> dict[str, Tensor]:
        if branch in self.care:
            features = rearrange(out.features, "b d h w -> b h w d")
            self.care[branch].observe(features, out.quantized.codes)
        return {"vq": vq_loss(out.quantized, self.config.beta)}

    def after_step(self, progress: Progress) -> None:
        for branch, care in self.care.items():
            moved = care.after_step(progress.step, progress.fraction)
            if moved:
                self.monitor[f"{branch}_moved_codes"] = moved

    def extra_state(self) -> dict:
        return {branch: care.used for branch, care in self.care.items()}

    def load_extra_state(self, state: dict) -> None:
        for branch, care in self.care.items():
            care.used = state[branch]

    def _scores(self, branch: str, out: Reconstruction) -> dict[str, Tensor]:
        codes = {f"{branch}_codes": out.quantized.codes.flatten(1)}
        return super()._scores(branch, out) | codes

    def _summary(self, name: str, values: Tensor) -> dict[str, float]:
        """Of the codes: how many are in use, their perplexity, distinct codes per image."""
        if not name.endswith("_codes"):
            return super()._summary(name, values)
        used, perplexity = usage(values, self.config.shape.num_codes)
        distinct = [len(row.unique()) for row in values]
        return {
            name: used,
            name.replace("codes", "perplexity"): perplexity,
            name.replace("codes", "codes_per_image"): sum(distinct) / len(distinct),
        }


class _SingleRecipe(_VQRecipe):
    Config = SingleConfig
    config: SingleConfig

    def _load(self, branch: str) -> VQAutoencoder:
        init = self.config.init
        return VQAutoencoder.read(init) if init else VQAutoencoder(self.config.shape.to_vre())


class HQRecipe(_SingleRecipe):
    """The dictionary of good faces."""

    stage = "vre-hq"
    goes_into = "`init` of stage `vre-lq` and `hq` of stage `vre-associate`"
    branches = MappingProxyType({"hq": "gt"})


class LQRecipe(_SingleRecipe):
    """The dictionary of degraded faces, started from the HQ one; reproduces the LQ image itself."""

    stage = "vre-lq"
    goes_into = "`lq` of stage `vre-associate`"
    needs_lq = True
    branches = MappingProxyType({"lq": "lq"})


class AssociateRecipe(AssociatingRecipe, _VQRecipe):
    """Both branches trained on with L_total = L_VQ(HQ) + L_VQ(LQ) + lambda L_assoc (Eq. 9-11)."""

    stage = "vre-associate"
    goes_into = "`vre` of stages `onestep` and `honestface`, which train its projection"
    Config = AssociateConfig
    config: AssociateConfig

    def export(self, folder: Path, facts: dict) -> list[Path]:
        return [*super().export(folder, facts), self._save_encoder(folder, facts, trained=False)]
