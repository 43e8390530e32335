"""One workflow file, run in a ComfyUI and in this process: the same picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core.faces.parsing import BiSeNet
from facewright.core.weights import nano
from facewright.headless.remote.server import answers, run_on_server
from facewright.headless.runner import run_workflow
from facewright.headless.workflows.workflow import read_workflow
from PIL import Image

pytestmark = pytest.mark.comfyui
FOLDER = Path(nano.__file__).parents[2] / "workflows"


@pytest.mark.parametrize(
    ("form", "pictures"),
    [
        ("nano_restore.json", 2),
        ("api/nano_restore.api.json", 2),
        ("degrade_presets.json", 2),
        ("practice_loop.json", 3),
        ("nano_honestface_restore.json", 2),
        ("nano_group_people.json", 2),
        ("nano_face_mask.json", 2),
    ],
)
def test_a_shipped_workflow_gives_the_same_pictures(server, tmp_path, form, pictures):
    assert answers(server.address, timeout=30)
    there = run_on_server(
        read_workflow(FOLDER / form),
        server.address,
        input_dir=tmp_path,
        output_dir=tmp_path / "there",
        timeout=240,
    ).saved
    run_workflow(FOLDER / form, output_dir=tmp_path / "here")
    here = sorted((tmp_path / "here").rglob("*.png"))
    assert len(here) == len(there) == pictures
    for a, b in zip(sorted(there), here, strict=True):
        one, two = (np.asarray(Image.open(p), dtype=np.int16) for p in (a, b))
        assert one.shape == two.shape
        assert np.abs(one - two).max() <= 2


@pytest.mark.parametrize(
    ("name", "pictures"),
    [("nano_flipnet_restore", 2), ("nano_flipnet_degrade", 10), ("nano_practice_loop", 3)],
)
def test_flipnet_gives_the_same_pictures(server, tmp_path, name, pictures):
    """Without fresh noise, which ComfyUI's versions draw in their own ways, and in few steps."""
    prompt = read_workflow(FOLDER / f"api/{name}.api.json")
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"] |= {"sampler_name": "euler", "steps": 4}
    there = run_on_server(
        prompt, server.address, input_dir=tmp_path, output_dir=tmp_path / "there", timeout=240
    ).saved
    run_workflow(prompt, output_dir=tmp_path / "here")
    here = sorted((tmp_path / "here").rglob("*.png"))
    assert len(here) == len(there) == pictures
    for a, b in zip(sorted(there), here, strict=True):
        one, two = (np.asarray(Image.open(p), dtype=np.int16) for p in (a, b))
        assert one.shape == two.shape
        assert np.abs(one - two).max() <= 2


def test_faces_are_parsed_alike(server, home, tmp_path):
    """By random weights, which find parts anywhere; first without the file, which is said."""
    prompt = read_workflow(FOLDER / "api/nano_face_mask.api.json")
    (mask,) = (n for n in prompt.values() if n["class_type"] == "FacewrightFaceMask")
    mask["inputs"] |= {"mode": "parsing", "parts": "skin, brows, eyes, nose, mouth, hair"}
    assert "parsing_bisenet.pth" in str(server.run(prompt))
    torch.manual_seed(3)
    (home / "models/facedetection").mkdir()
    torch.save(BiSeNet().state_dict(), home / "models/facedetection/parsing_bisenet.pth")
    there = run_on_server(
        prompt, server.address, input_dir=tmp_path, output_dir=tmp_path / "there", timeout=240
    ).saved
    results = run_workflow(prompt, output_dir=tmp_path / "here", models=home / "models")
    ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    shares = results[ids["FacewrightFaceMask"]][0].mean((1, 2))
    assert 0.02 < float(shares.mean()) < 0.98
    here = sorted((tmp_path / "here").rglob("*.png"))
    assert len(here) == len(there) == 2
    for a, b in zip(sorted(there), here, strict=True):
        one, two = (np.asarray(Image.open(p), dtype=np.int16) for p in (a, b))
        assert np.abs(one - two).max() <= 2


@pytest.mark.parametrize(("name", "pictures"), [("restore", 2), ("degrade", 0)])
def test_flipnet_passes_a_picture_without_a_face_through(server, tmp_path, name, pictures):
    flat = Image.new("RGB", (128, 96), (90, 120, 90))
    flat.save(tmp_path / "flat.png")
    prompt = read_workflow(FOLDER / f"api/nano_flipnet_{name}.api.json")
    (demo,) = (k for k, n in prompt.items() if n["class_type"] == "FacewrightDemoPicture")
    prompt[demo] = {"class_type": "LoadImage", "inputs": {"image": "flat.png"}}
    for node in prompt.values():
        node["inputs"] = {k: [demo, 0] if v == [demo, 1] else v for k, v in node["inputs"].items()}
    there = run_on_server(
        prompt, server.address, input_dir=tmp_path, output_dir=tmp_path / "there", timeout=240
    ).saved
    run_workflow(prompt, input_dir=tmp_path, output_dir=tmp_path / "here")
    here = sorted((tmp_path / "here").rglob("*.png"))
    assert len(here) == len(there) == pictures
    for path in (*here, *there):
        image = Image.open(path).convert("RGB")
        if "compare" not in path.name:
            assert image.tobytes() == flat.tobytes()
