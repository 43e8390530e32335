"""The pack in a running ComfyUI, over HTTP."""

import hashlib
import io
import json
import re
import time
from urllib.error import HTTPError

import numpy as np
import pytest
from facewright.core.degradation import Degradation
from facewright.core.demo import picture
from facewright.docs.graphs.build import WORKFLOWS
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.remote.server import server_specs
from facewright.headless.workflows.workflow import to_api
from facewright.nodes import all_nodes
from facewright.nodes._all import REPLACED
from PIL import Image
from skimage import data

pytestmark = pytest.mark.comfyui


def shipped(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def failure(entry):
    """The message of the node that failed, or None."""
    for kind, content in entry["status"]["messages"]:
        if kind == "execution_error":
            return f"{content['node_type']}: {content['exception_message']}"
    return None


def run(server, prompt):
    """What the output nodes show, by node id."""
    entry = server.run(prompt)
    assert failure(entry) is None
    return entry["outputs"]


def assert_as_shipped(server, converted, expected):
    """Inputs that this ComfyUI has gained stand at what it says of them itself."""
    info = server.get("/object_info")
    assert converted.keys() == expected.keys()
    for node_id, node in expected.items():
        inputs = converted[node_id]["inputs"]
        assert converted[node_id]["class_type"] == node["class_type"]
        known = info[node["class_type"]]["input"]
        declared = {**known.get("required", {}), **known.get("optional", {})}
        gained = inputs.keys() - node["inputs"].keys()
        starts = {name: default_of(name, declared, inputs) for name in gained}
        assert inputs == node["inputs"] | starts
        assert not gained or node["class_type"] in ("CreateVideo", "SaveVideo")


def default_of(name, declared, values):
    """What an input starts with; "format.codec" is one of those under the choice of "format"."""
    outer, _, inner = name.partition(".")
    kind, *details = declared[outer]
    details = details[0] if details else {}
    if inner:
        (chosen,) = (o for o in details["options"] if o["key"] == values[outer])
        parts = chosen["inputs"]
        return default_of(inner, {**parts.get("required", {}), **parts.get("optional", {})}, values)
    choices = kind if isinstance(kind, list) else details.get("options", [None])
    first = choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
    return details.get("default", first)


def close(pixels, x):
    """Whether a saved picture is (1, 3, h, w); ComfyUI rounds down where it should round."""
    return np.abs(pixels - (x[0].movedim(0, -1) * 255).round().numpy()).max() <= 1


def saved(server, entry, node_id):
    return [
        np.asarray(Image.open(io.BytesIO(server.picture(image))))
        for image in entry["outputs"][node_id]["images"]
    ]


def test_every_node_is_there_with_our_descriptions(server):
    info = server.get("/object_info")
    # Sockets for values that older ones do not know, see tests/integration/test_detections.py.
    newer = () if "PrimitiveBoundingBox" in info else ("face_landmarks", "bounding_boxes")
    for node in all_nodes():
        schema = node.GET_SCHEMA()
        seen = info[schema.node_id]
        assert seen["description"] == schema.description
        assert seen["category"] == schema.category
        assert seen["output"] == [o.io_type for o in schema.outputs]
        assert seen["output_tooltips"] == [o.tooltip for o in schema.outputs]
        for part, optional in (("required", False), ("optional", True)):
            inputs = [i for i in schema.inputs if i.optional == optional and i.id not in newer]
            assert seen["input_order"].get(part, []) == [i.id for i in inputs]
            for i in inputs:
                assert seen["input"][part][i.id][1]["tooltip"] == i.tooltip


def test_weight_files_are_offered(server):
    info = server.get("/object_info/FacewrightLoadVRE")["FacewrightLoadVRE"]["input"]["required"]
    files = ["associate_2.ckpt", "embedding_change_weights.pth"]
    options = {
        name: combo[0] if isinstance(combo[0], list) else combo[1]["options"]
        for name, combo in info.items()
    }
    # Other tests put files of their own beside them; those that fit come first.
    assert set(files) <= set(options["embedder"]) and options["embedder"][0] == files[0]
    assert options["projector"][:2] == ["none", files[1]]
    assert sorted(options["projector"]) == sorted(["none", *options["embedder"]])


def test_the_doctor_tells_what_the_workflow_lacks(server, home):
    """Also of nodes that do not run. (Node classes that are not there ComfyUI refuses itself.)"""
    prompt = {
        "1": {"class_type": "FacewrightDoctor", "inputs": {"hashes": True}},
        "2": {
            "class_type": "FacewrightLoadLoRA",
            "inputs": {"lora": "x.safetensors", "strength": 1.0, "model": ["3", 0]},
        },
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.ckpt"}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    outputs = run(server, prompt)
    (text,) = outputs["1"]["text"]
    assert "Node 2 (Load LoRA (all modules)) needs x.safetensors in models/loras" in text
    assert "Node 3 (Load Checkpoint) needs x.ckpt in models/checkpoints" in text
    report = json.loads(outputs["4"]["text"][0])
    assert report["schema"] == 1 and not report["ok"]
    assert report["versions"]["comfyui"]["version"]
    assert report["dtypes"]["device"] == "cpu" and "ComfyUI chooses" in report["dtypes"]["why"]
    found = {copy["path"]: copy for w in report["weights"] for copy in w["copies"]}
    ckpt = home / "models" / "facewright" / "associate_2.ckpt"
    (file,) = found[str(ckpt)]["files"]
    assert file["sha256"] == hashlib.sha256(ckpt.read_bytes()).hexdigest()
    # ComfyUI's own nodes and ours are known, and nobody has taken an id.
    assert report["workflow"]["nodes"] == []
    assert not [w for w in report["warnings"] if "another pack" in w]


def test_the_template_browser_lists_the_workflows(server):
    listed = server.get("/workflow_templates")["facewright"]
    assert sorted(listed) == sorted(make.__name__ for make in WORKFLOWS)


@pytest.mark.parametrize("name", [make.__name__ for make in WORKFLOWS])
def test_the_editor_form_converts_by_what_the_server_says(server, name):
    converted = to_api(shipped(name), server_specs(server.address))
    assert_as_shipped(server, converted, shipped(f"api/{name}.api"))


def test_a_node_that_is_no_more_runs_as_the_one_in_its_place(server):
    """As the pack tells it, of a node that never was (tests/integration/replaced)."""
    try:
        told = server.get("/node_replacements")
    except HTTPError:
        pytest.skip("this ComfyUI replaces no nodes")
    known = {old for old in told if old.startswith("Facewright")}
    assert known == {"FacewrightTestGone", *(one["old_node_id"] for one in REPLACED)}
    seen = []
    for kind, chosen, output in (("TestGone", "which", 0), ("DemoPicture", "picture", 1)):
        node = {"class_type": f"Facewright{kind}", "inputs": {chosen: "group"}, "_meta": {}}
        show = {"class_type": "PreviewImage", "inputs": {"images": ["1", output]}, "_meta": {}}
        seen.append(saved(server, server.run({"1": node, "2": show}), "2"))
    assert len(seen[0]) == len(seen[1]) and all(map(np.array_equal, *seen))


def test_nano_restore_runs_as_shipped(server):
    prompt = shipped("api/nano_restore.api")
    by_kind = {node["class_type"]: node_id for node_id, node in prompt.items()}
    entry = server.run(prompt)
    assert failure(entry) is None
    assert len(entry["outputs"][by_kind["FacewrightCompare"]]["images"]) == 1
    savers = [i for i, node in prompt.items() if node["class_type"] == "SaveImage"]
    restored, compared = (saved(server, entry, i)[0] for i in savers)
    lq = np.asarray(Image.open(FOLDER / "nano_group_lq.png").convert("RGB"))
    gt = np.asarray(Image.open(FOLDER / "nano_group_gt.png").convert("RGB"))
    assert restored.shape == lq.shape
    assert compared.shape == (lq.shape[0], 2 * lq.shape[1] + 4, 3)
    # The demo convinces: closer to the truth, where it changed anything.
    changed = (restored != lq).any(-1)
    assert 0.05 < changed.mean() < 0.95
    error = [np.square(x[changed] / 255 - gt[changed] / 255).mean() for x in (lq, restored)]
    assert error[1] < 0.9 * error[0]


def test_practice_loop_runs_as_shipped_and_shows_its_scores(server):
    prompt = shipped("api/practice_loop.api")
    by_title = {node["_meta"]["title"]: node_id for node_id, node in prompt.items()}
    outputs = run(server, prompt)
    (report,) = outputs[by_title["Image Score (PSNR, SSIM, LPIPS)"]]["text"]
    assert outputs[by_title["Scores"]]["text"] == [report]
    psnr = re.match(r"PSNR ([\d.]+) dB \(lq ([\d.]+) dB, gain \+", report)
    assert 20 < float(psnr[2]) < float(psnr[1]) < 30
    assert "LMD" in report and "no face" not in report
    (done,) = outputs[by_title["What was done"]]["text"]
    assert done.startswith("picture 0: blur") and ";" in done  # two passes
    assert len(outputs[by_title["Save restored / original"]]["images"]) == 1


def test_degrade_presets_runs_as_shipped(server):
    prompt = shipped("api/degrade_presets.api")
    by_title = {node["_meta"]["title"]: node_id for node_id, node in prompt.items()}
    outputs = run(server, prompt)
    # The recipe that was shown does the same again.
    (recipe,) = outputs[by_title["The same as a recipe, to do it again"]]["text"]
    gt = picture("face")[1]
    expected = Degradation.replay(gt, json.loads(recipe))
    entry = {"outputs": outputs}
    (degraded,) = saved(server, entry, by_title["Save the degraded picture"])
    assert close(degraded, expected)
    (sheet,) = saved(server, entry, by_title["Save the sheet"])
    assert close(sheet[:440, :512], gt[..., :440, :])  # above its label


def test_a_picture_without_a_face_leaves_vae_decode_out(server):
    nano = {"class_type": "FacewrightLoadNano", "inputs": {"weights": "onestep"}}
    empty = {"width": 64, "height": 48, "batch_size": 1, "color": 0}
    detect = {
        "image": ["2", 0], "analyzer": ["1", 3], "crop_size": 128, "order": "left to right",
        "pick": "", "min_size": 0, "min_score": 0.0, "max_faces": 0, "padding": 0.0,
    }  # fmt: skip
    restore = {
        "model": ["1", 0], "vae": ["1", 1], "conditioning": ["4", 0], "image": ["3", 1],
        "timestep": 399, "posterior": "mean", "seed": 0, "faces_at_once": 4,
    }  # fmt: skip
    prompt = {
        "1": nano,
        "2": {"class_type": "EmptyImage", "inputs": empty},
        "3": {"class_type": "FacewrightDetectFaces", "inputs": detect},
        "4": {
            "class_type": "FacewrightVREEncode",
            "inputs": {"vre": ["1", 2], "image": ["3", 1]},
        },
        "5": {"class_type": "FacewrightOneStepRestore", "inputs": restore},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 1], "vae": ["1", 1]}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
        "8": {"class_type": "PreviewAny", "inputs": {"source": ["3", 4]}},
    }
    outputs = run(server, prompt)
    assert "no face found by nano" in outputs["8"]["text"][0] and "7" not in outputs
    (shown,) = outputs["3"]["images"]  # the band, on the preview alone
    assert np.asarray(Image.open(io.BytesIO(server.picture(shown)))).max() > 200


