"""The nodes as ComfyUI and shared workflows see them, through the stand-in of its node API."""

import asyncio
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest
from facewright.core.errors import CheckpointError
from facewright.docs.graphs.build import WORKFLOWS
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.runner import input_specs
from facewright.headless.workflows.workflow import to_api
from facewright.nodes import FacewrightExtension, all_nodes
from facewright.nodes._all import REPLACED
from facewright.nodes._host import host

SCHEMAS = [node.GET_SCHEMA() for node in all_nodes()]


def _compatibility():
    spec = importlib.util.spec_from_file_location(
        "facewright_compatibility", Path(__file__).with_name("compatibility.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compatibility = _compatibility()


@pytest.mark.parametrize("version", compatibility.released())
def test_workflows_of_every_released_version_keep_working(version):
    broken = compatibility.breaks(compatibility.released()[version], compatibility.current())
    assert not broken, "\n".join([*broken, compatibility.RULES])


def test_the_snapshot_is_up_to_date():
    """So that a change of what others rely on is seen in every review."""
    now, then = compatibility.current(), json.loads(compatibility.SNAPSHOT.read_text())
    changed = sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
    broken = compatibility.breaks(then, now)
    assert not changed, "\n".join([
        f"Changed: {', '.join(changed)}.",
        *broken,
        compatibility.RULES,
        "Where the change is meant: python tests/nodes/compatibility.py",
    ])  # fmt: skip


def one_node(**changes):
    node = {
        "category": "facewright/x",
        "output_node": False,
        "inputs": [
            {"id": "image", "type": "IMAGE", "optional": False},
            {"id": "mode", "type": "COMBO", "optional": False, "default": "a", "options": ["a"]},
            {"id": "by", "type": "INT", "optional": True, "default": 1, "min": 0, "max": 9},
        ],
        "outputs": [{"id": "image", "type": "IMAGE"}],
    }
    return {"N": json.loads(json.dumps(node)) | changes}


def _edited(edit):
    nodes = one_node()
    edit(nodes["N"])
    return nodes


@pytest.mark.parametrize(
    "edit",
    [
        lambda n: None,
        lambda n: n.update(category="facewright/y"),
        lambda n: n["inputs"].append({"id": "new", "type": "INT", "optional": True}),
        lambda n: n["outputs"].append({"id": "mask", "type": "MASK"}),
        lambda n: n["inputs"][1].update(options=["a", "b"]),
        lambda n: n["inputs"][2].update(min=-1, max=10),
        lambda n: n["inputs"][0].update(optional=True),
    ],
)
def test_changes_that_break_nobody(edit):
    assert compatibility.breaks(one_node(), {**_edited(edit), "Other": {}}) == []


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda n: n["inputs"].pop(), "input by is gone"),
        (lambda n: n["inputs"].reverse(), "in that order"),
        (lambda n: n["inputs"].insert(0, {"id": "z", "type": "INT", "optional": True}), "by posit"),
        (
            lambda n: n["inputs"].append({"id": "z", "type": "INT", "optional": False}),
            "z is new",
        ),
        (lambda n: n["inputs"][1].update(options=["b", "a"]), "options of mode"),
        (lambda n: n["inputs"][1].update(options=[]), "options of mode"),
        (lambda n: n["inputs"][2].update(default=2), "by was 1 .* and is 2"),
        (lambda n: n["inputs"][2].update(max=8), "ends at 8"),
        (lambda n: n["inputs"][2].update(min=1), "starts at 1"),
        (lambda n: n["inputs"][2].update(type="FLOAT"), "was INT and is FLOAT"),
        (lambda n: n["inputs"][2].update(optional=False), "by is required now"),
        (lambda n: n["outputs"].insert(0, {"id": "mask", "type": "MASK"}), "output 0, image"),
        (lambda n: n["outputs"].clear(), "output 0, image"),
    ],
)
def test_changes_that_break_saved_workflows(edit, words):
    (sentence,) = compatibility.breaks(one_node(), _edited(edit))
    assert re.search(words, sentence) and sentence.startswith("N: ")


def test_a_node_that_is_gone_breaks_saved_workflows():
    assert "is_deprecated" in compatibility.breaks(one_node(), {})[0]
    assert compatibility.breaks(one_node(output_node=True), one_node())


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
    from facewright.headless.host.host import HeadlessHost
    from facewright.nodes.lora import LoadLoRA

    monkeypatch.setattr(HeadlessHost, "model_files", lambda self, folder: [])
    combo = LoadLoRA.GET_SCHEMA().inputs[1]
    assert len(combo.options) == 1 and "models/loras" in combo.options[0]
    answer = LoadLoRA.validate_inputs(lora=combo.default)
    assert "no weight files in models/loras" in answer and combo.default not in answer
    of_older = "(no files in models/loras: add them, then press R)"
    assert LoadLoRA.validate_inputs(lora=of_older) == answer
    for node in all_nodes():
        for combo in (i for i in node.GET_SCHEMA().inputs if hasattr(i, "of_files")):
            assert len(combo.default) <= 40  # narrow nodes show no more


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
            "run python -m facewright.docs.graphs.build"
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
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (n.box for n in graph.nodes)]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{a} and {b} overlap"


def test_a_second_copy_of_the_pack_is_one_warning(monkeypatch, caplog, tmp_path):
    def copy(name):
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / name / "nodes" / "__init__.py")
        module.FacewrightExtension = type("FacewrightExtension", (), {"__module__": name})
        monkeypatch.setitem(sys.modules, name, module)

    asyncio.run(FacewrightExtension().on_load())
    assert not caplog.records
    copy("facewright-main")
    copy("facewright-old")
    asyncio.run(FacewrightExtension().on_load())
    (record,) = caplog.records
    assert "facewright-main" in record.getMessage() and "Keep one" in record.getMessage()


def test_what_replaces_a_node_is_there():
    """And so is the old one, for ComfyUIs that replace nothing."""
    known = {s.node_id: ({i.id for i in s.inputs}, len(s.outputs)) for s in SCHEMAS}
    for one in REPLACED:
        (old, outputs), (new, places) = known[one["old_node_id"]], known[one["new_node_id"]]
        assert set(one.get("old_widget_ids") or ()) <= old
        for pair in one.get("input_mapping") or ():
            assert pair["new_id"] in new and pair.get("old_id") in {None, *old}
        for pair in one.get("output_mapping") or ():
            assert pair["new_idx"] < places and pair["old_idx"] < outputs


FILES = [
    (node, i.id)
    for node in all_nodes()
    for i in node.GET_SCHEMA().inputs
    if getattr(i, "of_files", False)
]


@pytest.mark.parametrize(("node", "input_id"), FILES)
@pytest.mark.parametrize("value", [7, True, {"a": 1}], ids=repr)
def test_a_value_that_is_no_file_name_is_refused_in_words(node, input_id, value):
    files = {i.id: None for i in node.GET_SCHEMA().inputs if getattr(i, "of_files", False)}
    sentence = node.validate_inputs(**files | {input_id: value})
    assert f"should be text, got {value!r}. Choose a file" in sentence
    with pytest.raises(CheckpointError, match="should be text, got None"):  # not known to be a link
        host.model_path("facewright", None)
