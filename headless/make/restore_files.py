"""Picture files restored one by one: what goes to worker processes."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.drawing.compare import compare
from ...core.images import Picture, read_picture, write_atomic, write_picture
from ...core.people.receipts import KEYWORD
from ..jobs.planning import Job
from .people import analyzer_for, facts, find_recogniser
from .restore import RestoreOptions, Restorer

COMPARISON, RECEIPTS = "_compare.png", ".receipts.json"
"""What the names of the files beside a result end in."""


@dataclass(frozen=True)
class RestorerChoice:
    """Which models, loaded where and when they are first needed."""

    weights: str
    """osdface, honestface or nano."""
    analyzer: str | None
    size: int | None
    """Side of the face crops; None: that of the method."""
    landmarks: str
    """Analyzer of HonestFace where none is named."""
    photos: bool
    """Faces are restored with photographs of the person."""
    measured: bool
    """Faces are compared by a recogniser."""

    @classmethod
    def of(
        cls,
        weights: str,
        analyzer: str | None,
        size: int | None,
        options: RestoreOptions,
        *,
        references: bool,
    ) -> "RestorerChoice":
        """
        Args:
            references: photographs are given that have yet to become the options' `person`.
        """
        return cls(
            weights,
            analyzer,
            size,
            landmarks=analyzer_for(options.people),
            photos=references or bool(options.people),
            measured=options.receipts or options.max_drift is not None,
        )

    @cached_property
    def restorer(self) -> Restorer:
        """
        Raises:
            CheckpointError: weights that are missing or wrong.
            FacewrightError: they do not go together.
        """
        given = (self.analyzer,) if self.analyzer else ()
        if self.weights == "honestface":
            loaded = Restorer.honestface(self.analyzer or self.landmarks)
        elif self.weights == "osdface":
            loaded = Restorer.osdface(*given)
        elif self.photos:
            loaded = Restorer.nano(*given, method="honestface")
        else:
            loaded = Restorer.nano(*given)
        if loaded.recogniser is None and self.measured:
            known = "nano" if self.weights == "nano" else None
            loaded = loaded.with_recogniser(find_recogniser(known))
        return loaded.with_size(self.size) if self.size else loaded

    def __reduce__(self) -> tuple[Any, ...]:
        # Loaded models stay where they are; a worker loads its own.
        fields = (self.weights, self.analyzer, self.size)
        return RestorerChoice, (*fields, self.landmarks, self.photos, self.measured)


@dataclass(frozen=True)
class RestoreFile:
    """Restores the faces of one file; goes to worker processes as it is."""

    models: RestorerChoice
    options: RestoreOptions
    compare: bool = False
    """Also write a before/after picture."""

    def unloaded(self) -> "RestoreFile":
        """The same without the models that it holds."""
        return replace(self, models=replace(self.models))

    def __call__(self, job: Job) -> dict[str, Any]:
        picture = read_picture(job.source)
        result = self.models.restorer.restore(picture.pixels, self.options)
        if self.compare and result.faces:
            _write_comparison(job.beside(COMPARISON), picture.pixels, result.pixels)
        text = None
        if self.options.receipts:
            write_atomic(job.beside(RECEIPTS), result.guard.json.encode())
            if job.target.suffix.lower() == ".png":
                text = {KEYWORD: result.guard.json}
        # Last, because its presence means that the job is finished.
        notes = write_picture(job.target, result.pixels, picture, text=text, copy=True)
        said = {"faces": result.faces, "report": result.report, "notes": notes}
        return {**said, **facts(result)}


def _write_comparison(path: Path, before: Tensor, after: Tensor) -> None:
    pixels = compare(before[None, :3], after[None, :3])[0]
    write_picture(path, pixels, Picture(pixels))
