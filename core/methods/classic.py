"""Face restorers of one network, from files that people have: GFPGAN, RestoreFormer, CodeFormer.

Wang et al., "Towards Real-World Blind Face Restoration with Generative Facial Prior",
arXiv:2101.04061; Wang et al., "RestoreFormer: High-Quality Blind Face Restoration from Undegraded
Key-Value Pairs", arXiv:2201.06374; Zhou et al., "Towards Robust Blind Face Restoration with
Codebook Lookup Transformer", arXiv:2206.11253. The networks are spandrel's
(`core.modules.spandrel`); any other that it calls a face restorer does as well.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..devices import seeded, without_autocast
from ..errors import CheckpointError, FacewrightError, NonFiniteError, check_image
from ..files.known import IMAGE_MODELS, KnownFile
from ..geometry.face import FaceAnalyzer
from ..modules.spandrel import CODEFORMER_TERMS, describe_image_model, load_image_model
from ..options import check_options, option
from ._spec import FileSource, ModelSource, RestorerSpec

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

    from ..people.person import Person

SIDE = 512
"""Of the faces that these networks were trained on, aligned as FFHQ's."""
FIDELITY = 0.5
"""CodeFormer's `w` by default, as in its released script."""
_SIGNED = {"GFPGAN", "RestoreFormer", "CodeFormer"}
"""Networks that see and give [-1, 1]: the released scripts normalize with mean and deviation 0.5
(`gfpgan/utils.py`, `inference_codeformer.py`). spandrel's call does so for RestoreFormer alone."""


@dataclass(frozen=True, kw_only=True)
class ClassicOptions:
    """How CodeFormer restores; the other networks have no options."""

    fidelity: float | None = option(
        None,
        "CodeFormer alone: 1 stays closest to the input, 0 gives the cleanest faces; 0.5 by "
        "default.",
        low=0.0,
        high=1.0,
        step=0.05,
    )

    def __post_init__(self) -> None:
        check_options(self)


def check_restorer(model: object, source: str = "The model") -> None:
    """Raise CheckpointError, saying what it is, unless spandrel's network restores faces."""
    if getattr(model, "purpose", None) != "FaceSR":
        raise CheckpointError(
            f"{source} is {describe_image_model(model)}, and no face restorer. Choose one, such "
            "as GFPGANv1.4.pth or RestoreFormer.pth."
        )


def load_face_model(path: Path) -> "ImageModelDescriptor":
    """spandrel's network from a face restorer's file.

    Raises:
        CheckpointError: as `load_image_model`, or a network for something else.
        FacewrightError: spandrel is not installed.
    """
    model = load_image_model(path)
    check_restorer(model, path.name)
    return model


def takes_fidelity(model: "ImageModelDescriptor") -> bool:
    """Whether `fidelity` means anything to a network."""
    return model.architecture.id == "CodeFormer"


@torch.no_grad()
def restore_with_model(
    model: "ImageModelDescriptor",
    lq: Tensor,
    *,
    fidelity: float = FIDELITY,
    generator: Generator | None = None,
    on_face: Callable[[int], object] = lambda faces: None,
) -> Tensor:
    """Aligned faces through a network of spandrel's, one at a time.

    y = (f(2 x - 1) + 1) / 2 for the networks trained on [-1, 1], y = f(x) for any other. GFPGAN
    draws the noise of its StyleGAN2 layers anew in each call; here the numbers come from a seed, so
    that a picture is restored alike every time.

    Args:
        model: as `load_face_model` gives it, or ComfyUI's UPSCALE_MODEL; on its device.
        lq: (n, 3, s, s) in [0, 1]. Other sizes than 512 are resized to it, and back.
        fidelity: CodeFormer's, ignored by others.
        generator: each face's seed is drawn from it; None: 0 for each.
        on_face: called with 1 after each face; what it raises ends the work.

    Returns:
        (n, 3, s, s) in [0, 1], like `lq`.

    Raises:
        CheckpointError: no face restorer.
        FacewrightError: pictures that are no crops, or a network that gives another size.
        NonFiniteError: the network gave NaN or infinity.
    """
    check_restorer(model)
    check_image(lq, name="lq")
    if lq.shape[-1] != lq.shape[-2]:
        raise FacewrightError(
            f"Aligned faces are square, and these are {lq.shape[-1]} x {lq.shape[-2]} pixels. "
            "Connect the crops of Detect Faces."
        )
    restored = torch.empty_like(lq)
    for i, place in enumerate(restored):
        # In the usual layout, as GFPGAN looks at its memory directly.
        x = _resized(lq[i : i + 1], SIDE).to(model.device, model.dtype).contiguous()
        seed = 0 if generator is None else int(torch.randint(2**62, (1,), generator=generator))
        with seeded(model.device, seed), without_autocast(model.device):
            y = _call(model, x, fidelity)
        if y.shape != x.shape:
            raise FacewrightError(
                f"{model.architecture.name} made {tuple(y.shape)} of a face of {tuple(x.shape)}; "
                "a face restorer keeps the size. Choose another file."
            )
        if not y.isfinite().all():
            raise NonFiniteError(
                f"{model.architecture.name} gave NaN or infinite pixels. Get its file again from "
                "its original source, or choose another."
            )
        place.copy_(_resized(y.float(), lq.shape[-1])[0].clamp(0, 1))
        on_face(1)
    return restored


