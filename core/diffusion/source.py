"""What methods load themselves from in a plain process: files in models folders, and diffusers."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..devices import compute_device
from ..errors import CheckpointError
from ..files.known import NANO_BASE, KnownFile, bundled_path
from ..weights.model_folders import ModelFolders
from .backbone import DiffusersBackbone
from .loading import load_checkpoint, load_nano
from .text import Clip


@dataclass(frozen=True)
class DiffusersModels:
    """A `core.methods.ModelSource`."""

    folders: ModelFolders = field(default_factory=ModelFolders)

    def known(self, file: KnownFile) -> Path:
        return self.folders.known(file)

    def device(self) -> torch.device:
        return compute_device()

    def backbone(
        self, base: Path, *loras: tuple[dict[str, Tensor], dict[str, str]]
    ) -> DiffusersBackbone:
        bundled = base == bundled_path(NANO_BASE)
        model, vae = load_nano() if bundled else load_checkpoint(base)
        if vae is None:
            raise CheckpointError(
                f"{base.name} holds no VAE. Use the whole SD 2.1-base checkpoint."
            )
        for lora in loras:
            # The bundled model is kept and shared; one from a file is nobody else's.
            model, _ = model.with_lora(*lora, in_place=not bundled)
        return DiffusersBackbone(model, vae, None if bundled else Clip(base))
