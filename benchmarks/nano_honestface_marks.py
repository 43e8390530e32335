"""Does the nano HonestFace bring back what only the references know, and nothing of strangers?

    python bootstrap.py bench nano_honestface --train     first: the runs
    python bootstrap.py bench nano_honestface_marks
    python bootstrap.py bench scores --experiment marks       person by person, damaged more

Moles, scars, earrings, lipstick, iris colours, glasses and freckles of rendered people, looked for
at their exact positions (benchmarks/_marks.py), with right, no and wrong references. What was
expected beforehand: experiments/claims.yaml, the experiment `marks`. Writes
benchmarks/results/nano_honestface_marks.json and .png.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from facewright.benchmarks._arms import SEEDS, folder
from facewright.benchmarks._marks import FALSE_POSITIVE, HIT, TOLERANCE, Measured, measure
from facewright.benchmarks._marks_sheet import close_ups
from facewright.benchmarks._nano_osdface import OneStep, seeds
from facewright.benchmarks._scoring import UNTRAINED, Conditions, Experiment, heavy
from facewright.benchmarks._scoring import people as scored_people
from facewright.benchmarks.nano_honestface import (
    FIRST_IDENTITY,
    REFERENCES,
    RESULTS,
    People,
    Trained,
    in_parts,
    looks,
    people,
)
from facewright.core.images import Picture, write_picture
from facewright.core.metrics.statistics import bootstrap_interval

CONDITIONS = {"none": "no references", "right": "right references", "wrong": "wrong references"}


def restored(runs: Path, of: People) -> dict[str, torch.Tensor]:
    """Pictures by condition and training seed, beside LQ and what the autoencoder leaves."""
    pictures = {"LQ": of.lq}
    for seed in SEEDS:
        run = Trained.of(folder(runs, "honestface", "full", seed) / "export")
        said = looks(run, of)
        for key, name in CONDITIONS.items():
            pictures[f"{name}, seed {seed}"] = in_parts(run, of.lq, said[key])
    pictures["VAE(GT)"] = torch.cat(
        [run.backbone.decode(run.backbone.encode(x * 2 - 1)) / 2 + 0.5 for x in of.gt.split(16)]
    ).clamp(0, 1)
    return pictures


def over_seeds(found: Measured, name: str, mark: str, test: str, *, amount: bool) -> np.ndarray:
    """(seeds, people with such a mark)."""
    known = found.amount
    names = [name] if name in known else [f"{name}, seed {s}" for s in SEEDS]
    return np.stack([found.by_person(n, mark, test, amount=amount) for n in names])


def _cell(values: np.ndarray) -> dict:
    """Mean and interval over people of their means over seeds, and every seed's mean."""
    of_people = values.mean(0)
    low, high = bootstrap_interval(of_people) if len(of_people) > 5 else (math.nan, math.nan)
    cell = {"mean": float(of_people.mean()), "low": low, "high": high, "people": len(of_people)}
    finite = {k: v if math.isfinite(v) else None for k, v in cell.items()}
    return finite | {"seeds": values.mean(1).tolist()}


def tables(found: Measured) -> dict:
    """Rates and amounts by mark and picture, and their differences to no references."""
    report: dict = {}
    for mark in TOLERANCE:
        for test in (HIT, FALSE_POSITIVE):
            if not ((found.mark == mark) & (found.test == test)).any():
                continue
            entry = report.setdefault(mark, {}).setdefault(test, {"rate": {}, "amount": {}})
            for kind in ("rate", "amount"):
                values = {
                    n: over_seeds(found, n, mark, test, amount=kind == "amount")
                    for n in ("LQ", *CONDITIONS.values(), "VAE(GT)")
                }
                entry[kind] = {n: _cell(v) for n, v in values.items()}
                none = values["no references"]
                for n in ("right references", "wrong references"):
                    entry[kind][f"{n} - none"] = _cell(values[n] - none)
    return report


SHORT = {"lip colour": "lips", "lip color": "lips"}
"""Marks whose metric has another name."""


