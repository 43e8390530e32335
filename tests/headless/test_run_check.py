"""`run --check`: what a ComfyUI would refuse is told without running anything."""

import copy
import json

import pytest
from facewright.headless.cli import app
from facewright.headless.remote import http_client
from facewright.headless.workflows.checking import problems
from facewright.headless.workflows.specs import specs_of
from PIL import Image
from typer.testing import CliRunner

from .comfy_double import Double

FILE_UPLOAD = {"image_upload": True}
CODEC = {"codec": ["COMBO", {"options": ["h264", "av1"]}]}
NEST = {"deep": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "x", "inputs": {}}]}]}
FORMAT = [{"key": "nest", "inputs": {"required": NEST}}]
FORMAT += [{"key": "mp4", "inputs": {"required": CODEC}}, {"key": "gif", "inputs": {}}]
GROWS = {"template": {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image"}}
INFO = {
    "LoadImage": {
        "input": {"required": {"image": [["listed.png"], FILE_UPLOAD]}},
        "output": ["IMAGE", "MASK"],
    },
    "Loader": {"input": {"required": {"name": [["a.safetensors"]]}}, "output": ["MODEL"]},
    "Work": {
        "input": {
            "required": {
                "image": ["IMAGE,VIDEO"],
                "steps": ["INT", {"min": 1, "max": 50}],
                "share": ["FLOAT", {"max": 1}],
                "any": ["*"],
            },
            "optional": {"mode": ["COMBO", {"options": ["a", "b"]}], "model": ["MODEL"]},
        },
        "output": ["IMAGE", ["a", "b"]],
    },
    "Save": {
        "input": {
            "required": {"images": ["IMAGE"], "format": ["COMFY_DYNAMICCOMBO_V3", {}]},
            "optional": {"more": ["COMFY_AUTOGROW_V3", GROWS]},
        },
        "output_node": True,
    },
    "FacewrightDetectFaces": {"input": {}},
}
INFO["Save"]["input"]["required"]["format"][1]["options"] = FORMAT
API = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "listed.png"}},
    "2": {"class_type": "Loader", "inputs": {"name": "a.safetensors"}},
    "3": {
        "class_type": "Work",
        "inputs": {
            "image": ["1", 0],
            "steps": "20",
            "share": 0.5,
            "any": ["2", 0],
            "mode": "b",
            "model": ["2", 0],
            "unknown": 5,
        },
    },
    "4": {
        "class_type": "Save",
        "inputs": {
            "images": ["3", 0],
            "format": "mp4",
            "format.codec": "av1",
            "more.image0": ["1", 0],
        },
    },
    "5": {"class_type": "Loader", "inputs": {"name": "never asked for"}},
}


@pytest.mark.parametrize(
    ("node", "changed", "words"),
    [
        ("3", {}, None),
        ("3", {"mode": {"__value__": "a"}, "steps": 1.0, "share": -99}, None),
        ("3", {"mode": ["3", 1], "image": ["1", 0]}, "feed each other"),
        ("3", {"steps": None}, "'steps' should be INT, got nothing"),
        ("3", {"steps": "many"}, "'steps' should be INT, got 'many'"),
        ("3", {"steps": 0}, "'steps' should lie between 1 and 50, got 0"),
        ("3", {"share": 1.5}, "'share' should lie between None and 1"),
        ("3", {"mode": "c"}, "'mode' is 'c'; the ComfyUI offers: a, b"),
        ("3", {"mode": [1, 2, 3]}, "'mode' is a list of 3; a link is"),
        ("3", {"image": ["1", 1]}, "'image' takes IMAGE,VIDEO, but is linked to MASK"),
        ("3", {"image": ["1", 2]}, "'image' is linked to output 2 of node 1, which has 2"),
        ("3", {"image": ["9", 0]}, "is linked to node 9, which is absent"),
        ("3", {"image": None}, None),
        ("3", {"image": ...}, "its input 'image' is missing"),
        ("3", {"mode": ..., "model": ...}, None),
        ("2", {"name": "b.safetensors"}, "2 (Loader): 'name' is 'b.safetensors'; the ComfyUI"),
        ("1", {"image": "not listed.png"}, None),
        ("4", {"format": "avi"}, "'format' is 'avi'; the ComfyUI offers: nest, mp4"),
        ("4", {"format": "gif", "format.codec": ...}, None),
        ("4", {"format.codec": ...}, "its input 'format.codec' is missing"),
        ("4", {"format": "nest"}, None),
        ("4", {"format.codec": "vp9"}, "'format.codec' is 'vp9'"),
        ("4", {"more.image0": ["2", 0]}, "'more.image0' takes IMAGE, but is linked to MODEL"),
        ("4", {"more.image0": ["1", 5]}, "'more.image0' is linked to output 5"),
    ],
)  # fmt: skip
def test_what_a_comfyui_would_refuse(node, changed, words):
    api = copy.deepcopy(API)
    inputs = {**api[node]["inputs"], **changed}
    api[node]["inputs"] = {k: v for k, v in inputs.items() if v is not ...}
    found = problems(api, specs_of(INFO))
    assert (len(found), words in found[0]) == (1, True) if words else not found, found


