"""Jobs over many files: what to read, where to write, skipping what is finished, failing singly."""

import glob
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import FacewrightError
from .images import PICTURE_SUFFIXES, written_suffix


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path


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


def plan(inputs: Sequence[str], out: Path) -> list[Job]:
    """Pair every picture with the file its result goes to.

    Files are taken as they are, folders searched with their subfolders (whose structure is kept
    under `out`), patterns with * ? [ expanded. `out` is a file when a single picture is given and
    it has a picture's suffix, else a folder.

    Raises:
        FacewrightError: nothing to do, a name that does not exist, two pictures that would be
            written to one file, or a result that would replace its source.
    """
    found = list(_sources(inputs, out))
    if not found:
        raise FacewrightError(f"There are no pictures in {', '.join(inputs)}.")
    names_a_file = out.suffix.lower() in PICTURE_SUFFIXES and not out.is_dir()
    if names_a_file and len(found) == 1:
        jobs = [Job(found[0][0], out)]
    elif names_a_file:
        raise FacewrightError(f"{len(found)} pictures cannot be written to one file {out}.")
    else:
        jobs = [Job(s, out / name.with_suffix(written_suffix(s))) for s, name in found]
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in taken:
            raise FacewrightError(
                f"{taken[target]} and {job.source} would both be written to {job.target}. "
                "Restore them in two runs with different output folders."
            )
        if target == job.source.resolve():
            raise FacewrightError(
                f"The result of {job.source} would replace it. Choose another output folder."
            )
        taken[target] = job.source
    return jobs


def _sources(inputs: Iterable[str], out: Path) -> Iterable[tuple[Path, Path]]:
    """(file, name relative to the output folder), without what lies in the output folder."""
    seen = set()
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            candidates = [
                (p, p.relative_to(path))
                for p in sorted(path.rglob("*"))
                if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")
                and not p.resolve().is_relative_to(out.resolve())
            ]  # fmt: skip
        elif path.exists():
            candidates = [(path, Path(path.name))]
        else:
            matches = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else []
            candidates = [(Path(m), Path(m).name) for m in matches if Path(m).is_file()]
            candidates = [(p, Path(name)) for p, name in candidates]
            if not candidates:
                raise FacewrightError(f"There is no file, folder or match for {given!r}.")
        for source, name in candidates:
            if source.resolve() not in seen:
                seen.add(source.resolve())
                yield source, name


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], dict[str, Any]],
    *,
    overwrite: bool = False,
    on_job: Callable[[Job], None] = lambda job: None,
) -> Summary:
    """Do the jobs one after another; one that fails is recorded and never stops the others.

    A job whose target exists is finished (targets appear whole or not at all) and is skipped, so
    that a batch that was interrupted goes on where it stopped.
    """
    summary = Summary()
    for job in jobs:
        if job.target.exists() and not overwrite:
            summary.skipped.append(job.source)
        else:
            started = time.perf_counter()
            try:
                facts = work(job)
            except Exception as error:  # noqa: BLE001 (the other pictures still get their turn)
                known = isinstance(error, (FacewrightError, OSError))
                text = str(error) if known else f"{type(error).__name__}: {error}"
                summary.failed[job.source] = text
            else:
                seconds = round(time.perf_counter() - started, 3)
                paths = {"input": str(job.source), "output": str(job.target)}
                summary.done.append({**paths, **facts, "seconds": seconds})
        on_job(job)
    return summary
