"""FLIPNET's workflows for photographs in a running ComfyUI, on random files in the real formats."""

import io
import json

import numpy as np
import pytest
from facewright.docs.graphs.graph import FOLDER
from PIL import Image
from skimage import data

pytestmark = [pytest.mark.comfyui, pytest.mark.usefixtures("face_detector")]
SIZE = 128
"""Of the crops; Stable Diffusion's 512 pixels would take minutes."""


@pytest.fixture(scope="module")
def photograph(home, weights):
    """What is restored and degraded; the files that the workflows name are there meanwhile."""
    before = {*(home / "models").rglob("*")}
    checkpoint = home / "models" / "checkpoints" / "thin_with_text.ckpt"
    weights.thin_checkpoint(checkpoint, text_encoder=True)
    for mode in ("restore", "degrade"):
        weights.flipnet(home / "models", mode)
    pixels = data.astronaut()
    for chosen in ("your photograph", "a good photograph"):
        Image.fromarray(pixels).save(home / "input" / f"choose {chosen}.png")
    yield pixels
    for path in [*{*(home / "models").rglob("*")} - before, *(home / "input").glob("choose *")]:
        path.unlink()


def pictures(server, name, **changes):
    """What the workflow saves, first the result, after changes such as `KSampler={"seed": 1}`."""
    prompt = json.loads((FOLDER / f"api/{name}.api.json").read_text())
    changes = {
        "CheckpointLoaderSimple": {"ckpt_name": "thin_with_text.ckpt"},
        "FacewrightDetectFaces": {"crop_size": SIZE},
        "KSampler": {"steps": 2},
        **changes,
    }
    for node in prompt.values():
        node["inputs"] |= changes.get(node["class_type"], {})
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    savers = [i for i, node in prompt.items() if node["class_type"] == "SaveImage"]
    return [
        np.asarray(Image.open(io.BytesIO(server.picture(image))))
        for i in savers
        for image in entry["outputs"][i]["images"]
    ]


@pytest.fixture(scope="module")
def degraded(server, photograph):
    return pictures(server, "flipnet_degrade")


def test_flipnet_restore_restores_the_face_and_nothing_else(server, photograph):
    restored, compared = pictures(server, "flipnet_restore")
    changed = (restored != photograph).any(-1)
    assert restored.shape == photograph.shape and 0.02 < changed.mean() < 0.6
    assert compared.shape[1] > 2 * photograph.shape[1]
    without, _ = pictures(server, "flipnet_restore", FacewrightApplyBoostHub={"phi": 0.0})
    assert np.abs(without.astype(int) - restored)[changed].mean() > 1


def test_flipnet_degrade_gives_a_picture_per_face(degraded):
    made, compared = degraded
    assert made.shape == (SIZE, SIZE, 3) and made.std() > 1
    assert compared.shape[1] > 2 * SIZE


@pytest.mark.parametrize(
    "changes",
    [
        {"FacewrightApplyBoostHub": {"phi": 0.0}},
        {"CLIPTextEncode": {"text": "a dog"}},
        {"KSampler": {"steps": 2, "seed": 1}},
        {"FacewrightLoadLoRA": {"strength": 0.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_condition_text_seed_and_lora_reach_the_picture(server, degraded, changes):
    other, _ = pictures(server, "flipnet_degrade", **changes)
    assert np.abs(other.astype(int) - degraded[0]).mean() > 0.5
