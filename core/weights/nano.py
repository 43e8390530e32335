"""The bundled nano models: small networks for procedurally rendered faces, not for photographs.

Every loader takes a path so that training can load what it just exported; without one the file
in `weights/nano/` is read.
"""

from pathlib import Path

from torch import Tensor

from ..architecture import build, describe
from ..checkpoint import read_config, read_metadata, read_tensors
from ..errors import CheckpointError, shorten
from ..faces.nano import NanoAnalyzer
from ..files.known import NANO_DIR, NANO_SIZE
from ..methods.flipnet import BoostHubs
from ..methods.honestface import IdentityEmbedder
from ..methods.osdface import VisualRepresentationEmbedder
from ..modules.autoencoder import AutoencoderConfig, AutoencoderKL
from ..modules.face_encoder import FaceEncoder
from ..modules.identity import IdentityEncoder
from ..people.recogniser import nano_recogniser
from .sd_config import UNetConfig

__all__ = ["NANO_DIR", "NANO_SIZE"]

VAE_FORMAT = "nano-vae"
UNET_FORMAT = "nano-unet"


def load_vae(path: str | Path | None = None) -> AutoencoderKL:
    """The autoencoder, float32, frozen, in eval mode.

    Raises:
        CheckpointError: the file is missing or something else (all loaders here).
    """
    path = path or NANO_DIR / "nano_vae.safetensors"
    tensors, metadata = read_tensors(path)
    values = read_config(metadata, VAE_FORMAT, source=str(path))
    config = describe(AutoencoderConfig, values, source=str(path), what="an autoencoder")
    return build(lambda: AutoencoderKL(config), tensors, source=str(path))


def load_vre(path: str | Path | None = None) -> VisualRepresentationEmbedder:
    """The visual representation embedder: (b, 3, h, w) in [0, 1] -> (b, 77, 128)."""
    vre = VisualRepresentationEmbedder.from_files(path or NANO_DIR / "nano_vre.safetensors")
    return vre.eval().requires_grad_(False)


def load_identity(which: str = "metric") -> IdentityEncoder:
    """The encoder "loss" that training uses, or "metric" that only ever scores."""
    return IdentityEncoder.from_file(NANO_DIR / f"nano_identity_{which}.safetensors")


def unet_config(path: str | Path | None = None) -> dict:
    """Arguments of diffusers' UNet2DConditionModel."""
    path = path or NANO_DIR / "nano_unet.safetensors"
    values = read_config(read_metadata(path), UNET_FORMAT, source=str(path))
    describe(UNetConfig, values, source=str(path), what="a UNet")
    return values


def unet_tensors(path: str | Path | None = None) -> dict[str, Tensor]:
    """Weights of the base UNet under diffusers' names, without the one-step LoRA."""
    return read_tensors(path or NANO_DIR / "nano_unet.safetensors")[0]


def lora_tensors(path: str | Path | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The one-step LoRA and its metadata (rank, alpha), as `parse_lora` takes them."""
    return read_tensors(path or NANO_DIR / "nano_onestep_lora.safetensors")


def load_ide(path: str | Path | None = None) -> IdentityEmbedder:
    """HonestFace's identity embedder with its recogniser, eye extractor and landmarker."""
    encoder = load_identity("loss")
    return IdentityEmbedder.from_file(
        path or honestface_file("ide"),
        recogniser=nano_recogniser(encoder),
        extractor=encoder,
        landmarker=NanoAnalyzer.from_folder(NANO_DIR),
    )


def honestface_vre() -> VisualRepresentationEmbedder:
    """The embedder of `load_vre` with the projection that was trained with `load_ide`."""
    return load_vre(honestface_file("vre"))


def honestface_lora() -> tuple[dict[str, Tensor], dict[str, str]]:
    """HonestFace's LoRA and its metadata."""
    return read_tensors(honestface_file("lora"))


def honestface_file(part: str) -> Path:
    """Where the "lora", the "vre" or the "ide" lies."""
    return _file(f"nano_honestface_{part}", "HonestFace")


def check_honestface() -> None:
    """Raise CheckpointError where a file of HonestFace's nano models is missing."""
    for part in ("lora", "vre", "ide"):
        honestface_file(part)


def boosthub(mode: str) -> BoostHubs:
    """FLIPNET's BoostHubs for "restore" or "degrade"."""
    return BoostHubs.from_file(flipnet_file(mode, "boosthub"))


def flipnet_lora(mode: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """FLIPNET's LoRA for "restore" or "degrade" and its metadata."""
    return read_tensors(flipnet_file(mode, "lora"))


def face_encoder() -> FaceEncoder:
    """FLIPNET's face tokens: (b, 3, h, w) in [0, 1] -> (b, 64, 128)."""
    return FaceEncoder.from_file(flipnet_file("restore", "encoder"))


def check_flipnet(mode: str) -> None:
    """Raise CheckpointError where a file of FLIPNET's nano models is missing."""
    for part in ("boosthub", "lora", "encoder"):
        flipnet_file(mode, part)


_FLIPNET_MODES = ("restore", "degrade")


def flipnet_file(mode: str, part: str) -> Path:
    """Where the "boosthub" or the "lora" for a mode, or the "encoder", lies."""
    if mode not in _FLIPNET_MODES:  # it becomes part of a path, and may come from a workflow
        raise CheckpointError(f"FLIPNET knows no mode {shorten(mode)!r}, only restore and degrade.")
    name = "nano_face_encoder" if part == "encoder" else f"nano_flipnet_{mode}_{part}"
    return _file(name, "FLIPNET")


def _file(name: str, method: str) -> Path:
    path = NANO_DIR / f"{name}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"The nano {method} models are not complete: {path.name} is missing from "
            f"{path.parent}. Update facewright, which brings them along."
        )
    return path
