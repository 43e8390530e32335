"""`facewright doctor`: what it finds, what it says of a workflow, and that it changes nothing."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import zipfile

import pytest
import torch
from facewright.core import doctor
from facewright.core.doctor import diagnose, hashes, machine, needs
from facewright.core.doctor.words import report_lines
from facewright.core.faces.needs import Needs
from facewright.core.files.known import ARCFACE, MEDIAPIPE
from facewright.core.weights.known_files import known_files
from facewright.core.weights.model_folders import ModelFolders
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.cli import app
from facewright.headless.host.catalogue import plain_process
from facewright.nodes import all_nodes
from safetensors.torch import save_file
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No ComfyUI, no models of this machine, and a cache of its own."""
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    monkeypatch.delenv("FACEWRIGHT_BASE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setattr(hashes, "cache_file", lambda: tmp_path / "cache" / "sha256.json")


@pytest.fixture
def comfyui(tmp_path, monkeypatch):
    folder = tmp_path / "ComfyUI"
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "comfy_extras").mkdir()
    (folder / "main.py").touch()
    (folder / "nodes.py").write_text('NODE_CLASS_MAPPINGS = {"ControlNetApply": 1}\n')
    (folder / "comfyui_version.py").write_text('__version__ = "0.3.70"\n')
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    return folder


def look(models, workflow=None, **options):
    return diagnose(plain_process(ModelFolders([models])), workflow, **options)


def shipped(name):
    folder = FOLDER / "api" if name.endswith(".api") else FOLDER
    return json.loads((folder / f"{name}.json").read_text())


def entry(report, what):
    return next(w for w in report["weights"] if w["what"] == what)


def tree(folder):
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


FORMS = pytest.mark.parametrize("form", ["", ".api"])


@FORMS
def test_what_a_workflow_lacks_is_said_with_where_to_get_it(tmp_path, form):
    report = look(tmp_path, shipped(f"osdface_restore{form}"), hash_files=False)
    assert not report["ok"]
    lacks = report["workflow"]["lacks"]
    for name, folder, source in (
        ("v2-1_512-ema-pruned.safetensors", "checkpoints", "sd2-community"),
        ("pytorch_lora_weights.safetensors", "loras", "jkwang28/OSDFace"),
        ("associate_2.ckpt", "facewright", "jkwang28/OSDFace"),
        ("embedding_change_weights.pth", "facewright", "jkwang28/OSDFace"),
    ):
        (sentence,) = [s for s in lacks if f"needs {name} in models/{folder}" in s]
        assert str(tmp_path / folder) in sentence and source in sentence and "Licence" in sentence
    assert len(lacks) == 4
    assert any("Load Face Embedder (VRE)" in s for s in lacks)  # not the class's id


@FORMS
def test_a_workflow_that_has_all_it_needs(osdface_files, form):
    # The converted embedder is one file; the workflow names the released pair.
    text = json.dumps(shipped(f"osdface_restore{form}"))
    text = text.replace("associate_2.ckpt", "osdface_vre.safetensors")
    workflow = json.loads(text.replace("embedding_change_weights.pth", "none"))
    before = tree(osdface_files)
    report = look(osdface_files, workflow)
    assert report["ok"] and report["workflow"]["lacks"] == []
    assert {f["name"] for f in report["workflow"]["files"]} == {
        "v2-1_512-ema-pruned.safetensors", "pytorch_lora_weights.safetensors",
        "osdface_vre.safetensors",
    }  # fmt: skip
    assert tree(osdface_files) == before
    (osdface_files / "facewright/osdface_vre.safetensors").unlink()
    assert not look(osdface_files, workflow, hash_files=False)["ok"]


def test_a_base_model_of_another_version_is_something_lacking(osdface_files, ldm_files):
    path = osdface_files / "checkpoints/v2-1_512-ema-pruned.safetensors"
    save_file(ldm_files.checkpoint(context=768), path)
    report = look(osdface_files, shipped("osdface_restore.api"), hash_files=False)
    assert any("Node 1 " in s and "Stable Diffusion 1.x" in s for s in report["workflow"]["lacks"])
    (copy,) = entry(report, "Stable Diffusion 2.1-base")["copies"]
    assert "Stable Diffusion 1.x" in copy["problem"]
    assert any("found, but cannot be used" in line for line in report_lines(report))


