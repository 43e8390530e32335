"""The workflows we ship run in this process as they stand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core import nano
from facewright.core.faces import Face
from facewright.headless.host import host
from facewright.headless.model_folders import ModelFolders
from facewright.headless.runner import check, input_specs, node_classes, run_workflow
from facewright.headless.standin import io
from facewright.headless.workflow import WorkflowError, read_workflow, to_api
from PIL import Image

FOLDER = Path(nano.__file__).parents[1] / "workflows"


def test_nano_restore_runs_as_shipped(tmp_path):
    results = run_workflow(FOLDER / "nano_restore.json", output_dir=tmp_path)
    by_kind = read_workflow(FOLDER / "nano_restore.api.json")
    ids = {n["class_type"]: k for k, n in by_kind.items()}
    degraded = results[ids["FacewrightDemoPicture"]][0]
    restored, mask = results[ids["FacewrightPasteFaces"]]
    assert results[ids["FacewrightDetectFaces"]][3] >= 3
    outside = (mask == 0)[..., None].expand_as(degraded)
    assert torch.equal(restored[outside], degraded[outside])
    assert not torch.equal(restored, degraded)
    assert len(list(tmp_path.rglob("*.png"))) == 2


class OneFace:
    name = "fake"

    def detect(self, image):
        return [Face((60, 50, 140, 150), 1.0)]


def test_osdface_restore_runs_with_thin_weights(osdface_files, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "folders", ModelFolders([osdface_files]))
    loader = node_classes()["FacewrightLoadFaceAnalyzer"]
    found = classmethod(lambda cls, backend: io.NodeOutput(OneFace()))
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


def test_missing_weights_are_named_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "folders", ModelFolders([tmp_path]))
    api = to_api(read_workflow(FOLDER / "osdface_restore.json"), input_specs)
    with pytest.raises(WorkflowError) as error:
        check(api)
    for words in ("associate_2.ckpt", "pytorch_lora_weights.safetensors", "jkwang28/OSDFace"):
        assert words in str(error.value)
