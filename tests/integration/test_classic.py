"""Restore with Model behind ComfyUI's own Load Upscale Model."""

import json
from pathlib import Path

import numpy as np
import pytest
from facewright.core import demo
from facewright.core.weights import nano
from facewright.headless import load_restorer
from PIL import Image

from ..image_models import esrgan, gfpgan, restoreformer
from .test_server import failure, saved

pytestmark = pytest.mark.comfyui
SHIPPED = Path(nano.__file__).parents[2] / "workflows/api/classic_restore.api.json"


@pytest.fixture
def prompt(home):
    """The workflow as shipped, with a photograph in which the bundled analyzer finds a face."""
    pytest.importorskip("spandrel")
    (home / "models/upscale_models").mkdir(exist_ok=True)
    Image.open(demo.FACE_LQ).convert("RGB").save(home / "input/classic.png")
    prompt = json.loads(SHIPPED.read_text())
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "classic.png"
        if node["class_type"] == "FacewrightLoadFaceAnalyzer":
            node["inputs"]["backend"] = "nano"
    return prompt


def restored_by(server, prompt):
    entry = server.run(prompt)
    assert failure(entry) is None
    saver = next(
        i for i, node in prompt.items() if node["_meta"]["title"] == "Save the restored picture"
    )
    return saved(server, entry, saver)[0].astype(int)


def check_against(path, restored):
    done = load_restorer(str(path), analyzer="nano").restore(demo.picture("face")[0][0])
    expected = np.floor(done.pixels.movedim(0, -1).numpy() * 255)
    assert done.faces == 1
    assert np.abs(restored - expected).max() <= 1  # another torch may round otherwise
    before = np.asarray(Image.open(demo.FACE_LQ).convert("RGB")).astype(int)
    outside = (done.mask == 0).numpy()
    assert outside.any() and (restored[outside] == before[outside]).all()
    assert (restored != before).any()


def test_classic_restore_gives_what_the_command_line_gives(server, home, prompt):
    path = restoreformer(home / "models/upscale_models/GFPGANv1.4.pth")
    check_against(path, restored_by(server, prompt))
    path.unlink()


@pytest.mark.slow
def test_gfpgan_at_its_full_size(server, home, prompt):
    path = gfpgan(home / "models/upscale_models/GFPGANv1.4.pth")
    check_against(path, restored_by(server, prompt))
    path.unlink()


def test_an_upscaler_is_refused_with_what_it_is(server, home, prompt):
    esrgan(home / "models/upscale_models/4x.pth")
    for node in prompt.values():
        if node["class_type"] == "UpscaleModelLoader":
            node["inputs"]["model_name"] = "4x.pth"
    said = failure(server.run(prompt))
    assert "`upscale_model` is an upscaler (ESRGAN, 4x), and no face restorer" in said