def _call(model: "ImageModelDescriptor", x: Tensor, fidelity: float) -> Tensor:
    if model.architecture.id not in _SIGNED:
        return model(x)
    more = {"weight": fidelity} if takes_fidelity(model) else {}
    return (model.model(x * 2 - 1, **more)[0] + 1) / 2


def _resized(face: Tensor, side: int) -> Tensor:
    if face.shape[-1] == side:
        return face
    smaller = side < face.shape[-1]
    return F.interpolate(face, (side, side), mode="bicubic", antialias=smaller).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class ClassicFaces:
    """A `FaceRestorer` of one network."""

    model: "ImageModelDescriptor"
    size = SIDE
    recogniser = None
    landmarker = None
    takes_people = False

    def check_asked(self, size: int, options: Any) -> None:
        """See `Choosy`.

        Raises:
            FacewrightError: `fidelity` for a network that has no such choice, or faces that would
                only be shrunk and enlarged again.
        """
        if size > SIDE:
            raise FacewrightError(
                f"{self.model.architecture.name} sees faces of {SIDE} pixels and no larger ones, "
                f"so crops of {size} would bring nothing. Leave the size (--size) out; "
                "`detail` (--detail) gives back what shrinking takes from large faces."
            )
        chosen = (options or ClassicOptions()).fidelity is not None
        if chosen and not takes_fidelity(self.model):
            raise FacewrightError(
                f"`fidelity` is an option of CodeFormer, and these weights are "
                f"{self.model.architecture.name}'s, which have none. Leave it out."
            )

    def restore(
        self,
        lq: Tensor,
        people: "Sequence[Person | None]",
        *,
        options: Any = None,
        generator: Generator | None = None,
        chunk_size: int = 4,
        on_chunk: Callable[[int], object] = lambda faces: None,
    ) -> Tensor:
        """See `FaceRestorer`. Without a generator every face gets the same noise.

        Raises:
            FacewrightError: as `check_asked`.
        """
        self.check_asked(lq.shape[-1], options)
        fidelity = (options or ClassicOptions()).fidelity
        return restore_with_model(
            self.model,
            lq,
            fidelity=FIDELITY if fidelity is None else fidelity,
            generator=generator,
            on_face=on_chunk,
        )


GFPGAN = KnownFile(
    ("GFPGANv1.4.pth", "GFPGANv1.3.pth"),
    folder=IMAGE_MODELS[0],
    also=(*IMAGE_MODELS[1:], "facewright"),
    what="the face restorer GFPGAN",
    source="release v1.3.0 of TencentARC/GFPGAN on GitHub",
    licence="Apache-2.0, with parts of StyleGAN2 and DFDNet under non-commercial terms in its "
    "LICENSE; its training pictures, FFHQ, are CC BY-NC-SA 4.0",
    commercial="depends",
    page="https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth",
)
RESTOREFORMER = replace(
    GFPGAN,
    names=("RestoreFormer.pth",),
    what="the face restorer RestoreFormer",
    source="release v1.3.4 of TencentARC/GFPGAN on GitHub",
    page="https://github.com/TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
    licence="Apache-2.0; its training pictures, FFHQ, are CC BY-NC-SA 4.0",
)
CODEFORMER = replace(
    GFPGAN,
    names=("codeformer.pth", "codeformer-v0.1.0.pth"),
    what="the face restorer CodeFormer",
    source="release v0.1.0 of sczhou/CodeFormer on GitHub; needs `pip install "
    "spandrel_extra_arches`",
    licence=CODEFORMER_TERMS,
    commercial="no",
    page="https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
)
FILES = (GFPGAN, RESTOREFORMER, CODEFORMER)
"""Taken in this order where no file is named: the freest terms first."""
ANY = replace(
    GFPGAN,
    names=(),
    what="a face restorer's file",
    source="wherever its authors publish it",
    page="",
    licence="what its authors say",
)


def _needed(source: FileSource) -> Sequence[KnownFile]:
    for file in FILES:
        with suppress(CheckpointError):
            source.known(file)
            return (file,)
    return FILES[:1]


def _load(
    files: Mapping[KnownFile, Path], source: ModelSource, analyzer: FaceAnalyzer
) -> ClassicFaces:
    (path,) = files.values()
    return ClassicFaces(model=load_face_model(path).to(source.device()))


SPECS = (
    RestorerSpec(
        name="classic",
        help="the first there is of GFPGAN, RestoreFormer and CodeFormer; or name a face "
        "restorer's file itself, such as GFPGANv1.4.pth",
        files=FILES,
        needed=_needed,
        any_file=ANY,
        build=_load,
        analyzer="auto",
        options=ClassicOptions,
    ),
)
