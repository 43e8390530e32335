"""Two processes that share a batch learn what one process learns from the whole batch."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
import yaml
from facewright.core.checkpoint import read_tensors

SCRIPT = """
import sys
import torch
from torch.nn import Conv2d
from facewright.training.settings.config import Strict, load_config
from facewright.training.loop.engine import Engine
from facewright.training.recipe import Evaluation, Recipe


class Pair(Recipe):
    stage = "pair"

    def build(self):
        return {"painter": Conv2d(3, 3, 3, padding=1), "judge": Conv2d(3, 1, 3)}

    def phases(self):
        return {"generator": ("painter",), "discriminator": ("judge",)}

    def losses(self, phase, batch, progress):
        if phase == "generator":
            made = self.nets["painter"](batch["gt"])
            batch["made"] = made.detach()
            mse = (made - batch["gt"]).square().mean()
            return {"mse": mse, "gan": -0.1 * self.nets["judge"](made).mean()}
        if progress.step == 0:
            return None
        return {"bce": self.nets["judge"](batch["made"]).square().mean()}

    def evaluate(self, batches):
        return Evaluation({})

    def export(self, folder, facts):
        torch.save({k: v.state_dict() for k, v in self.nets.items()}, folder / "nets.pt")
        return []


config = load_config(sys.argv[1], Strict)
Engine(Pair(config.recipe), config).run()
"""
STAGE = """
import sys
import torch
from facewright.core.schedule import add_noise
from facewright.training.losses.latent_discriminator import LatentDiscriminator
from facewright.training.train import train


def same_noise(self, z_0, cond):
    eps = torch.linspace(-2, 2, z_0[0].numel()).sin().view_as(z_0[:1]).expand_as(z_0)
    t = torch.full((len(z_0),), 300)
    return self.head(self.encoder(add_noise(z_0, eps, self.alpha_bar[t]), t, cond))


stage, path, *options = sys.argv[1:]
if "--same-noise" in options:
    LatentDiscriminator.forward = same_noise
train(stage, path, resume="--resume" in options)
"""
"""What `facewright train` does; with `--same-noise` the discriminator draws no noise of its own."""
STEPS = 6


@contextmanager
def started(script, arguments, processes):
    """The processes of one run, which are killed where they are still there in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    running = []
    try:
        for rank in range(processes):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            env = {**os.environ, "OMP_NUM_THREADS": "1", **(world | ranks if ranks else {})}
            command = [sys.executable, str(script), *map(str, arguments)]
            running.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
        yield running
    finally:
        for process in running:
            process.kill()  # SIGKILL
            process.wait()


def finish(script, arguments, processes=1):
    with started(script, arguments, processes) as running:
        assert [process.wait(timeout=300) for process in running] == [0] * processes


def written(path, text):
    path.write_text(text)
    return path


def values(folder, output, batch_size, phases, lr=1e-2):
    return {
        "output": str(output),
        "budget": {"max_steps": 4},
        "batch_size": batch_size,
        "accumulate": 2,
        "cpu": True,
        "threads": 1,
        "ema": 0,
        "data": {"source": "folder", "folder": str(folder), "size": 32, "workers": 0},
        "optimizers": {phase: {"kind": "adamw", "lr": lr} for phase in phases},
    }


