"""The workflows we ship run in this process as they stand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core import demo as demos
from facewright.core.degradation import Degradation
from facewright.core.diffusion.text import Clip
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.methods import classic
from facewright.core.methods.classic import load_face_model, restore_with_model
from facewright.core.modules.spandrel import load_image_model
from facewright.core.node_api import io
from facewright.core.weights import nano
from facewright.headless import RestoreOptions, load_restorer
from facewright.headless.runner import check, input_specs, node_classes, run_workflow
from facewright.headless.workflows.workflow import WorkflowError, read_workflow, to_api
from PIL import Image

from ..image_models import esrgan, restoreformer

FOLDER = Path(nano.__file__).parents[2] / "workflows"


def test_nano_restore_runs_as_shipped(tmp_path):
    results = run_workflow(FOLDER / "nano_restore.json", output_dir=tmp_path)
    by_kind = read_workflow(FOLDER / "api/nano_restore.api.json")
    ids = {n["class_type"]: k for k, n in by_kind.items()}
    degraded = results[ids["FacewrightDemoPicture"]][0]
    restored, mask, _ = results[ids["FacewrightPasteFaces"]]
    assert results[ids["FacewrightDetectFaces"]][3] >= 3
    outside = (mask == 0)[..., None].expand_as(degraded)
    assert torch.equal(restored[outside], degraded[outside])
    assert not torch.equal(restored, degraded)
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_a_workflow_saved_before_demo_picture_had_a_choice_still_runs():
    old = read_workflow(FOLDER / "nano_restore.json")
    demo = next(n for n in old["nodes"] if n["type"] == "FacewrightDemoPicture")
    demo["widgets_values"], demo["inputs"] = [], []
    picture = {"nodes": [demo], "links": [], "groups": [], "version": 0.4}
    api = to_api(picture, input_specs)
    (node,) = api.values()
    shown = {"class_type": "PreviewImage", "inputs": {"images": [str(demo["id"]), 0]}}
    results = run_workflow({str(demo["id"]): node, "99": shown})
    assert torch.equal(results[str(demo["id"])][0], demos.picture("group")[0].movedim(1, -1))


def titles(results, name):
    """Results by the title of their node."""
    prompt = read_workflow(FOLDER / f"api/{name}.api.json")
    return {
        node["_meta"]["title"]: results[node_id]
        for node_id, node in prompt.items()
        if node_id in results
    }


def test_degrade_presets_runs_as_shipped(tmp_path):
    results = run_workflow(FOLDER / "degrade_presets.json", output_dir=tmp_path)
    shown = titles(results, "degrade_presets")
    degraded, recipe, report = shown["Degrade (blur, noise, JPEG)"]
    lq = Degradation.replay(demos.picture("face")[1], json.loads(recipe))
    assert torch.equal(degraded, lq.movedim(1, -1))
    assert shown["What was done, in words"].ui["text"] == (report,)
    assert [line.split(":")[0] for line in shown["Degradation Sheet"][1].splitlines()] == (
        Degradation.presets()
    )
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_practice_loop_runs_as_shipped_and_restores_something(tmp_path):
    results = run_workflow(FOLDER / "practice_loop.json", output_dir=tmp_path)
    shown = titles(results, "practice_loop")
    score, report, text = shown["Image Score (PSNR, SSIM, LPIPS)"]
    gt = demos.picture("face")[1].movedim(1, -1)
    psnr, baseline = (
        -10 * math.log10((x - gt).double().square().mean())
        for x in (shown["Paste Faces"][0], shown["Degrade (blur, noise, JPEG)"][0])
    )
    mean = json.loads(text)["mean"]
    assert score == mean["psnr"]["restored"] == pytest.approx(psnr, abs=1e-4)
    assert mean["psnr"]["lq"] == pytest.approx(baseline, abs=1e-4)
    # What the workflow is there to show: the face found, and closer to the truth. Where landmarks
    # lie a face this blurred does not tell: their distance may rise.
    assert all(mean[name]["gain"] > 0 for name in ("psnr", "ssim", "edges"))
    assert shown["Scores"].ui["text"] == (report,)
    assert len(list(tmp_path.rglob("*.png"))) == 3


class OneFace:
    name = "fake"

    def detect(self, image):
        return [Face((60, 50, 140, 150), 1.0)]


def test_osdface_restore_runs_with_thin_weights(osdface_files, tmp_path, monkeypatch, models_in):
    models_in(osdface_files)
    loader = node_classes()["FacewrightLoadFaceAnalyzer"]
    found = classmethod(lambda cls, backend, **more: io.NodeOutput(OneFace()))
    monkeypatch.setattr(loader, "execute", found)
    array = np.random.default_rng(0).integers(0, 256, (200, 210, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    inputs = {
        "FacewrightLoadVRE.embedder": "osdface_vre.safetensors",
        "FacewrightLoadVRE.projector": "none",
        "FacewrightDetectFaces.crop_size": 64,
        "LoadImage.image": str(tmp_path / "a.png"),
    }
    run_workflow(FOLDER / "osdface_restore.json", inputs, output_dir=tmp_path / "out")
    saved = sorted((tmp_path / "out").rglob("*.png"))
    after = np.asarray(Image.open(next(p for p in saved if "compare" not in p.name)))
    assert (after != array).any()
    np.testing.assert_array_equal(after[0], array[0])


def test_missing_weights_are_named_before_anything_runs(tmp_path, models_in):
    models_in(tmp_path)
    api = to_api(read_workflow(FOLDER / "osdface_restore.json"), input_specs)
    with pytest.raises(WorkflowError) as error:
        check(api)
    for words in ("associate_2.ckpt", "pytorch_lora_weights.safetensors", "jkwang28/OSDFace"):
        assert words in str(error.value)


def few_steps(name, steps=2):
    """Fewer steps for every sampler: what the models make of them does not matter here."""
    nodes = read_workflow(FOLDER / f"api/{name}.api.json").items()
    return {f"{k}.steps": steps for k, n in nodes if n["class_type"] == "KSampler"}


def test_nano_flipnet_restore_runs(nano_flipnet, tmp_path):
    name = "nano_flipnet_restore"
    inputs = few_steps(name)
    results = titles(run_workflow(FOLDER / f"{name}.json", inputs, output_dir=tmp_path), name)
    image, (restored, mask, _) = results["Demo Picture"][0], results["Paste Faces"]
    positive, negative = results["Face Tokens (FLIPNET)"]
    faces = results["Detect Faces"][3]
    assert faces >= 3 and positive[0][0].shape[:2] == (faces, 77 + 16)
    assert negative[0][0].shape == (1, 77, 128) and not negative[0][0].any()
    assert torch.equal(restored[mask == 0], image[mask == 0])
    assert not torch.equal(restored, image)
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_nano_flipnet_degrade_looks_at_the_good_faces_only(nano_flipnet, tmp_path):
    name = "nano_flipnet_degrade"
    inputs = few_steps(name)
    results = titles(run_workflow(FOLDER / f"{name}.json", inputs, output_dir=tmp_path), name)
    crops, degraded = results["Detect Faces"][1], results["VAEDecode"][0]
    assert degraded.shape == crops.shape and not torch.equal(degraded, crops)
    prompt = read_workflow(FOLDER / f"api/{name}.api.json")
    (sampler,) = (n["inputs"] for n in prompt.values() if n["class_type"] == "KSampler")
    assert sampler["positive"] == sampler["negative"], "this mode was taught without face tokens"
    assert len(list(tmp_path.rglob("*.png"))) == 2 * len(crops)


@pytest.mark.parametrize("name", ["nano_flipnet_restore", "nano_flipnet_degrade"])
def test_flipnet_passes_a_picture_without_a_face_through(name, nano_flipnet, tmp_path, monkeypatch):
    flat = torch.full((1, 96, 128, 3), 0.5)
    picture = classmethod(lambda cls, **given: io.NodeOutput(flat, flat))
    monkeypatch.setattr(node_classes()["FacewrightDemoPicture"], "execute", picture)
    ran = run_workflow(FOLDER / f"{name}.json", few_steps(name), output_dir=tmp_path)
    results = titles(ran, name)
    assert results["Detect Faces"][3] == 0
    assert "KSampler" not in results and "VAEDecode" not in results
    if name == "nano_flipnet_restore":
        pasted, mask, _ = results["Paste Faces"]
        assert torch.equal(pasted, flat) and not mask.any()
    # The degraded faces alone would have been saved.
    assert len(list(tmp_path.rglob("*.png"))) == (2 if name == "nano_flipnet_restore" else 0)


def test_nano_practice_loop_scores_against_the_original(nano_flipnet, tmp_path):
    name = "nano_practice_loop"
    results = run_workflow(FOLDER / f"{name}.json", few_steps(name), output_dir=tmp_path)
    prompt = read_workflow(FOLDER / f"api/{name}.api.json")
    decoded = [results[k][0] for k, n in prompt.items() if n["class_type"] == "VAEDecode"]
    shown = titles(results, name)
    gt = shown["Detect Faces"][1]
    mean = json.loads(shown["Image Score (PSNR, SSIM, LPIPS)"][2])["mean"]["psnr"]
    for key, pixels in zip(("lq", "restored"), decoded, strict=True):
        psnr = -10 * math.log10((pixels.clamp(0, 1) - gt).double().square().mean())
        assert mean[key] == pytest.approx(psnr, abs=1e-3)
    assert shown["Scores"].ui["text"] == (shown["Image Score (PSNR, SSIM, LPIPS)"][1],)
    assert len(list(tmp_path.rglob("*.png"))) == 3


@pytest.mark.parametrize("mode", ["restore", "degrade"])
def test_flipnet_runs_with_thin_weights(mode, flipnet_sd21, tmp_path, monkeypatch, models_in):
    name = f"flipnet_{mode}"
    models_in(flipnet_sd21)
    said = []

    def encode(self, text):
        said.append(text)
        return torch.randn(1, 77, 1024)

    monkeypatch.setattr(Clip, "encode", encode)
    found = classmethod(lambda cls, backend, **more: io.NodeOutput(OneFace()))
    monkeypatch.setattr(node_classes()["FacewrightLoadFaceAnalyzer"], "execute", found)
    array = np.random.default_rng(0).integers(0, 256, (200, 210, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    inputs = {"FacewrightDetectFaces.crop_size": 64, "LoadImage.image": str(tmp_path / "a.png")}
    inputs |= few_steps(name)
    run_workflow(FOLDER / f"{name}.json", inputs, output_dir=tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    negative = "low quality, blurry, poorly rendered hands" if mode == "restore" else ""
    assert said == ["a portrait photo of a person", negative]


def photograph_in(folder, side=512):
    """Faces that the bundled analyzer finds, as a file of one's own."""
    lq = torch.nn.functional.interpolate(demos.picture("face")[0], (side, side), mode="area")[0]
    pixels = (lq.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return pixels, {
        "LoadImage.image": str(folder / "a.png"),
        "FacewrightLoadFaceAnalyzer.backend": "nano",
    }


def one_network(models, monkeypatch):
    """A small RestoreFormer under the name that the workflows ask for."""
    pytest.importorskip("spandrel")
    monkeypatch.setattr(classic, "SIDE", 64)
    (models / "upscale_models").mkdir(parents=True)
    restoreformer(models / "upscale_models/GFPGANv1.4.pth")
    return load_face_model(models / "upscale_models/GFPGANv1.4.pth")


@pytest.mark.parametrize("form", ["classic_restore.json", "api/classic_restore.api.json"])
def test_classic_restore_runs_with_a_small_network(tmp_path, monkeypatch, models_in, form):
    network = one_network(tmp_path / "models", monkeypatch)
    models_in(tmp_path / "models")
    before, inputs = photograph_in(tmp_path)
    results = run_workflow(FOLDER / form, inputs, output_dir=tmp_path / "out")
    shown = titles(results, "classic_restore")
    crops, (pasted, mask, _) = shown["Detect Faces"][1].movedim(-1, 1), shown["Paste Faces"]
    restored = restore_with_model(network, crops).movedim(1, -1)
    assert len(crops) and torch.equal(shown["Restore with Model (GFPGAN, CodeFormer)"][0], restored)
    outside = mask[0] == 0
    assert torch.equal(pasted[0][outside], torch.from_numpy(before)[outside] / 255)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_compare_restorers_gives_both_the_same_crops(
    osdface_files, tmp_path, monkeypatch, models_in
):
    network = one_network(osdface_files, monkeypatch)
    models_in(osdface_files)
    _, inputs = photograph_in(tmp_path)
    inputs |= {
        "FacewrightLoadVRE.embedder": "osdface_vre.safetensors",
        "FacewrightLoadVRE.projector": "none",
        "FacewrightDetectFaces.crop_size": 64,
    }
    file = FOLDER / "compare_restorers.json"
    shown = titles(run_workflow(file, inputs, output_dir=tmp_path / "out"), "compare_restorers")
    crops = shown["Detect Faces"][1].movedim(-1, 1)
    expected = restore_with_model(network, crops).movedim(1, -1)
    assert torch.equal(shown["Restore with Model (GFPGAN, CodeFormer)"][0], expected)
    one, other = shown["Paste OSDFace's"][0], shown["Paste GFPGAN's"][0]
    assert torch.equal(shown["Paste OSDFace's"][1], shown["Paste GFPGAN's"][1])  # the masks
    assert not torch.equal(one, other) and not torch.equal(one, expected)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


@pytest.mark.parametrize("form", ["restore_whole_photo.json", "api/restore_whole_photo.api.json"])
def test_restore_whole_photo_gives_what_the_command_line_gives(
    osdface_files, tmp_path, models_in, form
):
    pytest.importorskip("spandrel")
    models_in(osdface_files)
    (osdface_files / "upscale_models").mkdir()
    file = esrgan(osdface_files / "upscale_models/RealESRGAN_x2plus.pth", scale=2)
    before, inputs = photograph_in(tmp_path, 144)
    inputs |= {
        "FacewrightLoadVRE.embedder": "osdface_vre.safetensors",
        "FacewrightLoadVRE.projector": "none",
        "FacewrightDetectFaces.crop_size": 64,
    }
    results = run_workflow(FOLDER / form, inputs, output_dir=tmp_path / "out")
    shown = titles(results, "restore_whole_photo")
    pasted, mask, _ = shown["Paste Faces"]
    assert pasted.shape == (1, 2 * before.shape[0], 2 * before.shape[1], 3)
    larger = load_image_model(file)(torch.from_numpy(before)[None].movedim(-1, 1) / 255)
    outside = mask[0] == 0
    assert 0.1 < outside.float().mean() < 0.9
    assert torch.equal(pasted[0][outside], larger[0].movedim(0, -1)[outside])
    assert len(shown["Detect Faces"][1]) == 1
    done = load_restorer("osdface", osdface_files, analyzer="nano").restore(
        torch.from_numpy(before).movedim(-1, 0) / 255, RestoreOptions(size=64, upscale=str(file))
    )
    assert (done.pixels - pasted[0].movedim(-1, 0)).abs().max() < 1e-4
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_a_missing_face_restorer_is_named_with_its_source(tmp_path, models_in):
    models_in(tmp_path)
    with pytest.raises(FacewrightError, match=r"the face restorer GFPGAN is missing: put GFPGANv1"):
        run_workflow(FOLDER / "classic_restore.json", photograph_in(tmp_path)[1])