def by_person(found: Measured, people: Sequence[int], name: str) -> dict[str, np.ndarray]:
    """Of one set of pictures: hits_MARK and false_MARK, each person's share of questions with a
    yes, NaN where none was asked."""
    values = {}
    for mark in TOLERANCE:
        for test, start in ((HIT, "hits"), (FALSE_POSITIVE, "false")):
            asked = (found.mark == mark) & (found.test == test)
            shares = dict(
                zip(
                    np.unique(found.person[asked]).tolist(),
                    found.by_person(name, mark, test).tolist(),
                    strict=True,
                )
            )
            metric = f"{start}_{SHORT.get(mark, mark)}"
            values[metric] = np.array([shares.get(p, math.nan) for p in people])
    return values


@torch.no_grad()
def score_marks(count: int, arm: str, exports: Mapping[int, Path]) -> Conditions:
    """The arm's pictures with right, no and wrong references, all seeds at once: the questions are
    drawn only once. `input` is what stands beside them."""
    of = scored_people(count, heavy, references=REFERENCES)
    pictures: dict[tuple[str, str], torch.Tensor] = {}
    if arm == "input":
        ceiling = OneStep.bundled().ceiling(of.gt)
        pictures = {("LQ", UNTRAINED): of.lq, ("VAE(GT)", UNTRAINED): ceiling}
    for seed, export in exports.items():
        run = Trained.of(export)
        said = looks(run, of)
        for how, name in (("right", arm), ("none", f"{arm}-none"), ("wrong", f"{arm}-wrong")):
            pictures[name, str(seed)] = in_parts(run, of.lq, said[how])
    wrong = [of.seeds[-1], *of.seeds[:-1]]  # whose photos `looks` gives as wrong references
    named = {"\n".join(key): x for key, x in pictures.items()}
    found = measure(of.seeds, [8 * s for s in of.seeds], wrong, named)
    conditions: Conditions = {}
    for key in named:
        name, seed = key.split("\n")
        conditions.setdefault(name, {})[seed] = by_person(found, of.seeds, key)
    return conditions


EXPERIMENTS = {
    "marks": Experiment(
        people=256,
        damage="preset severe, reduced 16 times",
        seeds=seeds,
        score=score_marks,
        untrained=("input",),
        method="honestface",
        arms=("full",),
        together=True,
        settings={"references": REFERENCES},
    )
}


def _print(report: dict) -> None:
    for kind in ("rate", "amount"):
        columns = list(report["mole"][HIT][kind])
        print(f"\n{kind}\n| | people | " + " | ".join(columns) + " |")
        print("|---" * (len(columns) + 2) + "|")
        for mark, tests in report.items():
            for test, entry in tests.items():
                cells = []
                for c in columns:
                    v = entry[kind][c]
                    spread = "" if v["low"] is None else f" [{v['low']:.3f}, {v['high']:.3f}]"
                    cells.append(f"{v['mean']:.3f}{spread}")
                count = entry[kind]["LQ"]["people"]
                print(f"| {mark}, {test} | {count} | " + " | ".join(cells) + " |")


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--people", type=int, default=256)
    options = parser.parse_args(arguments)
    of = people(options.people)
    seeds = [FIRST_IDENTITY + i for i in range(options.people)]
    wrong = [seeds[-1], *seeds[:-1]]  # whose photos `looks` gives as wrong references
    pictures = restored(options.runs, of)
    found = measure(seeds, [8 * s for s in seeds], wrong, pictures)
    report = tables(found)
    _print(report)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "nano_honestface_marks.json"
    content = {"people": options.people, "training_seeds": list(SEEDS), "marks": report}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    shown = {n: pictures[f"{n}, seed {SEEDS[0]}"] for n in CONDITIONS.values()}
    sheet = close_ups(
        seeds, [8 * s for s in seeds], wrong,
        {"LQ": of.lq, **shown, "VAE(GT)": pictures["VAE(GT)"]},
    )  # fmt: skip
    write_picture(path.with_suffix(".png"), sheet, Picture(sheet))


if __name__ == "__main__":
    main()
