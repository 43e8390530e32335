"""Files of pictures and videos restored one by one, and what was made of which."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.drawing.compare import compare
from ...core.errors import FacewrightError
from ...core.faces import AutoAnalyzer, Choice
from ...core.files.scan import VIDEO_SUFFIXES, LeftAside
from ...core.files.writing import remove_leftovers
from ...core.images import (
    Picture,
    check_sides,
    read_picture,
    write_atomic,
    write_picture,
    written_suffix,
)
from ...core.people.receipts import KEYWORD
from ...core.pipeline.options import RestoreOptions
from ...core.pipeline.videos import restore_video
from ...core.video.files import frame_count
from ...core.video.reading import load_av
from ..jobs.batch import OnJob, Summary, run_jobs, unwatched
from ..jobs.manifest import Manifest
from ..jobs.planning import Job, plan
from ..jobs.recorded import INPUT_SHA, file_mark, same_input
from ..jobs.workers import Team
from .people import facts
from .restore import Restorer, load_restorer

COMPARISON, RECEIPTS = "_compare.png", ".receipts.json"
"""What the names of the files beside a result end in."""
RECORD = "restore.jsonl"
"""In an output folder: a line for each result says which file it was made of."""
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

    def unloaded(self) -> "RestoreFile":
        """The same without the models that it holds."""
        return replace(self, models=self.models.unloaded())

    def __call__(self, job: Job) -> dict[str, Any]:
        made = (self._video if is_video(job.source) else self._picture)(job)
        return {**made, "record": {INPUT_SHA: file_mark(job.source)}}

    def _picture(self, job: Job) -> dict[str, Any]:
        picture = read_picture(job.source)
        check_sides(job.target, *self.models.restorer.size_of(picture.pixels, self.options))
        result = self.models.restorer.restore(picture.pixels, self.options)
        if self.compare and result.faces:
            _write_comparison(job.beside(COMPARISON), picture.pixels, result.pixels)
        text = None
        if self.options.receipts and result.guard:
            write_atomic(job.beside(RECEIPTS), result.guard.json.encode())
            if job.target.suffix.lower() == ".png":
                text = {KEYWORD: result.guard.json}
        said = {"faces": result.faces, "report": result.report, **facts(result)}
        pixels, same = result.pixels, torch.equal(result.pixels, picture.pixels)
        if not same:
            # Nothing else is held while a large picture is written.
            picture = replace(picture, pixels=pixels, encoded=None)
        del result
        # Last, because its presence means that the job is finished.
        notes = write_picture(job.target, pixels, picture, text=text, copy=same)
        return {**said, "notes": notes}

    def _video(self, job: Job) -> dict[str, Any]:
        steps, done = 2 * frame_count(job.source), 0

        def on_frames(frames: int) -> None:
            nonlocal done
            done += frames
            if self.watch and steps:
                self.watch(job, min(1.0, done / steps))

        result = restore_video(
            self.models.restorer, job.source, job.target, self.options, on_frames=on_frames
        )
        if self.compare and result.shown:
            _write_comparison(job.beside(COMPARISON), *result.shown)
        if self.options.receipts and result.guard:
            write_atomic(job.beside(RECEIPTS), result.guard.json.encode())
        said = {"faces": result.faces, "report": result.report, "notes": result.notes}
        return {**said, **facts(result)}


def _write_comparison(path: Path, before: Tensor, after: Tensor) -> None:
    pixels = compare(before[None, :3], after[None, :3])[0]
    write_picture(path, pixels, Picture(pixels))


class RestoreRun:
    """What `facewright restore` is about to do, known before the first file is opened."""

    def __init__(
        self, inputs: Sequence[str], out: Path, endings: Sequence[str], *, overwrite: bool = False
    ) -> None:
        """
        Args:
            inputs: pictures, videos, folders or patterns.
            out: folder, or a file for one input.
            endings: see `endings`.
            overwrite: make again what is there.

        Raises:
            FacewrightError: as `plan`, or a record in the folder that is none.
        """
        self.overwrite = overwrite
        self.aside = LeftAside()
        """What was found and not taken."""
        self.jobs = plan(
            inputs, out, _suffix, endings=endings, aside=self.aside, also=VIDEO_SUFFIXES
        )
        if any(is_video(job.source) for job in self.jobs) and (why := _no_videos()):
            self.jobs = [replace(j, refused=why) if is_video(j.source) else j for j in self.jobs]
        single = self.jobs[0].target == out
        self.folder = out.parent if single else out
        self.needed = [ending for ending in endings if ending == RECEIPTS]
        self._record = None if single else Manifest(out / RECORD)
        self._stale: set[Path] = set()
        if self._record is not None and not overwrite:
            names = {job.name for job in self.jobs}
            self.jobs = [self._checked(job, names, self._record) for job in self.jobs]

    def _checked(self, job: Job, names: set[str], records: Manifest) -> Job:
        """The job, refused where its result is there and was made of something else."""
        record = records.get(self._output(job))
        if record is None or not job.target.exists() or same_input(record, job.source):
            return job
        if record.get("input") != job.name and record.get("input") in names:
            # What it was made of has its result elsewhere now.
            self._stale.add(job.target)
            return job
        why = (
            f"{job.target} was restored from another file than {job.source}. Choose another output "
            "folder, delete it to have it made of this one, or --overwrite to restore all again."
        )
        return replace(job, refused=why)

    def _output(self, job: Job) -> str:
        return job.target.relative_to(self.folder).as_posix()

    def finished(self, job: Job) -> bool:
        """Whether its result is there, and receipts where they are asked for."""
        there = job.target.exists() and all(job.beside(e).exists() for e in self.needed)
        return there and not self.overwrite and job.target not in self._stale

    @property
    def noun(self) -> str:
        """What the files are."""
        return "file" if any(is_video(job.source) for job in self.jobs) else "picture"

    @property
    def ready(self) -> bool:
        """Whether nothing is left to do."""
        return all(job.refused or self.finished(job) for job in self.jobs)

    def carry_out(
        self, work: RestoreFile, *, workers: int | Team = 1, on_job: OnJob = unwatched
    ) -> Summary:
        """Restore what is not finished."""
        remove_leftovers(path for job in self.jobs for path in job.further.values())
        if self._record is not None and not self.ready:
            again = (
                self.jobs if self.overwrite else [j for j in self.jobs if j.target in self._stale]
            )
            self._record.start(forget=map(self._output, again))
        summary = run_jobs(
            self.jobs,
            work,
            overwrite=self.overwrite,
            finished=self.finished,
            workers=workers,
            record=self._keep,
            on_job=on_job,
        )
        if self._record is not None and self._record.path.exists():
            self._record.finish()
        return summary

    def _keep(self, job: Job, made: dict[str, Any]) -> dict[str, Any]:
        record = made.pop("record")
        if self._record is not None:
            self._record.add({"output": self._output(job), "input": job.name, **record})
        return made


def _no_videos() -> str:
    """Why none can be read here; else empty."""
    try:
        load_av()
    except FacewrightError as error:
        return str(error)
    return ""


def _suffix(path: Path) -> str:
    return ".mp4" if is_video(path) else written_suffix(path)
