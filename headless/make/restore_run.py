"""What `facewright restore` is about to do, held against what it made before."""

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError, os_sentence
from ...core.files import shapes
from ...core.files.own_version import own_version
from ...core.files.scan import VIDEO_SUFFIXES, LeftAside
from ...core.files.writing import remove_leftovers
from ...core.images import written_suffix
from ...core.video.parts import parts_folder, remove_parts
from ...core.video.reading import load_av
from ..jobs.batch import OnJob, Summary, run_jobs, unwatched
from ..jobs.manifest import Manifest, OwnRecord, Record
from ..jobs.planning import Job, plan
from ..jobs.recorded import INPUT_SHA, file_mark, same_input
from ..jobs.workers import Team
from .restore_files import OUTPUT_SHA, RECEIPTS, RestoreFile, is_video
from .restore_settings import Settings

RECORD = "restore.jsonl"
"""In an output folder: a line for each result says of which file and with what it was made."""
SETTINGS, MAKING = "settings", "making"
"""With what a result was made, and what a run that was cut short would have said of it."""
_STATE = "input_state"
"""Of what was to be made: size and time of the source, which are known without reading it."""
_ANYHOW = "Choose another output folder, {}or --overwrite to restore all again."


class Making(shapes.Shape):
    """A record of what is not made yet."""

    input: shapes.TEXT
    version: shapes.TEXT
    settings: shapes.FIELDS
    input_state: list[int]


class RestoreRecord(OwnRecord):
    """What this command relies on in a record; those of earlier versions hold less."""

    output_sha256: shapes.TEXT | None = None
    settings: shapes.FIELDS | None = None
    making: Making | None = None


