"""MediaPipe's graphs for faces: `core.tflite` in torch against LiteRT, which they were made for.

    FACEWRIGHT_MEDIAPIPE=FOLDER python bootstrap.py bench tflite [--threads 1] [--turns 30]

The folder holds the official face_landmarker.task and face_detection_full_range_sparse.tflite. Both
sides run the same random pictures in this process, in turns; processor seconds are counted, so that
other programs disturb little. LiteRT runs its own kernels (XNNPACK) and only ever one picture at a
time. `agreement` is the largest difference in shares of the largest number of an output. Adds its
figures to benchmarks/results/tflite.json.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from facewright.core.tflite import load_tflite, read_task, read_tflite

RESULT = Path(__file__).parent / "results" / "tflite.json"
BATCH = 8


def graphs(folder):
    task = read_task(folder / "face_landmarker.task")
    full = folder / "face_detection_full_range_sparse.tflite"
    return {
        "short range, 128 px": task["face_detector.tflite"],
        "full range, 192 px": read_tflite(full),
        "landmarks, 256 px": task["face_landmarks_detector.tflite"],
    }


def seconds(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def litert(data, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]["index"]
    made = {about["name"]: about["index"] for about in interpreter.get_output_details()}

    def run(picture):
        interpreter.set_tensor(taken, picture)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in made.items()}

    return run


def measure(data, threads, turns):
    load_s, graph = seconds(lambda: load_tflite(data, source="graph"))
    known = litert(data, threads)
    shape = graph.inputs[0].shape[1:]
    x = np.random.default_rng(0).uniform(0, 1, (BATCH, *shape)).astype("f4")
    batch = torch.from_numpy(x)
    sides = {
        "ours": lambda: graph(batch[:1]),
        "litert": lambda: known(x[:1]),
        "ours, batch": lambda: graph(batch),
    }
    times, results = {name: [] for name in sides}, {}
    for turn in range(turns + 3):  # the first ones warm up
        for name, run in sides.items():
            taken, results[name] = seconds(run)
            times[name] += [taken] if turn >= 3 else []
    agreement = max(
        np.abs(output.numpy() - results["litert"][info.name]).max()
        / np.abs(results["litert"][info.name]).max()
        for info, output in zip(graph.outputs, results["ours"], strict=True)
    )
    pairs = zip(times["ours"], times["litert"], strict=True)
    return {
        "load_ms": 1000 * load_s,
        "ours_ms": 1000 * statistics.median(times["ours"]),
        "litert_ms": 1000 * statistics.median(times["litert"]),
        "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
        f"ours_each_of_{BATCH}_ms": 1000 * statistics.median(times["ours, batch"]) / BATCH,
        "agreement": float(agreement),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    args = parser.parse_args()
    folder = os.environ.get("FACEWRIGHT_MEDIAPIPE")
    if not folder:
        raise SystemExit("Name the folder of MediaPipe's files in FACEWRIGHT_MEDIAPIPE.")
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        found = {
            name: measure(data, args.threads, args.turns)
            for name, data in graphs(Path(folder)).items()
        }
    found["all three"] = {
        key: sum(row[key] for row in found.values()) for key in ("ours_ms", "litert_ms")
    }
    about = {"torch": torch.__version__, "simd": torch.backends.cpu.get_cpu_capability()}
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[f"threads: {args.threads}"] = {**about, "turns": args.turns, **found}
    RESULT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