def test_another_file_that_would_do_is_pointed_out(tmp_path):
    (tmp_path / "facewright").mkdir()
    converted = tmp_path / "facewright/osdface_vre.safetensors"
    converted.touch()
    report = look(tmp_path, shipped("osdface_restore.api"), hash_files=False)
    (sentence,) = [s for s in report["workflow"]["lacks"] if "needs associate_2.ckpt" in s]
    assert f"There is {converted}: choose that in the node instead" in sentence


@FORMS
def test_a_face_restorer_counts_where_packs_for_them_keep_it(tmp_path, form):
    workflow = shipped(f"classic_restore{form}")

    def found():
        report = look(tmp_path, workflow, hash_files=False)
        (classic,) = [r for r in report["restorers"] if r["name"] == "classic"]
        return report["workflow"]["lacks"], classic["lacks"], report

    lacks, classic, report = found()
    (sentence,) = [s for s in lacks if "needs GFPGANv1.4.pth in models/upscale_models" in s]
    assert "TencentARC/GFPGAN" in sentence and "Licence: Apache-2.0" in sentence
    assert classic == ["the face restorer GFPGAN"]
    assert entry(report, "the face restorer CodeFormer")["commercial"] == "no"
    (tmp_path / "facerestore_models").mkdir()
    torch.save({"a": torch.ones(1)}, tmp_path / "facerestore_models/GFPGANv1.4.pth")
    lacks, classic, report = found()
    assert not any("GFPGAN" in sentence for sentence in lacks) and classic == []
    assert "  classic: ready" in report_lines(report)


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.rglob("nano_*.json")))
def test_shipped_workflows_of_nano_models_lack_nothing(tmp_path, name):
    report = look(tmp_path, shipped(name), hash_files=False)
    assert report["workflow"]["lacks"] == []


def ui(*nodes, subgraphs=()):
    made = [
        {"id": i, "type": kind, "widgets_values": widgets, "properties": properties, **more}
        for i, (kind, widgets, properties, more) in enumerate(nodes, start=1)
    ]
    return {"nodes": made, "links": [], "definitions": {"subgraphs": list(subgraphs)}}


def test_nodes_that_compute_elsewhere_are_told_of(comfyui, tmp_path):
    (comfyui / "comfy_api_nodes").mkdir()
    (comfyui / "comfy_api_nodes" / "nodes_x.py").write_text('node_id="PaidNode"\n')
    found = look(tmp_path, ui(("PaidNode", [], {"cnr_id": "comfy-core"}, {})), hash_files=False)
    (node,), (note,) = found["workflow"]["nodes"], found["workflow"]["notes"]
    assert node["paid"] and node["found_in"] == "ComfyUI" and not node["problem"]
    assert "needs an account at comfy.org with credits" in note


def test_nodes_of_other_packs_are_named_with_their_pack(comfyui, tmp_path):
    pack = comfyui / "custom_nodes" / "other-pack"
    pack.mkdir()
    (pack / "nodes.py").write_text("MAP = {'OtherNode': int}\n")
    graph = ui(
        ("NeverSeen", [], {"cnr_id": "comfyui-never-seen"}, {}),
        ("FromGit", [], {"aux_id": "someone/from-git"}, {}),
        ("Nameless", [], {}, {}),
        ("OtherNode", [], {}, {}),
        ("ControlNetApply", [], {"cnr_id": "comfy-core"}, {}),
        ("Muted", [], {}, {"mode": 2}),
        ("Note", ["text"], {}, {}),
        ("a-sub-graph", [], {}, {}),
        subgraphs=[{"id": "a-sub-graph", "name": "Sub", "nodes": [{"id": 7, "type": "Deep"}]}],
    )
    found = look(tmp_path, graph, hash_files=False)["workflow"]
    text = "\n".join(found["lacks"])
    assert "a NeverSeen, which is not installed; the pack comfyui-never-seen brings it" in text
    assert "the pack someone/from-git brings it" in text
    assert "a Nameless, which is not installed; no pack is named" in text
    assert "Node 8:7 (Deep)" in text
    assert len(found["lacks"]) == 4
    where = {n["class"]: n["found_in"] for n in found["nodes"] if not n["problem"]}
    assert where == {"OtherNode": "other-pack", "ControlNetApply": "ComfyUI"}