def test_names_of_our_files_may_be_written_as_another_system_does():
    info = {"FacewrightX": {"input": {"required": {"file": [["a/b.pth"]]}}, "output_node": True}}
    api = {"1": {"class_type": "FacewrightX", "inputs": {"file": "a\\b.pth"}}}
    assert problems(api, specs_of(info))
    assert not problems(api, specs_of(info), lambda kind: {"file"})
    assert problems({"1": API["1"]}, specs_of(INFO)) == [
        "This workflow has no output node. Add one, such as Save Image."
    ]


@pytest.fixture
def comfy(monkeypatch):
    monkeypatch.setattr(http_client, "_PATIENCE", 0.0)
    double = Double()
    double.answers["/object_info"] = INFO
    yield double
    double.close()


def check(tmp_path, api, *words):
    (tmp_path / "w.json").write_text(json.dumps(api))
    words = ["run", str(tmp_path / "w.json"), "--check", "--input-dir", str(tmp_path), *words]
    result = CliRunner().invoke(app, words)
    result.said = " ".join(result.stderr.split())
    return result


def test_a_server_is_looked_at_and_nothing_is_sent(comfy, tmp_path):
    def asked():
        told = {path for path, _ in comfy.asked}
        comfy.asked.clear()
        return told

    at = ["--server", comfy.address]
    good = check(tmp_path, API, *at)
    assert good.exit_code == 0 and "5 nodes could run" in good.said
    assert asked() == {"/object_info"} and not list(tmp_path.glob("output*"))
    bad = copy.deepcopy(API)
    bad["3"]["inputs"] |= {"steps": 99, "mode": "c"}
    refused = check(tmp_path, bad, *at, "--json")
    assert refused.exit_code == 4 and "'steps'" in refused.said and "'mode'" in refused.said
    assert json.loads(refused.stdout)["error"]
    # A picture that would be sent, one that the server has, and one that is nowhere.
    asked()
    for name in ("here.png", "sub/there.png [output]", "nowhere.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / "here.png")
        if name == "nowhere.png":
            comfy.answers["/view"] = None
        words = [*at, "--set", f"1.image={name}"]
        assert (check(tmp_path, API, *words).exit_code, asked()) == {
            "here.png": (0, {"/object_info"}),
            "sub/there.png [output]": (0, {"/object_info", "/view"}),
            "nowhere.png": (4, {"/object_info", "/view"}),
        }[name]
    both = check(tmp_path, API, *at, "--to-api", str(tmp_path / "o.json"), "--json")
    assert json.loads(both.stdout)["written"] == str(tmp_path / "o.json") and comfy.prompt is None


def test_here(tmp_path):
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}}
    api = {"1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}}, "2": save}
    lacking = check(tmp_path, api, "--embedded")
    assert lacking.exit_code == 4 and "There is no file in.png" in lacking.said
    Image.new("RGB", (2, 2)).save(tmp_path / "in.png")
    assert check(tmp_path, api, "--embedded").exit_code == 0
    assert check(tmp_path, {**api, "2": {**save, "inputs": {}}}, "--embedded").exit_code == 4
    assert not list(tmp_path.glob("output*"))
