"""What the bundled nano FLIPNET does with rendered people it never saw.

    python bootstrap.py bench nano_flipnet [--part restore|degrade] [--people 32] [--steps 20]
    python bootstrap.py bench scores --experiment flipnet|hidden|coverage     arms, person by person

restore: phi from 0 to 2 against LQ and the VAE's ceiling, every number inside the face box, as in
nano_quality. degrade: how much of the rendered world's own damage the degradation mode covers,
against on-the-fly presets. What was expected beforehand: experiments/flipnet_nano.md. Writes
benchmarks/results/nano_flipnet_<part>.json and pictures. Numbers of these toys say nothing about
photographs.
"""

import argparse
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from facewright.benchmarks._flipnet_sampling import GUIDANCE, Flipnet
from facewright.benchmarks._nano_osdface import of_input
from facewright.benchmarks._nano_osdface import seeds as seeds_of
from facewright.benchmarks._scoring import FIRST_IDENTITY as SCORED_FIRST
from facewright.benchmarks._scoring import (
    UNTRAINED,
    Conditions,
    Damage,
    Experiment,
    People,
    hidden,
    measured,
    severe,
)
from facewright.benchmarks._scoring import people as scored_people
from facewright.benchmarks.nano_quality import FIRST_IDENTITY, by_batches, people, score
from facewright.core.color import match_color
from facewright.core.degradation import Degradation
from facewright.core.drawing.sheet import contact_sheet
from facewright.core.images import Picture, write_picture
from facewright.core.metrics import frechet_distance
from facewright.core.metrics.manifolds import NEIGHBOURS
from facewright.core.metrics.manifolds import recall as recall_of
from facewright.core.metrics.statistics import bootstrap_interval
from facewright.core.weights import nano
from facewright.headless.host.host import HeadlessHost
from facewright.training.data.real_damage import real_damage
from facewright.training.world.faces3d import photos

RESULTS = Path(__file__).parent / "results"
PHIS = (0.0, 0.5, 1.0, 1.5, 2.0)
SEEDS = (0, 1, 2)
BATCH = 16
SHEET_PEOPLE = 8
RECOLOURED = "phi = 1, colours of LQ"
COLUMNS = ("psnr", "ssim", "edges", "feature", "identity")


def restore(count: int, steps: int) -> dict:
    gt, gallery, mask = people(count)
    lq, _ = Degradation.preset("severe")(gt, seed=FIRST_IDENTITY)
    backbone = HeadlessHost().backbone(*HeadlessHost().load_nano(lora=False))
    ceiling = by_batches(
        lambda x: backbone.decode(backbone.encode(x * 2 - 1)).add(1).div(2).clamp(0, 1), gt
    )
    flipnet = Flipnet.bundled("restore", steps)
    shown = {"LQ": lq}
    values = {"LQ": score(lq, gt, gallery, mask), "VAE(GT)": score(ceiling, gt, gallery, mask)}
    for phi in PHIS:
        restored = [flipnet.sample(lq, seed, phi) for seed in SEEDS]
        shown[f"phi = {phi:g}"] = restored[0]
        versions = {f"phi = {phi:g}": restored}
        if phi == 1:
            versions[RECOLOURED] = [match_color(x, lq, "wavelet") for x in restored]
        for name, pictures in versions.items():
            runs = [score(x, gt, gallery, mask) for x in pictures]
            # A person's mean over seeds: intervals are over people.
            values[name] = {c: np.mean([r[c] for r in runs], 0) for c in COLUMNS}
        print(f"phi {phi:g} sampled")
    shown["GT"] = gt
    _sheet(shown, RESULTS / "nano_flipnet_restore.png")
    _sheet(
        {k: v for k, v in shown.items() if k in ("LQ", "phi = 0", "phi = 1", "phi = 2", "GT")},
        RESULTS / "nano_flipnet_phi.png",
    )
    table = {name: {c: _mean(v[c]) for c in COLUMNS} for name, v in values.items()}
    for name, row in table.items():
        print(f"{name:22s}", *(f"{c} {row[c]['mean']:.3f}" for c in COLUMNS))
    differences = {
        f"identity, phi {b} - phi {a}": _mean(
            values[f"phi = {b}"]["identity"] - values[f"phi = {a}"]["identity"]
        )
        for a, b in (("0", "1"), ("1", "1.5"))
    }
    for name in ("phi = 1", RECOLOURED):
        for c in COLUMNS:
            differences[f"{c}, {name} - LQ"] = _mean(values[name][c] - values["LQ"][c])
    for name, one in differences.items():
        print(f"{name}: {one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]")
    _plot_sweep(table)
    return {"preset": "severe", "table": table, "differences": differences}