class RestoreRun:
    """What is about to be done, known before the first file is opened."""

    def __init__(
        self, inputs: Sequence[str], out: Path, endings: Sequence[str], *, overwrite: bool = False
    ) -> None:
        """
        Args:
            inputs: pictures, videos, folders or patterns.
            out: folder, or a file for one input.
            endings: see `restore_files.endings`.
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
        self._record = None if single else Manifest(out / RECORD, RestoreRecord)
        self._settings: Settings | None = None
        self._told: Mapping[Path, tuple[str, ...]] = {}
        self._again: dict[Path, str] = {}
        """Why results that are there are made again."""

    def hold_against(self, work: RestoreFile) -> list[str]:
        """Find the results that were made with something else than `work` has, and lines on them.

        They are made again; what is there and was not written by this command, or was changed
        since, is refused. Records that do not say with what a result was made count as before.
        """
        self._settings = Settings(work.models, work.options)
        self._told = work.told
        if self._record is not None and not self.overwrite:
            names = {job.name for job in self.jobs}
            self.jobs = [self._examined(job, names, self._record) for job in self.jobs]
        reasons = Counter(why for why in self._again.values() if why)
        return [f"{count} made again: {why}" for why, count in reasons.items()]

    def _examined(self, job: Job, names: set[str], records: Manifest) -> Job:
        """As `_checked`; a file that cannot be read costs that result, not the others."""
        try:
            return self._checked(job, names, records)
        except OSError as error:
            return replace(job, refused=os_sentence(error))

    def _checked(self, job: Job, names: set[str], records: Manifest) -> Job:
        """The job, refused where its result may not be replaced."""
        record = records.get(self._output(job))
        if job.refused or not job.target.exists():
            return job
        if job.target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "", str(job.target))
        if record is not None and MAKING in record:
            record = _after_interruption(record, job)
            records.put(record)
        if record is not None and not same_input(record, job.source):
            if record.get("input") == job.name or record.get("input") not in names:
                return replace(
                    job,
                    refused=f"{job.target} was restored from another file than {job.source}. "
                    + _ANYHOW.format("delete it to have it made of this one, "),
                )
            why = ""  # what it was made of has its result elsewhere now
        elif differing := self._differing(job, record):
            why = differing
        elif not all(job.beside(ending).exists() for ending in self.needed):
            why = "there are no receipts beside it"
        else:
            return job
        written = (record or {}).get(OUTPUT_SHA)
        if record is None or (written is not None and written != file_mark(job.target)):
            what = "was not written by this command" if record is None else "was changed since"
            reason = f", but it should be made again ({why})" if why else ""
            return replace(
                job,
                refused=f"{job.target} {what}{reason}. "
                + _ANYHOW.format("move it away to have it made anew, "),
            )
        self._again[job.target] = why
        return job

    def _differing(self, job: Job, record: Record | None) -> str:
        if record is None or record.get(SETTINGS) is None or self._settings is None:
            return ""
        return self._settings.differing(record[SETTINGS], self._of(job))

    def _of(self, job: Job) -> Record:
        if self._settings is None:
            return {}
        told = self._told.get(job.source, ())
        return self._settings.of(video=is_video(job.source), told=told)

    def _from(self, job: Job) -> Record:
        return {"input": job.name, "version": own_version()}

    def _output(self, job: Job) -> str:
        return job.target.relative_to(self.folder).as_posix()

    def finished(self, job: Job) -> bool:
        """Whether its result is there, and receipts where they are asked for."""
        there = job.target.exists() and all(job.beside(e).exists() for e in self.needed)
        return there and not self.overwrite and job.target not in self._again

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
        if self._settings is None:
            self.hold_against(work)
        if self._record is not None and not self.ready:
            for job in self.jobs:
                if not job.refused and not self.finished(job):
                    self._record.put(self._intent(job, self._record))
            self._record.start()
        for job in self.jobs:
            if self.overwrite or self.finished(job):
                remove_parts(parts_folder(job.target))
        summary = run_jobs(
            self.jobs,
            replace(work, settings=self._settings),
            overwrite=self.overwrite,
            finished=self.finished,
            workers=workers,
            record=self._keep,
            on_job=on_job,
        )
        if self._record is not None and self._record.path.exists():
            self._settle_intents(self._record)
            self._record.finish()
        return summary

    def _intent(self, job: Job, records: Manifest) -> Record:
        """What tells the next run, should this one be cut short, whose result it finds.

        A result takes its place before its record is written: in between, and while it waits for
        its turn, only the mark of what is there now says which of the two it is.
        """
        about = {"output": self._output(job), "input": job.name}
        if job.target.exists():
            about |= records.get(about["output"]) or {}
            with suppress(OSError):  # told when its turn comes
                about[OUTPUT_SHA] = file_mark(job.target)
        making = {**self._from(job), _STATE: _state(job.source)}
        return {**about, MAKING: {**making, SETTINGS: self._of(job)}}

    def _settle_intents(self, records: Manifest) -> None:
        """What failed is what it was before."""
        for record in list(records):
            if record.pop(MAKING, None) is not None:
                if OUTPUT_SHA in record:
                    records.put(record)
                else:
                    records.drop(record["output"])

    def _keep(self, job: Job, made: dict[str, Any]) -> dict[str, Any]:
        record = made.pop("record")
        if self._record is not None:
            about = {"output": self._output(job), **self._from(job)}
            self._record.add({**about, **record, SETTINGS: self._of(job)})
        if why := self._again.get(job.target):
            made["made_again"] = why
        return made


def _after_interruption(record: Record, job: Job) -> Record:
    """The record of what a run that was cut short left: the old result or the new one."""
    making, mark = record.pop(MAKING), file_mark(job.target)
    if record.get(OUTPUT_SHA) == mark:
        return record
    # Of which of two the result was made that a source was meanwhile, nobody knows.
    same = making[_STATE] == _state(job.source)
    return {
        "output": record["output"],
        "input": making["input"],
        "version": making["version"],
        INPUT_SHA: file_mark(job.source) if same else "changed meanwhile",
        OUTPUT_SHA: mark,
        SETTINGS: making[SETTINGS],
    }


def _state(source: Path) -> list[int]:
    try:
        about = source.stat()
    except OSError:  # told when its turn comes
        return []
    return [about.st_size, about.st_mtime_ns]


def _no_videos() -> str:
    """Why none can be read here; else empty."""
    try:
        load_av()
    except FacewrightError as error:
        return str(error)
    return ""


def _suffix(path: Path) -> str:
    return ".mp4" if is_video(path) else written_suffix(path)
