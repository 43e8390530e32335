"""Jobs over many files: what to read, where to write, skipping what is finished, failing singly."""

import pickle
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ...core.devices import asked_device, asked_format, computing_on
from ...core.errors import FacewrightError, os_sentence
from ...core.files.writing import remove_leftovers
from ...core.host import find_host, running
from .planning import J, Job, find_pictures, plan
from .staging import Staged, place, remove_staging
from .workers import Processes, Team, WorkerLostError, spread

__all__ = ["Job", "OnJob", "Summary", "find_pictures", "plan", "run_jobs", "unwatched"]

T = TypeVar("T")
R = TypeVar("R")
OnJob = Callable[[Any, str | None], None]
"""Told of each job that is done or skipped, and of each that failed with the sentence why."""


def unwatched(job: Any, why: str | None) -> None:
    """An `OnJob` for who does not look."""


@dataclass
class Summary:
    """What became of a batch; written out by `--json`."""

    done: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "skipped": [str(p) for p in self.skipped],
            "failed": [{"input": str(p), "error": e} for p, e in self.failed.items()],
        }


def run_jobs(
    jobs: Sequence[J],
    work: Callable[[J], dict[str, Any]],
    *,
    overwrite: bool = False,
    finished: Callable[[J], bool] = lambda job: job.target.exists(),
    workers: int | Team = 1,
    record: Callable[[J, dict[str, Any]], dict[str, Any]] = lambda job, facts: facts,
    on_job: OnJob = unwatched,
) -> Summary:
    """Do the jobs; one that fails is recorded and never stops the others.

    A finished job is skipped, so that a batch that was interrupted goes on where it stopped;
    targets appear whole or not at all.

    Args:
        work: does one job and returns facts about it; must pickle when `workers` is above 1.
        finished: which jobs need not be done again, asked before the first one starts.
        workers: 1 works in this process; more, in as many others; or who does the work, such as a
            Ray cluster. The summary is in the order of `jobs` whoever does it.
        record: called in this process when a job is done, with its facts; what it returns goes into
            the summary.
        on_job: called in this process for each job.

    Raises:
        FacewrightError: the worker processes cannot start.
    """
    remove_leftovers(job.target for job in jobs)
    remove_staging(job.target for job in jobs)
    summary = Summary()
    results: dict[int, dict[str, Any] | str] = {}
    todo = []
    for index, job in enumerate(jobs):
        if job.refused:
            summary.failed[job.source] = job.refused
            on_job(job, job.refused)
        elif finished(job) and not overwrite:
            summary.skipped.append(job.source)
            on_job(job, None)
        else:
            todo.append((index, job))
    staged = not isinstance(workers, int) and workers.attempts > 1
    attempt = _Attempt(Staged(work) if staged else work)
    try:
        with closing(carried_out(attempt, todo, workers)) as attempts:
            for (index, job), result in attempts:
                if isinstance(result, WorkerLostError):
                    result = result.sentence
                elif staged and isinstance(result, dict):
                    result = place(job.target, result)
                results[index] = record(job, result) if isinstance(result, dict) else result
                on_job(job, result if isinstance(result, str) else None)
    finally:
        if staged:
            remove_staging(job.target for job in jobs)
    for index, job in todo:
        result = results[index]
        if isinstance(result, str):
            summary.failed[job.source] = result
        else:
            summary.done.append({"input": str(job.source), "output": str(job.target), **result})
    return summary


@dataclass(frozen=True)
class _Attempt:
    """The facts of a job done and the time it took, or the sentence that says why not."""

    work: Callable[[Any], dict[str, Any]]

    def __call__(self, numbered: tuple[int, Job]) -> dict[str, Any] | str:
        started = time.perf_counter()
        try:
            facts = self.work(numbered[1])
        except Exception as error:  # noqa: BLE001 (the other pictures still get their turn)
            if isinstance(error, OSError):
                return os_sentence(error)
            known = isinstance(error, FacewrightError)
            return str(error) if known else f"{type(error).__name__}: {error}"
        return {**facts, "seconds": round(time.perf_counter() - started, 3)}


@dataclass(frozen=True)
class AsHere:
    """Work that finds weights and computes in another process as it would in this one."""

    work: Callable[[Any], Any]
    host: Any
    device: str
    number_format: str

    @classmethod
    def now(cls, work: Callable[[Any], Any]) -> "AsHere":
        return cls(work, find_host(), asked_device(), asked_format())

    def __call__(self, job: Any) -> Any:
        with running(self.host), computing_on(self.device, self.number_format):
            return self.work(job)

    def __reduce__(self) -> tuple[Any, ...]:
        # The work is unpacked there, since reading it may look for weights.
        place = self.host, self.device, self.number_format
        return _unpacked, (pickle.dumps(self.work), *place)


def _unpacked(work: bytes, host: Any, device: str, number_format: str) -> AsHere:
    with running(host), computing_on(device, number_format):
        return AsHere(pickle.loads(work), host, device, number_format)


def carried_out(
    work: Callable[[T], R], jobs: Sequence[T], workers: int | Team
) -> Generator[tuple[T, R | WorkerLostError], None, None]:
    """Yield (job, result) in this process for 1 worker, else as the team's results come.

    Raises:
        FacewrightError: no worker could be started.
    """
    if workers == 1:
        for job in jobs:
            yield job, work(job)
        return
    team = Processes(workers) if isinstance(workers, int) else workers
    try:
        with closing(spread(team, AsHere.now(work), jobs)) as results:
            yield from results
    except WorkerLostError as error:
        raise FacewrightError(
            f"No worker could be started: its process {error}. Try again with one worker."
        ) from error
