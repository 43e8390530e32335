"""A training step of OSDFace's second stage, against a plain loop with diffusers and peft.

    python bootstrap.py bench training [--true-shape] [--rounds 3] [--steps 2] [--device cuda]

`plain` is written by hand, as one would without this package, and does all that `facewright train
onestep` does: UNet under a LoRA of 278 modules, frozen VAE, EA-DISTS and identity through frozen
networks, the discriminator in latent space with a LoRA of its own, AdamW, clipping. `ours` is the
real engine with the real recipe and onestep_paper.yaml. Data, random weights and seeds are equal,
and that both do the same work is shown before anything is timed: the losses and gradient norms of
the first steps have to agree, or the benchmark ends with an error.

The arms take turns, so that what else the machine does hits all alike; each turn is a fresh process
that takes two steps to warm up and then those that count. On one CPU thread processor seconds are
counted. Memory is what a process takes while it steps, on top of one that has only imported
everything: on the CPU resident memory, on a GPU what torch has allocated.

plain         as above
ours          the engine
cached        with `cache`, which knows all pictures already (latents of gt and lq, prompt tokens)
checkpointed  with `gradient_checkpointing`
bf16          with `precision` and `frozen_precision` bf16, where the device multiplies it
compiled      with `compile`, where asked for by `--arms`

The default shape is SD 2.1-base's layout with 0.4 of its width; `--true-shape` is its own, 866 M
parameters, and `--arms` chooses what is worth the time there. `--quick` tries the script.
Writes benchmarks/results/training.json and .png (`_true_shape`, `_quick`).
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from facewright.core.modules.fast import fast_dtype

from ._training_loops import Losses, OurLoop, PlainLoop
from ._training_setup import SHAPES, logical_noise, run_config, write_files
from .onestep import PeakMemory

RESULTS = Path(__file__).parent / "results"
LABELS = {
    "plain": "diffusers + peft, by hand",
    "ours": "facewright",
    "cached": "facewright, cache known",
    "checkpointed": "facewright, gradient_checkpointing",
    "bf16": "facewright, bf16 (plain in float32)",
    "compiled": "facewright, compile",
}
CHECKED = 2
"""Steps whose losses are compared before the clock starts; they warm up, too."""
TOLERANCE = {"plain": 0.0, "ours": 5e-3, "cached": 2e-2, "checkpointed": 5e-3, "compiled": 5e-3}
"""Largest relative difference from the plain loop's losses and gradient norms. Adam's first step is
the sign of the gradient: rounding shows in the second. The cache keeps latents in half precision;
bfloat16 is not held to float32's losses."""


# ---------------------------------------------------------------- one arm


def changes_of(arm: str, folder: Path) -> dict[str, object]:
    """What the arm's config says besides the paper's."""
    return {
        "cached": {"cache": {"folder": str(folder / "cache")}},
        "checkpointed": {"gradient_checkpointing": True},
        "bf16": {"precision": "bf16", "frozen_precision": "bf16"},
        "compiled": {"compile": True},
    }.get(arm, {})


def arm_process(
    pipe: Connection, arm: str, folder: Path, shape: str, device: str, threads: int, steps: int
) -> None:
    """Builds a loop, takes `CHECKED` steps for their losses and memory, then times `steps`."""
    torch.set_num_threads(threads)
    config = run_config(folder, SHAPES[shape], arm, device, **changes_of(arm, folder))
    with PeakMemory() as imported:
        pass
    start = time.perf_counter()
    if arm == "plain":
        loop: PlainLoop | OurLoop = PlainLoop(folder, SHAPES[shape], config)
    else:
        loop = OurLoop(config, CHECKED + steps)
    built = time.perf_counter() - start
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with PeakMemory() as working, logical_noise():
        losses = [loop.step() for _ in range(CHECKED)]
    memory = {"peak_mb": None, "whole_mb": _most_ever(imported.start)}
    if device == "cuda":
        memory["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    elif working.highest is not None:
        memory["peak_mb"] = round((working.highest - imported.start) / 2**20)
    told = {"losses": losses, "built_s": built, **memory}
    pipe.send((told, [_timed(loop, device, threads) for _ in range(steps)]))


def _timed(loop: PlainLoop | OurLoop, device: str, threads: int) -> float:
    clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter
    start = clock()
    loop.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def _most_ever(imported: int | None) -> int | None:
    """MB of the most resident memory since the process began, building included."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    if imported is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - imported) / 2**20)


def one_turn(arm: str, *rest: object) -> tuple[dict, list[float]]:
    """A fresh process of an arm: what it told first, and seconds of its steps."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=arm_process, args=(other, arm, *rest), daemon=True)
    process.start()
    other.close()
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"The arm `{arm}` ended; its error is above.") from None
    finally:
        process.join()


