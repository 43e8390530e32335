import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedType
from facewright.core.checkpoint import read_tensors
from facewright.core.errors import CheckpointError, FacewrightError, NonFiniteError
from facewright.training.data import Batches
from facewright.training.loop.checkpoints import list_checkpoints, save_checkpoint
from facewright.training.loop.engine import Engine
from facewright.training.loop.guard import MAX_BAD_STEPS
from facewright.training.loop.results import draw_curves
from facewright.training.recipe import Evaluation, Recipe
from facewright.training.settings.config import ConfigError, Strict, TrainConfig, load_config
from PIL import Image
from torch import nn
from torch.nn import Conv2d


class ToyConfig(Strict):
    stop_at: int = -1
    poison: tuple[int, ...] = ()


class Toy(Recipe):
    """A tiny adversarial pair: enough to exercise phases, noise, EMA and stashing in the batch."""

    stage = "toy"
    Config = ToyConfig

    def build(self):
        return {
            "painter": nn.Sequential(Conv2d(3, 4, 3, padding=1), Conv2d(4, 3, 3, padding=1)),
            "judge": Conv2d(3, 1, 3),
        }

    def phases(self):
        return {"generator": ("painter",), "discriminator": ("judge",)}

    def losses(self, phase, batch, progress):
        if phase == "generator":
            noisy = batch["gt"] + 0.1 * torch.randn_like(batch["gt"])
            made = self.nets["painter"](noisy)
            batch["made"] = made.detach()
            scale = float("nan") if progress.step in self.config.poison else 1.0
            assert not any(p.requires_grad for p in self.nets["judge"].parameters())
            return {
                "mse": scale * F.mse_loss(made, batch["gt"]),
                "gan": -0.1 * self.nets["judge"](made).mean(),
            }
        assert not any(p.requires_grad for p in self.nets["painter"].parameters())
        if progress.step == 0:
            return None
        real, fake = self.nets["judge"](batch["gt"]), self.nets["judge"](batch["made"])
        return {"hinge": F.relu(1 - real).mean() + F.relu(1 + fake).mean()}

    def after_step(self, progress):
        if progress.step == self.config.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def evaluate(self, batches):
        torch.randn(3)  # must not disturb the training's random numbers
        batch = next(iter(batches))
        made = self.nets["painter"](batch["gt"])
        assert not self.nets["painter"].training
        return Evaluation({"mse": F.mse_loss(made, batch["gt"]).item()}, {"made": made})

    def export(self, folder: Path, facts):
        path = folder / "painter.pt"
        torch.save(self.nets["painter"].state_dict(), path)
        return [path]


def config(folder, output, **changes) -> TrainConfig:
    adam = {"kind": "adamw", "lr": 1e-2, "warmup": 2, "schedule": "cosine"}
    values = {
        "output": str(output),
        "budget": {"max_steps": 6},
        "batch_size": 2,
        "accumulate": 2,
        "cpu": True,
        "data": {"source": "folder", "folder": str(folder), "size": 32, "workers": 0,
                 "identity": "parent", "held_out": 0.3},
        "optimizers": {"generator": {**adam, "kind": "muon"}, "discriminator": adam},
        "ema": 0.9,
        "validate_every": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        **changes,
    }  # fmt: skip
    path = Path(output).with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values))
    return load_config(path, ToyConfig)


def final_state(output) -> dict:
    return torch.load(list_checkpoints(Path(output) / "checkpoints")[-1], weights_only=True)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_resumed_run_equals_uninterrupted_run(folder_of_people, tmp_path):
    whole = config(folder_of_people, tmp_path / "whole")
    facts = Engine(Toy(whole.recipe), whole).run()
    assert facts["finished"] and facts["steps"] == 6 and facts["images"] == 24

    broken = config(folder_of_people, tmp_path / "broken", recipe={"stop_at": 2})
    facts = Engine(Toy(broken.recipe), broken).run()
    assert facts["stopped_by"] == "SIGTERM" and facts["steps"] == 3 and not facts["finished"]
    again = config(folder_of_people, tmp_path / "broken")
    Engine(Toy(again.recipe), again).run(resume=True)

    a, b = final_state(whole.output), final_state(again.output)
    for key in ("step", "nets", "optimizers", "ema", "rng"):
        assert same(a[key], b[key]), key


def test_a_worker_that_falls_with_the_run_costs_no_step(folder_of_people, tmp_path, monkeypatch):
    def train(self, *, first_step):
        yield next(whole(self, first_step=first_step))
        os.kill(os.getpid(), signal.SIGTERM)  # as torch tells it, of a process of the same group
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    whole = Batches.train
    monkeypatch.setattr(Batches, "train", train)
    stopped = config(folder_of_people, tmp_path / "run")
    facts = Engine(Toy(stopped.recipe), stopped).run()
    assert facts["stopped_by"] == "SIGTERM" and final_state(stopped.output)["step"] == 1


