"""Networks that spandrel knows, from files that people have: upscalers and face restorers.

spandrel (https://github.com/chaiNNer-org/spandrel, MIT) tells an architecture by the names and
shapes in a file. ComfyUI ships it. Its sister package `spandrel_extra_arches` adds networks on
terms that forbid commercial use, CodeFormer among them; it counts where people installed it.
"""

import importlib.util
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..checkpoint import check_finite, identify, read_tensors
from ..devices import mend_torchvision
from ..errors import CheckpointError, FacewrightError, shorten

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

CODEFORMER_TERMS = "S-Lab License 1.0, non-commercial"
_CODEFORMER = {"position_emb", "idx_pred_layer.1.weight", "quantize.embedding.weight"}
_KINDS = {
    "SR": "an upscaler",
    "FaceSR": "a face restorer",
    "Restoration": "a network that cleans whole pictures",
    "Inpainting": "an inpainting model",
}
_SPARE = 2**30
"""Bytes that a network may take beyond its weights: tables made on the way, room while loading."""
_TIMES = 4
"""Times the size of its file that a network may take: weights in half precision become float32."""


def load_image_model(path: str | Path) -> "ImageModelDescriptor":
    """A network from a file, in float32 on the CPU, ready for inference.

    Read as `core.checkpoint.read_tensors` reads: no code from the file runs, and every tensor has
    its place in the network. Calling the result takes (1, c, h, w) in [0, 1] and gives
    (1, c, h * scale, w * scale) in [0, 1].

    Raises:
        CheckpointError: unreadable, unsafe, or no such network; the sentence says what it is.
        FacewrightError: spandrel is not installed.
    """
    path = Path(path)
    registry, spandrel = _registry()
    tensors, metadata = read_tensors(path)
    state = spandrel.canonicalize_state_dict(dict(tensors))
    found = next((a for a in registry.architectures("detection") if a.detect(state)), None)
    if found is None:
        if state.keys() >= _CODEFORMER:
            raise CheckpointError(
                f"{path.name} is CodeFormer, which spandrel leaves to a package of its own: `pip "
                f"install spandrel_extra_arches`. Its terms ({CODEFORMER_TERMS}) forbid commercial "
                "use. GFPGANv1.4.pth and RestoreFormer.pth need no further package."
            )
        raise CheckpointError(
            f"{path.name} is {identify(path, tensors, metadata).what}, and no network that "
            "spandrel can run. Choose an upscaler or a face restorer, such as GFPGANv1.4.pth."
        )
    check_finite(state, source=path.name)
    name = found.architecture.name
    try:
        with _Bounded(_TIMES * path.stat().st_size + _SPARE):
            model = found.architecture.load(state)
    except Exception as error:  # any network's own, on shapes that are not its own
        raise CheckpointError(
            f"{path.name} has names of {name}, but does not fit it "
            f"({shorten(' '.join(str(error).split()), 240)}). It is damaged or another variant "
            "than spandrel knows; get it from its original source."
        ) from error
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise CheckpointError(
            f"{path.name} is {describe_image_model(model)}, which needs a mask to fill. Choose an "
            "upscaler or a face restorer."
        )
    model.model.requires_grad_(False)
    return model.eval()


def describe_image_model(model: object) -> str:
    """What spandrel's network is, in words: "an upscaler (ESRGAN, 4x)"."""
    kind = _KINDS.get(getattr(model, "purpose", ""), "another kind of network")
    arch, scale = getattr(model, "architecture", None), getattr(model, "scale", 1)
    return f"{kind} ({arch.name}{f', {scale}x' if scale != 1 else ''})" if arch else kind


def _registry() -> tuple[Any, Any]:
    """All architectures that are installed here, and the package.

    spandrel's own list is everybody's in this process, and stays as it is.
    """
    mend_torchvision()
    try:
        import spandrel

        registry = spandrel.MAIN_REGISTRY.copy()
        if importlib.util.find_spec("spandrel_extra_arches"):
            from spandrel_extra_arches import EXTRA_REGISTRY

            registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    except ImportError as error:
        raise FacewrightError(
            f"spandrel, which runs upscalers and face restorers, cannot be imported ({error}). "
            "Install it: `pip install spandrel`. ComfyUI brings it along."
        ) from error
    return registry, spandrel


class _Bounded(TorchDispatchMode):
    """Refuses to make more numbers than there is `room` for, in bytes.

    Shapes in a file decide how large a network is built, and two thin tensors of a few kilobytes
    can ask for one as wide as both are long.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func.overloadpacket in (torch.ops.aten.empty, torch.ops.aten.zeros, torch.ops.aten.ones):
            self.room -= 4 * prod(args[0])
            if self.room < 0:
                raise ValueError("its shapes ask for a network many times larger than the file")
        return func(*args, **(kwargs or {}))
