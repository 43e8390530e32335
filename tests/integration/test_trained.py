"""What our training exports, in a running ComfyUI, through the nodes."""

import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.training.train import train
from PIL import Image

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

_path = Path(__file__).parents[1] / "training" / "own_weights.py"
_spec = importlib.util.spec_from_file_location("facewright_integration_own_weights", _path)
own_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(own_weights)

SHORT = (
    "budget.max_steps=3",
    "batch_size=2",
    "validate_every=1000",
    "validate_images=1",
    "grid_images=1",
    "data.identities=2",
    "data.photos=2",
    "data.held_out=1",
    "data.references=0",
)
RUNS = {
    "onestep": (
        "recipe.vre=package:weights/nano/nano_vre.safetensors",
        "optimizers.generator.warmup=0",
        "optimizers.generator.lr=1.0e-2",
    ),
    "honestface": (
        "optimizers.generator.warmup=0",
        "optimizers.generator.lr=1.0e-2",
        "data.references=1",
    ),
    "flipnet-degrade": ("optimizers.main.warmup=0", "recipe.sampling.steps=1"),
    "flipnet-restore": (
        "recipe.face_encoder=package:weights/nano/nano_face_encoder.safetensors",
        "optimizers.main.warmup=0",
        "recipe.sampling.steps=1",
    ),
}
"""Stage -> what differs from its nano config so that a few steps, from bundled files, show."""


@pytest.fixture(scope="session")
def exported(home, tmp_path_factory):
    """A few steps of every stage that ends in a node; their files are in ComfyUI's folders."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("trained")
    threads = torch.get_num_threads()
    os.chdir(folder)
    try:
        files = []
        for stage, changes in RUNS.items():
            config = f"package:training/configs/{stage.replace('-', '_')}_nano.yaml"
            files += train(stage, config, overrides=[*SHORT, *changes])["files"]
        encoder = next(f for f in files if "face_encoder" in f)
        own_weights.put(home / "models", files, encoder)
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)
    return files


def saved(server, prompt):
    """Pictures that a prompt saves, by node and number."""
    entry = server.run(prompt)
    errors = [c for kind, c in entry["status"]["messages"] if kind == "execution_error"]
    assert not errors, errors[0]["exception_message"]
    return {
        (node, i): np.asarray(Image.open(io.BytesIO(server.picture(image))))
        for node, out in entry["outputs"].items()
        for i, image in enumerate(out.get("images", ()))
    }


@pytest.mark.parametrize("stage", RUNS)
def test_exported_files_load_and_change_the_picture(server, exported, stage):
    stem = f"{stage.replace('-', '_')}_nano"
    mine = saved(server, own_weights.workflow(stage, stem))
    base = saved(server, own_weights.workflow(stage, stem, strength=0.0))
    both = mine.keys() & base.keys()  # what the second did not change, newer servers leave out
    assert max(own_weights.differ(mine[k], base[k]) for k in both) > 0.2
