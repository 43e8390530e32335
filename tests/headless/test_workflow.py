"""The editor's form into the API form, and finding nodes by name."""

import json

import pytest
from facewright.headless.workflow import (
    InputSpec,
    WorkflowError,
    find_node,
    has_control,
    read_workflow,
    set_inputs,
    to_api,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SPECS = {
    "Load": [InputSpec("image", has_widget=True)],
    "Work": [
        InputSpec("image", has_widget=False),
        InputSpec("seed", has_widget=True, has_control=True),
        InputSpec("strength", has_widget=True),
        InputSpec("mask", has_widget=False),
    ],
    "Save": [InputSpec("images", has_widget=False), InputSpec("prefix", has_widget=True)],
}


def socket(name, type_, link):
    return {"name": name, "type": type_, "link": link}


def ui_workflow():
    return {
        "version": 0.4,
        "nodes": [
            {"id": 1, "type": "Load", "widgets_values": ["a.png", "image"], "inputs": []},
            {
                "id": 2,
                "type": "Work",
                "title": "My work",
                "widgets_values": [7, "randomize", 0.5],
                "inputs": [socket("image", "IMAGE", 10), socket("mask", "MASK", None)],
                "outputs": [{"type": "IMAGE"}],
            },
            {
                "id": 3,
                "type": "Save",
                "widgets_values": ["out"],
                "inputs": [socket("images", "IMAGE", 11)],
            },
            {"id": 4, "type": "Note", "widgets_values": ["read me"]},
        ],
        "links": [[10, 1, 0, 2, 0, "IMAGE"], [11, 2, 0, 3, 0, "IMAGE"]],
    }


def inputs_of(workflow, node):
    return to_api(workflow, SPECS.get)[node]["inputs"]


def test_widgets_by_position_and_links():
    api = to_api(ui_workflow(), SPECS.get)
    assert api == {
        "1": {"class_type": "Load", "inputs": {"image": "a.png"}, "_meta": {"title": "Load"}},
        "2": {
            "class_type": "Work",
            "inputs": {"seed": 7, "strength": 0.5, "image": ["1", 0]},
            "_meta": {"title": "My work"},
        },
        "3": {
            "class_type": "Save",
            "inputs": {"prefix": "out", "images": ["2", 0]},
            "_meta": {"title": "Save"},
        },
    }


def test_a_missing_control_value_does_not_shift_the_others():
    workflow = ui_workflow()
    workflow["nodes"][1]["widgets_values"] = [7, 0.5]
    assert inputs_of(workflow, "2")["strength"] == 0.5


def test_widgets_by_name():
    workflow = ui_workflow()
    workflow["nodes"][1]["widgets_values"] = {"strength": 0.25, "seed": 1, "shown": True}
    assert inputs_of(workflow, "2") == {"seed": 1, "strength": 0.25, "image": ["1", 0]}


def test_fewer_widget_values_leave_defaults():
    workflow = ui_workflow()
    workflow["nodes"][1]["widgets_values"] = [7, "fixed"]
    assert "strength" not in inputs_of(workflow, "2")


def test_a_linked_widget_takes_the_link_and_keeps_its_place():
    workflow = ui_workflow()
    workflow["nodes"].append({"id": 5, "type": "PrimitiveNode", "widgets_values": [42, "fixed"]})
    workflow["nodes"][1]["inputs"].append(socket("seed", "INT", 12))
    workflow["links"].append([12, 5, 0, 2, 1, "INT"])
    assert inputs_of(workflow, "2")["seed"] == 42
    assert inputs_of(workflow, "2")["strength"] == 0.5


def test_reroutes_are_followed():
    workflow = ui_workflow()
    reroute = {"id": 6, "type": "Reroute", "inputs": [socket("", "*", 10)], "outputs": [{}]}
    workflow["nodes"].append(reroute)
    workflow["nodes"][1]["inputs"][0]["link"] = 13
    workflow["links"] += [[13, 6, 0, 2, 0, "*"]]
    assert inputs_of(workflow, "2")["image"] == ["1", 0]


def test_bypassed_and_muted_nodes():
    workflow = ui_workflow()
    workflow["nodes"][1]["mode"] = 4
    api = to_api(workflow, SPECS.get)
    assert api.keys() == {"1", "3"} and api["3"]["inputs"]["images"] == ["1", 0]
    workflow["nodes"][1]["mode"] = 2
    assert "images" not in inputs_of(workflow, "3")


def test_links_as_objects():
    workflow = ui_workflow()
    workflow["links"] = [
        {"id": a, "origin_id": b, "origin_slot": c, "target_id": d, "target_slot": e, "type": t}
        for a, b, c, d, e, t in workflow["links"]
    ]
    assert inputs_of(workflow, "3")["images"] == ["2", 0]


def test_unknown_node_subgraph_and_dangling_link_are_sentences():
    workflow = ui_workflow()
    workflow["nodes"][1]["type"] = "KSampler"
    with pytest.raises(WorkflowError, match=r"Node 2 is a KSampler.*--server"):
        to_api(workflow, SPECS.get)
    workflow = ui_workflow() | {"definitions": {"subgraphs": [{"id": "x"}]}}
    with pytest.raises(WorkflowError, match="subgraphs"):
        to_api(workflow, SPECS.get)
    workflow = ui_workflow()
    workflow["links"] = []
    with pytest.raises(WorkflowError, match="leads nowhere"):
        to_api(workflow, SPECS.get)


def test_api_form_is_copied():
    api = {"1": {"class_type": "Load", "inputs": {"image": "a"}}}
    copied = to_api(api, SPECS.get)
    set_inputs(copied, {"1.image": "b"})
    assert api["1"]["inputs"]["image"] == "a" and copied["1"]["inputs"]["image"] == "b"


def test_nodes_are_found_by_id_title_and_class():
    api = to_api(ui_workflow(), SPECS.get)
    assert find_node(api, "2") == find_node(api, "My work") == find_node(api, "Work") == "2"
    with pytest.raises(WorkflowError, match=r"No node is called 'Nope'.*1 \(Load\)"):
        find_node(api, "Nope")
    api["9"] = api["1"]
    with pytest.raises(WorkflowError, match="Several"):
        find_node(api, "Load")
    with pytest.raises(WorkflowError, match=r"NODE.INPUT"):
        set_inputs(api, {"image": 1})


def test_reading_from_text_file_and_png(tmp_path):
    api = {"1": {"class_type": "Load", "inputs": {}}}
    (tmp_path / "w.json").write_text(json.dumps(api))
    info = PngInfo()
    info.add_text("prompt", json.dumps(api))
    Image.new("RGB", (1, 1)).save(tmp_path / "w.png", pnginfo=info)
    Image.new("RGB", (1, 1)).save(tmp_path / "bare.png")
    for source in (api, json.dumps(api), tmp_path / "w.json", tmp_path / "w.png"):
        assert read_workflow(source) == api
    (tmp_path / "bad.json").write_text("[1, 2")
    for source, words in (
        (tmp_path / "bad.json", "not JSON"),
        (tmp_path / "none.json", "cannot be read"),
        (tmp_path / "bare.png", "no workflow"),
        ('{"a": 1}', "no ComfyUI workflow"),
    ):
        with pytest.raises(WorkflowError, match=words):
            read_workflow(source)


def test_which_inputs_have_a_control():
    assert has_control("INT", "noise_seed", None) and has_control("COMBO", "x", True)
    assert not has_control("INT", "steps", None) and not has_control("STRING", "seed", None)
