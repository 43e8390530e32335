"""Pictures made from pictures, with a record of each: nothing is made twice, no two runs mix."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...core.doctor.machine import own_version
from ...core.errors import FacewrightError
from ...core.files.names import beside, fit_name
from ...core.files.scan import LeftAside
from ...core.files.writing import content_hash
from .batch import OnJob, Summary, run_jobs, unwatched
from .manifest import Manifest, OwnRecord, Record
from .planning import Job, distinct, plan
from .workers import Team

MANIFEST = "manifest.jsonl"
INPUT_SHA = "input_sha256"


@dataclass(frozen=True)
class RecordedJob(Job):
    """One picture to make."""

    output: str = ""
    """Of the target within the output folder, with slashes on every system."""
    copy: int = 1
    settings: Record = field(default_factory=dict)
    """What the record says about the run."""
    seed: int | None = None
    given: Record = field(default_factory=dict)
    """What else decides this picture and is in its record: a recipe to play back, a caption."""


def recorded_job(job: Job, folder: Path, name: str, copy: int, **more: Any) -> RecordedJob:
    """A planned job with `name` for the file in place of the one it has."""
    target = job.target.with_name(name)
    output = target.relative_to(folder).as_posix()
    return RecordedJob(job.source, target, job.name, job.refused, {}, output, copy, **more)


def copy_name(job: Job, copy: int) -> str:
    """Of the file of a further copy: `a_2.png` of `a.png`."""
    return beside(job.target, f"_{copy}{job.target.suffix}", stem=True).name


def picture_seed(seed: int, name: str, copy: int) -> int:
    """Seed of one picture: the first 48 bits of SHA-256 of "seed/copy/name".

    It knows nothing of the other pictures, so that adding, leaving out or reordering some changes
    none, and 48 bits survive every JSON reader.
    """
    digest = hashlib.sha256(f"{seed}/{copy}/{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")


class RecordedRun:
    """What a command is about to do, checked before the first picture is opened."""

    def __init__(
        self,
        inputs: Sequence[str],
        out: Path,
        make: Callable[[Job, Path], Iterable[RecordedJob]],
        work: Callable[[RecordedJob], dict[str, Any]],
        *,
        suffix: Callable[[Path], str],
        settings: Record | None,
        as_options: Callable[[Record], dict[str, str]],
        shape: type[OwnRecord] = OwnRecord,
        overwrite: bool = False,
    ) -> None:
        """
        Args:
            inputs: files, folders or patterns.
            out: folder, or a file for one picture; its record then lies beside it as .json.
            make: the jobs of one picture, from its planned job and the output folder.
            work: does one job; its facts hold under "record" what belongs into the record. It must
                pickle.
            suffix: of the result, from the picture's path.
            settings: of the run, where they are the same for all pictures.
            as_options: settings as options of the command, for sentences about what differs.
            shape: what `as_options` relies on in a record.
            overwrite: make again what is there.

        Raises:
            FacewrightError: no pictures, names that do not go together, or an output folder that
                holds pictures of another run or of no run.
        """
        self._work, self._as_options, self._overwrite = _Witnessed(work), as_options, overwrite
        self.aside = LeftAside()
        """What was found and not taken."""
        planned = plan(inputs, out, suffix, aside=self.aside)
        self.out, single = out, planned[0].target == out
        folder = self.folder = out.parent if single else out
        self.jobs = [job for one in planned for job in make(one, folder)]
        if single and len(self.jobs) > 1:
            raise FacewrightError(f"{len(self.jobs)} copies cannot be written to one file {out}.")

        def moved(job: RecordedJob, target: Path) -> RecordedJob:
            return replace(job, target=target, output=target.relative_to(folder).as_posix())

        self.jobs = distinct(self.jobs, moved=moved)
        path = folder / (fit_name(f"{out.stem}.json") if single else MANIFEST)
        self.manifest = Manifest(path, shape, anew=single and overwrite)
        if not overwrite:
            self._refuse_others(settings, folder)

    def _refuse_others(self, settings: Record | None, folder: Path) -> None:
        """Never mix two runs, and never replace what no run made."""
        ours = {job.output: job for job in self.jobs}
        for record in self.manifest:
            job = ours.get(record["output"])
            wanted = job.settings if job else settings
            difference = ""
            if wanted is not None:
                difference = differing(self._as_options(record), self._as_options(wanted))
            for key, value in (job.given if job and not difference else {}).items():
                if record.get(key) != value:
                    difference = f"its {key} is not the one given now"
            there = (folder / record["output"]).exists()
            if job and there and not difference and not same_input(record, job.source):
                raise FacewrightError(
                    f"{folder / record['output']} was made from another picture than "
                    f"{job.source}. Choose another output folder, delete it to have it made from "
                    "this one, or --overwrite to make all pictures again."
                )
            if difference and there:
                raise FacewrightError(
                    f"{folder / record['output']} was made with other settings: {difference}. "
                    "Choose another output folder, or --overwrite to make the pictures again."
                )
        if not self.manifest.exists:
            there = [job.target for job in self.jobs if job.target.exists()]
            if there:
                raise FacewrightError(
                    f"{there[0]} exists and {self.manifest.path} does not, so it was not made by "
                    "this command. Choose another output folder, or --overwrite to replace it."
                )

    def finished(self, job: RecordedJob) -> bool:
        """Whether both the file and its record are there."""
        kept = not self._overwrite and self.manifest.get(job.output) is not None
        return kept and job.target.exists()

    def carry_out(self, *, workers: int | Team = 1, on_job: OnJob = unwatched) -> Summary:
        """Make the pictures that are not finished.

        Neither pixels nor records depend on `workers`; each works with one torch thread.
        """
        # Without their records the old pictures cannot pass for new ones if this is cut short.
        self.manifest.start(forget=[job.output for job in self.jobs] if self._overwrite else [])
        with one_thread():
            summary = run_jobs(
                self.jobs,
                self._work,
                finished=self.finished,
                workers=workers,
                record=self._record,
                on_job=on_job,
            )
        self.manifest.finish()
        return summary

    def _record(self, job: RecordedJob, facts: dict[str, Any]) -> dict[str, Any]:
        about = {"input": job.name, "output": job.output, "copy": job.copy, **job.settings}
        about |= {"seed": job.seed, "version": own_version(), **facts.pop("record")}
        self.manifest.add(about)
        return {"copy": job.copy, "seed": job.seed, **facts}


@dataclass(frozen=True)
class _Witnessed:
    """Work whose record tells from which bytes it was done; goes to worker processes."""

    work: Callable[[RecordedJob], dict[str, Any]]

    def __call__(self, job: RecordedJob) -> dict[str, Any]:
        facts = self.work(job)
        facts["record"][INPUT_SHA] = file_mark(job.source)
        return facts


def differing(there: Record, now: Record) -> str:
    """What two settings differ in, by their names; empty where they agree."""
    parts = [
        f"{name} {there.get(name, 'not given')} there, {now.get(name, 'not given')} now"
        for name in dict.fromkeys([*there, *now])
        if there.get(name) != now.get(name)
    ]
    return "; ".join(parts)


def same_input(record: Record, source: Path) -> bool:
    """Whether the picture is the one of the record, or the record does not say."""
    before = record.get(INPUT_SHA)
    # What cannot be read is a fault of that picture, found when its turn comes.
    return before is None or not source.is_file() or file_mark(source) == before


def file_mark(path: Path) -> str:
    """The start of a file's SHA-256: enough to tell files of one name apart."""
    return content_hash(path)[:12]


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are ordered by the number of threads; with one they are the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
