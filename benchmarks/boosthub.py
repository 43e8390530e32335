"""What BoostHubs cost: N steps with guidance of a stock UNet, of cached and of joint BoostHubs.

    python bootstrap.py bench boosthub [--threads 1] [--dtype float32] [--sides 256 512] [--tiny]

The UNet has SD 2.1's full shape and random weights; nothing is downloaded. Whole runs of the
sampler show what N steps cost at one size. For larger pictures, whose runs take too long on a CPU,
single calls are timed and put together: two a step, and with cached BoostHubs one more in the
beginning. The ways take turns, so that a machine that slows down slows all of them down. Memory is
measured in a process of its own for each way and size: one that has computed before takes from what
it has not given back.

Writes benchmarks/results/boosthub_<dtype>.json and .png (`_tiny` where asked for, which measures
nothing).
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from facewright.benchmarks.onestep import TINY_UNET, UNET, PeakMemory, clock
from facewright.core.diffusion.backbone import Model
from facewright.core.diffusion.boosthub import predicting, with_boosthubs
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.methods.flipnet import (
    BoostHubConfig,
    BoostHubs,
    Condition,
    Conditioning,
    find_sites,
)
from facewright.core.modules.fast import fast_dtype, use_fast_layers
from facewright.headless.host.builtin_sampling import KSampler
from facewright.headless.host.host import HeadlessHost
from torch.utils.flop_counter import FlopCounterMode

RESULTS = Path(__file__).parent / "results"
WAYS = ("stock", "cached", "joint")
COLORS = {"stock": "#4c78a8", "cached": "#f58518", "joint": "#e45756"}
RUN_OF = 20
"""Steps of the runs that are put together from single calls."""
JOINT_UP_TO = 4
"""Most steps of a whole run with joint BoostHubs: each costs the same, about twice stock's."""
AIM = 1.35
"""What cached BoostHubs may cost, over the stock UNet."""
TINY = {**TINY_UNET, "attention_head_dim": [2, 4]}


def random_model(config, dtype, device="cpu"):
    """The UNet without the minutes that drawing and converting proper random weights would take."""
    with torch.device("meta"):
        unet = use_fast_layers(diffusers_classes()[0].from_config(config)).to(dtype)
    unet = unet.to_empty(device=device).eval().requires_grad_(False)
    for weight in unet.parameters():
        weight.uniform_(-0.02, 0.02)
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)
    return Model(unet, config, "random")


def random_hubs(model, dtype, device="cpu"):
    sites = find_sites(model.tensors())
    heads = model.unet.get_submodule(f"{next(iter(sites))}.attn1").heads
    dim_head = next(iter(sites.values())) // heads
    with torch.device("meta"):
        hubs = BoostHubs(BoostHubConfig(sites=sites, dim_head=dim_head)).to(dtype)
    hubs = hubs.to_empty(device=device).requires_grad_(False)
    for weight in hubs.parameters():
        weight.uniform_(-0.02, 0.02)
    return hubs


