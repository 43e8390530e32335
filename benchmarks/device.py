"""Everything that is worth knowing of facewright on one GPU, in eight minutes.

    python bootstrap.py bench device [--device cuda] [--minutes 8] [--only faces formats]
    python bootstrap.py bench device --tiny --device cpu       small shapes, to try the script
    python bootstrap.py --installed bench device               with the packages this Python has

Nothing is downloaded: all networks have their true shapes (Stable Diffusion 2.1, OSDFace's
embedder, FLIPNET's face encoder) and random weights. Each part runs in a process of its own and may
take its share of the time and what parts before it left over. A part that fails, runs out of memory
or of time loses neither the other parts nor its own rows so far; each row that is missing says why.

machine   what the device is, and its peaks: TFLOP/s of products, convolutions and attention, GB/s
formats   agreement with strict float32: bfloat16, float16, TF32, channels-last, kinds of attention
faces     one face and batches of 4, 16, 64 through OSDFace: ms, memory, beside diffusers' flow
traffic   bytes between host and device for one face, and where the host waits
sampling  FLIPNET, 20 steps with guidance: the UNet alone, cached and joint BoostHubs
onestep   a training step of OSDFace's second stage, beside a loop with diffusers and peft
flipnet   a training step of FLIPNET's restoration mode, likewise
compile   CUDA graphs, and torch.compile with them, for UNet, decoder and encoder

Writes benchmarks/results/device_<name>.json (`device_tiny.json` for --tiny, which measures nothing)
and says where the goals are met. The JSON is rewritten after every part.
"""

import argparse
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ._device_run import Bench, Row, as_json, attempt

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Part:
    """Where a part stands, and its share of the time in seconds out of eight minutes."""

    module: str
    function: str
    seconds: float


PARTS = {
    "machine": Part("_device_peaks", "measure", 30),
    "formats": Part("_device_formats", "measure", 65),
    "faces": Part("_device_faces", "measure", 95),
    "traffic": Part("_device_traffic", "measure", 25),
    "sampling": Part("_device_sampling", "measure", 40),
    "onestep": Part("_device_training", "measure_onestep", 100),
    "flipnet": Part("_device_training", "measure_flipnet", 70),
    "compile": Part("_device_faces", "measure_compiled", 55),
}
WHOLE = sum(part.seconds for part in PARTS.values())
SPARE = 3.0
"""Seconds before its end at which a part begins nothing new."""


def run_part(name: str, bench: Bench) -> None:
    """All rows of a part, in this process; an error outside of a row becomes one."""
    part = PARTS[name]

    def work() -> Row:
        module = importlib.import_module(f"facewright.benchmarks.{part.module}")
        getattr(module, part.function)(bench)
        return {}

    if failed := attempt(work):
        bench.tell({"name": "the part itself", **failed})


def run_apart(name: str, args: argparse.Namespace, until: float, folder: Path) -> list[Row]:
    """All rows of a part from a process of its own, whatever ends it."""
    path = folder / f"{name}.jsonl"
    command = [sys.executable, "-m", "facewright.benchmarks.device", "--part", name]
    command += ["--device", args.device, "--until", str(until - SPARE), "--folder", str(folder)]
    command += ["--training-batch", str(args.training_batch), *(["--tiny"] if args.tiny else [])]
    # A group of its own: what compiles for it ends with it.
    process = subprocess.Popen(command, start_new_session=os.name != "nt")
    try:
        code: int | None = process.wait(max(1.0, until - time.time()))
    except subprocess.TimeoutExpired:
        code = None
        _end(process)
    except BaseException:  # Ctrl-C reaches this process alone
        _end(process)
        raise
    return ended(read_rows(path), code)


def _end(process: subprocess.Popen) -> None:
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_rows(path: Path) -> list[Row]:
    """The whole lines of a file; a process that was ended may have left half a one."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows


def ended(rows: list[Row], code: int | None) -> list[Row]:
    """The rows, and for one that was begun only, how its process ended.

    Args:
        code: exit code; None where its time was up.
    """
    done = [row for row in rows if not row.get("began")]
    unfinished = [row["name"] for row in rows if row.get("began")][len(_finished(rows)) :]
    if code is None:
        why = {"left_out": "for time: it was ended while this ran"}
    else:
        why = {"failed": f"the process ended with {code}", "why": _meaning(code)}
    if unfinished:
        done.append({"name": unfinished[-1], **why})
    elif code is None or code:
        done.append({"name": "the part itself", **why})
    return done


def _finished(rows: list[Row]) -> list[str]:
    begun = {row["name"] for row in rows if row.get("began")}
    return [row["name"] for row in rows if not row.get("began") and row["name"] in begun]


def _meaning(code: int) -> str:
    if code in (-9, 137):
        return "something ended it from outside; mostly the machine ran out of memory"
    return "its last words are above"


def measure(args: argparse.Namespace, folder: Path) -> dict:
    """Rows of all parts that are asked for, written after each."""
    from ._device_report import told

    started = time.time()
    result: dict = {"tiny": args.tiny, "minutes": args.minutes, "parts": {}}
    share = 0.0
    for name, part in PARTS.items():
        if name not in args.only:
            continue
        share += part.seconds
        until = started + 60 * args.minutes * share / args.share
        print(f"{name}: {until - time.time():.0f} s at most", file=sys.stderr, flush=True)
        begun = time.time()
        rows = run_apart(name, args, until, folder)
        result["parts"][name] = {"seconds": round(time.time() - begun, 1), "rows": rows}
        result["seconds"] = round(time.time() - started, 1)
        for row in rows:
            print(f"  {told(name, row)}", file=sys.stderr, flush=True)
        write(result, args.out)
    return result


def write(result: dict, out: Path) -> Path:
    """The JSON of what is known so far; a file that a run was ended in is none."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{stem_of(result)}.json"
    made = path.with_suffix(".part")
    made.write_text(json.dumps(json.loads(as_json(result)), indent=1) + "\n", encoding="utf-8")
    made.replace(path)
    return path


def stem_of(result: dict) -> str:
    """device_tiny, or device_ and the device's name in small letters."""
    if result["tiny"]:
        return "device_tiny"
    rows = result["parts"].get("machine", {}).get("rows", [])
    names = [row["device"] for row in rows if row.get("device")]
    name = re.sub(r"[^a-z0-9]+", "_", (names or ["unknown"])[0].lower())
    return f"device_{name.strip('_')}"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, cpu, ...")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--training-batch", type=int, default=2, help="pictures in a step")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.share = sum(PARTS[name].seconds for name in args.only)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    from facewright.core.devices import compute_on, find_device

    device = find_device(args.device)  # before any part fails on it
    if args.part:
        compute_on(args.device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # events and counts of memory are the current one's
        path = args.folder / f"{args.part}.jsonl"
        with path.open("a", encoding="utf-8") as file:

            def tell(row: Row) -> None:
                file.write(as_json(row) + "\n")
                file.flush()

            bench = Bench(device, args.tiny, args.until, tell, args.folder, args.training_batch)
            run_part(args.part, bench)
        return
    from ._device_report import report

    print(f"torch {torch.__version__}, {device}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = measure(args, Path(folder))
    path = write(result, args.out)
    print(report(result))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