def test_core_nodes_are_not_lacking_where_no_comfyui_is_found(tmp_path):
    graph = ui(("ControlNetApply", [], {"cnr_id": "comfy-core"}, {}))
    assert look(tmp_path, graph, hash_files=False)["ok"]


def test_names_of_windows_and_folders_below_are_found(tmp_path):
    (tmp_path / "facewright/people").mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, tmp_path / "facewright/people/a.person")
    graph = ui(("FacewrightLoadPerson", ["people\\a.person"], {}, {}))
    assert look(tmp_path, graph, hash_files=False)["ok"]


def test_an_empty_combo_and_a_missing_package_are_said(tmp_path, monkeypatch):
    graph = ui(
        ("FacewrightLoadLoRA", ["(no files in models/loras: add them, then press R)"], {}, {}),
        ("FacewrightLoadFaceAnalyzer", ["insightface"], {}, {}),
        ("FacewrightImageScore", ["psnr, fid"], {}, {}),
    )
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "insightface" else find(n)
    )
    monkeypatch.setattr(needs, "elsewhere", lambda file: [])
    text = "\n".join(look(tmp_path, graph, hash_files=False)["workflow"]["lacks"])
    assert "has no file chosen: put one into" in text
    assert "python -m pip install insightface" in text
    assert "put buffalo_l into" in text and "non-commercial research only" in text


def test_the_first_widgets_of_a_node_are_its_files(tmp_path):
    """So the editor's form can be read by place."""
    around = plain_process(ModelFolders([tmp_path]))
    for node in all_nodes():
        schema = node.GET_SCHEMA()
        widgets = [i for i in schema.inputs if i.has_widget]
        files = [i.id for i in widgets if getattr(i, "of_files", False)]
        assert list(around.files(schema.node_id)) == files
        assert [i.id for i in widgets[: len(files)]] == files


def test_every_known_file_is_listed_with_its_terms_and_where_it_was_looked_for(tmp_path):
    report = look(tmp_path, hash_files=False)
    assert [w["what"] for w in report["weights"][:-1]] == [f.what for f in known_files()]
    for known, found in zip(known_files(), report["weights"], strict=False):
        assert found["licence"] == known.licence and found["commercial"] == known.commercial
        assert str(tmp_path / known.folder) in found["searched"] and not found["found"]
    nano = report["weights"][-1]
    assert nano["found"] and nano["commercial"] == "yes"
    assert report["workflow"] is None and report["ok"]
    text = "\n".join(report_lines(report))
    assert all(known.licence in text and known.source in text for known in known_files())


def test_the_keys_of_the_report_are_a_promise(tmp_path):
    report = json.loads(json.dumps(look(tmp_path, shipped("osdface_restore.api"))))
    assert report["schema"] == doctor.SCHEMA == 1
    assert list(report) == [
        "schema", "ok", "versions", "devices", "dtypes", "packages", "weights", "workflow",
        "warnings", "restorers", "detectors",
    ]  # fmt: skip
    assert set(report["detectors"]) == {"auto", "why", "all"}
    assert set(report["detectors"]["all"][0]) == {"name", "about", "file", "lacks", "where"}
    assert set(report["versions"]) == {
        "facewright", "facewright_path", "python", "system", "torch", "numpy", "comfyui"
    }  # fmt: skip
    assert set(report["devices"][0]) == {"device", "name", "memory_bytes", "bfloat16", "float16"}
    assert set(report["dtypes"]) == {"device", "diffusion", "vae", "embedder", "why"}
    assert set(report["restorers"][0]) == {"name", "about", "lacks"}
    assert set(report["packages"][0]) == {"package", "installed", "version", "enables"}
    packages = {entry["package"] for entry in report["packages"]}
    assert {"scikit-image", "spandrel", "spandrel_extra_arches"} <= packages
    assert set(report["weights"][0]) == {
        "what", "names", "folder", "searched", "found", "copies", "sha256_begins", "licence",
        "commercial", "source",
    }  # fmt: skip
    assert set(report["weights"][-1]["copies"][0]) == {
        "path", "bytes", "files", "problem", "sha256_matches", "limits"
    }  # fmt: skip
    assert set(report["workflow"]) == {"files", "inputs", "nodes", "notes", "lacks", "ok"}
    assert set(report["workflow"]["files"][0]) == {
        "node", "title", "class", "input", "name", "folder", "searched", "path", "what", "source",
        "licence", "commercial", "problem",
    }  # fmt: skip


