"""Workflow files saved by earlier versions mean today what they meant then.

tests/workflows_saved holds the files as they were, a folder for each version that changed some: the
editor's form, and beside it what it meant, the API form written from the same graph.
"""

import json
import re
from pathlib import Path

import pytest
from facewright.headless.runner import check, input_specs, node_classes, run_workflow
from facewright.headless.workflows.workflow import to_api

SAVED = Path(__file__).parents[1] / "workflows_saved"
FILES = sorted(p for p in SAVED.rglob("*.json") if not p.name.endswith(".api.json"))
WEIGHTS = re.compile(r"\.(safetensors|ckpt|pth|pt|bin|person)$")


def name(path):
    return path.relative_to(SAVED).with_suffix("").as_posix()


def meant(path):
    prompt = json.loads(path.with_suffix(".api.json").read_text())
    return {k: {"class_type": n["class_type"], "inputs": n["inputs"]} for k, n in prompt.items()}


@pytest.fixture
def all_weights(tmp_path, models_in):
    """A models folder where whatever a workflow names is there."""
    models_in(tmp_path)

    def put(api):
        for value in (v for n in api.values() for v in n["inputs"].values()):
            if isinstance(value, str) and WEIGHTS.search(value):
                (tmp_path / value).parent.mkdir(exist_ok=True)
                (tmp_path / value).touch()

    return put


def test_there_are_files_of_several_versions():
    assert len({p.parent for p in FILES}) >= 10 and len(FILES) >= 20


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_value_lands_in_the_input_it_was_saved_for(path, all_weights):
    api = to_api(json.loads(path.read_text()), input_specs)
    then = meant(path)
    assert {k: n["class_type"] for k, n in api.items()} == {
        k: n["class_type"] for k, n in then.items()
    }
    for node_id, node in then.items():
        assert api[node_id]["inputs"] == node["inputs"], f"node {node_id}, {node['class_type']}"
    for form in (api, then):
        all_weights(form)
        check(form)  # as ComfyUI does before it runs a workflow


@pytest.mark.parametrize("path", FILES, ids=name)
def test_what_a_file_leaves_out_takes_its_default(path):
    """A node must not rely on inputs that were added after a file was saved."""
    for node in meant(path).values():
        schema = node_classes()[node["class_type"]].GET_SCHEMA()
        absent = [i for i in schema.inputs if i.id not in node["inputs"]]
        assert all(i.optional for i in absent), node["class_type"]


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("nano_")], ids=name)
def test_the_nano_ones_still_run(path, tmp_path):
    steps = {f"{k}.steps": 2 for k, n in meant(path).items() if n["class_type"] == "KSampler"}
    run_workflow(path, steps, output_dir=tmp_path)
    assert list(tmp_path.rglob("*.png"))