# ---------------------------------------------------------------- the comparison


def largest_difference(found: list[Losses], wanted: list[Losses]) -> float:
    """Largest |a - b| / |b| over all terms and gradient norms of all steps.

    Raises:
        SystemExit: one of them knows a term that the other does not.
    """
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a.keys() != b.keys():
            raise SystemExit(f"The loops do different work: terms {sorted(a)} and {sorted(b)}.")
        worst = max(worst, *(abs(a[k] - b[k]) / abs(b[k]) for k in b))
    return worst


def measure(arms: list[str], args: argparse.Namespace, shape: str, folder: Path) -> dict:
    """Turns of all arms; what each told first and its seconds, turn by turn."""
    rest = (folder, shape, args.device, torch.get_num_threads(), args.steps)
    found: dict[str, dict] = {arm: {"turns": []} for arm in arms}
    for _ in range(args.rounds):
        for arm in arms:
            told, seconds = one_turn(arm, *rest)
            found[arm] |= told | {"differences": differences(arm, told, found["plain"])}
            found[arm]["turns"].append(seconds)
            shown = ", ".join(f"{s:.2f}" for s in seconds)
            print(f"{arm}: {shown} s a step", file=sys.stderr, flush=True)
    return found


def differences(arm: str, told: dict, plain: dict) -> dict[str, float]:
    """From the plain loop: in the first step, and in all that are compared.

    Raises:
        SystemExit: too large; the loops do different work.
    """
    mine, wanted = told["losses"], plain.get("losses", told["losses"])
    found = {
        "first_step_difference": largest_difference(mine[:1], wanted[:1]),
        "largest_difference": largest_difference(mine, wanted),
    }
    if found["largest_difference"] > TOLERANCE.get(arm, float("inf")):
        raise SystemExit(f"`{arm}` and `plain` do different work: {found}.\n{mine}\n{wanted}")
    return found


def summary(found: dict, batch: int) -> dict:
    """Medians over all steps; ratios turn by turn, each to the plain loop's turn beside it."""
    rows = {}
    plain = [statistics.median(turn) for turn in found["plain"]["turns"]]
    for arm, row in found.items():
        steps = [s for turn in row["turns"] for s in turn]
        ratios = [p / statistics.median(turn) for p, turn in zip(plain, row["turns"], strict=True)]
        rows[arm] = {
            "s_per_step": statistics.median(steps),
            "s_per_step_range": [min(steps), max(steps)],
            "samples_per_s": batch / statistics.median(steps),
            "speed_ratio": statistics.median(ratios),
            "speed_ratio_range": [min(ratios), max(ratios)],
            "peak_mb": row["peak_mb"],
            "peak_with_building_mb": row["whole_mb"],
            "built_s": row["built_s"],
            **row["differences"],
            "turns": row["turns"],
        }
        if row["peak_mb"] is not None:
            rows[arm]["memory_ratio"] = row["peak_mb"] / found["plain"]["peak_mb"]
    return rows