def test_what_was_logged_after_the_last_checkpoint_is_logged_anew(folder_of_people, tmp_path):
    def logged(run):
        lines = [json.loads(x) for x in (run.output / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in x.items() if "seconds" not in k} for x in lines]

    whole = config(folder_of_people, tmp_path / "whole")
    Engine(Toy(whole.recipe), whole).run()
    steps = [(x["step"], "held_out" in x) for x in logged(whole)]
    expected = [(s, h) for s in range(7) for h in (False, True) if (s % 2 == 0 if h else s)]
    assert steps == expected  # held-out metrics of step 0, too: what the run starts from

    killed = config(folder_of_people, tmp_path / "killed", keep_last=9)
    Engine(Toy(killed.recipe), killed).run()
    newest = list_checkpoints(killed.output / "checkpoints")[-1]
    newest.rename(newest.with_suffix(".99.partial"))  # killed while it was written,
    with (killed.output / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 7, "gen')  # and in the middle of a line
    Engine(Toy(killed.recipe), killed).run(resume=True)
    assert logged(killed) == logged(whole)
    assert not list(killed.output.rglob("*.partial"))
    Engine(Toy(killed.recipe), killed).run(resume=True)  # there is nothing left to do
    assert logged(killed) == logged(whole)


def test_training_lowers_the_held_out_error_and_exports_averaged_weights(
    folder_of_people, tmp_path, monkeypatch
):
    monkeypatch.setattr("facewright.training.loop.engine.draw_curves", draw_curves)
    run = config(folder_of_people, tmp_path / "run", budget={"max_steps": 30})
    facts = Engine(Toy(run.recipe), run).run()
    lines = [json.loads(x) for x in (run.output / "metrics.jsonl").read_text().splitlines()]
    held_out = {x["step"]: x["held_out"]["mse"] for x in lines if "held_out" in x}
    assert held_out[30] < 0.7 * held_out[2] and held_out[2] < held_out[0]
    assert (run.output / "grids" / "step-00000030.png").is_file()
    assert json.loads((run.output / "facts.json").read_text())["metrics"] == facts["metrics"]
    assert facts["curves"] == str(run.output / "curves.png")
    assert (run.output / "export" / "README.md").is_file()
    for picture in (run.output / "curves.png", run.output / "export" / "curves.png"):
        assert Image.open(picture).width == 1600

    exported = torch.load(run.output / "export" / "painter.pt", weights_only=True)
    state = final_state(run.output)
    averages = dict(zip(exported, state["ema"]["averages"], strict=True))
    assert same(exported, averages)
    assert not same(exported, state["nets"]["painter"])


def test_running_again_needs_resume(folder_of_people, tmp_path):
    run = config(folder_of_people, tmp_path / "run", budget={"max_steps": 2})
    Engine(Toy(run.recipe), run).run()
    with pytest.raises(ConfigError, match="--resume"):
        Engine(Toy(run.recipe), run).run()


def test_single_bad_steps_are_skipped_and_lasting_ones_stop_the_run(folder_of_people, tmp_path):
    run = config(folder_of_people, tmp_path / "one", recipe={"poison": (2,)})
    Engine(Toy(run.recipe), run).run()
    assert all(p.isfinite().all() for p in final_state(run.output)["nets"]["painter"].values())

    run = config(
        folder_of_people, tmp_path / "many", budget={"max_steps": 40},
        recipe={"poison": tuple(range(3, 40))},
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match="learning rate") as error:
        Engine(Toy(run.recipe), run).run()
    assert list_checkpoints(run.output / "checkpoints")
    assert MAX_BAD_STEPS < 37
    # The batches of the first and the last bad step are there, to look at and to try again.
    kept = sorted(p.name for p in (run.output / "nonfinite").iterdir())
    steps = [3, 3 + MAX_BAD_STEPS - 1]
    name = "step-{:08d}-generator-process-0"
    assert kept == sorted(name.format(s) + e for s in steps for e in (".safetensors", ".png"))
    assert name.format(steps[1]) in str(error.value)
    tensors, metadata = read_tensors(run.output / "nonfinite" / f"{name.format(3)}.safetensors")
    stream = Batches(run, torch.device("cpu")).train(first_step=3)
    for i, batch in enumerate(next(stream)):
        assert tensors[f"{i}.gt"].equal(batch["gt"])
    assert math.isnan(json.loads(metadata["terms"])["mse"])


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_full_disk_costs_checkpoints_and_not_the_run(
    folder_of_people, tmp_path, monkeypatch, caplog
):
    run = config(folder_of_people, tmp_path / "run", budget={"max_steps": 4})
    Engine(Toy(run.recipe), run).run()
    before = {p: p.read_bytes() for p in list_checkpoints(run.output / "checkpoints")}
    more = config(folder_of_people, tmp_path / "run", budget={"max_steps": 8})
    save, tries = torch.save, []

    def until_somebody_makes_room(state, path):
        if "step" not in state:  # the export
            return save(state, path)
        tries.append(state["step"])
        if len(tries) < 5:
            path.write_bytes(b"half of it")
            raise RuntimeError("unexpected pos 9369856 vs 9369744")  # as torch says it
        assert {p: p.read_bytes() for p in list_checkpoints(run.output / "checkpoints")} == before
        return save(state, path)

    monkeypatch.setattr(torch, "save", until_somebody_makes_room)
    monkeypatch.setattr("facewright.training.loop.state.WAIT_FOR_ROOM", 0.0)
    facts = Engine(Toy(more.recipe), more).run(resume=True)
    assert facts["finished"] and tries == [6, 8, 8, 8, 8]
    assert "checkpoint of step 6" in caplog.text and "tries again at the next" in caplog.text
    assert caplog.text.count("the run waits for it") == 2 and "MB free" in caplog.text
    assert not list(run.output.rglob("*.partial"))


def test_whoever_waits_for_room_can_be_told_to_stop(folder_of_people, tmp_path, monkeypatch):
    run = config(folder_of_people, tmp_path / "run", recipe={"stop_at": 0})
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FacewrightError, match="make room on the disk and go on with --resume"):
        Engine(Toy(run.recipe), run).run()


