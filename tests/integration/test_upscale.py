"""restore_whole_photo, with ComfyUI's own nodes that enlarge, and in this process: one picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core import demo
from facewright.core.host import running
from facewright.core.weights import nano
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless import RestoreOptions, load_restorer
from facewright.headless.host.host import HeadlessHost
from facewright.headless.runner import run_workflow
from PIL import Image

from ..image_models import esrgan
from .test_server import failure, saved

pytestmark = pytest.mark.comfyui
SHIPPED = Path(nano.__file__).parents[2] / "workflows/api/restore_whole_photo.api.json"
FILE = "RealESRGAN_x2plus.pth"
LOADED = {"model": 0, "vae": 1, "vre": 2, "analyzer": 3}


@pytest.fixture
def network(home):
    pytest.importorskip("spandrel")
    folder = home / "models/upscale_models"
    folder.mkdir(exist_ok=True)
    yield esrgan(folder / FILE, scale=2)
    (folder / FILE).unlink()


def prompt_for(name):
    """The workflow as shipped, with the bundled models in place of OSDFace's files."""
    prompt = json.loads(SHIPPED.read_text())
    loaders = ("CheckpointLoader", "FacewrightLoad")
    for i in [i for i, node in prompt.items() if node["class_type"].startswith(loaders)]:
        del prompt[i]
    prompt["nano"] = {"class_type": "FacewrightLoadNano", "inputs": {"weights": "onestep"}}
    prompt["nano"]["_meta"] = {"title": "Load Nano Models"}
    for node in prompt.values():
        given = node["inputs"]
        given |= {key: ["nano", k] for key, k in LOADED.items() if key in given}
        if node["class_type"] == "LoadImage":
            given["image"] = name
        if "crop_size" in given:
            given["crop_size"] = 128
    return prompt


@pytest.mark.parametrize("tiles", [1, 2])
def test_the_same_picture_there_and_here(server, home, tmp_path, network, tiles):
    """Where ComfyUI does it in one tile, to the last bit but rounding; where it takes two, it mixes
    what their borders spoiled into 32 pixels between them."""
    source = Image.open(demo.GROUP_LQ).convert("RGB")
    source = source.crop((0, 0, 500 if tiles == 1 else source.width, source.height))
    source.save(home / "input/whole.png")
    prompt = prompt_for("whole.png")
    entry = server.run(prompt)
    assert failure(entry) is None
    saver = next(i for i, n in prompt.items() if n["_meta"]["title"] == "Save the restored picture")
    there = saved(server, entry, saver)[0].astype(int)

    with running(HeadlessHost(ModelFolders([home / "models"]))):
        run_workflow(prompt_for("whole.png"), input_dir=home / "input", output_dir=tmp_path)
    (path,) = [p for p in tmp_path.rglob("*.png") if "compare" not in p.name]
    here = np.asarray(Image.open(path)).astype(int)
    apart = np.abs(there - here)
    assert here.shape == (2 * source.height, 2 * source.width, 3)
    if tiles == 1:
        assert apart.max() <= 1
    else:
        seam = apart[:, 2 * (512 - 32) - 8 : 2 * 512 + 8].copy()
        apart[:, 2 * (512 - 32) - 8 : 2 * 512 + 8] = 0
        assert apart.max() <= 1 and seam.mean() < 1

    pixels = torch.from_numpy(np.asarray(source)).movedim(-1, 0) / 255
    done = load_restorer("nano").restore(pixels, RestoreOptions(upscale=str(network)))
    expected = np.floor(done.pixels.movedim(0, -1).numpy() * 255)
    assert done.faces >= 3 and np.abs(here - expected).max() <= 1
