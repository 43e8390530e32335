"""What the benchmark of a device says of times, failures, copies and goals."""

import gc
import json
import math
import subprocess
import sys
import time
import weakref

import pytest
import torch
from facewright.benchmarks import _device_report as reporting
from facewright.benchmarks import device as bench_device
from facewright.benchmarks._device_formats import agrees
from facewright.benchmarks._device_run import OUT_OF_MEMORY, Bench, as_json
from facewright.benchmarks._device_traffic import traffic_of

CPU = torch.device("cpu")


@pytest.fixture
def bench(tmp_path):
    rows = []
    made = Bench(CPU, True, time.time() + 10_000, rows.append, tmp_path)
    made.rows = rows
    return made


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_memory_that_is_lacking_is_told_as_such(bench, error):
    row = bench.row("large", raising(error))
    assert row["failed"] == OUT_OF_MEMORY and row["why"]


def test_a_failure_names_its_line_and_holds_on_to_nothing(bench):
    class Large:
        pass

    kept = []

    def work():
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError("two\n  lines")

    row = bench.row("broken", work)
    assert row["failed"] == "ValueError" and row["why"] == "two lines"
    assert row["where"].startswith("test_device_benchmark.py:")
    gc.collect()
    assert kept[0]() is None
    assert [r["name"] for r in bench.rows] == ["broken"] * 2 and bench.rows[0]["began"]
    assert bench.row("next", lambda: {"ms": 1.0}) == {"name": "next", "ms": 1.0}


def test_what_there_is_no_time_for_is_left_out(bench):
    called = []
    assert "for time" in bench.row("long", lambda: called.append(1) or {}, needs=20_000)["left_out"]
    bench.until = time.time() - 1
    assert "for time" in bench.row("late", lambda: called.append(1) or {})["left_out"]
    assert not called and not any(row.get("began") for row in bench.rows)


def test_a_call_that_took_long_is_not_repeated(bench):
    bench.tiny = False
    calls = []
    row = bench.timed(lambda: calls.append(time.sleep(0.03)), seconds=0.02)
    assert len(calls) == 2 and row["repeats"] == 1 and row["ms"] >= 30 and row["device_ms"] is None
    calls.clear()
    assert bench.timed(lambda: calls.append(1), most=5, seconds=9)["repeats"] == 5
    assert len(calls) == 7


BEGUN = [{"name": "a", "began": True}, {"name": "a", "ms": 1.0}, {"name": "b", "began": True}]


def test_a_process_that_ended_loses_only_the_row_it_was_in():
    killed = bench_device.ended(BEGUN, None)
    assert killed[0] == {"name": "a", "ms": 1.0}
    assert killed[1]["name"] == "b" and "for time" in killed[1]["left_out"]
    died = bench_device.ended(BEGUN, -9)
    assert died[:1] == killed[:1] and died[1]["name"] == "b" and "memory" in died[1]["why"]
    assert bench_device.ended(BEGUN[:2], 0) == [{"name": "a", "ms": 1.0}]
    assert "failed" in bench_device.ended(BEGUN[:2], 1)[1]  # between two rows
    assert "left_out" in bench_device.ended([], None)[0]


def test_half_a_line_is_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert bench_device.read_rows(path) == []
    path.write_text(as_json({"name": "a", "ms": math.nan}) + "\n" + '{"name": "b", "m')
    assert bench_device.read_rows(path) == [{"name": "a", "ms": None}]


def test_a_part_that_cannot_begin_says_so(bench, monkeypatch):
    broken = bench_device.Part("_no_such_file", "measure", 1)
    monkeypatch.setitem(bench_device.PARTS, "machine", broken)
    bench_device.run_part("machine", bench)
    assert bench.rows[0]["failed"] == "ModuleNotFoundError"


def test_copies_are_counted_by_way_and_size():
    there = torch.zeros(5, device="meta")

    def work():
        torch.ones(3).to("meta")  # 12 bytes
        there.copy_(torch.ones(5))  # 20 bytes
        torch.ops.aten.lift_fresh(there[:4])  # 16 bytes: how torch.tensor ends on a GPU
        torch.ones(7) + 1  # stays
        torch.ones(4).copy_(torch.ones(4))

    found = traffic_of(work)
    assert found["to_device_copies"] == 3 and found["to_device_bytes"] == 48
    assert found["to_host_copies"] == found["numbers_read"] == 0


def test_agreement_is_that_of_the_numbers():
    reference = torch.tensor([0.0, 2.0, 1.0, 1.0])
    found = agrees(reference + 0.02, reference)
    assert found["psnr_db"] == pytest.approx(40, abs=1e-4)  # 0.02 of a range of 2
    assert found["relative"] == pytest.approx(0.04 / 6**0.5, rel=1e-5)
    assert agrees(reference, reference)["psnr_db"] is None
    assert agrees(reference / 0, reference) == {"finite": False}


def result(**parts):
    made = {name: {"seconds": 1.0, "rows": rows} for name, rows in parts.items()}
    return {"tiny": False, "seconds": 2.0, "parts": made}


