"""Files of pictures and videos restored one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.devices import compute_device
from ...core.diffusion.loading import quickest
from ...core.drawing.compare import compare
from ...core.faces import AutoAnalyzer, Choice
from ...core.files.own_version import own_version
from ...core.files.scan import VIDEO_SUFFIXES
from ...core.files.writing import content_hash
from ...core.images import (
    Picture,
    check_sides,
    read_picture,
    write_atomic,
    write_picture,
)
from ...core.people.receipts import KEYWORD, About, utc_now
from ...core.people.unnamed import in_pictures
from ...core.pipeline.options import RestoreOptions
from ...core.pipeline.resuming import Shown
from ...core.pipeline.tracks import TrackReceipts
from ...core.pipeline.videos import restore_video
from ...core.video.files import frame_count
from ...core.video.parts import Parts, parts_folder
from ...core.video.reading import load_av
from ...core.video.segments import SEGMENT
from ..jobs.planning import Job
from ..jobs.recorded import INPUT_SHA, file_mark
from .assignments import Place, check_places
from .people import facts
from .restore import Restorer, load_restorer

if TYPE_CHECKING:
    from .restore_settings import Settings

COMPARISON, RECEIPTS = "_compare.png", ".receipts.json"
"""What the names of the files beside a result end in."""
OUTPUT_SHA = "output_sha256"
"""Of a record: the mark of the file that was written."""
Watch = Callable[[Job, float], object]
"""Told what share of a job is done."""


def endings(options: RestoreOptions, compare: bool) -> list[str]:
    """Of the files that are written beside each result."""
    return [COMPARISON] * compare + [RECEIPTS] * options.receipts


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class RestorerChoice:
    """Which models, loaded where and when they are first needed."""

    name: str
    """As `load_restorer` takes it."""
    analyzer: str | None = None
    measured: bool = False
    """Faces are compared by a recogniser."""
    points: int | None = None
    """How many landmarks the albums hold, for the analyzer "auto"."""
    chosen: Choice | None = None
    """What "auto" chose elsewhere: another machine of a cluster might choose otherwise."""
    rotations: bool = False
    """Faces on their side and upside down are looked for, too."""

    @cached_property
    def restorer(self) -> Restorer:
        """
        Raises:
            FacewrightError: as `load_restorer`.
        """
        name = self.chosen.name if self.chosen else self.analyzer
        loaded = load_restorer(
            self.name,
            analyzer=name,
            measured=self.measured,
            points=self.points,
            rotations=self.rotations,
        )
        if self.chosen:
            return replace(loaded, analyzer=AutoAnalyzer(loaded.analyzer, self.chosen))
        return loaded

    def unloaded(self) -> "RestorerChoice":
        """The same without its models, for others to load."""
        loaded = self.__dict__.get("restorer")
        auto = loaded.analyzer if loaded else None
        return replace(self, chosen=auto.choice if isinstance(auto, AutoAnalyzer) else self.chosen)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loaded models stay where they are; a worker loads its own.
        fields = (self.name, self.analyzer, self.measured, self.points, self.chosen, self.rotations)
        return RestorerChoice, fields


@dataclass(frozen=True)
class RestoreFile:
    """Restores the faces of one file; goes to worker processes as it is."""

    models: RestorerChoice
    options: RestoreOptions
    compare: bool = False
    """Also write a before/after picture; of a video, of its frame with the largest face."""
    watch: Watch | None = None
    """For work in this process."""
    date: str = field(default_factory=utc_now)
    """Of the receipts: that of the run, wherever its files are worked on."""
    told: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    """By a file what is told of its faces, as `RestoreOptions.assign`."""
    places: Mapping[Path, Mapping[int, Place]] = field(default_factory=dict)
    """By a picture where the faces are that are told of, where that is known."""
    settings: "Settings | None" = None
    """What decides results, as it was given; parts of videos are kept where it is known."""

    def options_of(self, job: Job) -> RestoreOptions:
        """The options with what is told of this file."""
        told = self.told.get(job.source)
        return replace(self.options, assign=told) if told else self.options

    def unloaded(self) -> "RestoreFile":
        """The same without the models that it holds."""
        return replace(self, models=self.models.unloaded())

    def __call__(self, job: Job) -> dict[str, Any]:
        mine = replace(self, options=self.options_of(job))
        made = (mine._video if is_video(job.source) else mine._picture)(job)
        return {
            **made,
            "record": {INPUT_SHA: file_mark(job.source), OUTPUT_SHA: file_mark(job.target)},
        }

    def _picture(self, job: Job) -> dict[str, Any]:
        picture = read_picture(job.source)
        check_sides(job.target, *self.models.restorer.size_of(picture.pixels, self.options))
        result = self.models.restorer.restore(picture.pixels, self.options, gray=picture.grey)
        if result.boxes is not None:
            check_places(result.boxes.tolist(), self.places.get(job.source, {}))
        if self.compare and result.faces:
            _write_comparison(job.beside(COMPARISON), picture.pixels, result.pixels)
        text = None
        if self.options.receipts and result.guard:
            guard = replace(result.guard, about=self._about(result.guard.about, job))
            write_atomic(job.beside(RECEIPTS), guard.json.encode())
            if job.target.suffix.lower() == ".png":
                text = {KEYWORD: in_pictures(guard.json, names=self.options.names)}
        said = {"faces": result.faces, "report": result.report, **facts(result)}
        pixels, same = result.pixels, torch.equal(result.pixels, picture.pixels)
        if not same:
            # Nothing else is held while a large picture is written.
            picture = replace(picture, pixels=pixels, encoded=None)
        del result
        # Last, because its presence means that the job is finished.
        location = self.options.location == "keep"
        notes = write_picture(job.target, pixels, picture, text=text, copy=same, location=location)
        return {**said, "notes": notes}

    def _video(self, job: Job) -> dict[str, Any]:
        steps, done = 2 * frame_count(job.source), 0

        def on_frames(frames: int) -> None:
            nonlocal done
            done += frames
            if self.watch and steps:
                self.watch(job, min(1.0, done / steps))

        def beside(guard: TrackReceipts | None, shown: Shown) -> None:
            if self.compare and shown:
                _write_comparison(job.beside(COMPARISON), *shown)
            if self.options.receipts and guard:
                guard.about = self._about(guard.about, job)
                write_atomic(job.beside(RECEIPTS), guard.json.encode())

        parts = self._parts(job)
        result = restore_video(
            self.models.restorer,
            job.source,
            job.target,
            self.options,
            on_frames=on_frames,
            parts=parts,
            on_written=beside,
        )
        if parts is not None:
            parts.remove()
        said = {"faces": result.faces, "report": result.report, "notes": result.notes}
        return {**said, **facts(result)}

    def _parts(self, job: Job) -> Parts | None:
        """What an interrupted run left of a video, where all that decides its bytes is the same."""
        if self.settings is None:
            return None
        key = {
            "version": own_version(),
            "source": file_mark(job.source),
            "settings": self.settings.of(video=True, told=self.options.assign),
            "receipts": self.options.receipts,
            "analyzer": self.models.restorer.analyzer.name,
            "device": str(compute_device()),
            "dtype": str(quickest().dtype),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "av": load_av().__version__,
            "segment": SEGMENT,
        }
        return Parts(parts_folder(job.target), key)

    def _about(self, about: About, job: Job) -> About:
        """What receipts are of, with the file and the date of the run."""
        name, sha256 = job.source.name, content_hash(job.source)
        pictures = [replace(picture, name=name, sha256=sha256) for picture in about.pictures]
        return replace(about, date=self.date, pictures=pictures)


def _write_comparison(path: Path, before: Tensor, after: Tensor) -> None:
    pixels = compare(before[None, :3], after[None, :3])[0]
    write_picture(path, pixels, Picture(pixels))
