"""A method is three new files. Everything else finds it."""

import json
import sys

import pytest
import torch
from facewright import nodes
from facewright.core import demo, methods
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.weights import known_files
from facewright.headless.cli import _methods, app
from facewright.headless.host import catalogue
from facewright.training import methods as recipes
from PIL import Image
from typer.testing import CliRunner

from .fourth_method import CORE, NODE, TRAINING

ROOMS = {methods: CORE, nodes: NODE, recipes: TRAINING}
CONFIG = """
output: {run}
budget: {{max_steps: 1}}
batch_size: 2
cpu: true
data: {{source: folder, folder: {faces}, size: 32, workers: 0, held_out: 0.3}}
optimizers: {{main: {{lr: 0.1}}}}
trackers: []
validate_images: 1
"""


def forget():
    caches = methods.specs, known_files.known_files, catalogue.node_classes, _methods._method_params
    for cached in caches:
        cached.cache_clear()
    for package in ROOMS:
        sys.modules.pop(f"{package.__name__}.sharpening", None)
        vars(package).pop("sharpening", None)


@pytest.fixture
def fourth(tmp_path, monkeypatch):
    """The three files, as if they lay beside those of the other methods."""
    for package, text in ROOMS.items():
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "sharpening.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.setattr("facewright.training.loop.engine.draw_curves", lambda output: None)
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    forget()
    yield
    forget()


def run(*args):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_fourth_method_is_trained_found_and_restores(fourth, tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    for i in range(4):
        noise = (torch.rand(32, 32, 3) * 255).byte().numpy()
        Image.fromarray(noise).save(faces / f"{i}.png")
    config = tmp_path / "sharpening.yaml"
    config.write_text(CONFIG.format(run=tmp_path / "run", faces=faces))
    run("train", "sharpening", "--config", config)
    models = tmp_path / "run/export"
    assert (models / "sharpening_share.safetensors").is_file()

    looked = ("doctor", "--models", models, "--no-hash", "--json")
    report = json.loads(run(*looked))
    ready = {entry["name"]: entry["lacks"] for entry in report["restorers"]}
    assert ready["sharpening"] == [] and ready["osdface"]
    (file,) = [w for w in report["weights"] if w["what"] == "the share of sharpening"]
    assert file["found"] and "facewright train sharpening" in file["source"]
    graph = {"1": {"class_type": "FacewrightSharpenFaces", "inputs": {"share": "gone"}}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    lacking = CliRunner().invoke(app, [*map(str, looked), str(tmp_path / "graph.json")])
    assert lacking.exit_code == 1
    assert "needs gone in models/facewright" in json.loads(lacking.stdout)["workflow"]["lacks"][0]

    picture, _ = demo.picture("face")
    write_picture(tmp_path / "in.png", picture[0], Picture(picture[0]))
    out, restored = tmp_path / "out.png", {}
    restore = ("restore", tmp_path / "in.png", "-o", out, "--weights", "sharpening", "--overwrite")
    for amount in (0, 2):
        run(*restore, "--models", models, "--amount", amount)
        restored[amount] = read_picture(out).pixels
    assert (restored[2] - restored[0]).abs().max() > 0.02
    assert "amount" in run("restore", "--help")
    assert (
        "sharpening"
        in CliRunner().invoke(app, ["restore", "x", "-o", "y", "--weights", "no"]).stderr
    )
