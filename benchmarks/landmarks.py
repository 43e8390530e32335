"""A-LD of batches of faces: this package against numpy.linalg.lstsq face by face.

    python bootstrap.py bench landmarks [--turns 9]

Both solve the same pairs (true landmarks and 3 px of scatter, float64) in this process, in turns
and on one thread; processor seconds are counted, so that other programs disturb little. The loop is
what one writes first: homogeneous points, lstsq, the root of the residual's squares. 34 points are
the eyes and brows of WFLW's 98, 68 are iBUG's. Set OPENBLAS_NUM_THREADS=1 where numpy's libraries
use threads. Writes benchmarks/results/landmarks.json and .png.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from facewright.core.geometry.landmarks import affine_landmark_distance

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 8, 64, 512, 4096)
POINTS = (34, 68, 98)
_PAIRS_A_TURN = 8192


def pairs(batch, points):
    g = torch.Generator().manual_seed(batch * 1000 + points)
    gt = torch.rand(batch, points, 2, generator=g, dtype=torch.float64) * 512
    return gt + 3 * torch.randn(gt.shape, generator=g, dtype=torch.float64), gt


def one_by_one(restored, gt):
    distances = np.empty(len(restored))
    for i, (source, target) in enumerate(zip(restored, gt, strict=True)):
        homogeneous = np.concatenate([source, np.ones((len(source), 1))], 1)
        affine = np.linalg.lstsq(homogeneous, target, rcond=None)[0]
        distances[i] = np.sqrt(((homogeneous @ affine - target) ** 2).sum())
    return distances


def seconds(function, repeats):
    start = time.process_time()
    for _ in range(repeats):
        function()
    return time.process_time() - start


def measure(batch, points, turns):
    restored, gt = pairs(batch, points)
    arrays = restored.numpy(), gt.numpy()
    sides = {
        "ours": lambda: affine_landmark_distance(restored, gt),
        "loop": lambda: one_by_one(*arrays),
    }
    difference = np.abs(sides["ours"]().numpy() / sides["loop"]() - 1).max()
    repeats = max(1, _PAIRS_A_TURN // batch)
    times = {name: [] for name in sides}
    for turn in range(turns):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            spent = seconds(sides[name], repeats)
            times[name].append(spent / repeats / batch * 1e6)
    ratios = [loop / ours for ours, loop in zip(times["ours"], times["loop"], strict=True)]
    return {
        "batch": batch,
        "points": points,
        "ours_us_per_pair": statistics.median(times["ours"]),
        "loop_us_per_pair": statistics.median(times["loop"]),
        "ratio_median": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "largest_relative_difference": float(difference),
    }


def report(rows):
    lines = [f"{'batch':>6}{'points':>8}{'ours us':>10}{'loop us':>10}{'ratio':>8}   (range)"]
    for row in rows:
        lines.append(
            f"{row['batch']:6}{row['points']:8}{row['ours_us_per_pair']:10.2f}"
            f"{row['loop_us_per_pair']:10.2f}{row['ratio_median']:8.1f}   "
            f"({row['ratio_lowest']:.1f} to {row['ratio_highest']:.1f})"
        )
    worst = max(row["largest_relative_difference"] for row in rows)
    return "\n".join([*lines, f"largest relative difference of the two: {worst:.1e}"])


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 2.9), layout="constrained")
    for points, colour in zip(POINTS, ("#4c78a8", "#f58518", "#54a24b"), strict=True):
        mine = [row for row in rows if row["points"] == points]
        x = [row["batch"] for row in mine]
        axis.plot(
            x, [r["ratio_median"] for r in mine], marker="o", markersize=3, color=colour,
            label=f"{points} points",
        )  # fmt: skip
        low, high = ([r[f"ratio_{end}"] for r in mine] for end in ("lowest", "highest"))
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.axhline(10, color="#888888", linewidth=0.8, linestyle="--")
    axis.set_xscale("log", base=2)
    axis.set_xticks(BATCHES, [str(b) for b in BATCHES])
    axis.set_ylim(0)
    axis.set_xlabel("faces in a batch", fontsize=9)
    axis.set_ylabel("times faster than lstsq", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    # After the first picture's worth of memory the allocator gives none back between batches.
    torch.zeros(2**22).add(1)
    with torch.inference_mode():
        rows = [measure(b, k, args.turns) for k in POINTS for b in BATCHES]
    result = {
        "turns": args.turns,
        "machine": {
            "threads": 1,
            "clock": "processor",
            "simd": torch.backends.cpu.get_cpu_capability(),
            "system": platform.system(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "landmarks.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    plot(rows, path.with_suffix(".png"))
    print(report(rows))
    print(f"written: {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
