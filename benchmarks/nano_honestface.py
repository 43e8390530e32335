"""What photographs of the person do for the nano HonestFace, and which part of it does what.

    python bootstrap.py bench nano_honestface --train     the arms (bench arms --method honestface)
    python bootstrap.py bench nano_honestface             measure them
    python bootstrap.py bench nano_honestface --shipped   measure the bundled models
    python bootstrap.py bench scores --experiment honestface   person by person, damaged more

What was expected beforehand: experiments/honestface_nano.md. Writes benchmarks/results/
nano_honestface.json and pictures. Rendered people that no training saw; numbers of these toys say
nothing about photographs.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from facewright.benchmarks import arms
from facewright.benchmarks._arms import METHODS, SEEDS, folder
from facewright.benchmarks._nano_osdface import of_input, seeds
from facewright.benchmarks._scoring import (
    Conditions,
    Experiment,
    People,
    heavy,
    measured,
    severe,
)
from facewright.benchmarks._scoring import people as scored_people
from facewright.core.checkpoint import read_tensors
from facewright.core.drawing.sheet import contact_sheet
from facewright.core.images import Picture, write_picture
from facewright.core.methods.honestface import Identity, IdentityEmbedder, nano_ide
from facewright.core.metrics.statistics import bootstrap_interval
from facewright.core.restorer import restore_one_step
from facewright.core.weights import nano
from facewright.headless.host.host import HeadlessHost

METHOD = "honestface"
ARMS = METHODS[METHOD].arms
RESULTS = Path(__file__).parent / "results"
FIRST_IDENTITY = 2**40 + 2**39 + 2**23
"""People of no training, no validation and no other benchmark."""
REFERENCES = 4
BATCH = 16
SHEET_PEOPLE = 8
COLUMNS = {
    "identity": "identity error",
    "feature": "feature distance",
    "eyes": "error of the eyes' colour",
    "masked": "feature distance in the mask",
    "edges": "edge ratio in the mask",
    "ald_eyes": "A-LD eyes, px",
    "psnr": "PSNR, dB",
}


@dataclass(frozen=True)
class Trained:
    """The files of one run, loaded."""

    ide: IdentityEmbedder
    vre: torch.nn.Module
    backbone: object

    @classmethod
    def of(cls, files: Path) -> "Trained":
        """The exported files in a folder."""
        parts = ("lora", "vre", "ide")
        lora, vre, ide = (files / f"nano_honestface_{part}.safetensors" for part in parts)
        model, vae = HeadlessHost().load_nano(lora=False)
        model, _ = HeadlessHost().apply_lora(model, *read_tensors(lora), 1.0)
        return cls(nano_ide(ide), nano.load_vre(vre), HeadlessHost().backbone(model, vae))

    def restore(self, lq: torch.Tensor, identity: Identity) -> torch.Tensor:
        return restore_one_step(lq, self.ide.condition(self.vre, lq, identity), self.backbone)[0]


def people(count: int) -> People:
    return scored_people(count, severe, first=FIRST_IDENTITY, references=REFERENCES)


def score(x: torch.Tensor, of: People) -> dict[str, np.ndarray]:
    """One value per person for every column."""
    values = measured(x, of, masked=True)
    return {
        "identity": 1 - values["identity"],
        "feature": values["feature"],
        "eyes": values["eyes_colour"],
        "masked": values["masked_feature"],
        "edges": values["masked_edges"],
        "ald_eyes": values["a_ld_eyes"],
        "psnr": values["psnr"],
    }


def looks(run: Trained, of: People) -> dict[str, Identity]:
    """What the embedder is told, by condition."""
    n = len(of.gt)
    everyone, nobody = torch.ones(n, REFERENCES).bool(), torch.zeros(n, REFERENCES).bool()
    right = run.ide.look_at(of.references, everyone, of.lq)
    found = {
        "right": right,
        "none": run.ide.look_at(of.references, nobody, of.lq),
        "wrong": run.ide.look_at(of.references.roll(1, 0), everyone, of.lq),
    }
    # The same embeddings, but the eyes of another reference.
    draw = torch.Generator().manual_seed(0)
    others = {
        "random": torch.randint(REFERENCES, (n,), generator=draw),
        "farthest": right.distance.argmax(1),
    }
    for name, index in others.items():
        one = F.one_hot(index, REFERENCES).bool()
        eyes = run.ide.look_at(of.references, one, of.lq)
        found[name] = replace(right, colour=eyes.colour, structure=eyes.structure, chosen=index)
    return found


def measure_arm(arm: str, runs: Path, of: People) -> dict[str, list[dict[str, np.ndarray]]]:
    """Scores by condition, one entry per training seed."""
    table: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed in SEEDS:
        run = Trained.of(folder(runs, METHOD, arm, seed) / "export")
        said = looks(run, of)
        wanted = said if arm == "full" else {"right": said["right"]}
        for name, identity in wanted.items():
            table.setdefault(name, []).append(score(in_parts(run, of.lq, identity), of))
    return table


def measure_shipped(of: People) -> dict:
    """The bundled models: a longer run of other settings than the arms, one training seed."""
    run = Trained.of(nano.NANO_DIR)
    said = {k: v for k, v in looks(run, of).items() if k in ("right", "none", "wrong")}
    pictures = {k: in_parts(run, of.lq, v) for k, v in said.items()}
    scores = {"LQ": [score(of.lq, of)], **{k: [score(x, of)] for k, x in pictures.items()}}
    _sheet(of, said["right"], pictures)
    table = {k: summary(v) for k, v in scores.items()}
    pairs = (("right", "none"), ("wrong", "none"), ("right", "LQ"))
    return table | {f"{a} - {b}": contrast(scores[a], scores[b]) for a, b in pairs}


def in_parts(run: Trained, lq: torch.Tensor, identity: Identity) -> torch.Tensor:
    parts = []
    for i in range(0, len(lq), BATCH):
        rows = slice(i, i + BATCH)
        some = Identity(**{k: v[rows] for k, v in vars(identity).items()})
        parts.append(run.restore(lq[rows], some))
    return torch.cat(parts)


@lru_cache(1)
def _people(count: int) -> People:
    return scored_people(count, heavy, references=REFERENCES)


_COLOURED = ("full", "full-none", "full-wrong", "plain")
"""Conditions that are asked for `colour`, which takes longest."""


@torch.no_grad()
def score_arm(count: int, arm: str, exports: Mapping[int, Path]) -> Conditions:
    """An arm with photographs of the right person; the reference with others and with none, too."""
    of, found = _people(count), {}
    if arm == "input":
        return of_input(of)
    for seed, export in exports.items():
        run = Trained.of(export)
        said = looks(run, of)
        said = {"": said.pop("right"), **(said if arm == "full" else {})}
        for how, identity in said.items():
            name = f"{arm}-{how}".removesuffix("-") + ("-eyes" if how in _EYES else "")
            restored = in_parts(run, of.lq, identity)
            values = measured(restored, of, masked=True, colour=name in _COLOURED)
            found.setdefault(name, {})[str(seed)] = values
    return found


_EYES = ("random", "farthest")
EXPERIMENTS = {
    "honestface": Experiment(
        people=128,
        damage="preset severe, reduced 16 times",
        seeds=seeds,
        score=score_arm,
        untrained=("input",),
        method=METHOD,
        arms=tuple(ARMS),
        settings={"references": REFERENCES},
    )
}


def summary(scores: list[dict[str, np.ndarray]]) -> dict:
    """Mean, interval over people of their means over seeds, and each seed's mean."""
    return {c: _summary(np.stack([s[c] for s in scores])) for c in COLUMNS}


