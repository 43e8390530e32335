"""Trains arms: several runs in each worker process, which saves starting one for every run."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from facewright.benchmarks._arms import CONFIGS, METHODS, SEEDS, Places, folder, overrides, settings
from facewright.benchmarks._arms_before import prepare
from facewright.core.errors import FacewrightError
from facewright.core.files.writing import content_hash, written_whole

RECORD = "run.json"
"""Beside a run's export: its arm, what it was made of, and its processor seconds."""


@dataclass(frozen=True)
class Job:
    """One run."""

    method: str
    arm: str
    seed: int
    stage: str
    config: str
    output: str
    settings: tuple[str, ...]
    """With `$weights` and `$runs`."""
    overrides: tuple[str, ...]
    made_of: str
    """Digest of the settings and of the weights that it starts from."""

    @property
    def name(self) -> str:
        return f"{self.method}/{self.arm}-{self.seed}"

    @property
    def needs(self) -> tuple[str, ...]:
        return METHODS[self.method].arms[self.arm].needs

    @property
    def finished(self) -> bool:
        return (Path(self.output) / "export").is_dir()

    def record(self) -> dict[str, Any]:
        path = Path(self.output) / RECORD
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    job: Job
    finished: bool
    cpu_s: float
    """Of this call."""
    trouble: str = ""


def jobs_of(
    places: Places,
    method: str,
    *,
    seeds: Sequence[int] = SEEDS,
    only: Sequence[str] = (),
    steps: int | None = None,
    precision: str = "bf16",
    more: Sequence[str] = (),
) -> list[Job]:
    """The runs of a method, seeds first: whatever is finished compares all arms.

    Raises:
        FacewrightError: an unknown arm.
    """
    arms = METHODS[method].arms
    unknown = [name for name in only if name not in arms]
    if unknown:
        raise FacewrightError(
            f"{method} has no arm {', '.join(unknown)}; its arms are {', '.join(arms)}."
        )
    jobs = []
    for seed in seeds:
        for arm in only or tuple(arms):
            lines = settings(method, arm, seed, steps=steps, precision=precision, more=more)
            one, out = arms[arm], folder(places.runs, method, arm, seed)
            jobs.append(
                Job(
                    method=method,
                    arm=arm,
                    seed=seed,
                    stage=one.stage,
                    config=str(CONFIGS / f"{one.config}.yaml"),
                    output=str(out),
                    settings=tuple(lines),
                    overrides=tuple(overrides(places, out, lines)),
                    made_of=_made_of(places, lines),
                )
            )
    return jobs


def _made_of(places: Places, lines: Sequence[str]) -> str:
    files = {line.partition("=")[2] for line in lines if "=$weights/" in line}
    weights = [f"{name}: {_hash(places.path(name))}" for name in sorted(files)]
    return hashlib.sha256("\n".join([*lines, *weights]).encode()).hexdigest()[:16]


@cache
def _hash(path: Path) -> str:
    return content_hash(path)


def train_all(
    places: Places, jobs: Sequence[Job], workers: int, say: Callable[[str], None]
) -> list[Outcome]:
    """Train what is not trained yet; runs that were interrupted go on.

    Neither a run that fails nor one that needs what is not there stops the others.

    Raises:
        FacewrightError: a run in the folder was made of other settings or weights.
    """
    for job in jobs:
        check_same(job)
    todo = [job for job in jobs if not job.finished]
    blocked = prepare(places, {n for job in todo for n in job.needs}, say)
    outcomes = []
    for job in todo:
        if why := [blocked[n] for n in job.needs if n in blocked]:
            outcomes.append(Outcome(job, False, 0.0, "; ".join(why)))
            say(f"{job.name}: left out. {outcomes[-1].trouble}")
    left_out = {o.job for o in outcomes}
    todo = [job for job in todo if job not in left_out]
    _render_first(todo)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin)
    try:
        running = {pool.submit(train_one, job): job for job in todo}
        for future in as_completed(running):
            if error := future.exception():  # the others go on; the run's log has all of it
                said = f"{type(error).__name__}: {error}"
                outcome = Outcome(running[future], False, 0.0, said)
            else:
                outcome = future.result()
            outcomes.append(outcome)
            how = "done" if outcome.finished else outcome.trouble or "stopped; it can go on"
            say(f"{outcome.job.name}: {how}, {outcome.cpu_s:.0f} CPU s")
    finally:
        pool.shutdown(cancel_futures=True)
    return outcomes


def check_same(job: Job) -> None:
    """Refuse a run of other settings or weights.

    Raises:
        FacewrightError: says which folder.
    """
    made_of = job.record().get("made_of", job.made_of)
    if made_of != job.made_of:
        raise FacewrightError(
            f"{job.output} holds a run of other settings or of other weights than these. Delete "
            "that folder to train it anew, or name another folder with --runs."
        )


def _render_first(jobs: Iterable[Job]) -> None:
    """The worlds that these runs see, so that no two of them render the same one at once."""
    from facewright.training.data.world import world_arrays

    seen = set()
    for job in jobs:
        data = _config(job).data
        if data not in seen:
            seen.add(data)
            world_arrays(data)


def _config(job: Job) -> Any:
    from facewright.training.settings.config import load_config
    from facewright.training.train import stages

    return load_config(job.config, stages()[job.stage].Config, list(job.overrides))


_stopped = False


def _begin() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def train_one(job: Job) -> Outcome:
    """One run, in this process; what it says goes to train.log beside its export."""
    global _stopped
    if _stopped:
        return Outcome(job, False, 0.0)
    out = Path(job.output)
    out.mkdir(parents=True, exist_ok=True)
    before, start = job.record().get("cpu_s", 0.0), time.process_time()
    finished, trouble = False, ""
    with (out / "train.log").open("a", encoding="utf-8") as log, _said_to(log):
        try:
            facts = _train(job)
            finished, _stopped = facts["finished"], facts["stopped_by"] is not None
        except FacewrightError as error:
            trouble = str(error)
            log.write(f"{trouble}\n")
        except BaseException:
            traceback.print_exc(file=log)
            raise
    cpu_s = time.process_time() - start
    # An export says that a run is finished: what let it go on is no longer needed.
    if finished:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    record = {k: v for k, v in asdict(job).items() if k not in ("output", "config", "overrides")}
    with written_whole(out / RECORD) as partial:
        text = json.dumps(record | {"cpu_s": round(before + cpu_s, 1)}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
    return Outcome(job, finished, cpu_s, trouble)


def _train(job: Job) -> dict:
    from facewright.training.train import train

    return train(job.stage, job.config, resume=True, overrides=list(job.overrides))


@contextlib.contextmanager
def _said_to(log: Any):
    handler, root = logging.StreamHandler(log), logging.getLogger()
    root.addHandler(handler)
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
    finally:
        root.removeHandler(handler)


def spent(jobs: Sequence[Job]) -> dict[str, list[float]]:
    """Arm -> processor seconds of its finished runs."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        if job.finished and "cpu_s" in (record := job.record()):
            found.setdefault(job.arm, []).append(record["cpu_s"])
    return found
