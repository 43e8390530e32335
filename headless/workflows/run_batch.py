"""A workflow over a folder: each picture goes into its Load Image node, results keep its name."""

import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.files import shapes
from ...core.files.names import fit_name, same_place
from ...core.files.scan import LeftAside
from ..jobs.batch import OnJob, Summary, run_jobs, unwatched
from ..jobs.manifest import Manifest, OwnRecord
from ..jobs.planning import Job, distinct, find_pictures, result_path
from .assign import find_node
from .report import RunReport
from .workflow import ApiWorkflow, WorkflowError, node_title

MANIFEST = "run.jsonl"
"""In the output folder: what was made from which picture, one record a line."""

_STAGE = ".run_"
_NUMBERED = re.compile(r"(.*)_\d{5,}_?")


def batch_node(api: ApiWorkflow, name: str | None = None) -> str:
    """Id of the node that takes the pictures: the named one, or the only Load Image.

    Raises:
        WorkflowError: it is not one that loads a picture, or there are none or several.
    """
    loaders = [i for i, n in api.items() if n["class_type"] == "LoadImage"]
    if name is not None:
        node_id = find_node(api, name)
        if not isinstance(api[node_id]["inputs"].get("image"), str):
            raise WorkflowError(
                f"Node {node_id} ({node_title(api, node_id)}) loads no picture by its name; "
                "--batch-node wants a Load Image node."
            )
        return node_id
    if len(loaders) == 1:
        return loaders[0]
    if not loaders:
        raise WorkflowError(
            "This workflow has no Load Image node that could take the pictures of --batch."
        )
    shown = ", ".join(f"{i} ({node_title(api, i)})" for i in loaders)
    raise WorkflowError(
        f"This workflow loads several pictures: nodes {shown}. Say with --batch-node which of them "
        "takes the pictures of --batch."
    )


def plan_runs(inputs: Sequence[str], out: Path, aside: LeftAside | None = None) -> list[Job]:
    """Each picture with the name its result gets, `out`/<its place in the folder>.png.

    Raises:
        FacewrightError: as `planning.find_pictures` and `planning.distinct`.
    """
    found = find_pictures(inputs, out, aside)
    return distinct([Job(s, result_path(out, name, ".png"), name.as_posix()) for s, name in found])


class _Ran(OwnRecord):
    settings: shapes.TEXT
    saved: list[shapes.BELOW]


class Runs:
    """Runs of one workflow over pictures, with a record of each."""

    def __init__(
        self, out: Path, api: ApiWorkflow, node: str, run: Callable[[Path, Path], RunReport]
    ) -> None:
        """Take what does one run.

        Args:
            node: id of the node that takes the pictures.
            run: runs the workflow for a picture and saves into the folder it is given.
        """
        self.out, self.run = out, run
        self.settings = _digest(api, node)
        # Where a workflow saves once, the picture's name is enough.
        self.savers = sum("filename_prefix" in n["inputs"] for n in api.values())
        self.manifest = Manifest(out / MANIFEST, _Ran)

    def do(
        self, jobs: Sequence[Job], *, overwrite: bool = False, on_job: OnJob = unwatched
    ) -> Summary:
        """Run for every picture that was not done before with the same workflow and settings.

        One that fails never stops the others.

        Raises:
            FacewrightError: the record cannot be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        for left in self.out.glob(f"{_STAGE}*"):
            shutil.rmtree(left, ignore_errors=True)
        self.manifest.start()
        self._owners = {_folded(f): r["output"] for r in self.manifest for f in r["saved"]}
        for job in jobs:  # a result that bears its picture's own name keeps it
            self._owners.setdefault(_folded(self._key(job)), self._key(job))
        try:
            return run_jobs(
                jobs, self._do_one, overwrite=overwrite, finished=self.finished, on_job=on_job
            )
        finally:
            self.manifest.finish()

    def finished(self, job: Job) -> bool:
        record = self.manifest.get(self._key(job))
        return (
            record is not None
            and record["settings"] == self.settings
            and all((self.out / name).exists() for name in record["saved"])
        )

    def _key(self, job: Job) -> str:
        return job.target.relative_to(self.out).as_posix()

    def _do_one(self, job: Job) -> dict[str, Any]:
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=self.out))
        try:
            report = self.run(job.source.resolve(), stage)
            key = self._key(job)
            moves = dict(zip(self._names(job, report.saved), report.saved, strict=True))
            report.saved = [self.out / name for name in moves]
            facts = {**report.as_dict(), "saved": list(moves)}
            old = self.manifest.get(key)
            for name in old["saved"] if old else ():
                (self.out / name).unlink(missing_ok=True)
            # The record comes first: files that are there belong to it, those that are not yet
            # there have the picture done again.
            record = {"output": key, "input": job.name, "settings": self.settings, **facts}
            self.manifest.add(record)
            self._owners |= dict.fromkeys(map(_folded, moves), key)
            for name, path in moves.items():
                (self.out / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, self.out / name)
            return {**facts, "saved": [str(path) for path in report.saved]}
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _names(self, job: Job, saved: Sequence[Path]) -> list[str]:
        """Names of results in the output folder: a.png, or a_<prefix of the saver>.png for each."""
        key = self._key(job)
        folder = job.target.relative_to(self.out).parent
        names: list[str] = []
        for path in saved:
            match = _NUMBERED.fullmatch(path.stem)
            prefix = match[1] if match else path.stem
            stem = job.target.stem if self.savers < 2 else f"{job.target.stem}_{prefix}"
            for number in itertools.count(1):
                end = f"_{number:05}{path.suffix}" if number > 1 else path.suffix
                name = (folder / fit_name(f"{stem}{end}", keep=len(end))).as_posix()
                # Another picture's result may be called like a further one of this.
                if name not in names and self._owners.get(_folded(name), key) == key:
                    names.append(name)
                    break
        return names


def _folded(name: str) -> str:
    """Equal for names that are one file on some system."""
    return same_place(Path(name))


def _digest(api: ApiWorkflow, node: str) -> str:
    """Changes with whatever the results depend on, but not with the picture."""
    said: Mapping[str, Any] = {
        k: {
            "class_type": n["class_type"],
            "inputs": {i: v for i, v in n["inputs"].items() if (k, i) != (node, "image")},
        }
        for k, n in api.items()
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
