"""Measure what the arms of the miniature experiments, and the bundled models, do to unseen people.

    python bootstrap.py bench scores --experiment osdface [--workers 2] [--people 128] [--seeds 1,2]

Experiments, conditions and metrics are those of experiments/claims.yaml; the runs come from
`bench arms`. Writes benchmarks/results/scores_EXPERIMENT.json after each run that was scored, which
`bench claims` reads. What was scored already, on the same files and people, is not scored again.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from facewright.benchmarks import (
    _nano_osdface,
    nano_flipnet,
    nano_honestface,
    nano_honestface_marks,
)
from facewright.benchmarks._arms import ROOT, SEEDS, WEIGHTS, folder
from facewright.benchmarks._claims_scores import RESULTS, read_scores, scores_file
from facewright.benchmarks._scoring import MEASURED_BY, Conditions, Experiment, Task
from facewright.benchmarks.arms import numbers, say
from facewright.core.errors import FacewrightError
from facewright.core.files.writing import content_hash, written_whole

EXPERIMENTS: dict[str, Experiment] = {
    **_nano_osdface.EXPERIMENTS,
    **nano_honestface.EXPERIMENTS,
    **nano_honestface_marks.EXPERIMENTS,
    **nano_flipnet.EXPERIMENTS,
}
DIGITS = 5


def exports_of(name: str, task: Task, runs: Path) -> dict[int, Path]:
    """The folder of each of a task's runs."""
    method = EXPERIMENTS[name].method
    return {seed: folder(runs, method, task.arm, seed) / "export" for seed in task.seeds}


def score_task(name: str, count: int, task: Task, runs: Path) -> tuple[Conditions, float]:
    """What a task found, and its processor seconds; runs in a worker."""
    torch.set_num_threads(1)
    start = time.process_time()
    found = EXPERIMENTS[name].score(count, task.arm, exports_of(name, task, runs))
    return found, time.process_time() - start


def made_of(name: str, task: Task, runs: Path) -> str:
    """Changes with the files of the runs that are scored."""
    exports = exports_of(name, task, runs).values()
    return _digest(p for export in exports for p in sorted(export.glob("*.safetensors")))


def bundled(about: Experiment) -> str:
    """Changes with the bundled files that the scores hang on."""
    return _digest(WEIGHTS / f"{file}.safetensors" for file in (*MEASURED_BY, *about.weights))


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(" ".join(map(content_hash, files)).encode()).hexdigest()[:16]


def score(
    name: str,
    count: int,
    runs: Path,
    *,
    seeds: Iterable[int] = SEEDS,
    workers: int = 2,
    results: Path = RESULTS,
) -> Path:
    """Score what is there and was not scored yet; the path of the experiment's file.

    Raises:
        FacewrightError: no run is there, or the file that is there cannot be read.
    """
    about = EXPERIMENTS[name]
    tasks = about.tasks(seeds)
    there = [t for t in tasks if all(e.is_dir() for e in exports_of(name, t, runs).values())]
    for task in tasks:
        if task not in there:
            say(f"{_called(task)}: no finished run; bench arms --method {about.method} makes it")
    if about.arms and not any(task.seeds for task in there):
        raise FacewrightError(
            f"No run of {name} is finished in {runs}. Make them with `python bootstrap.py bench "
            f"arms --method {about.method}`, or name their folder with --runs."
        )
    report = _begun(name, count, results)
    known = report["settings"]["scored"]
    todo = {t: made_of(name, t, runs) for t in there}
    todo = {t: digest for t, digest in todo.items() if known.get(_called(t)) != digest}
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:
        running = {pool.submit(score_task, name, count, t, runs): t for t in todo}
        for future in as_completed(running):
            task = running[future]
            found, cpu_s = future.result()
            merge(report["conditions"], found)
            known[_called(task)] = todo[task]
            write(report, scores_file(name, results))
            say(f"{_called(task)}: scored, {cpu_s:.0f} CPU s")
    read_scores(name, results)
    return scores_file(name, results)


def _called(task: Task) -> str:
    return "-".join([task.arm, *map(str, task.seeds)])


def _begin() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _begun(name: str, count: int, results: Path) -> dict[str, Any]:
    """The experiment's file with what stays of it, or an empty one."""
    about = EXPERIMENTS[name]
    who = list(about.seeds(count))
    fresh = {
        "schema": 1,
        "experiment": name,
        "people": who,
        "damage": about.damage,
        "settings": {**about.settings, "weights": bundled(about), "scored": {}},
        "versions": {"torch": torch.__version__},
        "conditions": {},
    }
    if read_scores(name, results) is None:
        return fresh
    before = json.loads(scores_file(name, results).read_text(encoding="utf-8"))
    kept = {k: v for k, v in before["settings"].items() if k != "scored"}
    now = {k: v for k, v in fresh["settings"].items() if k != "scored"}
    # Scores of other people, settings or bundled weights stand beside none of these.
    if kept != now or any(before[k] != fresh[k] for k in ("people", "damage")):
        return fresh
    return fresh | {"settings": before["settings"], "conditions": before["conditions"]}


def merge(conditions: dict[str, Any], found: Conditions) -> None:
    """Put a task's values among those that are there."""
    for condition, of_seeds in found.items():
        for seed, values in of_seeds.items():
            plain = {metric: [rounded(x) for x in v.tolist()] for metric, v in values.items()}
            conditions.setdefault(condition, {})[seed] = plain


def rounded(value: float) -> float | None:
    """To `DIGITS` significant digits; None in place of what is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def write(report: Mapping[str, Any], path: Path) -> None:
    """The file, a line for each list of values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(_text(report), encoding="utf-8")


def _text(value: Any, depth: int = 0) -> str:
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value, allow_nan=False)
    space = " " * depth
    inner = ",\n".join(
        f"{space} {json.dumps(key)}: {_text(part, depth + 1)}" for key, part in value.items()
    )
    return f"{{\n{inner}\n{space}}}" + ("\n" if depth == 0 else "")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", choices=list(EXPERIMENTS), required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--seeds", type=numbers, default=SEEDS, help="such as 1,2")
    parser.add_argument("--people", type=int, help="in place of the experiment's own number")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    count = options.people or EXPERIMENTS[options.experiment].people
    try:
        path = score(
            options.experiment,
            count,
            options.runs.resolve(),
            seeds=options.seeds,
            workers=options.workers,
            results=options.results,
        )
    except FacewrightError as error:
        sys.exit(str(error))
    say(str(path))


if __name__ == "__main__":
    main()
