"""A training run that is killed goes on as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
import yaml
from facewright.core.checkpoint import read_tensors
from facewright.training.log.visual import keep_lines
from facewright.training.loop.checkpoints import list_checkpoints
from facewright.training.train import train


def config(flip, name, people, steps):
    values = {
        "output": str(flip.folder / name),
        "budget": {"max_steps": steps},
        "batch_size": 2,
        "cpu": True,
        "threads": 1,
        "ema": 0.9,
        "validate_every": 3,
        "validate_images": 2,
        "checkpoint_every": 1,
        "log_every": 1,
        "data": {"source": "folder", "folder": str(people), "size": 32, "workers": 0},
        "degradation": {"presets": ["mild"]},
        "optimizers": {"main": {"kind": "muon", "lr": 1e-3}},
        "recipe": json.loads(json.dumps(flip.values("degrade", merged=True), default=str)),
    }
    path = flip.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def curve(flip, name):
    """What was logged, less the clock."""
    lines = [json.loads(x) for x in (flip.folder / name / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "cpu_seconds")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def losses(path):
    """Losses that a run has logged so far; the last line may be half there."""
    try:
        return [x for x in path.read_text().splitlines(True) if "main/" in x and x[-1] == "\n"]
    except OSError:
        return []


def kill_in_flight(path, output, steps, wait):
    """Train until `steps` are logged and `wait` seconds more; what was done by then."""
    command = [sys.executable, "-m", "facewright.training.train", "flipnet-degrade", "--resume"]
    process = subprocess.Popen(
        [*command, "--config", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while len(losses(output / "metrics.jsonl")) < steps and process.poll() is None:
            time.sleep(0.005)
        time.sleep(wait)
    finally:
        process.kill()  # SIGKILL
        process.wait()
    return len(losses(output / "metrics.jsonl"))


@pytest.mark.parametrize(("kills", "last"), [(1, 6), pytest.param(4, 12, marks=pytest.mark.slow)])
def test_a_killed_run_loses_at_most_the_step_in_flight(flip, folder_of_people, kills, last):
    straight = train("flipnet-degrade", config(flip, "straight", folder_of_people, last))
    path, output = config(flip, "killed", folder_of_people, last), flip.folder / "killed"
    chance, done = random.SystemRandom(), 0
    for kill in range(kills):
        room = max(1, (last - 3 - done) // (kills - kill))
        at = done + chance.randint(1, room), chance.uniform(0, 0.1)
        done = kill_in_flight(path, output, *at)
        saved = list_checkpoints(output / "checkpoints")
        assert int(saved[-1].stem[5:]) >= done - 1 if saved else done <= 1, at
    again = train("flipnet-degrade", path, resume=True)

    assert again["steps"] == straight["steps"] == last
    assert curve(flip, "killed") == curve(flip, "straight"), at
    steps = [line["step"] for line in curve(flip, "killed") if "held_out" not in line]
    assert steps == list(range(1, last + 1))
    assert len(straight["files"]) == len(again["files"]) > 0
    for one, two in zip(straight["files"], again["files"], strict=True):
        a, b = read_tensors(one)[0], read_tensors(two)[0]
        assert a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a), at
    assert not list(output.rglob("*.partial"))


def test_lines_after_the_step_resumed_at_go_and_a_torn_one_breaks_nothing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert keep_lines(path, 3) == [] and not path.exists()
    lines = [{"step": s, "main/eps": s / 7} for s in range(1, 6)]
    lines.insert(2, {"step": 2, "held_out": {"psnr": float("nan")}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for torn in ("", '{"step": 6, "main/e', '{"step": 3, "ma'):
        path.write_text(text + torn)
        kept = keep_lines(path, 3)
        assert [x["step"] for x in kept[:4]] == [1, 2, 2, 3]
        assert path.read_text().startswith("".join(text.splitlines(True)[:4]))
        assert len(path.read_text().splitlines()) == len(kept) == 4
        assert path.read_text().endswith("\n")
    before = path.stat().st_mtime_ns
    keep_lines(path, 3)
    assert path.stat().st_mtime_ns == before  # nothing to cut
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
