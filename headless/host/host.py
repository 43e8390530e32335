"""The headless `Host` (see nodes/_host.py): MODEL and VAE are diffusers modules in this process."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.devices import compute_device
from ...core.diffusion.backbone import DiffusersBackbone, Model, OneStepSampler
from ...core.diffusion.loading import load_nano
from ...core.diffusion.vae import Vae
from ...core.errors import CheckpointError, shorten
from ...core.files.confined import is_plain
from ...core.lora.merge import LoraReport
from ...core.methods.flipnet import BoostHubs, Condition
from ...core.node_api import Blocked, PreviewImage, PreviewText
from ...core.people.person import SUFFIX as PERSON_FILE
from ...core.weights.model_folders import ModelFolders, check_name
from .saving import context, save_pictures
from .videos import HeadlessVideos


class _Silent:
    def update(self, n: int = 1) -> None:
        """Nobody watches."""


@dataclass(frozen=True)
class HeadlessHost(HeadlessVideos):
    """Implements `nodes._host.Host` on diffusers, in this process."""

    folders: ModelFolders = field(default_factory=ModelFolders)
    begin_progress: Callable[[int], Any] | None = None
    """Makes the bar of `progress`."""

    def search_roots(self) -> list[Path]:
        return self.folders.search_roots()

    def model_files(self, folder: str) -> list[str]:
        return self.folders.names(folder)

    def model_path(self, folder: str, name: str) -> Path:
        check_name(name)
        run = context.get(None)
        if run is not None and name not in run.named and not is_plain(name):
            # Links inside the folders are their owner's; a name that leads out is the workflow's.
            raise CheckpointError(
                f"This workflow names {shorten(name)}, which is no file in a models folder. "
                "Workflows read no other files by themselves: choose one that is there, or name "
                "it with --set."
            )
        return self.folders.path(folder, name)

    def person_files(self) -> list[str]:
        return self.folders.names("facewright", {PERSON_FILE})

    def people_folder(self) -> Path:
        return self.folders.roots[0] / "facewright" / "people"

    def load_nano(self, lora: bool) -> tuple[Model, Vae]:
        return load_nano(lora=lora)

    def apply_lora(
        self, model: Model, tensors: dict[str, Tensor], metadata: dict[str, str], strength: float
    ) -> tuple[Model, LoraReport]:
        return model.with_lora(tensors, metadata, strength)

    def lacking(self, model: Model) -> str:
        from ...core.lora.lacking import lacking

        return lacking(bool(model.loras), ())

    def apply_boosthub(self, model: Model, hubs: BoostHubs, condition: Condition) -> Model:
        return model.looking_at(hubs, condition)

    def backbone(self, model: Model, vae: Vae) -> DiffusersBackbone:
        return DiffusersBackbone(model, vae)

    def latent(self, model: Model, z: Tensor) -> dict[str, Tensor]:
        return {"samples": (z / model.scaling_factor).cpu()}

    def nothing(self) -> Blocked:
        return Blocked()

    def one_step_sampler(self, timestep: int) -> tuple[OneStepSampler, Tensor]:
        from ...core.schedule import alpha_bar, sigma_of

        sigma = float(sigma_of(alpha_bar()[timestep]))
        return OneStepSampler(timestep), torch.tensor([sigma, 0.0])

    def progress(self, total: int) -> Any:
        return self.begin_progress(total) if self.begin_progress else _Silent()

    def check_interrupt(self) -> None:
        """Ctrl-C raises KeyboardInterrupt by itself in a plain process."""

    def device(self) -> torch.device:
        return compute_device()

    def load(self, module: nn.Module) -> torch.device:
        device = self.device()
        module.to(device)
        return device

    @contextmanager
    def image_model(self, model: Any) -> Iterator[None]:
        self.load(model.model)
        yield

    def preview(self, image: Tensor, cls: type) -> PreviewImage:
        return PreviewImage(image, cls=cls)

    def save_pictures(
        self, image: Tensor, prefix: str, texts: Sequence[Mapping[str, str]], cls: type
    ) -> dict[str, list[Path]]:
        return {"images": save_pictures(image, prefix, texts)}

    def diagnose(self, hashes: bool, cls: type) -> tuple[str, str]:
        from ...core.doctor import diagnose, report_lines
        from .catalogue import plain_process

        run = context.get(None)
        prompt = None if run is None else run.prompt
        report = diagnose(plain_process(self.folders), prompt, hash_files=hashes)
        return "\n".join(report_lines(report)), json.dumps(report, indent=2)

    def show_text(
        self, text: str, pictures: Tensor | None = None, cls: type | None = None
    ) -> PreviewText:
        return PreviewText(text)