@pytest.mark.usefixtures("face_detector")
def test_osdface_restore_runs_on_files_in_the_real_formats(server, home):
    prompt = shipped("api/osdface_restore.api")
    loader = next(n for n in prompt.values() if n["class_type"] == "CheckpointLoaderSimple")
    loader["inputs"]["ckpt_name"] = "thin.safetensors"
    chosen = home / "input" / "choose your photograph.png"
    status, answer = server.post("/prompt", prompt=prompt)
    assert status == 400 and f"Invalid image file: {chosen.name}" in json.dumps(answer)
    Image.fromarray(data.astronaut()).save(chosen)
    entry = server.run(prompt)
    chosen.unlink()
    assert failure(entry) is None
    saver = next(i for i, node in prompt.items() if node["class_type"] == "SaveImage")
    restored = saved(server, entry, saver)[0]
    changed = (restored != data.astronaut()).any(-1)
    assert restored.shape == (512, 512, 3)
    assert 0.02 < changed.mean() < 0.6  # the one face, and nothing else


def test_a_missing_weight_file_is_named_before_anything_runs(server):
    prompt = shipped("api/osdface_restore.api")
    for node in prompt.values():
        if node["class_type"] == "FacewrightLoadVRE":
            node["inputs"]["embedder"] = "associate_9.ckpt"
    status, answer = server.post("/prompt", prompt=prompt)
    assert status == 400
    assert "associate_9.ckpt is missing" in json.dumps(answer)


def test_the_stop_button_stops_the_restoration(server, home):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((128, 128)).save(home / "input" / "small.png")
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "thin.safetensors"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "small.png"}},
        "3": {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 2000}},
        "4": {
            "class_type": "FacewrightLoadVRE",
            "inputs": {
                "embedder": "associate_2.ckpt",
                "projector": "embedding_change_weights.pth",
            },
        },
        "5": {"class_type": "FacewrightVREEncode", "inputs": {"vre": ["4", 0], "image": ["2", 0]}},
        "6": {
            "class_type": "FacewrightOneStepRestore",
            "inputs": {
                "model": ["1", 0],
                "vae": ["1", 2],
                "conditioning": ["5", 0],
                "image": ["3", 0],
                "timestep": 399,
                "posterior": "mean",
                "seed": 0,
                "faces_at_once": 1,
            },
        },
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }
    prompt_id = server.queue(prompt)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if not any(server.get("/queue").values()):  # neither running nor waiting to
            break  # refused or finished: the assertion below tells
        time.sleep(2)
        server.post("/interrupt")
    kinds = [kind for kind, _ in server.wait(prompt_id)["status"]["messages"]]
    assert kinds[-1] == "execution_interrupted"