def machine(device: str) -> dict:
    """What the numbers hang on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    one = device == "cpu" and torch.get_num_threads() == 1
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "clock": "processor" if one else "wall",
        "load": load,
        "simd": torch.backends.cpu.get_cpu_capability(),
        "fast_dtype": str(fast_dtype(torch.device(device))).removeprefix("torch."),
        "system": platform.system(),
        "torch": torch.__version__,
        "memory": "max_memory_allocated" if device == "cuda" else "resident",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


# ---------------------------------------------------------------- what is written


def report(result: dict) -> str:
    lines = [f"{'':36}{'s/step':>8}{'speed':>7}{'(range)':>14}{'MB':>8}{'memory':>8}{'differs':>9}"]
    for arm, row in result["arms"].items():
        low, high = row["speed_ratio_range"]
        lines.append(
            f"{LABELS[arm]:36}{row['s_per_step']:8.2f}{row['speed_ratio']:7.2f}"
            f"{f'({low:.2f}-{high:.2f})':>14}{row['peak_mb'] or 0:8}"
            f"{row.get('memory_ratio', 0):8.2f}{row['largest_difference']:9.0e}"
        )
    return "\n".join(lines)


def plot(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["arms"]
    names = [LABELS[arm] for arm in rows]
    colors = ["#9d9da1" if arm == "plain" else "#4c78a8" for arm in rows]
    figure, (speed, memory) = plt.subplots(
        1, 2, figsize=(9.5, 1.3 + 0.36 * len(rows)), sharey=True, layout="constrained"
    )
    ratios = [row["speed_ratio"] for row in rows.values()]
    around = [
        [row["speed_ratio"] - row["speed_ratio_range"][0] for row in rows.values()],
        [row["speed_ratio_range"][1] - row["speed_ratio"] for row in rows.values()],
    ]
    speed.barh(names, ratios, xerr=around, color=colors, height=0.6, ecolor="#333333", capsize=2)
    for y, row in enumerate(rows.values()):
        text = f" {row['speed_ratio']:.2f}x, {row['samples_per_s']:.3g}/s"
        speed.text(row["speed_ratio_range"][1], y, text, va="center", fontsize=9)
    speed.set_xlim(0, max(row["speed_ratio_range"][1] for row in rows.values()) * 1.35)
    speed.set_xlabel("samples per second, plain loop = 1 (range over turns)", fontsize=9)
    peaks = [row["peak_mb"] or 0 for row in rows.values()]
    memory.barh(names, peaks, color=colors, height=0.6)
    for y, peak in enumerate(peaks):
        memory.text(peak, y, f" {peak / 1024:.2f} GB", va="center", fontsize=9)
    memory.set_xlim(0, max(peaks) * 1.25 or 1)
    memory.set_xlabel(f"peak memory in MB ({result['machine']['memory']})", fontsize=9)
    speed.invert_yaxis()
    speed.tick_params(labelsize=9)
    for axis in (speed, memory):
        axis.spines[["top", "right"]].set_visible(False)
    m = result["machine"]
    figure.suptitle(
        f"One-step training, {result['shape']} shape, {result['batch']} picture(s) of "
        f"{result['size']} px a step; {m['device']}, {m['threads']} thread(s), "
        f"{m['clock']} time, torch {m['torch']}",
        fontsize=9,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shapes = parser.add_mutually_exclusive_group()
    shapes.add_argument("--true-shape", action="store_true", help="SD 2.1-base's own; some 12 GB")
    shapes.add_argument("--quick", action="store_true", help="tiny shapes, to try the script")
    parser.add_argument("--rounds", type=int, help="turns of every arm (default 3, true shape 1)")
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    parser.add_argument("--threads", type=int, default=1, help="1 counts processor seconds")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--arms", nargs="+", choices=list(LABELS)[1:], help="beside plain; default all but compiled"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    shape = "true" if args.true_shape else "tiny" if args.quick else "middle"
    args.rounds = args.rounds or (1 if args.true_shape else 3)
    arms = ["plain", *(args.arms or ("ours", "cached", "checkpointed"))]
    if not args.arms and fast_dtype(torch.device(args.device)) == torch.bfloat16:
        arms.append("bf16")

    facts = machine(args.device)  # the load before our own
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder, SHAPES[shape])
        found = measure(arms, args, shape, folder)
    result = {
        "shape": shape,
        "size": SHAPES[shape].size,
        "batch": SHAPES[shape].batch,
        "rounds": args.rounds,
        "steps": args.steps,
        "machine": facts,
        "arms": summary(found, SHAPES[shape].batch),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    suffix = {"true": "_true_shape", "tiny": "_quick", "middle": ""}[shape]
    stem = args.out / f"training{suffix}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    plot(result, stem.with_suffix(".png"))
    print(report(result))
    print(f"written: {stem.with_suffix('.json')} and {stem.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
