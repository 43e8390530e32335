"""The bundled nano models: small networks for procedurally rendered faces, not for photographs.

Every loader takes a path so that training can load what it just exported; without one the file
in `weights/nano/` is read.
"""

from pathlib import Path

from torch import Tensor

from ..architecture import describe
from ..checkpoint import read_config, read_metadata, read_tensors
from ..files.known import NANO_DIR, NANO_SIZE, bundled_path
from ..methods.osdface import VisualRepresentationEmbedder
from ..modules.autoencoder import AutoencoderKL
from ..modules.identity import IdentityEncoder
from .sd_config import UNetConfig

__all__ = ["NANO_DIR", "NANO_SIZE"]

UNET_FORMAT = "nano-unet"


def load_vae(path: str | Path | None = None) -> AutoencoderKL:
    """The autoencoder, float32, frozen, in eval mode.

    Raises:
        CheckpointError: the file is missing or something else (all loaders here).
    """
    return AutoencoderKL.from_file(path or bundled_path("nano_vae"))


def load_vre(path: str | Path | None = None) -> VisualRepresentationEmbedder:
    """The visual representation embedder: (b, 3, h, w) in [0, 1] -> (b, 77, 128)."""
    vre = VisualRepresentationEmbedder.from_files(path or bundled_path("nano_vre"))
    return vre.eval().requires_grad_(False)


def load_identity(which: str = "metric") -> IdentityEncoder:
    """The encoder "loss" that training uses, or "metric" that only ever scores."""
    return IdentityEncoder.from_file(bundled_path(f"nano_identity_{which}"))


def unet_config(path: str | Path | None = None) -> dict:
    """Arguments of diffusers' UNet2DConditionModel."""
    path = path or bundled_path("nano_unet")
    values = read_config(read_metadata(path), UNET_FORMAT, source=str(path))
    describe(UNetConfig, values, source=str(path), what="a UNet")
    return values


def unet_tensors(path: str | Path | None = None) -> dict[str, Tensor]:
    """Weights of the base UNet under diffusers' names, without the one-step LoRA."""
    return read_tensors(path or bundled_path("nano_unet"))[0]


def lora_tensors(path: str | Path | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The one-step LoRA and its metadata (rank, alpha), as `parse_lora` takes them."""
    return read_tensors(path or bundled_path("nano_onestep_lora"))