def face(name, ms, batch, mb=None):
    parts = {part: {"ms": ms / 4} for part in ("embed", "encode", "denoise", "decode")}
    row = {"name": name, "ms": ms, "ms_per_face": ms / batch, "batch": batch, "parts": parts}
    return {**row, "peak_mb": mb}


def test_goals_ratios_and_distances():
    macs = dict.fromkeys(("embed", "encode", "denoise", "decode"), 100.0)
    found = result(
        machine=[{"name": "convolutions, float16", "tflops": 400.0}],
        faces=[
            face("float16, batch 1", 16.0, 1, 3000),
            face("bfloat16, batch 1", 12.0, 1),
            face("float16, batch 16", 160.0, 16),
            face("plain, float16, batch 1", 32.0, 1),
            {"name": "float16, batch 64", "failed": OUT_OF_MEMORY, "why": "2 GiB"},
            {"name": "operations", "macs_g": macs, "macs_g_whole": 400.0},
        ],
        onestep=[
            {"name": "plain", "s_per_step": 2.0, "samples_per_s": 1.0, "held_mb": 1, "peak_mb": 9},
            {"name": "ours", "s_per_step": 1.0, "samples_per_s": 2.0, "held_mb": 1, "peak_mb": 6},
        ],
        sampling=[{"name": "stock, float16", "ms": 100.0}, {"name": "joint, float16", "ms": 190.0}],
    )
    met, missed, memory = reporting.goals(found)
    assert met.endswith("12, at most 15: met") and missed.endswith("10, at most 8: MISSED")
    assert memory.endswith(": met")
    assert all("not measured" in line for line in reporting.goals(result()))
    ratios = "\n".join(reporting.ratios(found))
    assert "float16, batch 1: 0.50 of the plain flow's time" in ratios
    assert "onestep, ours: 2.00 times the plain loop's samples a second, 0.67" in ratios
    assert "joint, float16: 1.90 of the model's alone" in ratios
    # 2 x 100 G in 4 ms are 50 TFLOP/s, an eighth of the peak.
    assert "decode 50 TFLOP/s (12%)" in reporting.distances(found)[0]
    widened = {"unet": "float16", "encoder": "float32", "decoder": "float16"}
    told = reporting.told("faces", {**face("float16, batch 1", 16.0, 1), "formats": widened})
    assert told.endswith("held in unet float16, encoder float32, decoder float16")
    text = reporting.report(found)
    assert "held in" not in text
    assert "float16, batch 64: FAILED, out of memory: 2 GiB" in text and "2 s in all" in text


def test_the_file_bears_the_name_of_the_device_and_is_json(tmp_path):
    found = result(machine=[{"name": "machine", "device": "NVIDIA H200 (x)", "tflops": math.inf}])
    path = bench_device.write(found, tmp_path)
    assert path.name == "device_nvidia_h200_x.json"
    assert json.loads(path.read_text())["parts"]["machine"]["rows"][0]["tflops"] is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert bench_device.stem_of({**found, "tiny": True}) == "device_tiny"


def test_the_peaks_are_measured(bench):
    bench_device.run_part("machine", bench)
    rows = {row["name"]: row for row in bench.rows if not row.get("began")}
    assert not [row for row in rows.values() if "failed" in row or "left_out" in row]
    assert torch.__version__.startswith(rows["machine"]["versions"]["torch"])
    product = rows["products, float32"]
    assert product["tflops"] == pytest.approx(2 * 256**3 / (product["ms"] / 1000) / 1e12)
    assert rows["copies"]["gb_per_s"]["within"] > 0


@pytest.mark.slow
def test_all_of_it_on_small_shapes(tmp_path):
    """As a user starts it: each part in a process of its own, from an option to the file."""
    command = [sys.executable, "-m", "facewright.benchmarks.device", "--tiny", "--device", "cpu"]
    command += ["--minutes", "60", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "device_tiny.json").read_text())
    assert found["parts"].keys() == bench_device.PARTS.keys()
    for name, part in found["parts"].items():
        for row in part["rows"]:
            only_gpus = row["name"].endswith(("efficient_attention", "cudnn_attention"))
            assert only_gpus or not row.keys() & {"failed", "left_out"}, (name, row)
    for name in ("onestep", "flipnet"):
        rows = {row["name"]: row for row in found["parts"][name]["rows"]}
        assert rows["ours"]["first_step_difference"] < 1e-3
        assert rows["checkpointed"]["largest_difference"] < 5e-3
    assert done.stdout.count("written: ") == 1 and "of the plain flow's time" in done.stdout


@pytest.mark.slow
def test_time_that_is_up_ends_a_part_and_keeps_its_rows(tmp_path):
    args = bench_device.parse(["--device", "cpu"])  # true shapes, which take minutes
    rows = bench_device.run_apart("faces", args, time.time() + 30, tmp_path)
    assert rows and "for time" in rows[-1]["left_out"]
