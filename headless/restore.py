"""Faces of one picture restored: detect, align, embed, one step, paste."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..core.checkpoint import read_tensors
from ..core.errors import CheckpointError
from ..core.faces import ORDERS, FaceAnalyzer, detect_faces, load_analyzer, select_faces
from ..core.geometry.align import align_faces
from ..core.geometry.paste import paste_faces
from ..core.methods.osdface import VisualRepresentationEmbedder
from ..core.restorer import Backbone, restore_in_chunks
from .host import host, load_checkpoint
from .model_folders import BASE, EMBEDDER, LORA, PROJECTION, ModelFolders


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How to restore; every field is an option of `facewright restore`."""

    color: str = "none"
    strength: float = 1.0
    feather: float = 0.12
    order: str = ORDERS[0]
    """How the faces of a picture are numbered, from 0: one of `core.faces.ORDERS`."""
    pick: str = ""
    """Numbers of the faces to restore, such as "0, 2"; empty takes all."""
    min_size: float = 0.0
    min_score: float = 0.0
    max_faces: int = 0
    padding: float = 0.0
    seed: int | None = None
    """None takes the mean latent; a number samples it, as the released OSDFace script does."""
    faces_at_once: int = 4


@dataclass(frozen=True)
class Restored:
    """One picture after restoration."""

    pixels: Tensor
    """(c, h, w) in [0, 1], alpha as it came."""
    mask: Tensor
    """(h, w): weight of the restored pixels."""
    faces: int
    report: str


@dataclass(frozen=True)
class Restorer:
    """A method with its models loaded."""

    vre: VisualRepresentationEmbedder
    backbone: Backbone
    analyzer: FaceAnalyzer
    size: int
    """Side of the aligned crops in pixels: 512 for OSDFace, 128 for the nano models."""

    @classmethod
    def nano(cls, analyzer: str = "nano") -> Self:
        """The bundled models for rendered faces. They make photographs worse.

        Raises:
            CheckpointError: the bundled files are not there.
        """
        from ..core import nano

        model, vae = host.load_nano(lora=True)
        return cls(
            nano.load_vre(), host.backbone(model, vae), load_analyzer(analyzer), nano.NANO_SIZE
        )

    @classmethod
    def osdface(cls, analyzer: str = "skimage", folders: ModelFolders | None = None) -> Self:
        """SD 2.1-base with OSDFace's weights, from files already on this machine.

        Args:
            analyzer: a name of `core.faces.ANALYZERS`.
            folders: where to look; by default FACEWRIGHT_MODELS and ComfyUI's models folder.

        Raises:
            CheckpointError: files that are missing (all of them named) or wrong.
            LoraError: the LoRA does not fit the base model.
        """
        folders = folders or host.folders
        found_vre = folders.find(EMBEDDER.folder, EMBEDDER.names[0])
        needed = (BASE, LORA) if found_vre else (BASE, EMBEDDER, PROJECTION, LORA)
        files, missing = {}, []
        for file in needed:
            try:
                files[file] = folders.known(file)
            except CheckpointError as error:
                missing.append(str(error))
        if missing:
            raise CheckpointError("\n".join(missing))
        faces = load_analyzer(analyzer)
        pair = [found_vre] if found_vre else [files[EMBEDDER], files[PROJECTION]]
        vre = VisualRepresentationEmbedder.from_files(*pair)
        model, vae = load_checkpoint(files[BASE])
        if vae is None:
            raise CheckpointError(
                f"{files[BASE].name} holds no VAE. Use the whole SD 2.1-base checkpoint."
            )
        model, _ = host.apply_lora(model, *read_tensors(files[LORA]), 1.0)
        return cls(vre, host.backbone(model, vae), faces, 512)

    def with_size(self, size: int) -> "Restorer":
        return replace(self, size=size)

    @torch.no_grad()
    def restore(self, picture: Tensor, options: RestoreOptions | None = None) -> Restored:
        """Restore the faces of a picture (c, h, w) in [0, 1], c 3 or 4.

        A picture without a face comes back bit-identical; so do all pixels outside the mask.
        """
        options = options or RestoreOptions()
        faces = select_faces(
            detect_faces(self.analyzer, picture[:3], padding=options.padding),
            order=options.order,
            pick=options.pick,
            min_size=options.min_size,
            min_score=options.min_score,
            max_count=options.max_faces,
        )
        crops = align_faces(picture[None], [faces], self.size)
        report = "\n".join(line.partition(": ")[2] or line for line in crops.report)
        if not len(crops):
            return Restored(picture, picture.new_zeros(picture.shape[1:]), 0, report)
        device = host.load(self.vre)
        lq = crops.pixels.to(device)
        generator = None
        if options.seed is not None:
            generator = torch.Generator().manual_seed(options.seed)
        restored, _ = restore_in_chunks(
            lq,
            self.vre(lq),
            self.backbone,
            chunk_size=options.faces_at_once,
            generator=generator,
        )
        pasted, mask = paste_faces(
            picture[None],
            crops,
            restored.to(picture),
            feather=options.feather,
            color=options.color,
            strength=options.strength,
        )
        return Restored(pasted[0], mask[0], len(crops), report)
