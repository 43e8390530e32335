"""A run that ComfyUI answers from memory shows what the first one showed."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfyui

API = Path(__file__).parents[2] / "workflows" / "api"


@pytest.mark.parametrize("name", ["nano_restore", "nano_face_mask", "nano_group_people"])
def test_every_node_shows_again_what_it_showed(server, name):
    if "has_intermediate_output" not in server.get("/object_info/PreviewImage")["PreviewImage"]:
        pytest.skip("this ComfyUI tells again of output nodes alone")
    prompt = json.loads((API / f"{name}.api.json").read_text())
    if name == "nano_restore":
        prompt["1"]["inputs"]["weights"] = "base"  # which is warned of
    first, again = server.run(prompt), server.run(prompt)
    messages = dict(map(tuple, again["status"]["messages"]))
    assert set(messages["execution_cached"]["nodes"]) == set(prompt)
    assert set(first["outputs"]) == set(again["outputs"])
    shown = {prompt[node]["class_type"] for node in again["outputs"]}
    assert shown > {"FacewrightDemoPicture", "FacewrightDetectFaces", "SaveImage"}
    assert ("FacewrightOneStepRestore" in shown) == (name == "nano_restore")
