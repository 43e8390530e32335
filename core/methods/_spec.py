"""What a method declares so that the rest of the product can restore faces with it.

A file of `core/methods` lists its `RestorerSpec`s in `SPECS`; the pipeline, the command line, the
doctor and the table of known files find them there (`core.methods.specs`), and nobody else names
the method.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from ..errors import CheckpointError
from ..files.known import KnownFile
from ..geometry.face import DenseLandmarker, FaceAnalyzer
from ..restorer import Backbone

if TYPE_CHECKING:
    from ..people.person import Person
    from ..people.recogniser import Recogniser


class FaceRestorer(Protocol):
    """A method with its networks loaded: aligned faces in, restored faces out."""

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        ...

    @property
    def recogniser(self) -> "Recogniser | None":
        """Who tells people apart (albums, guard); None: none came with the method."""
        ...

    @property
    def landmarker(self) -> DenseLandmarker | None:
        """Whose landmarks its albums hold; None: the pipeline's analyzer gives them."""
        ...

    @property
    def takes_people(self) -> bool:
        """Whether photographs of the person mean anything to it."""
        ...

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
        """Restore aligned faces.

        Args:
            lq: (n, 3, s, s) in [0, 1], s = `size` where the faces come from the pipeline; n may
                be 0.
            people: an album or None for each; ignored where `takes_people` is False.
            options: the method's own (`RestorerSpec.options`); None: as they are by default.
            generator: what is drawn comes from it; None: a one-step method draws nothing, another
                starts from seed 0.
            chunk_size: faces at a time, which decides memory and not the result.
            on_chunk: called with the number of faces just finished; what it raises ends the work.

        Returns:
            (n, 3, s, s) in [0, 1], on the device of `lq`.
        """
        ...


@runtime_checkable
class Choosy(Protocol):
    """A `FaceRestorer` that cannot do all that options may ask for."""

    def check_asked(self, size: int, options: Any) -> None:
        """Before the first face.

        Args:
            size: side of the crops in pixels.
            options: as for `restore`.

        Raises:
            FacewrightError: it cannot be done.
        """
        ...


class ManyStepBackbone(Backbone, Protocol):
    """A backbone that can be looked into while it is sampled in many steps."""

    def predicting(
        self, cond: Tensor
    ) -> AbstractContextManager[Callable[[Tensor, int, Tensor], Tensor]]:
        """(z_t, t, cond) -> eps for one run of a sampler; `cond` is the positive prompt."""
        ...

    def looking_at(self, hubs: Any, z: Tensor, **about: Any) -> "ManyStepBackbone":
        """The same with FLIPNET's BoostHubs, which look at a latent as `encode` gives it.

        `about` are further fields of `core.methods.flipnet.Condition`.
        """
        ...

    def read(self, text: str) -> Tensor:
        """(1, 77, d) of a prompt.

        Raises:
            FacewrightError: the model reads no text, or its text encoder is not there.
        """
        ...


class FileSource(Protocol):
    """Whoever finds files on this machine."""

    def known(self, file: KnownFile) -> Path:
        """Where it lies.

        Raises:
            CheckpointError: nowhere; the sentence says what to put where, its source and licence.
        """
        ...


class ModelSource(FileSource, Protocol):
    """Whoever owns the diffusion models, too.

    In a plain process `core.diffusion.source.DiffusersModels`.
    """

    def device(self) -> torch.device:
        """Where networks compute."""
        ...

    def backbone(
        self, base: Path, *loras: tuple[dict[str, Tensor], dict[str, str]]
    ) -> ManyStepBackbone:
        """A diffusion model with its VAE, and LoRAs (tensors and metadata) on it.

        Raises:
            CheckpointError: not the model that methods are made for, or without a VAE.
            LoraError: a LoRA does not fit.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RestorerSpec:
    """A choice of `--weights`: a method with certain weight files."""

    name: str
    help: str
    """What people should know of it, in a few words; follows the name."""
    files: tuple[KnownFile, ...]
    """All that it may need."""
    build: Callable[[Mapping[KnownFile, Path], ModelSource, FaceAnalyzer], FaceRestorer]
    """From what `find` found, in the order of `files`; the analyzer has dense landmarks where the
    method `takes_people`."""
    analyzer: str
    """The face analyzer where people name none."""
    options: type | None = None
    """A dataclass of the method's own options (`core.options`); None: it has none."""
    takes_people: bool = False
    with_people: str = ""
    """The name that takes this one's place where photographs of a person are given."""
    needed: Callable[[FileSource], Sequence[KnownFile]] | None = None
    """Which of `files` are needed on this machine; None: all."""
    further_files: tuple[KnownFile, ...] = ()
    """Files of the method that its restorer does not use."""
    any_file: KnownFile | None = None
    """Where people may name any file instead of the method: where such lie, and their terms where
    they are none of `files`. None: they cannot."""

    @property
    def bundled(self) -> bool:
        """Whether all its files come with facewright."""
        return all(file.bundled for file in self.files)

    def notes(self, files: Mapping[KnownFile, Path]) -> list[str]:
        """What people should know of the files that were chosen for them, or by them."""
        if self.any_file is None:
            return []
        return [f"{p.name}: {f.what}. Licence: {f.licence}." for f, p in files.items()]

    def find(self, source: FileSource) -> dict[KnownFile, Path]:
        """Where the files it needs lie; quick, and to be asked before anything large is loaded.

        Raises:
            CheckpointError: some are missing; the sentences say which, a line for each.
        """
        found, missing = {}, []
        for file in self.files if self.needed is None else self.needed(source):
            try:
                found[file] = source.known(file)
            except CheckpointError as error:
                missing.append(str(error))
        if missing:
            raise CheckpointError("\n".join(missing))
        return found
