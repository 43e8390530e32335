"""A-LD and L2-LD as measures of local deformation, under global maps and where they are blind.

    python bootstrap.py bench landmark_robustness [--seeds 10] [--people 200]

Exact landmarks of rendered people at 512 px, nothing detected and nothing rendered. A restored face
is the true one, bent in a region by smooth bumps of a known root mean square size, and then moved
as a whole. Both sets are rounded to 4 px, the grid of FAN's landmarks at 512 px. Asked is how well
each distance ranks the faces of a seed by the size of their bumps (Spearman). The expectations
stand in experiments/landmark_distance.md. Writes benchmarks/results/landmark_robustness.json and
.png, and as scores_landmarks.json each seed's correlations that experiments/claims.yaml asks for.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from facewright.benchmarks._claims_scores import write_scores
from facewright.core.geometry.landmarks import (
    affine_landmark_distance,
    landmark_distance,
    region_points,
)
from facewright.core.metrics.statistics import mean_interval, paired_difference
from facewright.training.world.anatomy import canonical_landmarks
from facewright.training.world.faces3d import camera_for, project
from facewright.training.world.identities import sample_identities
from facewright.training.world.nuisances import sample_nuisances

RESULTS = Path(__file__).parent / "results"
SIZE, GRID = 512, 4
LARGEST_BUMP = 6.0
"""Root mean square of the bumps in pixels, uniform from 0 to this."""
MOVES = (0, 1, 2, 4, 8, 16, 32, 64)
"""Root mean square displacement of the region by the global map, in pixels."""
MAPS = ("shift", "similarity", "affine")
REGIONS = ("eyes", "mouth")
BLIND = ("shear", "aspect")
DISTANCES = {"A-LD": affine_landmark_distance, "L2-LD": landmark_distance}
_FIRST_PERSON = 500_000
CLAIMED = {
    "rank_unmoved_eyes": ("moved", "eyes", "shift", 0),
    "rank_shift8_eyes": ("moved", "eyes", "shift", 8),
    "rank_shift8_mouth": ("moved", "mouth", "shift", 8),
}
"""Metric of experiments/claims.yaml -> what was done to the faces."""


def true_landmarks(seed, people):
    """(people, 68, 2) float64 of people no other seed has."""
    seeds = [_FIRST_PERSON + seed * people + i for i in range(people)]
    identities, nuisances = sample_identities(seeds), sample_nuisances(seeds)
    camera = camera_for(identities, nuisances, SIZE, jitter=1.0)
    return project(canonical_landmarks(identities, nuisances), nuisances, camera).double()


def rms(displacement):
    """(n, k, 2) -> (n, 1, 1)."""
    return displacement.square().sum(2).mean(1).sqrt()[:, None, None]


def bumps(points, sizes, rng):
    """Smooth displacements (n, k, 2) of root mean square `sizes` (n,): three Gaussian bumps each,
    around random points of the region, 15 to 50 px wide, in random directions."""
    n, k, _ = points.shape
    centres = torch.from_numpy(rng.integers(k, size=(n, 3)))
    centres = points[torch.arange(n)[:, None], centres]
    widths = torch.from_numpy(rng.uniform(15, 50, (n, 3, 1)))
    pushes = torch.from_numpy(rng.normal(size=(n, 3, 2)))
    distance = (points[:, None] - centres[:, :, None]).square().sum(3)
    field = torch.einsum("nbk,nbc->nkc", (-distance / (2 * widths**2)).exp(), pushes)
    return field / rms(field) * sizes[:, None, None]


def directions(points, kind, rng):
    """Displacements (n, k, 2) of root mean square 1 by a random map of a kind."""
    n = len(points)
    shift = torch.from_numpy(rng.normal(size=(n, 1, 2)))
    if kind == "shift":
        return shift / rms(shift)
    centred = points - points.mean(1, keepdim=True)
    if kind == "shear":
        linear = torch.tensor([[0.0, 1], [0, 0]]).expand(n, 2, 2)
    elif kind == "aspect":
        linear = torch.tensor([[1.0, 0], [0, -1]]).expand(n, 2, 2)
    else:
        linear = torch.from_numpy(rng.normal(size=(n, 2, 2)))
    if kind == "similarity":
        a, b = linear[:, 0, 0], linear[:, 0, 1]
        linear = torch.stack([torch.stack([a, -b], 1), torch.stack([b, a], 1)], 1)
    sign = torch.from_numpy(rng.choice([-1.0, 1.0], size=(n, 1, 1)))
    moved = sign * centred @ linear.double().mT
    if kind in MAPS:
        # As much by the linear part as by the shift.
        moved = moved / rms(moved) + shift / rms(shift)
    return moved / rms(moved)


def on_grid(points):
    return (points / GRID).round() * GRID


def ranks(restored, gt, sizes, rounded=on_grid):
    """Distance -> Spearman correlation with the sizes."""
    from scipy.stats import spearmanr

    values = {name: f(rounded(restored), rounded(gt)) for name, f in DISTANCES.items()}
    return {name: float(spearmanr(value, sizes).statistic) for name, value in values.items()}


def run_seed(seed, people):
    """Correlations of one seed: {(experiment, region, kind, move): {distance: rho}}, and means."""
    everything, found, level = true_landmarks(seed, people), {}, {}
    for region in REGIONS:
        points = everything[:, region_points(68, region)]
        rng = np.random.default_rng([seed, REGIONS.index(region)])
        sizes = torch.from_numpy(rng.uniform(0, LARGEST_BUMP, people))
        bent = points + bumps(points, sizes, rng)
        for kind in MAPS:
            direction = directions(bent, kind, rng)
            for move in MOVES:
                moved = bent + move * direction
                found["moved", region, kind, move] = ranks(moved, points, sizes)
        for kind in BLIND:
            stretched = points + directions(points, kind, rng) * sizes[:, None, None]
            found["blind", region, kind, 0] = ranks(stretched, points, sizes)
            sets = on_grid(stretched), on_grid(points)
            level[region, kind] = {name: float(f(*sets).mean()) for name, f in DISTANCES.items()}
        # What rounding alone leaves: a shift by less than a cell, and nothing else.
        still = points + torch.from_numpy(rng.uniform(-GRID / 2, GRID / 2, (people, 1, 2)))
        sets = on_grid(still), on_grid(points)
        level[region, "rounding"] = {name: float(f(*sets).mean()) for name, f in DISTANCES.items()}
        sets = on_grid(bent), on_grid(points)
        level[region, "bumps"] = {name: float(f(*sets).mean()) for name, f in DISTANCES.items()}
        found |= controls(points, bent, sizes, region, seed)
        explained = affine_landmark_distance(bent, points, squared=True)
        whole = (bent - points).square().sum((1, 2))
        level[region, "affine share of bumps"] = {"energy": float(1 - (explained / whole).mean())}
    return found, level


def controls(points, bent, sizes, region, seed):
    """What was added after the first run, to tell rounding from the distances themselves."""
    rng, found = np.random.default_rng([seed, REGIONS.index(region), 1]), {}
    for kind in MAPS:
        moved = bent + MOVES[-1] * directions(bent, kind, rng)
        found["not rounded", region, kind, MOVES[-1]] = ranks(moved, points, sizes, lambda x: x)
    found["not rounded", region, "shift", 0] = ranks(bent, points, sizes, lambda x: x)
    rest = affine_landmark_distance(bent, points)  # what no affine map explains of the bumps
    moved = bent + MOVES[-1] * directions(bent, "shift", rng)
    found["ranked by what is not affine", region, "shift", MOVES[-1]] = ranks(moved, points, rest)
    for kind in BLIND:
        cell = torch.from_numpy(rng.uniform(-GRID / 2, GRID / 2, (len(points), 1, 2)))
        stretched = points + directions(points, kind, rng) * sizes[:, None, None] + cell
        found["blind, moved within a cell", region, kind, 0] = ranks(stretched, points, sizes)
    return found


def summary(seeds):
    rows = []
    for key in seeds[0][0]:
        of = {name: [found[key][name] for found, _ in seeds] for name in DISTANCES}
        gap = paired_difference(of["A-LD"], of["L2-LD"])
        rows.append(
            dict(zip(("experiment", "region", "kind", "move_px"), key, strict=True))
            | {name: interval(mean_interval(values)) for name, values in of.items()}
            | {"A-LD minus L2-LD": interval(gap)}
        )
    levels = {}
    for key in seeds[0][1]:
        names = seeds[0][1][key]
        levels[", ".join(key)] = {
            name: interval(mean_interval([level[key][name] for _, level in seeds]))
            for name in names
        }
    return rows, levels


def write_claimed(seeds, people, folder):
    """A value per seed, each of which is a set of people of its own."""
    values = {
        condition: {
            "-": {
                metric: [ranks[key][name] for ranks, _ in seeds] for metric, key in CLAIMED.items()
            }
        }
        for condition, name in (("a_ld", "A-LD"), ("l2_ld", "L2-LD"))
    }
    write_scores(
        "landmarks", range(len(seeds)), values, folder=folder,
        damage="none: exact landmarks, bent by bumps of 0 to 6 px",
        settings={"people_per_set": people, "grid_px": GRID, "size_px": SIZE},
        versions={"numpy": np.__version__, "torch": torch.__version__},
    )  # fmt: skip


def interval(mean):
    return [round(value, 4) for value in (mean.mean, mean.low, mean.high)]


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colours = {"A-LD": "#4c78a8", "L2-LD": "#e45756"}
    columns = (*MAPS, "blind")
    figure, axes = plt.subplots(
        2, 4, figsize=(11, 5), layout="constrained", sharey=True, width_ratios=[3, 3, 3, 2]
    )
    for i, region in enumerate(REGIONS):
        for axis, kind in zip(axes[i], columns, strict=True):
            axis.axhline(0, color="#bbbbbb", linewidth=0.8)
            axis.spines[["top", "right"]].set_visible(False)
            if kind == "blind":
                bars(axis, [r for r in rows if r["experiment"] == kind and r["region"] == region],
                     colours)  # fmt: skip
                continue
            mine = [r for r in rows if r["region"] == region and r["kind"] == kind]
            mine = [r for r in mine if r["experiment"] == "moved"]
            x = range(len(mine))
            for name, colour in colours.items():
                mean, low, high = zip(*(r[name] for r in mine), strict=True)
                axis.plot(x, mean, marker="o", markersize=3, color=colour, label=name)
                axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.set_xticks(x, [str(r["move_px"]) for r in mine])
            axis.set_ylim(-0.2, 1.03)
            if i == 0:
                axis.set_title(f"moved by a {kind}".replace("a affine", "an affine"), fontsize=9)
            else:
                axis.set_xlabel("size of the move, px rms", fontsize=9)
        axes[i, 0].set_ylabel(f"{region}: rank correlation\nwith the deformation", fontsize=9)
    axes[0, 3].set_title("the deformation itself is ...", fontsize=9)
    axes[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def bars(axis, rows, colours):
    for shift, (name, colour) in zip((-0.18, 0.18), colours.items(), strict=True):
        mean, low, high = (np.array(v) for v in zip(*(r[name] for r in rows), strict=True))
        x = np.arange(len(rows)) + shift
        errors = [mean - low, high - mean]
        axis.bar(x, mean, width=0.34, color=colour, yerr=errors, error_kw={"linewidth": 1})
    axis.set_xticks(range(len(rows)), [f"pure {r['kind']}" for r in rows], fontsize=8)


def report(rows, levels):
    lines = [f"{'':50}{'A-LD':>24}{'L2-LD':>24}{'A-LD minus L2-LD':>24}"]
    for row in rows:
        cells = [
            "{:.3f} [{:.3f}, {:.3f}]".format(*row[name])
            for name in ("A-LD", "L2-LD", "A-LD minus L2-LD")
        ]
        name = f"{row['region']}, {row['kind']} {row['move_px'] or ''}".strip()
        if row["experiment"] not in ("moved", "blind"):
            name += f" ({row['experiment']})"
        lines.append(f"{name:50}" + "".join(f"{cell:>24}" for cell in cells))
    for name, values in levels.items():
        words = ", ".join("{} {:.2f} [{:.2f}, {:.2f}]".format(k, *v) for k, v in values.items())
        lines.append(f"{name}: {words}")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = [run_seed(seed, args.people) for seed in range(args.seeds)]
    rows, levels = summary(found)
    result = {
        "seeds": args.seeds,
        "people_per_seed": args.people,
        "grid_px": GRID,
        "size_px": SIZE,
        "interval": "95 % bootstrap of the mean over seeds: [mean, low, high]",
        "rank_correlations": rows,
        "mean_distances_px": levels,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "landmark_robustness.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    write_claimed(found, args.people, args.out)
    plot(rows, path.with_suffix(".png"))
    print(report(rows, levels))
    print(f"written: {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
