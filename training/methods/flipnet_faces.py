"""FLIPNET's face embeddings (Sec. 4.1): continuous autoencoders of HQ and LQ faces, associated.

`face-autoencoder` trains one of them to reproduce its own input; `face-associate` trains both on
and aligns their latents patch by patch. What stays is the LQ encoder, with a fresh adapter that
the restoration stage trains.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import Tensor

from ...core.checkpoint import load_strict, read_tensors
from ...core.checkpoint.identify import identify
from ...core.errors import CheckpointError
from ...core.modules.autoencoder import AutoencoderConfig
from ...core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from ..settings.config import Strict
from ._branches import AssociatingRecipe, BranchConfig, BranchRecipe, EncoderShape, WithDecoder


class FaceShape(Strict):
    """See `core.modules.face_encoder.FaceEncoderConfig`; latent diffusion's kl-f32 by default."""

    encoder: EncoderShape = EncoderShape(
        ch=128, ch_mult=(1, 1, 2, 2, 4, 4), attn_levels=(4, 5), z_channels=64
    )
    input_size: int = Field(512, description="side in pixels everything is resized to")
    hidden: int = Field(512, description="of the adapter")
    width: int = Field(1024, description="cross-attention width of the restorer's UNet")

    def to_core(self) -> FaceEncoderConfig:
        values = self.model_dump()
        return FaceEncoderConfig(encoder=AutoencoderConfig(**values.pop("encoder")), **values)


class FaceConfig(BranchConfig):
    """L_ae = L_1 + 0.5 L_p + 0.8 L_adv (Sec. 4.1); a KL term is none of the paper's."""

    shape: FaceShape = FaceShape.model_validate({})
    perceptual: float = Field(0.5, ge=0, description="lambda_ap")
    kl: float = Field(0.0, ge=0, description="keeps the latents' scale; 1e-6 in latent diffusion")


class FaceAutoencoderConfig(FaceConfig):
    branch: Literal["hq", "lq"] = Field(description="which faces it reproduces")
    init: Path | None = Field(
        None, description="file of this stage, or latent diffusion's kl-f32 checkpoint"
    )


class FaceAssociateConfig(FaceConfig):
    hq: Path = Field(description="file of face-autoencoder, branch hq")
    lq: Path = Field(description="file of face-autoencoder, branch lq")
    association: float = Field(1.0, ge=0, description="weight of (L_ce^H + L_ce^L) / 2")
    negatives: Literal["batch", "image"] = Field("image", description="see association_loss")
    name: str = Field("flipnet_face_encoder", description="file name of the exported encoder")
    half: bool = Field(False, description="store the encoder in float16")

    @model_validator(mode="after")
    def _two(self) -> "FaceAssociateConfig":
        if self.hq == self.lq:
            raise ValueError("hq and lq should be two files, one of each branch")
        return self


class Reconstruction(NamedTuple):
    """What one branch makes of its images; see `_branches.BranchOutput`."""

    target: Tensor
    restored: Tensor
    features: Tensor
    logvar: Tensor
    """Of the posterior, like `features`, which is its mean."""


class FaceAutoencoder(WithDecoder, FaceEncoder):
    """The face encoder together with the decoder that trains it; the adapter stays as it is."""

    format = "flipnet-face-autoencoder"
    encoder_type = FaceEncoder
    config_type = FaceEncoderConfig

    def __init__(self, config: FaceEncoderConfig) -> None:
        super().__init__(config)
        self.adapter.requires_grad_(False)

    def forward(self, images: Tensor) -> Reconstruction:
        """(b, 3, h, w) in [0, 1]; the latent is the posterior's mean."""
        target = self.prepare(images)
        mean, logvar = self.moments(target)
        restored = self.decoder(self.post_quant_conv(mean))
        return Reconstruction(target, restored, mean, logvar)

    @classmethod
    def start(cls, path: Path, config: FaceEncoderConfig) -> "FaceAutoencoder":
        """From a file of ours or from latent diffusion's autoencoder.

        Raises:
            CheckpointError: another architecture than `config`.
        """
        tensors, metadata = read_tensors(path)
        if "facewright.format" in metadata:
            model = cls.read(path)
            if model.config != config:
                raise CheckpointError(
                    f"{path} has another shape than the config's `recipe.shape`. Make them agree, "
                    "or leave `init` out."
                )
            return model
        model = cls(config)
        # Names agree but for the attention's norm; its training loss travels along, an adapter it
        # has none.
        weights = {
            k.replace(".norm.", ".norm1."): v
            for k, v in tensors.items()
            if not k.startswith("loss.")
        }
        fresh = {f"adapter.{k}": v for k, v in model.adapter.state_dict().items()}
        load_strict(model, {**weights, **fresh}, source=str(path))
        return model


def encoder_within(path: Path) -> FaceEncoder:
    """The face encoder of a file: of face-associate, its adapter trained or not, or that within an
    autoencoder, which was never drawn towards good faces.

    Raises:
        CheckpointError: another kind of file, or not all of one.
    """
    if identify(path).kind != FaceAutoencoder.format:
        return FaceEncoder.from_file(path, untrained=True)
    return FaceAutoencoder.read(path).without_decoder().requires_grad_(False)


class _FaceRecipe(BranchRecipe):
    method = "flipnet"
    autoencoder = FaceAutoencoder
    prefix = "face"
    config: FaceConfig

    def _latent_terms(self, branch: str, out: Reconstruction) -> dict[str, Tensor]:
        if not self.config.kl:
            return {}
        mean, logvar = out.features, out.logvar.clamp(-30, 20)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
        return {"kl": self.config.kl * kl}

    def adam_only(self) -> tuple[str, ...]:
        return (*super().adam_only(), "adapter")


class FaceAutoencoderRecipe(_FaceRecipe):
    """Reconstruction stage: HQ faces from HQ faces, or LQ faces from LQ faces."""

    stage = "face-autoencoder"
    goes_into = "`hq` or `lq` of stage `face-associate`, and `init` of this one"
    Config = FaceAutoencoderConfig
    config: FaceAutoencoderConfig

    def __init__(self, config: FaceAutoencoderConfig) -> None:
        super().__init__(config)
        self.branches = {config.branch: "gt" if config.branch == "hq" else "lq"}
        self.needs_lq = config.branch == "lq"

    def _load(self, branch: str) -> FaceAutoencoder:
        shape, init = self.config.shape.to_core(), self.config.init
        return FaceAutoencoder.start(init, shape) if init else FaceAutoencoder(shape)


class FaceAssociateRecipe(AssociatingRecipe, _FaceRecipe):
    """Association stage: L_ae of both branches + (L_ce^H + L_ce^L) / 2 (Eq. 6)."""

    stage = "face-associate"
    goes_into = "`face_encoder` of stage `flipnet-restore`, which trains its adapter"
    Config = FaceAssociateConfig
    config: FaceAssociateConfig

    def export(self, folder: Path, facts: dict) -> list[Path]:
        return [*super().export(folder, facts), self._save_encoder(folder, facts, trained=False)]
