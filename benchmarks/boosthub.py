"""What BoostHubs cost: N steps with guidance of a stock UNet, of cached and of joint BoostHubs.

    python bootstrap.py bench boosthub [--threads 1] [--steps 1 2 4] [--sides 256 512] [--tiny]

The UNet has SD 2.1's full shape and random weights; nothing is downloaded. The three ways take
turns in one process. A run of N steps costs a + b N; both are fitted, so that the ratio of long
runs follows from short ones.

Writes benchmarks/results/boosthub.json and .png (`_tiny` where asked for, which measures nothing).
"""

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path

import torch
from facewright.benchmarks.onestep import TINY_UNET, UNET, PeakMemory, clock
from facewright.core.fast import fast_dtype, use_fast_layers
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs, Condition, find_sites
from facewright.headless.backbone import Model, diffusers_classes
from facewright.headless.builtin_sampling import KSampler
from facewright.headless.host import host

RESULTS = Path(__file__).parent / "results"
WAYS = ("stock", "cached", "joint")
COLORS = {"stock": "#4c78a8", "cached": "#f58518", "joint": "#e45756"}
LONG_RUNS = (20, 50)
TINY = {**TINY_UNET, "attention_head_dim": [2, 4]}


def random_model(config, dtype):
    """The UNet without the minutes that drawing and converting proper random weights would take."""
    with torch.device("meta"):
        unet = use_fast_layers(diffusers_classes()[0].from_config(config)).to(dtype)
    unet = unet.to_empty(device="cpu").eval().requires_grad_(False)
    for weight in unet.parameters():
        weight.uniform_(-0.02, 0.02)
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)
    return Model(unet, config, "random")


def random_hubs(model, dtype):
    sites = find_sites(model.tensors())
    heads = model.unet.get_submodule(f"{next(iter(sites))}.attn1").heads
    dim_head = next(iter(sites.values())) // heads
    with torch.device("meta"):
        hubs = BoostHubs(BoostHubConfig(sites=sites, dim_head=dim_head)).to(dtype)
    hubs = hubs.to_empty(device="cpu").requires_grad_(False)
    for weight in hubs.parameters():
        weight.uniform_(-0.02, 0.02)
    return hubs


