"""Whoever runs our nodes: ComfyUI, or in a plain process the embedded host, which registers itself.

Node files import `ComfyExtension, io, ui, host` from here and nothing else of either side.
From `io` they use ComfyNode, Schema, NodeOutput, Custom, Image, Mask, Latent, Conditioning, Model,
Vae, UpscaleModel, Sampler, Sigmas, Video, Int, Float, Boolean, Combo, String and Hidden, and
BoundingBox where it is there.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

SHOWN = 16
"""Pictures that a node shows of a batch; a video may have thousands."""


class Progress(Protocol):
    """A progress bar that the person in front of the host sees."""

    def update(self, n: int = 1) -> None:
        """`n` more of the announced steps are done."""


class Host(Protocol):
    """What a node may ask of its surroundings. MODEL, VAE, SAMPLER, SIGMAS are the host's own."""

    def model_files(self, folder: str) -> list[str]:
        """Names of the weight files in "facewright" or "loras", sorted; [] where there are none."""
        ...

    def model_path(self, folder: str, name: str) -> Path:
        """The file behind a name of `model_files`.

        Raises:
            CheckpointError: not there; the sentence names the folder to put it into.
        """
        ...

    def search_roots(self) -> list[Path]:
        """Where the weights of optional face analyzers and scores are searched."""
        ...

    def person_files(self) -> list[str]:
        """Names of the .person files in "facewright", for `model_path`, sorted; [] without any."""
        ...

    def people_folder(self) -> Path:
        """Where new .person files go; not there yet perhaps."""
        ...

    def load_nano(self, lora: bool) -> tuple[Any, Any]:
        """MODEL and VAE of the bundled nano models; with `lora` the one-step LoRA is applied."""
        ...

    def apply_lora(
        self, model: Any, tensors: dict[str, Tensor], metadata: dict[str, str], strength: float
    ) -> "tuple[Any, LoraReport]":
        """A MODEL with the LoRA on every module the file names; the given MODEL stays as it is.

        Raises:
            LoraError: a module of the file has no place in the model, or a shape does not fit.
        """
        ...

    def lacking(self, model: Any) -> str:
        """What the LoRA on a MODEL seems to lack, in a sentence; empty where nothing does."""
        ...

    def apply_boosthub(self, model: Any, hubs: "BoostHubs", condition: "Condition") -> Any:
        """A MODEL whose sampling looks at `condition`; the given MODEL stays as it is.

        The condition branch's keys and values are freed when a run ends, however it ends.

        Raises:
            CheckpointError: the BoostHubs belong to another architecture.
            FacewrightError: a condition of other channels, or the MODEL has one already.
        """
        ...

    def backbone(self, model: Any, vae: Any) -> "Backbone":
        """MODEL and VAE as the seam that core's restore functions speak to."""
        ...

    def latent(self, model: Any, z: Tensor) -> dict[str, Tensor]:
        """LATENT of a latent at the model's scale, such as `restore_one_step` returns.

        Of no faces at all it is whatever keeps nodes behind it from failing on nothing.
        """
        ...

    def nothing(self) -> Any:
        """In place of an output without a value: nodes behind it are left out, without an error."""
        ...

    def one_step_sampler(self, timestep: int) -> tuple[Any, Any]:
        """SAMPLER and SIGMAS with which an ordinary sampler node does the one step."""
        ...

    def progress(self, total: int) -> Progress:
        """Announce `total` steps."""
        ...

    def check_interrupt(self) -> None:
        """Raise the host's own exception if the user asked to stop."""

    def device(self) -> torch.device:
        """Where networks compute."""
        ...

    def load(self, module: nn.Module) -> torch.device:
        """Bring a network of ours to the compute device, and say which; call before each use.

        The host may move it away again when it needs the memory for something else.
        """
        ...

    def image_model(self, model: Any) -> AbstractContextManager[None]:
        """While in it, an UPSCALE_MODEL is on the compute device."""
        ...

    def preview(self, image: Tensor, cls: type) -> Any:
        """`ui` value that shows IMAGE (b, h, w, 3) on the node `cls`; None may stand for none."""
        ...

    def save_pictures(
        self, image: Tensor, prefix: str, texts: Sequence[Mapping[str, str]], cls: type
    ) -> Any:
        """Write IMAGE as numbered PNGs as the host's own Save Image does, workflow included.

        `texts` holds more text chunks, in Latin-1, for each picture. Returns the `ui` value; the
        schema of `cls` asks for `prompt` and `extra_pnginfo`.
        """
        ...

    def video_source(self, video: Any) -> "Footage":
        """A VIDEO as core reads it: a file, or frames that are in memory already."""
        ...

    def new_video_path(self) -> Path:
        """A place for a file that is kept for this session."""
        ...

    def video(self, path: Path) -> Any:
        """VIDEO of a file."""
        ...

    def diagnose(self, hashes: bool, cls: type) -> tuple[str, str]:
        """What the doctor says of this machine and of the workflow being run: text, and JSON.

        The schema of `cls` asks for `prompt`.
        """
        ...

    def show_text(self, text: str, pictures: Tensor | None = None, cls: type | None = None) -> Any:
        """`ui` value with which a node shows `text`, and IMAGE of perhaps no pictures on `cls`."""
        ...


# ComfyUI loads model_management before any custom node; nothing else would load it.
if TYPE_CHECKING:
    from ..core.lora.merge import LoraReport
    from ..core.methods.flipnet import BoostHubs, Condition
    from ..core.node_api import ComfyExtension, io, ui
    from ..core.restorer import Backbone
    from ..core.video.clip import Footage

    host: Host
elif "comfy.model_management" in sys.modules:
    from ._comfy import ComfyExtension, host, io, ui
else:
    from ..core.host import host
    from ..core.node_api import ComfyExtension, io, ui

__all__ = ["ComfyExtension", "Host", "Progress", "host", "io", "ui"]