def degrade(count: int, steps: int) -> dict:
    flipnet = Flipnet.bundled("degrade", steps)
    base = FIRST_IDENTITY + 2**20
    sets: dict[str, list[torch.Tensor]] = {}
    real_gt = _faces(base, count)
    real_lq, _ = real_damage(real_gt, [base + i for i in range(count)])
    real = descriptors(real_lq, real_gt)
    shown = {}
    for seed in SEEDS:
        first = base + (seed + 1) * 4096
        gt, seeds = _faces(first, count), [first + i for i in range(count)]
        made = {
            "degradation mode": flipnet.sample(gt, seed, 1.0),
            "preset train": Degradation.preset("train")(gt, seed=seeds)[0],
            "preset flipnet": Degradation.preset("flipnet")(gt, seed=seeds)[0],
            "the damage itself": real_damage(gt, seeds)[0],
        }
        for name, lq in made.items():
            sets.setdefault(name, []).append(descriptors(lq, gt))
        shown = shown or {"good": gt, **made}
        print(f"seed {seed} sampled")
    _sheet(shown, RESULTS / "nano_flipnet_degrade.png")
    scale = real.std(0) + 1e-6
    table = {}
    for name, runs in sets.items():
        recall = [recall_of(real / scale, x / scale) for x in runs]
        frechet = [float(frechet_distance(real / scale, x / scale)) for x in runs]
        table[name] = {"recall": _over_seeds(recall), "frechet": _over_seeds(frechet)}
        print(
            f"{name:18s} recall {np.mean(recall):.3f} ({min(recall):.3f} to {max(recall):.3f}), "
            f"Frechet {np.mean(frechet):.2f} ({min(frechet):.2f} to {max(frechet):.2f})"
        )
    return {"people": count, "table": table}


@lru_cache(1)
def _people(count: int, damage: Damage) -> People:
    return scored_people(count, damage)


def score_restored(count: int, arm: str, exports: Mapping[int, Path]) -> Conditions:
    """A restorer's samples at phi = 1; the reference's also at the other weights."""
    of, found = _people(count, severe), {}
    if arm == "input":
        return of_input(of)
    for seed, export in exports.items():
        flipnet = Flipnet.of(export, STEPS, faces=arm != "none")
        for phi in PHIS if arm == "faces" else (1.0,):
            name = arm if phi == 1 else f"{arm}-phi-{phi:g}"
            found.setdefault(name, {})[str(seed)] = measured(flipnet.sample(of.lq, 0, phi), of)
    return found


def score_hidden(count: int, arm: str, exports: Mapping[int, Path]) -> Conditions:
    """A restorer's samples where the pictures have the world's own damage."""
    of = _people(count, hidden)
    if arm == "input":
        return of_input(of)
    runs = {seed: Flipnet.of(export, STEPS) for seed, export in exports.items()}
    return {arm: {str(k): measured(run.sample(of.lq, 0, 1.0), of) for k, run in runs.items()}}


def score_coverage(count: int, arm: str, exports: Mapping[int, Path]) -> Conditions:
    """Which of the pictures with the world's own damage lie among those made of other people."""
    gt, seeds = _faces(FIRST_IDENTITY_COVERED, count), covered_seeds(count)
    real = descriptors(real_damage(gt, seeds)[0], gt)
    scale = real.std(0) + 1e-6
    first = FIRST_IDENTITY_COVERED + 2**16
    good, others = _faces(first, count), [first + i for i in range(count)]
    made = {
        "preset-train": lambda: Degradation.preset("train")(good, seed=others)[0],
        "the damage itself": lambda: real_damage(good, others)[0],
    }
    if arm == "presets":
        return {
            name: {UNTRAINED: {"covered": covered(real / scale, descriptors(make(), good) / scale)}}
            for name, make in made.items()
        }
    found: Conditions = {arm: {}}
    for seed, export in exports.items():
        lq = Flipnet.of(export, STEPS).sample(good, 0, 1.0)
        is_covered = covered(real / scale, descriptors(lq, good) / scale)
        found[arm][str(seed)] = {"covered": is_covered}
    return found


def covered(real: torch.Tensor, made: torch.Tensor) -> np.ndarray:
    """(n,) 1 for each real one among the made ones; their mean is `core.metrics.manifolds.recall`.

    That is within the distance of some made one to that one's third neighbour among the made.
    """
    radius = torch.cdist(made, made).kthvalue(NEIGHBOURS + 1, 1).values
    return (torch.cdist(real, made) <= radius).any(1).double().numpy()


FIRST_IDENTITY_COVERED = SCORED_FIRST + 2**20
STEPS = 20


def covered_seeds(count: int) -> list[int]:
    return [FIRST_IDENTITY_COVERED + i for i in range(count)]


_SAMPLED = {"ddim_steps": STEPS, "guidance": GUIDANCE}
EXPERIMENTS = {
    "flipnet": Experiment(
        people=48,
        damage="preset severe",
        seeds=seeds_of,
        score=score_restored,
        untrained=("input",),
        method="flipnet",
        arms=("faces", "arcface", "none", "unassociated"),
        settings=_SAMPLED,
    ),
    "hidden": Experiment(
        people=48,
        damage="the rendered world's own",
        seeds=seeds_of,
        score=score_hidden,
        untrained=("input",),
        method="flipnet",
        arms=("on-the-fly", "off-shelf", "both"),
        settings=_SAMPLED,
    ),
    "coverage": Experiment(
        people=64,
        damage="the rendered world's own",
        seeds=covered_seeds,
        score=score_coverage,
        untrained=("presets",),
        method="flipnet",
        arms=("degrade",),
        settings=_SAMPLED,
    ),
}