def test_exports_that_find_no_room_are_written_by_a_resume(folder_of_people, tmp_path, monkeypatch):
    run = config(folder_of_people, tmp_path / "run", budget={"max_steps": 2})
    monkeypatch.setattr(Toy, "export", full)
    with pytest.raises(FacewrightError, match="Nothing is lost"):
        Engine(Toy(run.recipe), run).run()
    monkeypatch.undo()
    facts = Engine(Toy(run.recipe), run).run(resume=True)
    assert [Path(f).is_file() for f in facts["files"]] == [True] and facts["steps"] == 2


def test_setups_that_spread_networks_over_devices_are_refused(
    folder_of_people, tmp_path, monkeypatch
):
    run = config(folder_of_people, tmp_path / "run")
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ConfigError, match=r"FSDP.*frozen_precision"):
        Engine(Toy(run.recipe), run)


def test_optimizer_sections_must_match_the_phases(folder_of_people, tmp_path):
    run = config(folder_of_people, tmp_path / "run", optimizers={"generator": {}, "critic": {}})
    with pytest.raises(ConfigError, match=r"missing \['discriminator'\], unknown \['critic'\]"):
        Engine(Toy(run.recipe), run)


def test_old_checkpoints_go_and_damaged_ones_are_named(folder_of_people, tmp_path):
    for step in range(5):
        save_checkpoint(tmp_path / "c", step, {"step": step}, keep_last=2)
    assert [p.stem for p in list_checkpoints(tmp_path / "c")] == ["step-00000003", "step-00000004"]
    assert len(list((tmp_path / "c").iterdir())) == 2

    run = config(folder_of_people, tmp_path / "run", budget={"max_steps": 2})
    Engine(Toy(run.recipe), run).run()
    newest = list_checkpoints(run.output / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="one before"):
        Engine(Toy(run.recipe), run).run(resume=True)


class Plain(Toy):
    """Without noise, so that equal batches have equal gradients."""

    def losses(self, phase, batch, progress):
        if phase == "discriminator":
            return None
        return {"mse": F.mse_loss(self.nets["painter"](batch["gt"]), batch["gt"])}


def test_gradients_of_accumulated_batches_are_their_mean(folder_of_people, tmp_path, monkeypatch):
    norms = []
    g = torch.Generator().manual_seed(2)
    one, two = ({"gt": torch.rand(2, 3, 32, 32, generator=g)} for _ in range(2))
    both = {"gt": torch.cat([one["gt"], two["gt"]])}
    for i, batches in enumerate(([one, two], [both], [one, one], [one])):
        chosen = config(folder_of_people, tmp_path / str(i), log_every=1000)
        engine = Engine(Plain(chosen.recipe), chosen)
        clip = engine.accelerator.clip_grad_norm_
        monkeypatch.setattr(
            engine.accelerator,
            "clip_grad_norm_",
            lambda parameters, most, clip=clip: norms.append(clip(parameters, most)) or norms[-1],
        )
        engine.train_step(batches)
    assert norms[0].item() == pytest.approx(norms[1].item(), rel=1e-5)
    assert norms[2].item() == pytest.approx(norms[3].item(), rel=1e-5)