def models_for(model, hubs, side):
    """The three ways to sample at `side` pixels."""
    latent = torch.randn(1, 4, side // 8, side // 8)
    return {
        "stock": model,
        **{
            mode: HeadlessHost().apply_boosthub(model, hubs, Condition(latent=latent, mode=mode))
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


def measure_calls(models, side, repeats):
    """Median seconds of each kind of UNet call, and of the run they make."""
    z = torch.randn(1, 4, side // 8, side // 8)
    prompt = torch.randn(1, 77, models["stock"].config["cross_attention_dim"])
    seconds = {kind: [] for kind in ("stock", "capture", "cached", "joint")}
    for repeat in range(repeats + 1):
        for way, model in models.items():
            with ExitStack() as stack:
                start = clock()
                predict = stack.enter_context(predicting(model, prompt))
                entered = clock()
                predict(z, 500, prompt)
                done = clock()
            if repeat:  # the first warms up
                seconds[way].append(done - entered)
            if repeat and way == "cached":
                seconds["capture"].append(entered - start)
    call = {kind: statistics.median(values) for kind, values in seconds.items()}
    run = {way: put_together(call, way, RUN_OF) for way in WAYS}
    row = {
        "side": side,
        "call_s": call,
        "run_s": run,
        "ratio": {way: run[way] / run["stock"] for way in WAYS},
        "aim_from_steps": steps_to_aim(call),
    }
    tell(row, f"{side} px, {RUN_OF} steps put together")
    return row


def put_together(call, way, steps):
    """Seconds of a run: two calls a step, and with cached BoostHubs one more in the beginning."""
    return 2 * steps * call[way] + (way == "cached") * call["capture"]


def steps_to_aim(call):
    """Fewest steps in which cached BoostHubs cost at most `AIM`; None where none are enough."""
    spare = AIM * call["stock"] - call["cached"]
    return max(1, math.ceil(call["capture"] / (2 * spare))) if spare > 0 else None


def measure_runs(models, side, steps):
    """Seconds and rows of whole runs of the sampler."""
    run, rows = {}, {}
    for way, model in models.items():
        if way == "joint" and steps > JOINT_UP_TO:
            continue
        start = clock()
        rows[way] = rows_of(model, lambda m=model: sample(m, side, steps))
        run[way] = clock() - start
    ratio = {way: seconds / run["stock"] for way, seconds in run.items()}
    row = {"side": side, "steps": steps, "run_s": run, "ratio": ratio, "rows": rows}
    tell(row, f"{side} px, {steps} steps")
    return row


def measure_peak(way, side, tiny, dtype):
    """Peak memory of one way in this process, in MB above what it has when it starts."""
    model = random_model(TINY if tiny else UNET, dtype)
    hubs = None if way == "stock" else random_hubs(model, dtype)
    prompt = torch.randn(1, 77, model.config["cross_attention_dim"])

    def call(way, side):
        z = torch.randn(1, 4, side // 8, side // 8)
        looking = model
        if way != "stock":
            looking = HeadlessHost().apply_boosthub(model, hubs, Condition(latent=z, mode=way))
        with predicting(looking, prompt) as predict:
            predict(z, 500, prompt)

    call("stock", 64)  # loads what any way needs
    with PeakMemory() as memory:
        call(way, side)
    return memory.mb


def peak_apart(way, side, tiny, dtype):
    """`measure_peak` in a new process."""
    command = [sys.executable, "-m", "facewright.benchmarks.boosthub", "--peak", way]
    command += ["--sides", str(side), "--dtype", str(dtype).removeprefix("torch.")]
    command += ["--threads", str(torch.get_num_threads()), *(["--tiny"] if tiny else [])]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def measure_peaks(side, tiny, dtype):
    peaks = {way: peak_apart(way, side, tiny, dtype) for way in WAYS}
    cells = (f"{way} {mb if mb is None else round(mb)} MB" for way, mb in peaks.items())
    print(f"{side} px, memory above the weights: {', '.join(cells)}", file=sys.stderr, flush=True)
    return {"side": side, "peak_mb": peaks}


def count_operations(config, side):
    """Multiplications and additions of each kind of call, over the stock call's."""
    with torch.device("meta"):
        unet = diffusers_classes()[0].from_config(config)
        hubs = random_hubs(Model(unet, config, "random"), torch.float32, device="meta")
        z, t = torch.zeros(1, 4, side // 8, side // 8), torch.zeros(1)
        prompt = torch.zeros(1, 77, config["cross_attention_dim"])

    def count(state, rows=1):
        with FlopCounterMode(display=False) as counter, with_boosthubs(unet, hubs, state):
            inputs = (x.expand(rows, *x.shape[1:]) for x in (z, t))
            unet(*inputs, encoder_hidden_states=prompt.expand(rows, -1, -1))
        return counter.get_total_flops()

    stock = count(Conditioning(0.0, "read"))
    state = Conditioning(1.0)
    capture = count(state)
    state.phase = "read"
    cached = count(state)
    joint = count(Conditioning(1.0, "joint", rows=1), rows=2)
    run = {"stock": 2 * RUN_OF, "joint": 2 * RUN_OF * joint / stock}
    run["cached"] = (2 * RUN_OF * cached + capture) / stock
    return {
        "side": side,
        "stock_call": stock,
        "ratio": {way: run[way] / run["stock"] for way in WAYS},
    }


def tell(row, name):
    parts = (f"{way} {s:.1f} s ({row['ratio'][way]:.2f}x)" for way, s in row["run_s"].items())
    print(f"{name}: {', '.join(parts)}", file=sys.stderr, flush=True)


def measure(tiny, dtype, steps, run_side, sides, repeats):
    by_memory = [measure_peaks(side, tiny, dtype) for side in sides]
    config = TINY if tiny else UNET
    torch.manual_seed(0)
    model = random_model(config, dtype)
    hubs = random_hubs(model, dtype)
    by_side = [
        measure_calls(models_for(model, hubs, side), side, repeats) for side in (run_side, *sides)
    ]
    by_steps = [measure_runs(models_for(model, hubs, run_side), run_side, n) for n in steps]
    return {
        "unet": "tiny" if tiny else "SD 2.1",
        "guidance": True,
        "images": 1,
        "run_of": RUN_OF,
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
        "aim": AIM,
        "by_steps": by_steps,
        "by_side": by_side,
        "memory": by_memory,
        "operations": [count_operations(config, side) for side in (run_side, *sides)],
    }


def report(result):
    lines = [f"{'':>28}" + "".join(f"{way:>18}" for way in WAYS)]

    def seconds(row, name):
        cells = (f"{s:8.1f} s {row['ratio'][way]:5.2f}x" for way, s in row["run_s"].items())
        lines.append(f"{name:>28}" + "".join(f"{cell:>18}" for cell in cells))

    for row in result["by_steps"]:
        seconds(row, f"{row['side']} px, {row['steps']} steps")
    for row in result["by_side"]:
        seconds(row, f"{row['side']} px, {result['run_of']} put together")
    for row in result["memory"]:
        cells = (f"{'?' if mb is None else mb} MB" for mb in row["peak_mb"].values())
        lines.append(f"{row['side']:>16} px, memory" + "".join(f"{cell:>18}" for cell in cells))
    for row in result["operations"]:
        ratios = ", ".join(f"{way} {row['ratio'][way]:.3f}x" for way in WAYS)
        lines.append(f"operations at {row['side']} px, {result['run_of']} steps: {ratios}")
    return "\n".join([*lines, *verdict(result)])


def verdict(result):
    """Where cached BoostHubs cost at most `AIM`, and where they do not."""
    lines, by_steps = [], result["by_steps"]
    for held, words in ((True, "at most"), (False, "more than")):
        rows = [row for row in by_steps if (row["ratio"]["cached"] <= AIM) == held]
        if rows:
            shown = ", ".join(f"{r['steps']} ({r['ratio']['cached']:.2f}x)" for r in rows)
            lines.append(f"cached, {words} {AIM}x at {by_steps[0]['side']} px: steps {shown}")
    for row in result["by_side"]:
        n = row["aim_from_steps"]
        when = "never" if n is None else f"from {n} step(s) on"
        lines.append(f"cached, at most {AIM}x at {row['side']} px, by single calls: {when}")
    return lines


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    by_steps, memory = result["by_steps"], result["memory"]
    steps, sides = [row["steps"] for row in by_steps], [row["side"] for row in memory]
    for way in WAYS:
        style = {"color": COLORS[way], "label": way, "marker": "o"}
        rows = [row for row in by_steps if way in row["run_s"]]
        at = [row["steps"] for row in rows]
        axes[0].plot(at, [row["run_s"][way] for row in rows], **style)
        axes[1].plot(at, [row["ratio"][way] for row in rows], **style)
        axes[2].plot(sides, [row["peak_mb"][way] or 0 for row in memory], **style)
    for row, line in zip(result["by_side"][1:], ("--", ":", "-."), strict=False):
        call = row["call_s"]
        ratios = [put_together(call, "cached", n) / put_together(call, "stock", n) for n in steps]
        style = {"color": COLORS["cached"], "linestyle": line, "linewidth": 1}
        axes[1].plot(steps, ratios, **style, label=f"cached, {row['side']} px, from calls")
    axes[1].axhline(result["aim"], color="grey", linewidth=0.8)
    machine = result["machine"]
    seconds = f"{machine['clock']} seconds"
    at = f"{by_steps[0]['side']} px, whole runs"
    axes[0].set(xlabel="steps", ylabel=seconds, ylim=0)
    axes[0].set_title(at, fontsize=9)
    axes[1].set(xlabel="steps", ylabel="over stock")
    axes[1].set_title(f"{at}; grey: {result['aim']}", fontsize=9)
    axes[1].legend(frameon=False, fontsize=7)
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
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 20])
    parser.add_argument("--run-side", type=int, default=128, help="of the whole runs")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="of the calls")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="default: the quicker")
    parser.add_argument(
        "--threads", type=int, help="1 counts processor seconds: for a machine that is not idle"
    )
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--peak", choices=WAYS, help="tell the memory of one way, in MB")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype) if args.dtype else fast_dtype(torch.device("cpu"))
    with torch.inference_mode():
        if args.peak:
            print(json.dumps(measure_peak(args.peak, args.sides[0], args.tiny, dtype)))
            return
        result = measure(args.tiny, dtype, args.steps, args.run_side, args.sides, args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"boosthub_{'tiny' if args.tiny else result['machine']['dtype']}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    plot(result, stem.with_suffix(".png"))
    print(report(result))
    print(f"written: {stem.with_suffix('.json')} and {stem.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
