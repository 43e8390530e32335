"""Who a face is: recognisers turn aligned faces into vectors whose cosine compares people."""

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import build
from ..checkpoint import describe_format, detect_format, make_metadata, read_tensors
from ..devices import without_autocast
from ..errors import CheckpointError, check_image
from ..files.pickles import is_program
from ..modules import adaface, iresnet
from ..modules.adaface import AdaFaceIR
from ..modules.identity import FORMAT as NANO_FORMAT
from ..modules.identity import IdentityEncoder
from ..modules.iresnet import IResNet
from .limits import Limits, limits_beside, limits_of

Crop = Literal["full", "arcface"]

# The best similarity from the FFHQ five-point template (512 px) to ArcFace's (112 px) has scale
# 0.2921 and no rotation worth mentioning, so on FFHQ-aligned faces ArcFace's alignment is a crop.
_ARCFACE_BOX = (64.8 / 512, 61.2 / 512, 448.2 / 512, 444.7 / 512)
_ARCFACE_SIZE = 112
_AT_ONCE = 16
"""Faces that are looked at together."""


def arcface_crop(faces: Tensor) -> Tensor:
    """(b, 3, s, s) FFHQ-aligned faces -> (b, 3, 112, 112) as ArcFace aligns them; differentiable.

    The box x in [64.8, 448.2], y in [61.2, 444.7] of 512, resampled bilinearly with antialiasing.
    """
    size = faces.shape[-1]
    x0, y0, x1, y1 = (round(v * size) for v in _ARCFACE_BOX)
    return F.interpolate(
        faces[..., y0:y1, x0:x1],
        (_ARCFACE_SIZE, _ARCFACE_SIZE),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )


def fingerprint(net: nn.Module) -> str:
    """16 hexadecimal digits that change with any weight of `net`."""
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]


class Recogniser(nn.Module):
    """A frozen face recogniser with all it wants to know about its input.

    Embeddings of two recognisers cannot be compared: `id` names the very weights, and albums and
    identity embedders remember it.
    """

    limits: Limits
    """What its cosines mean: as `person calibrate` measured, else as shipped."""

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        dim: int,
        crop: Crop = "full",
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            net: (n, 3, h, w) in [0, 1] RGB, cropped as `crop` says -> (n, dim).
            name: of the kind, such as "arcface-r50".
            dim: length of the embeddings.
            crop: "full" hands over the whole FFHQ-aligned face, "arcface" cuts it as ArcFace does.
            limits: what its cosines mean; by default `limits_of` its name.
        """
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.name, self.dim, self.crop = name, dim, crop
        self.id = f"{name}:{fingerprint(net)}"
        self.limits = limits or limits_of(self.id)

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Its tensors and metadata, as `recogniser_of` takes them."""
        net = self.net.net if isinstance(self.net, _Fed) else self.net
        nano = isinstance(net, IdentityEncoder)
        return net.state_dict(), make_metadata(NANO_FORMAT, asdict(net.config)) if nano else {}

    @property
    def info(self) -> str:
        """One line: kind, fingerprint, length of the embeddings, how faces are cut, and limit."""
        cut = "the whole aligned face" if self.crop == "full" else "faces cut as ArcFace does"
        limit = self.limits.told(self.limits.same_person)
        return f"{self.id}, {self.dim} numbers from {cut}; one person from {limit}"

    def forward(self, faces: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, dim) float32 of length 1; n may be 0."""
        check_image(faces, name="faces")
        if not len(faces):
            return faces.new_zeros(0, self.dim, dtype=torch.float32)
        # First of all: a CPU resamples no bfloat16.
        x = faces.float()
        x = arcface_crop(x) if self.crop == "arcface" else x
        with without_autocast(faces.device):
            return F.normalize(self.net(x), dim=1)

    @torch.no_grad()
    def embed(self, faces: Tensor) -> Tensor:
        """As `forward`, of faces on any device, to the CPU: crowds need no more memory."""
        # No property `device`: ComfyUI sets an attribute of that name on what it loads.
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        return torch.cat([self(part.to(device)).cpu() for part in faces.split(_AT_ONCE)])

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: its batch statistics are those it was trained with."""
        return super().train(False)


def nano_recogniser(net: IdentityEncoder) -> Recogniser:
    """The recogniser of rendered faces."""
    return Recogniser(net, name="nano-identity", dim=net.config.dim)


WHERE = (
    "Recognisers that can be used: ArcFace's `backbone.pth` from the model zoo of insightface's "
    "arcface_torch (github.com/deepinsight/insightface, recognition/arcface_torch: ms1mv3 r50 or "
    "r100, glint360k r50 or r100; non-commercial research only), AdaFace's `.ckpt` from "
    "github.com/mk-minchul/AdaFace (adaface_ir50_ms1mv2; code MIT, but the pictures behind the "
    "weights were collected for research: ask before commercial use), or facewright's own "
    "nano_identity_loss.safetensors, which knows rendered faces only."
)
"""What to put where a recogniser is asked for, and under which terms."""


