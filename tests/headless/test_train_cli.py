"""`facewright train`, `facewright curves`, and the module that launchers start."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from facewright.headless.cli import app
from facewright.training import train
from facewright.training.recipe import Evaluation, Recipe
from facewright.training.settings import shipped
from facewright.training.settings.config import ConfigError
from facewright.training.settings.strict import Strict
from PIL import Image
from torch.nn import Conv2d
from typer.testing import CliRunner

runner = CliRunner()


class TinyConfig(Strict):
    stop_at: int = -1


class TinyRecipe(Recipe):
    """One convolution that learns to copy."""

    stage = "tiny-copy"
    Config = TinyConfig

    def build(self):
        return {"painter": Conv2d(3, 3, 1)}

    def losses(self, phase, batch, progress):
        return {"mse": (self.nets["painter"](batch["gt"]) - batch["gt"]).square().mean()}

    def after_step(self, progress):
        if progress.step == self.config.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def evaluate(self, batches):
        return Evaluation({"pictures": float(sum(len(b["gt"]) for b in batches))})

    def export(self, folder: Path, facts):
        return []


@pytest.fixture
def stages(monkeypatch):
    found = {"tiny-copy": TinyRecipe, "vre-hq": TinyRecipe}
    monkeypatch.setattr(train, "stages", lambda: found)
    return found


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "people").mkdir()
    for i in range(6):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "people" / f"{i}.png")
    values = {
        "output": str(tmp_path / "run"),
        "budget": {"max_steps": 4},
        "batch_size": 2,
        "cpu": True,
        "trackers": [],
        "data": {"source": "folder", "folder": str(tmp_path / "people"), "size": 32, "workers": 0,
                 "held_out": 0.4},
        "optimizers": {"main": {}},
        "log_every": 1,
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def flat(text):
    return " ".join(text.split())


def test_a_run_says_where_things_lie_and_is_resumed(stages, config, tmp_path):
    command = ["train", "tiny-copy", "--config", str(config)]
    result = runner.invoke(app, [*command, "--set", "recipe.stop_at=1"])
    assert result.exit_code == 1  # a chain of stages must not go on
    assert "Stopped by Ctrl-C after 2 steps" in flat(result.stderr)
    assert "--resume" in result.stderr and result.stdout == ""

    result = runner.invoke(app, command)
    assert result.exit_code == 2 and "already holds a run" in flat(result.stderr)

    result = runner.invoke(app, [*command, "--resume"])
    assert result.exit_code == 0, result.stderr
    said = flat(result.stderr)
    assert "Finished tiny-copy: 4 steps" in said and "Held out: pictures 2" in said
    run = tmp_path / "run"
    for place in ("export", "export/README.md", "curves.png", "metrics.jsonl"):
        assert (run / place).exists() and str(run / place) in result.stderr.replace("\n", "")
    # Not a terminal: each step is a line of the log with its time.
    line = next(line for line in result.stderr.splitlines() if "step 4/4" in line)
    assert line[:2] == "20" and "tiny-copy 100%" in line

    result = runner.invoke(app, [*command, "--resume", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["steps"] == 4


def test_a_dry_run_makes_nothing_but_the_sheet(stages, config, tmp_path):
    command = ["train", "tiny-copy", "--config", str(config), "--dry-run"]
    result = runner.invoke(app, [*command, "--sheet", str(tmp_path / "sheet.png")])
    assert result.exit_code == 0, result.stderr
    said = flat(result.stderr)
    for part in ("painter", "activations", "samples/s", "for 4 steps and 2 validations", "Disk:",
                 "4 pictures of 4 people to train on, 2 pictures of 2 people held"):  # fmt: skip
        assert part in said, part
    assert Image.open(tmp_path / "sheet.png").size == (72 + 64, 32)
    result = runner.invoke(app, [*command, "--json"])
    facts = json.loads(result.stdout)
    assert facts["networks"]["painter"]["trained"] == 12 and facts["sheet"] is None
    assert not (tmp_path / "run").exists()
    result = runner.invoke(app, [*command[:-1], "--sheet", str(tmp_path / "other.png")])
    assert result.exit_code == 2 and not (tmp_path / "run").exists()


def test_wrong_use_is_answered_with_what_there_is(stages):
    result = runner.invoke(app, ["train", "vre_hq", "--config", "vre_hq_nano"])
    assert result.exit_code == 2
    assert "Did you mean vre-hq?" in flat(result.stderr) and "vre_hq_paper" in result.stderr
    result = runner.invoke(app, ["train", "vre-hq"])
    assert result.exit_code == 2 and "vre_hq_paper" in flat(result.stderr)
    assert runner.invoke(app, ["train"]).exit_code == 2
    result = runner.invoke(app, ["train", "--list"])
    assert result.exit_code == 0 and "tiny-copy" in result.stderr
    result = runner.invoke(app, ["train", "--list", "--json"])
    assert "vre_hq_paper" in json.loads(result.stdout)["vre-hq"]
    result = runner.invoke(app, ["train", "vre-hq", "--config", "vre_hq_papers"])
    assert result.exit_code == 2 and "did you mean vre_hq_paper" in flat(result.stderr)


def test_shipped_configs_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = shipped.shipped_configs()
    assert shipped.find_config("onestep_paper") == str(found["onestep_paper"])
    assert Path(shipped.find_config("nano_vae")) == found["bundled/nano_vae"]
    own = tmp_path / "onestep_paper"
    own.write_text("")
    assert shipped.find_config("onestep_paper") == "onestep_paper"  # the file that is here
    with pytest.raises(ConfigError, match=r"did you mean .*honestface_paper"):
        shipped.find_config("honest_face_paper")


def test_every_shipped_config_belongs_to_one_real_stage():
    stages = train.stages()
    by_stage = shipped.configs_by_stage(stages)
    assert sorted(n for names in by_stage.values() for n in names) == sorted(
        shipped.shipped_configs()
    )
    assert all(by_stage.values())  # and there is no stage without
    assert "face_autoencoder_lq_paper" in by_stage["face-autoencoder"]
    assert "bundled/flipnet_degrade_warm_nano" in by_stage["flipnet-degrade"]


def test_curves_of_a_run_folder(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "main/eps": 0.5, "main/grad_norm": 1.0}\n{"step"'
    )
    result = runner.invoke(app, ["curves", str(tmp_path)])
    assert result.exit_code == 0 and "curves.png" in result.stderr.replace("\n", "")
    assert Image.open(tmp_path / "curves.png").width == 1600
    (tmp_path / "empty").mkdir()
    result = runner.invoke(app, ["curves", str(tmp_path / "empty"), "-o", str(tmp_path / "x.png")])
    assert result.exit_code == 1 and "holds no curves" in flat(result.stderr)


@pytest.mark.slow
def test_the_module_is_the_same_command():
    texts = [
        subprocess.run(
            [sys.executable, "-m", *module, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for module in (["facewright", "train"], ["facewright.training.train"])
    ]
    assert texts[0] == texts[1] and "--dry-run" in texts[0]