def descriptors(lq: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """What was done to each picture and not what it shows, (b, 13) float64.

    Light, contrast, colour, sharpness by octave, noise and where it lies, direction.
    """
    y, y_gt = (x.double().mean(1, keepdim=True) for x in (lq, gt))
    found = [_log(y.mean((1, 2, 3)), y_gt.mean((1, 2, 3))), _log(_std(y), _std(y_gt))]
    flat = y.flatten(1)
    found += [flat.quantile(q, 1) for q in (0.05, 0.95)]
    found.append(_log(_std(lq.double() - y), _std(gt.double() - y_gt)))
    for _ in range(4):
        smaller, smaller_gt = F.avg_pool2d(y, 2), F.avg_pool2d(y_gt, 2)
        band, band_gt = (
            a - F.interpolate(b, scale_factor=2.0) for a, b in ((y, smaller), (y_gt, smaller_gt))
        )
        found.append(_log(_std(band), _std(band_gt)))
        y, y_gt = smaller, smaller_gt
    for channels in (lq.double().mean(1, keepdim=True), lq.double()[:, :1] - lq.double()[:, 2:]):
        diagonal = channels[..., ::2, ::2] - channels[..., 1::2, ::2]
        diagonal = diagonal - channels[..., ::2, 1::2] + channels[..., 1::2, 1::2]
        # The median: noise is everywhere, edges are not.
        found.append(diagonal.abs().flatten(1).median(1).values.add(1e-3).log())
    light = F.avg_pool2d(lq.double().mean(1, keepdim=True), 2)
    bright = light > light.flatten(1).median(1).values[:, None, None, None]
    grain = diagonal.abs()
    found.append(_log((grain * bright).mean((1, 2, 3)), (grain * ~bright).mean((1, 2, 3))))
    across, down = (lq.double().diff(dim=d).square().mean((1, 2, 3)) for d in (3, 2))
    found.append(_log(across, down).abs())
    return torch.stack(found, 1)


def _log(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ((a + 1e-3) / (b + 1e-3)).log()


def _std(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).std(1)


def _faces(first: int, count: int) -> torch.Tensor:
    seeds = [first + i for i in range(count)]
    chunks = [seeds[i : i + BATCH] for i in range(0, count, BATCH)]
    return torch.cat([photos(c, [2 * s for s in c], nano.NANO_SIZE).pixels for c in chunks])


def _mean(values: np.ndarray) -> dict[str, float]:
    low, high = bootstrap_interval(values)
    return {"mean": float(values.mean()), "low": low, "high": high}


def _over_seeds(values: list[float]) -> dict:
    return {"mean": float(np.mean(values)), "seeds": values}


def _sheet(rows: dict[str, torch.Tensor], path: Path) -> None:
    pictures = [p for x in rows.values() for p in x[:SHEET_PEOPLE]]
    labels = [
        name if i == 0 else "" for name, x in rows.items() for i in range(len(x[:SHEET_PEOPLE]))
    ]
    sheet = contact_sheet(pictures, labels, SHEET_PEOPLE)
    write_picture(path, sheet, Picture(sheet))


def _plot_sweep(table: dict) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3), constrained_layout=True)
    titles = {"identity": "identity cosine", "feature": "feature distance", "psnr": "PSNR, dB",
              "edges": "edge ratio"}  # fmt: skip
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        cells = [table[f"phi = {phi:g}"][column] for phi in PHIS]
        means = [c["mean"] for c in cells]
        axis.errorbar(
            PHIS,
            means,
            [[c["mean"] - c["low"] for c in cells], [c["high"] - c["mean"] for c in cells]],
            marker="o",
            capsize=3,
        )
        axis.axhline(table["LQ"][column]["mean"], color="grey", linestyle="--", label="LQ")
        axis.set(title=title, xlabel="phi")
    axes[0].legend()
    figure.savefig(RESULTS / "nano_flipnet_sweep.png", dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("restore", "degrade"))
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args(arguments)
    RESULTS.mkdir(exist_ok=True)
    for part, run in (("restore", restore), ("degrade", degrade)):
        if options.part in (None, part):
            count = options.people * (2 if part == "degrade" else 1)
            with torch.no_grad():
                report = run(count, options.steps)
            report |= {"people": count, "steps": options.steps, "seeds": list(SEEDS)}
            path = RESULTS / f"nano_flipnet_{part}.json"
            path.write_text(json.dumps(report, indent=2) + "\n")
            print(f"{path}\n")


if __name__ == "__main__":
    main()