def contrast(a: list[dict[str, np.ndarray]], b: list[dict[str, np.ndarray]]) -> dict:
    """a - b, person by person and seed by seed."""
    return {
        c: _summary(np.stack([x[c] - y[c] for x, y in zip(a, b, strict=True)])) for c in COLUMNS
    }


def _summary(values: np.ndarray) -> dict:
    of_people = values.mean(0)
    low, high = bootstrap_interval(of_people)
    return {"mean": float(of_people.mean()), "low": low, "high": high,
            "seeds": values.mean(1).tolist()}  # fmt: skip


def _sheet(of: People, right: Identity, pictures: dict[str, torch.Tensor]) -> None:
    chosen = of.references[torch.arange(len(of.gt)), right.chosen]
    rows = {
        "LQ": of.lq,
        "no references": pictures["none"],
        "right references": pictures["right"],
        "wrong references": pictures["wrong"],
        "truth": of.gt,
        "reference": chosen,
        "wrong reference": of.references.roll(1, 0)[:, 0],
    }
    shown = [p for x in rows.values() for p in x[:SHEET_PEOPLE]]
    labels = [name if i == 0 else "" for name in rows for i in range(SHEET_PEOPLE)]
    sheet = contact_sheet(shown, labels, SHEET_PEOPLE)
    write_picture(RESULTS / "nano_honestface.png", sheet, Picture(sheet))