def test_hashes_are_sha256_and_read_once_for_each_state_of_a_file(tmp_path):
    path = tmp_path / "facewright/backbone.pth"
    path.parent.mkdir()
    path.write_bytes(b"\x80" + os.urandom(5 << 20))
    seen = []

    def sha():
        seen.clear()
        report = look(tmp_path, on_bytes=lambda p, done, total: seen.append((p, done, total)))
        (copy,) = entry(report, ARCFACE.what)["copies"]
        return copy["files"][0]["sha256"]

    assert sha() == hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    assert [s for s in seen if s[0] == path] == [(path, 1 << 22, size), (path, size, size)]
    assert sha() == hashlib.sha256(path.read_bytes()).hexdigest() and seen == []
    path.write_bytes(b"\x80 other")
    assert sha() == hashlib.sha256(b"\x80 other").hexdigest() and seen != []
    hashes.cache_file().write_text("[broken")
    assert sha() == hashlib.sha256(b"\x80 other").hexdigest()
    report = look(tmp_path, hash_files=False)
    assert entry(report, ARCFACE.what)["copies"][0]["files"][0]["sha256"] is None


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(hashes, "cache_file", lambda: tmp_path / "file" / "sha256.json")
    report = look(tmp_path)
    assert any("could not be kept" in w for w in report["warnings"])
    assert report["weights"][-1]["copies"][0]["files"][0]["sha256"]


def test_a_hash_that_differs_warns_and_touches_nothing(tmp_path):
    path = tmp_path / "facewright/vgg16-397923af.pth"
    path.parent.mkdir()
    path.write_bytes(b"\x80 not VGG")
    before = tree(tmp_path)
    report = look(tmp_path)
    (warning,) = [w for w in report["warnings"] if "vgg16" in w]
    digest = hashlib.sha256(b"\x80 not VGG").hexdigest()
    assert "397923af" in warning and digest[:8] in warning and "left as it is" in warning
    assert report["ok"]
    after = {k: v for k, v in tree(tmp_path).items() if "cache" not in k.parts}
    assert after == before


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/pytorch_lora_weights.safetensors").write_bytes(b"version https://git-lfs")
    report = look(tmp_path, shipped("osdface_restore"), hash_files=False)
    assert any("Node 2 (" in s and "Git LFS pointer" in s for s in report["workflow"]["lacks"])
    assert "Git LFS pointer" in entry(report, "OSDFace's UNet LoRA")["copies"][0]["problem"]


@pytest.mark.parametrize(
    ("folder", "name", "key", "said"),
    [
        ("loras", "flipnet_restore_lora", "vqvae_LQ.x", "OSDFace's VRE .* a LoRA was expected"),
        (
            "facewright",
            "flipnet_restore_boosthub",
            "x.lora_A.weight",
            "a LoRA; a file of models/facewright was",
        ),
        ("facewright", "flipnet_restore_boosthub", "something.of.ours", None),
        ("loras", "flipnet_restore_lora", "something.of.others", None),
    ],
)
def test_a_lora_in_place_of_another_file_is_named(tmp_path, folder, name, key, said):
    (tmp_path / folder).mkdir()
    save_file({key: torch.zeros(1)}, tmp_path / folder / f"{name}.safetensors")
    lacks = look(tmp_path, shipped("flipnet_restore"), hash_files=False)["workflow"]["lacks"]
    found = [s for s in lacks if f"{name}.safetensors is " in s]
    assert re.search(said, *found) if said else not found