class _Fed(nn.Module):
    """RGB for ArcFace's network, BGR for AdaFace's, in [-1, 1]; of two results the embedding."""

    def __init__(self, net: IResNet | AdaFaceIR) -> None:
        super().__init__()
        self.net = net

    def forward(self, faces: Tensor) -> Tensor:
        if isinstance(self.net, IResNet):
            return self.net((faces - 0.5) / 0.5)
        return self.net((faces.flip(1) - 0.5) / 0.5)[0]


def load_recogniser(path: str | os.PathLike[str], *, calibrated: bool = True) -> Recogniser:
    """A recogniser from its weight file; what it is shows in the names of its tensors.

    - ArcFace, `arcface_torch`'s IResNet: RGB.
    - AdaFace, a Lightning checkpoint (tensors "model...."; the "head...." of the training classes
      is not needed) or the bare network: BGR.
    - The identity encoder of rendered faces.

    Colour order and range are the network's own and taken care of. No code from a file ever runs.

    Args:
        calibrated: with the limits that `person calibrate` wrote beside the file, where there are.

    Raises:
        CheckpointError: missing, unsafe, TorchScript, ONNX, something else, or tensors that do not
            fit; the sentence says what to use instead. Or the limits beside it cannot be used.
    """
    path = Path(path)
    found = _load(path)
    if calibrated:
        found.limits = limits_beside(path, found.id)
    return found


def _load(path: Path) -> Recogniser:
    _refuse_programs(path)
    return recogniser_of(*read_tensors(path), source=path.name)


def recogniser_of(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, source: str
) -> Recogniser:
    """The recogniser whose tensors these are, with the limits that came along.

    Raises:
        CheckpointError: as `load_recogniser`; the sentence names `source`.
    """
    if detect_format(tensors, metadata) == NANO_FORMAT:
        return nano_recogniser(IdentityEncoder.from_tensors(tensors, metadata, source=source))
    if "layer1.0.conv1.weight" in tensors:
        return _arcface(tensors, source)
    network = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    if "input_layer.0.weight" in network:
        rest = [k for k in tensors if not k.startswith(("model.", "head."))]
        return _adaface({**network, **{k: tensors[k] for k in rest}}, source)
    if "input_layer.0.weight" in tensors:
        return _adaface(tensors, source)
    raise CheckpointError(
        f"{source} holds no face recogniser that facewright knows: it looks like "
        f"{describe_format(detect_format(tensors, metadata))}. {WHERE}"
    )


def _arcface(tensors: Mapping[str, Tensor], source: str) -> Recogniser:
    counts = [0, 0, 0, 0]
    for key in tensors:
        found = re.match(r"layer([1-4])\.(\d{1,3})\.", key)
        if found:
            stage = int(found[1]) - 1
            counts[stage] = max(counts[stage], int(found[2]) + 1)
    name = _depth(tuple(counts), iresnet.DEPTHS, source)
    net = build(lambda: IResNet(tuple(counts)), tensors, source=source)
    return Recogniser(_Fed(net), name=f"arcface-{name}", dim=iresnet.DIM, crop="arcface")


def _adaface(tensors: Mapping[str, Tensor], source: str) -> Recogniser:
    last = re.compile(r"body\.\d+\.res_layer\.4\.weight")
    widths = [v.shape[0] for k, v in tensors.items() if last.fullmatch(k) and v.ndim]
    counts = tuple(widths.count(width) for width in iresnet.WIDTHS)
    name = _depth(counts, adaface.DEPTHS, source)
    net = build(lambda: AdaFaceIR(counts), tensors, source=source)
    return Recogniser(_Fed(net), name=f"adaface-{name}", dim=iresnet.DIM, crop="arcface")


def _depth(counts: tuple[int, ...], known: Mapping[tuple[int, ...], str], source: str) -> str:
    if counts not in known:
        raise CheckpointError(
            f"{source} looks like a face recogniser with {counts} blocks in its four stages; known "
            f"are {', '.join(f'{name} {blocks}' for blocks, name in known.items())}. {WHERE}"
        )
    return known[counts]


def _refuse_programs(path: Path) -> None:
    """ONNX and TorchScript files are programs that bring their weights along."""
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(
            f"{path.name} is an ONNX file, as insightface's packs (buffalo_l, antelopev2) hold "
            f"them. They cannot be loaded here, nor trained through. {WHERE}"
        )
    if path.is_file() and zipfile.is_zipfile(path):
        program = False
        # One that is damaged gets its sentence from who reads it.
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            program = is_program(archive)
        if program:
            raise CheckpointError(
                f"{path.name} is a TorchScript program. It was not opened: it could run any code "
                f"that torch knows. Save the state_dict() of the model in it instead. {WHERE}"
            )
