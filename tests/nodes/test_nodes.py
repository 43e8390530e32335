"""The nodes as ComfyUI and shared workflows see them, through the stand-in of its node API."""

import json
from pathlib import Path

import pytest
from facewright.headless.runner import input_specs
from facewright.headless.workflow import to_api
from facewright.nodes import all_nodes
from facewright.workflows.build import WORKFLOWS
from facewright.workflows.graph import FOLDER

SNAPSHOT = Path(__file__).with_name("schema_snapshot.json")
SCHEMAS = [node.GET_SCHEMA() for node in all_nodes()]
# Their options are what lies on the disk.
FILE_COMBOS = {
    "embedder",
    "projector",
    "lora",
    "boosthub",
    "face_encoder",
    "recogniser_file",
    "album",
    "eye_extractor",
}


def _describe(schema):
    inputs = []
    for i in schema.inputs:
        entry = {"id": i.id, "type": i.io_type, "optional": i.optional}
        if i.has_widget and i.id not in FILE_COMBOS:
            entry["default"] = i.default
            entry |= {k: getattr(i, k) for k in ("min", "max", "options") if hasattr(i, k)}
        inputs.append(entry)
    return {
        "category": schema.category,
        "output_node": schema.is_output_node,
        "inputs": inputs,
        "outputs": [{"id": o.id, "type": o.io_type} for o in schema.outputs],
    }


def test_nothing_that_saved_workflows_rely_on_has_changed():
    """Ids, order of inputs and outputs, types and options are promises.

    A new node, or a new input at the end that is optional, may be added to the snapshot.
    """
    now = {schema.node_id: _describe(schema) for schema in SCHEMAS}
    assert now == json.loads(SNAPSHOT.read_text())


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.node_id)
def test_every_node_explains_itself(schema):
    assert schema.node_id.startswith("Facewright")
    assert schema.category.startswith("facewright/")
    assert schema.description and schema.display_name
    assert [i.id for i in schema.inputs if not i.tooltip] == []
    assert [o.id for o in schema.outputs if not o.tooltip] == []
    for combo in (i for i in schema.inputs if i.io_type == "COMBO"):
        assert combo.default in combo.options
    required = [i.optional for i in schema.inputs]
    assert required == sorted(required), "an optional input stands before a required one"


def test_an_empty_combo_says_where_files_belong(monkeypatch):
    from facewright.nodes._host import host
    from facewright.nodes.lora import LoadLoRA

    monkeypatch.setattr(type(host), "model_files", lambda self, folder: [])
    combo = LoadLoRA.GET_SCHEMA().inputs[1]
    assert len(combo.options) == 1 and "models/loras" in combo.options[0]
    answer = LoadLoRA.validate_inputs(lora=combo.default)
    assert "no weight files in models/loras" in answer and combo.default not in answer


def test_a_missing_file_fails_validation_with_its_folder():
    from facewright.nodes.osdface import LoadVRE

    answer = LoadVRE.validate_inputs(embedder="nowhere.ckpt", projector="none")
    assert isinstance(answer, str) and "nowhere.ckpt" in answer and "facewright" in answer


def test_all_missing_files_are_named_at_once():
    from facewright.nodes.osdface import LoadVRE

    answer = LoadVRE.validate_inputs(embedder="nowhere.ckpt", projector="neither.pth")
    assert "nowhere.ckpt" in answer and "neither.pth" in answer


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_shipped_workflows_are_up_to_date_in_both_forms(make):
    graph = make()
    for file, content in graph.files():
        shipped = json.loads((FOLDER / file).read_text())
        assert shipped == json.loads(json.dumps(content)), (
            "run python -m facewright.workflows.build"
        )


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_the_editor_form_converts_to_the_api_form(make):
    graph = make()
    converted = to_api(graph.ui(), input_specs)
    plain = {
        node_id: {k: v for k, v in node.items() if k != "_meta"}
        for node_id, node in graph.api().items()
    }
    for node_id, node in plain.items():
        assert converted[node_id]["class_type"] == node["class_type"]
        assert converted[node_id]["inputs"] == node["inputs"]
    assert converted.keys() == plain.keys()


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_workflows_carry_no_paths_and_no_nodes_overlap(make):
    graph = make()
    text = json.dumps(graph.api())
    assert ":\\" not in text and '"/' not in text
    boxes = [(*n.pos, n.pos[0] + n.size[0], n.pos[1] + n.size[1]) for n in graph.nodes]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{a} and {b} overlap"