def models_for(model, hubs, side):
    """The three ways to sample at `side` pixels."""
    latent = torch.randn(1, 4, side // 8, side // 8)
    return {
        "stock": model,
        **{
            mode: host.apply_boosthub(model, hubs, Condition(latent=latent, mode=mode))
            for mode in ("cached", "joint")
        },
    }


def sample(model, side, steps):
    width = model.config["cross_attention_dim"]
    prompts = [[[torch.randn(1, 77, width), {}]] for _ in range(2)]
    return KSampler.execute(
        model=model,
        seed=0,
        steps=steps,
        cfg=1.5,
        sampler_name="euler",
        scheduler="simple",
        positive=prompts[0],
        negative=prompts[1],
        latent_image={"samples": torch.zeros(1, 4, side // 8, side // 8)},
        denoise=1.0,
    )


def rows_of(model, run):
    """Rows of all UNet calls in `run()`: images times prompts times branches."""
    rows = []
    handle = model.unet.conv_in.register_forward_hook(lambda m, a, out: rows.append(len(out)))
    try:
        run()
    finally:
        handle.remove()
    return sum(rows)


def measure_once(models, side, steps, repeats):
    """Median seconds, peak memory and rows of each way; they take turns."""
    found = {way: {"seconds": []} for way in WAYS}
    for _ in range(repeats):
        for way, model in models.items():
            with PeakMemory() as memory:
                start = clock()
                rows = rows_of(model, lambda m=model: sample(m, side, steps))
                found[way]["seconds"].append(clock() - start)
            found[way] |= {"peak_mb": memory.mb, "rows": rows}
    for entry in found.values():
        entry["seconds"] = statistics.median(entry["seconds"])
    stock = found["stock"]["seconds"]
    for entry in found.values():
        entry["ratio"] = entry["seconds"] / stock
    line = ", ".join(f"{w} {e['seconds']:.1f} s ({e['ratio']:.2f}x)" for w, e in found.items())
    print(f"{side} px, {steps} steps: {line}", file=sys.stderr, flush=True)
    return {"side": side, "steps": steps, **found}


def line_through(points):
    """Least squares a + b N."""
    n = torch.tensor([[1.0, p[0]] for p in points], dtype=torch.float64)
    y = torch.tensor([[p[1]] for p in points], dtype=torch.float64)
    a, b = torch.linalg.lstsq(n, y).solution.flatten().tolist()
    return {"a": a, "b": b}


def measure(tiny, steps, sides, repeats):
    config = TINY if tiny else UNET
    dtype = torch.float32 if tiny else fast_dtype(torch.device("cpu"))
    torch.manual_seed(0)
    model = random_model(config, dtype)
    hubs = random_hubs(model, dtype)
    measure_once(models_for(model, hubs, 64), 64, 1, 1)  # warms up
    largest = max(sides)
    models = models_for(model, hubs, largest)
    by_steps = [measure_once(models, largest, n, repeats) for n in steps]
    by_side = [
        measure_once(models_for(model, hubs, s), s, steps[1], repeats) for s in sides if s < largest
    ] + [by_steps[1]]
    fits = {
        way: line_through([(row["steps"], row[way]["seconds"]) for row in by_steps]) for way in WAYS
    }
    total = {w: {n: fits[w]["a"] + fits[w]["b"] * n for n in LONG_RUNS} for w in WAYS}
    return {
        "unet": "tiny" if tiny else "SD 2.1",
        "guidance": 1.5,
        "repeats": repeats,
        "boosthub_parameters": sum(p.numel() for p in hubs.parameters()),
        "machine": {
            "threads": torch.get_num_threads(),
            "clock": "processor" if torch.get_num_threads() == 1 else "wall",
            "simd": torch.backends.cpu.get_cpu_capability(),
            "system": platform.system(),
            "torch": torch.__version__,
            "dtype": str(dtype).removeprefix("torch."),
        },
        "by_steps": by_steps,
        "by_side": by_side,
        "fits": fits,
        "ratio_by_fit": {
            way: {str(n): total[way][n] / total["stock"][n] for n in LONG_RUNS}
            | {"per step": fits[way]["b"] / fits["stock"]["b"]}
            for way in WAYS[1:]
        },
    }


def report(result):
    lines = [f"{'':>14}" + "".join(f"{way:>24}" for way in WAYS)]
    for row in result["by_steps"] + result["by_side"][:-1]:
        cells = (
            f"{e['seconds']:8.2f} s {e['ratio']:5.2f}x {e['peak_mb'] or 0:5} MB"
            for e in (row[way] for way in WAYS)
        )
        lines.append(
            f"{row['side']:5} px, {row['steps']:2} st" + "".join(f"{c:>24}" for c in cells)
        )
    for way, ratios in result["ratio_by_fit"].items():
        told = ", ".join(f"{name}: {value:.3f}x" for name, value in ratios.items())
        lines.append(f"{way} over stock, from the fit: {told}")
    return "\n".join(lines)


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for way in WAYS:
        style = {"color": COLORS[way], "label": way, "marker": "o"}
        for axis, rows, key in ((axes[0], "by_steps", "steps"), (axes[1], "by_side", "side")):
            points = [(row[key], row[way]["seconds"]) for row in result[rows]]
            axis.plot(*zip(*points, strict=True), **style)
        points = [(row["side"], row[way]["peak_mb"] or 0) for row in result["by_side"]]
        axes[2].plot(*zip(*points, strict=True), **style)
    machine = result["machine"]
    axes[0].set(xlabel="steps", ylabel=f"{machine['clock']} seconds", ylim=0)
    axes[0].set_title(f"{result['by_steps'][0]['side']} px", fontsize=9)
    axes[1].set(xlabel="side in pixels", ylabel=f"{machine['clock']} seconds", ylim=0)
    axes[1].set_title(f"{result['by_side'][0]['steps']} steps", fontsize=9)
    axes[2].set(xlabel="side in pixels", ylabel="MB above the weights", ylim=0)
    axes[2].set_title("peak memory", fontsize=9)
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"{result['unet']} UNet, guidance, one image, {machine['threads']} CPU thread(s), "
        f"{machine['simd']}, {machine['dtype']}",
        fontsize=9,
    )
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 384, 512])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--threads", type=int, help="1 counts processor seconds: for a machine that is not idle"
    )
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if len(args.steps) < 2:
        parser.error("--steps takes at least two numbers, or there is no growth to see")
    with torch.inference_mode():
        result = measure(args.tiny, args.steps, args.sides, args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / ("boosthub_tiny" if args.tiny else "boosthub")
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    plot(result, stem.with_suffix(".png"))
    print(report(result))
    print(f"written: {stem.with_suffix('.json')} and {stem.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