@pytest.mark.slow
def test_two_processes_equal_one(folder_of_people, tmp_path):
    script, nets = written(tmp_path / "pair.py", SCRIPT), []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        phases = ("generator", "discriminator")
        text = yaml.safe_dump(values(folder_of_people, output, 4 // processes, phases))
        finish(script, [written(output.with_suffix(".yaml"), text)], processes)
        nets.append(torch.load(output / "export" / "nets.pt", weights_only=True))
    one, two = nets
    for net in one:
        for key in one[net]:
            torch.testing.assert_close(two[net][key], one[net][key], rtol=1e-4, atol=1e-6)


def stage_config(tiny, stage, folder, output, batch_size, **recipe):
    section = {**tiny.values(stage), **recipe}
    phases = ("autoencoder",) if stage.startswith("face") else ("generator", "discriminator")
    whole = values(folder, output, batch_size, phases, lr=1e-3) | {
        "budget": {"max_steps": STEPS},
        "ema": 0.9,
        "log_every": 1,
        "validate_every": 3,
        "validate_images": 2,
        "checkpoint_every": 1,
        "degradation": {"presets": ["mild"]},
        "recipe": json.loads(json.dumps(section, default=str)),
    }
    return written(output.with_suffix(".yaml"), yaml.safe_dump(whole))


def curve(output):
    """What was logged, less the clock."""
    lines = [json.loads(x) for x in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]


def flat(line):
    return {**line, **line.get("held_out", {}), "held_out": "held_out" in line}


CASES = {
    # Noise comes from each process's own random numbers: latents are the posterior's means and the
    # discriminator's noise is replaced. `features` is in units of a batch's variance: not a mean
    # over samples, so left out.
    "onestep": {"sample_latents": False, "features": 0},
    # No noise at all; the adaptive weight of a GAN is a quotient of two means, so left out.
    "face-autoencoder": {"gan": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", CASES)
def test_two_processes_draw_the_curve_of_one(tiny, folder_of_people, tmp_path, stage):
    """Every step's losses, gradient norms and held-out metrics, of stages as users run them.

    Within 1e-3 of each value and 2e-5: sums run in another order, which Adam, dividing small
    gradients by their own size, makes larger from step to step; the log has five digits.
    """
    script = written(tmp_path / "stage.py", STAGE)
    changes = dict(CASES[stage])
    if "features" in changes:
        changes["weights"] = {**tiny.values(stage)["weights"], "features": changes.pop("features")}
    curves = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        path = stage_config(tiny, stage, folder_of_people, output, 4 // processes, **changes)
        finish(script, [stage, path, "--same-noise"], processes)
        curves.append(curve(output))
    one, two = curves
    assert sum("held_out" not in line for line in one) == STEPS
    assert len(one) == len(two)
    for a, b in zip(map(flat, one), map(flat, two), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=2e-5), (a["step"], stage)
    losses = [line for line in one if "held_out" not in line]
    assert losses[0] != losses[-1]


@pytest.mark.slow
def test_a_total_batch_is_the_same_step_on_one_process_and_on_two(tiny, folder_of_people, tmp_path):
    """One process takes it in two passes of four, two processes in one pass of four each."""
    script = written(tmp_path / "stage.py", STAGE)
    curves = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        path = stage_config(tiny, "face-autoencoder", folder_of_people, output, 4, gan=0)
        config = yaml.safe_load(path.read_text()) | {"total_batch": 8}
        del config["accumulate"]
        path.write_text(yaml.safe_dump(config))
        finish(script, ["face-autoencoder", path], processes)
        curves.append(curve(output))
    for a, b in zip(*(map(flat, c) for c in curves), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=2e-5), a["step"]
    facts = [json.loads((tmp_path / str(n) / "facts.json").read_text()) for n in (1, 2)]
    assert [f["images"] for f in facts] == [8 * STEPS] * 2


def logged(output):
    """Steps whose losses are logged; the last line may be half there."""
    try:
        text = (output / "metrics.jsonl").read_text()
    except OSError:
        return 0
    return sum("generator/" in x and x[-1] == "\n" for x in text.splitlines(True))


@pytest.mark.slow
def test_two_killed_processes_go_on_as_if_nothing_had_happened(tiny, folder_of_people, tmp_path):
    """With noise: each process's random numbers are in the checkpoint."""
    script = written(tmp_path / "stage.py", STAGE)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    paths = [stage_config(tiny, "onestep", folder_of_people, o, 2) for o in (straight, killed)]
    finish(script, ["onestep", paths[0]], 2)
    chance = random.SystemRandom()
    # From step 2 on there is a checkpoint: each step is logged, then saved.
    at, wait = chance.randint(2, STEPS - 2), chance.uniform(0, 0.1)
    with started(script, ["onestep", paths[1]], 2) as running:
        while logged(killed) < at and all(p.poll() is None for p in running):
            time.sleep(0.005)
        time.sleep(wait)
    done = logged(killed)
    assert at <= done < STEPS, (at, wait)
    finish(script, ["onestep", paths[1], "--resume"], 2)

    assert curve(killed) == curve(straight), (at, wait)
    names = sorted(f.name for f in (straight / "export").iterdir())
    assert names == sorted(f.name for f in (killed / "export").iterdir())
    for name in names:
        if name.endswith(".safetensors"):
            a, b = (read_tensors(o / "export" / name)[0] for o in (straight, killed))
            assert a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a), (at, wait)
    assert not list(killed.rglob("*.partial"))


CARE = """
import os
import sys
import torch
import torch.distributed as dist
from facewright.core.modules.quantizer import VectorQuantizer
from facewright.training.losses.vq import CodebookCare

dist.init_process_group("gloo")
torch.manual_seed(0)
quantizer = VectorQuantizer(16, 4)
care = CodebookCare(quantizer, init_step=1, revive_every=3)
rank = dist.get_rank()
torch.manual_seed(1 + rank)
for step in range(4):
    # Between them the processes use the codes 0 to 11; each sees features of its own.
    care.observe(torch.randn(50, 4) + 10 * rank, torch.arange(6) + 6 * rank)
    before = quantizer.embedding.weight.detach().clone()
    moved = care.after_step(step, 0.0)
    changed = (quantizer.embedding.weight != before).any(1)
state = {"weight": quantizer.embedding.weight.detach(), "changed": changed, "moved": moved}
torch.save(state, f"{sys.argv[1]}-{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_keep_one_codebook(tmp_path):
    finish(written(tmp_path / "care.py", CARE), [tmp_path / "care"], 2)
    one, two = (torch.load(tmp_path / f"care-{i}.pt", weights_only=True) for i in range(2))
    assert one["weight"].equal(two["weight"])
    for end in (one, two):  # at the end only the codes that neither of them used
        assert end["changed"].nonzero().flatten().tolist() == [12, 13, 14, 15]
        assert end["moved"] == 4