def _plot(report: dict) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = (
        ("identity", "identity error", "full", ("right", "none", "wrong")),
        ("eyes", "error of the eyes' colour", "full",
         ("right", "random", "farthest", "none", "wrong")),
        ("identity", "identity error, right references", None, ("plain", "ffe", "fie", "full")),
        ("masked", "feature distance in the mask", None,
         ("mfa-none", "mfa-mse", "mfa-dists", "full")),
    )  # fmt: skip
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.2), constrained_layout=True)
    for axis, (column, title, arm, names) in zip(axes, panels, strict=True):
        cells = [report["arms"][arm or n][n if arm else "right"][column] for n in names]
        for i, cell in enumerate(cells):
            spread = [[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]]
            axis.errorbar(i, cell["mean"], spread, marker="o", capsize=4, color="C0")
            axis.plot([i + 0.15] * len(cell["seeds"]), cell["seeds"], ".", color="grey")
        axis.set_xticks(range(len(names)), names, rotation=20)
        axis.set(title=title, xlim=(-0.5, len(names) - 0.3))
    figure.savefig(RESULTS / "nano_honestface_arms.png", dpi=110)
    plt.close(figure)


@torch.no_grad()
def measure(runs: Path, count: int) -> dict:
    """All arms; prints the tables of experiments/honestface_nano.md."""
    of = people(count)
    scores = {arm: measure_arm(arm, runs, of) for arm in ARMS}
    report = {
        "people": count,
        "first_identity": FIRST_IDENTITY,
        "training_seeds": list(SEEDS),
        "lq": summary([score(of.lq, of)]),
        "arms": {a: {k: summary(v) for k, v in s.items()} for a, s in scores.items()},
    }
    full = scores["full"]
    pairs = {f"{k} - right": (full[k], full["right"]) for k in full if k != "right"}
    pairs["wrong - none"] = (full["wrong"], full["none"])
    for a, b in (("ffe", "plain"), ("fie", "plain"), ("full", "ffe"), ("full", "fie"),
                 ("full", "mfa-none"), ("mfa-mse", "mfa-none"), ("mfa-dists", "mfa-none"),
                 ("full", "mfa-mse"), ("full", "mfa-dists")):  # fmt: skip
        pairs[f"{a} - {b}"] = (scores[a]["right"], scores[b]["right"])
    one, two, three, four = (scores[a]["right"] for a in ("full", "ffe", "fie", "plain"))
    report["contrasts"] = {k: contrast(*v) for k, v in pairs.items()}
    report["interaction"] = {
        c: _summary(np.stack([a[c] - b[c] - d[c] + e[c]
                              for a, b, d, e in zip(one, two, three, four, strict=True)]))
        for c in COLUMNS
    }  # fmt: skip
    for title, rows in (
        ("values", {f"{a}, {k}": v for a, s in report["arms"].items() for k, v in s.items()}),
        ("differences", {**report["contrasts"], "interaction FFE x FIE": report["interaction"]}),
    ):
        _print(title, rows)
    return report


def _print(title: str, rows: dict) -> None:
    print(f"\n{title}\n| | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(_cell(row[c]) for c in COLUMNS) + " |")


def _cell(v: dict) -> str:
    return f"{v['mean']:.4f} [{v['low']:.4f}, {v['high']:.4f}]"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int, default=2, help="runs trained at a time")
    parser.add_argument("--people", type=int, default=128)
    options = parser.parse_args(arguments)
    if options.train:
        runs, workers = str(options.runs), str(options.workers)
        arms.main(["--method", METHOD, "--runs", runs, "--workers", workers])
        return
    RESULTS.mkdir(exist_ok=True)
    if options.shipped:
        with torch.no_grad():
            report = measure_shipped(people(options.people))
        _print("the bundled models", report)
        report |= {"people": options.people, "first_identity": FIRST_IDENTITY}
        name = "nano_honestface_shipped"
    else:
        report, name = measure(options.runs, options.people), "nano_honestface"
        _plot(report)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