def test_versions_devices_and_formats_are_those_of_this_process(comfyui, tmp_path, monkeypatch):
    report = look(tmp_path, hash_files=False)
    assert report["versions"]["torch"] == torch.__version__
    assert report["versions"]["comfyui"] == {"version": "0.3.70", "path": str(comfyui)}
    assert report["devices"][-1]["device"] == "cpu"
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(machine, "fast_dtype", lambda device, dtype=dtype: dtype)
        formats = look(tmp_path, hash_files=False)["dtypes"]
        assert formats["diffusion"] == str(dtype)[6:] and formats["embedder"] == "float32"
        assert ("not known to be quick" in formats["why"]) == (dtype == torch.float32)


def pack(comfyui, name, **files):
    folder = comfyui / "custom_nodes" / name
    for file, text in files.items():
        path = folder / file.replace("__", "/").replace("_py", ".py").replace("_toml", ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_known_conflicts_are_told(comfyui, tmp_path):
    (comfyui / "comfyui_version.py").write_text('__version__ = "0.3.9"\n')
    pack(comfyui, "taker", a_py="M = {'FacewrightDetectFaces': int}\n")
    pack(comfyui, "replacer", a_py='folder_names_and_paths["loras"] = ([], set())\n')
    pack(comfyui, "adder", a_py='folder_names_and_paths["loras"][0].append("x")\n')
    pack(comfyui, "one", basicsr__x_py="")
    pack(comfyui, "two", basicsr__x_py="")
    for name in ("fw-a", "fw-b"):
        pack(comfyui, name, pyproject_toml='[project]\nname = "facewright"\n', a_py="'FacewrightX'")
    found = look(tmp_path, hash_files=False)["warnings"]
    text = "\n".join(found)
    assert "ComfyUI is 0.3.9; facewright needs 0.3.64 or newer" in text
    assert "The node pack taker names nodes of facewright (FacewrightDetectFaces)" in text
    assert "The node pack replacer replaces ComfyUI's list of folders for loras" in text
    assert "one, two each bring a basicsr" in text
    assert "facewright is in custom_nodes 2 times (fw-a, fw-b)" in text
    assert "adder" not in text and "fw-a names" not in text


def test_packages_built_for_another_torch_are_told(tmp_path, monkeypatch):
    pins = ["numpy", "torch (==1.2.3)"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: pins)
    text = "\n".join(look(tmp_path, hash_files=False)["warnings"])
    assert "torchvision" in text and "built for torch 1.2.3" in text


def test_the_command_and_its_exit_codes(tmp_path):
    models = tmp_path / "models"
    models.mkdir()

    def run(*args):
        return runner.invoke(app, ["doctor", "--models", str(models), "--no-hash", *args])

    bare = run()
    assert bare.exit_code == 0 and "Stable Diffusion" in bare.stdout
    lacking = run(str(FOLDER / "osdface_restore.json"))
    assert lacking.exit_code == 1 and "This workflow lacks:" in lacking.stdout
    as_json = run("--json", str(FOLDER / "osdface_restore.json"))
    assert as_json.exit_code == 1 and json.loads(as_json.stdout)["ok"] is False
    assert run(str(FOLDER / "nano_restore.json")).exit_code == 0
    assert run(str(tmp_path / "nowhere.json")).exit_code == 2
    (tmp_path / "x.json").write_text("[]")
    assert run(str(tmp_path / "x.json")).exit_code == 1


def test_the_node_tells_of_the_workflow_it_is_in(tmp_path, models_in):
    from facewright.headless.runner import run_workflow

    models_in(tmp_path)
    node = {"class_type": "FacewrightDoctor", "inputs": {"hashes": False}}
    # The rest of the workflow is no output: it does not run, and is told of all the same.
    lora = {"class_type": "FacewrightLoadLoRA", "inputs": {"lora": "x.safetensors"}}
    results = run_workflow({"1": node, "2": lora}, output_dir=tmp_path)
    text, as_json = results["1"]
    assert "needs x.safetensors in models/loras" in text
    assert json.loads(as_json)["ok"] is False
    assert results["1"].ui.as_dict() == {"text": (text,)}


# --- face detectors


def put_task(folder, content=None):
    """A container in MediaPipe's format, or other bytes under its name."""
    path = folder / "detection" / "face_landmarker.task"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("face_detector.tflite", b"")
    if content is not None:
        path.write_bytes(content)
    return path


def test_it_says_which_detector_auto_takes_and_why(tmp_path):
    without = look(tmp_path, hash_files=False)
    assert without["detectors"]["auto"] == "skimage"
    assert f"face_landmarker.task is not in {tmp_path / 'detection'}" in without["detectors"]["why"]
    assert f"{tmp_path / 'detection'}. Source: {MEDIAPIPE.source}. Licence:" in "\n".join(
        report_lines(without)
    )
    file = put_task(tmp_path)
    found = look(tmp_path, hash_files=False)
    about, *others = found["detectors"]["all"]
    assert found["detectors"]["auto"] == "mediapipe" and about["file"] == str(file)
    assert not about["lacks"] and all(o["lacks"] for o in others if o["name"] != "skimage")
    assert entry(found, MEDIAPIPE.what)["commercial"] == "yes"
    text = "\n".join(report_lines(found))
    assert "Face detectors (auto: mediapipe)" in text and "  mediapipe: ready" in text
    put_task(tmp_path, b"<html>not found</html>")
    broken = look(tmp_path, hash_files=False)
    assert broken["detectors"]["auto"] == "skimage"
    assert "web page" in broken["detectors"]["all"][0]["lacks"]
    assert "web page" in entry(broken, MEDIAPIPE.what)["copies"][0]["problem"]
    put_task(tmp_path, b"PK" + bytes(99))
    broken = look(tmp_path, hash_files=False)
    assert "which is a zip archive" in broken["detectors"]["all"][0]["lacks"]
    assert f"from its source. Source: {MEDIAPIPE.source}" in "\n".join(report_lines(broken))


@FORMS
def test_a_workflow_on_auto_needs_one_detector_that_does(tmp_path, monkeypatch, form):
    def about(name):
        found = look(tmp_path, shipped(name + form), hash_files=False)["workflow"]["lacks"]
        return [line for line in found if "Load Face Detector" in line]

    assert about("osdface_restore") == []  # skimage is installed here
    (lack,) = about("honestface_restore")
    for words in ("dense landmarks", "face_landmarker.task", MEDIAPIPE.source, "Apache-2.0"):
        assert words in lack
    monkeypatch.setattr(Needs, "packaged", property(lambda needs: not needs.package))
    (lack,) = about("osdface_restore")
    assert "finds no face detector, and needs" in lack
    put_task(tmp_path)
    assert about("osdface_restore") == about("honestface_restore") == []


def test_a_workflow_on_mediapipe_needs_its_file(tmp_path):
    node = {"class_type": "FacewrightLoadFaceAnalyzer", "inputs": {"backend": "mediapipe"}}
    (lack,) = look(tmp_path, {"1": node}, hash_files=False)["workflow"]["lacks"]
    assert "face_landmarker.task" in lack and MEDIAPIPE.source in lack
    put_task(tmp_path)
    assert look(tmp_path, {"1": node}, hash_files=False)["workflow"]["ok"]


def test_face_mask_needs_one_of_two_files_for_parsing(tmp_path):
    def lacks(mode):
        node = {"class_type": "FacewrightFaceMask", "inputs": {"mode": mode}}
        return look(tmp_path, {"1": node}, hash_files=False)["workflow"]["lacks"]

    assert lacks("oval") == []
    (lack,) = lacks("parsing")
    for word in ("Face Mask", "parsing_parsenet.pth", "facedetection", "xinntao", "CelebAMask-HQ"):
        assert word in lack
    (tmp_path / "facexlib").mkdir()
    (tmp_path / "facexlib/parsing_bisenet.pth").write_bytes(b"0" * 2000)
    assert lacks("parsing") == []
