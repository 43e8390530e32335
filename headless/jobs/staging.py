"""Results put down once, though a job may be begun twice.

Where a lost worker's job is given to another, the first may still be alive behind a broken network,
or may have died after its work and before its answer. So workers write into folders of their own,
and the one process that takes their answers moves what it was told of to its place: what has no
answer never appears, and what has one appears once.
"""

import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_PREFIX, _SUFFIX = ".facewright-", ".part"


@dataclass(frozen=True)
class Staged:
    """Work whose files lie in a folder of their own beside the target until `place` moves them.

    The work may write the job's target and, named after it, files beside it.
    """

    work: Callable[[Any], dict[str, Any]]

    def __call__(self, job: Any) -> dict[str, Any]:
        folder = job.target.parent / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
        try:
            facts = self.work(replace(job, target=folder / job.target.name))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # Listed here: another machine may see the names of a shared folder late.
        return {**facts, "staged": (folder.name, sorted(p.name for p in folder.iterdir()))}


def place(target: Path, facts: dict[str, Any]) -> dict[str, Any] | str:
    """Move the files of a staged job to where they belong, the target last: it says "finished".

    Returns:
        The facts without what is only needed here, or why the files could not be moved.
    """
    facts = dict(facts)
    name, files = facts.pop("staged")
    folder = target.parent / name
    try:
        for file in sorted(files, key=lambda file: file == target.name):
            (folder / file).replace(target.with_name(file))
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return facts


def remove_staging(targets: Iterable[Path]) -> None:
    """Delete what was staged beside the targets and never placed."""
    for parent in {target.parent for target in targets}:
        for folder in parent.glob(f"{_PREFIX}*{_SUFFIX}") if parent.is_dir() else ():
            shutil.rmtree(folder, ignore_errors=True)
