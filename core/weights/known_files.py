"""Weight files that people get elsewhere: what each is for, where it comes from, on which terms.

Nothing here is ever downloaded by facewright. `python -m facewright.core.weights.known_files`
writes the table of docs/licences.md.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

from ..files.known import ARCFACE, BASE, FACE_FILES, VGG, KnownFile
from ..files.names import bare
from ..methods import specs

ADAFACE = KnownFile(
    ("adaface_ir50_ms1mv2.ckpt",),
    folder="facewright",
    what="the face recogniser AdaFace (IR-50, MS1MV2)",
    source="the table of pretrained models of mk-minchul/AdaFace on GitHub",
    licence="code MIT; its training pictures were collected for research, so ask before "
    "commercial use",
    commercial="depends",
    page="https://github.com/mk-minchul/AdaFace",
)
ALEXNET = replace(
    VGG,
    names=("alexnet-owt-7be5be79.pth",),
    what="AlexNet, for the score lpips (torchvision's weights)",
    source="alexnet-owt-7be5be79.pth from download.pytorch.org/models",
    page="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    sha256="7be5be79",
)
VGG_19 = replace(
    VGG,
    names=("vgg19-dcbb9e9d.pth", "vgg19.safetensors"),
    what="VGG-19, which a loss of training looks through (torchvision's weights)",
    source="vgg19-dcbb9e9d.pth from download.pytorch.org/models",
    page="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    sha256="dcbb9e9d",
)
DISTS_WEIGHTS = KnownFile(
    ("dists_weights.pt",),
    folder="facewright",
    what="alpha and beta of DISTS, for EA-DISTS in training",
    source="DISTS_pytorch/weights.pt of the package dists-pytorch 0.1",
    licence="MIT",
    commercial="yes",
    page="https://pypi.org/project/dists-pytorch/",
)
LPIPS_VGG = KnownFile(
    ("lpips_vgg.pth",),
    folder="facewright",
    what="the heads of LPIPS over VGG-16, for a loss of training",
    source="lpips/weights/v0.1/vgg.pth of the package lpips 0.1.4",
    licence="BSD-2-Clause",
    commercial="yes",
    page="https://pypi.org/project/lpips/",
)
INCEPTION = KnownFile(
    ("inception-2015-12-05.pt",),
    folder="facewright",
    what="Inception, for the score fid",
    source="stylegan2-ada-pytorch/pretrained/metrics on nvlabs-fi-cdn.nvidia.com",
    licence="weights Apache-2.0; the TorchScript around them is under the NVIDIA Source Code "
    "License (non-commercial use only)",
    commercial="no",
    page="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    "inception-2015-12-05.pt",
)

INCEPTION_BASICSR = KnownFile(
    ("pt_inception-2015-12-05-6726825d.pth",),
    folder="facewright",
    what="Inception, for the score fid_basicsr",
    source="the releases of mseitzer/pytorch-fid on GitHub",
    licence="Apache-2.0",
    commercial="yes",
    page="https://github.com/mseitzer/pytorch-fid/releases",
    sha256="6726825d",
)


@cache
def known_files() -> tuple[KnownFile, ...]:
    """Files that people get elsewhere, those of the methods first."""
    of_methods = [f for spec in specs().values() for f in (*spec.files, *spec.further_files)]
    trained_with = (VGG_19, DISTS_WEIGHTS, LPIPS_VGG)
    scored_with = (ALEXNET, INCEPTION, INCEPTION_BASICSR)
    shared = (ARCFACE, ADAFACE, VGG, *FACE_FILES, *trained_with, *scored_with)
    listed = dict.fromkeys([BASE, *of_methods, *shared])
    return tuple(file for file in listed if not file.bundled)


def known_file(name: str) -> KnownFile | None:
    """The entry of `known_files` for a file name or a path of any system."""
    base = bare(name)
    return next((file for file in known_files() if base in file.names), None)


TABLE = Path(__file__).resolve().parents[2] / "docs" / "licences.md"
_BEGIN, _END = "<!-- table of known files: begin -->\n", "<!-- table of known files: end -->\n"


def licence_table() -> str:
    """The rows of `known_files` in Markdown."""
    rows = ["| what | file | folder | from | terms | commercial use |", "|---|---|---|---|---|---|"]
    for file in known_files():
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
