"""The editor's form into the API form, and finding nodes by name."""

import json

import pytest
from facewright.headless.workflows.assign import find_node, set_inputs
from facewright.headless.workflows.workflow import (
    InputSpec,
    NodeSpec,
    WorkflowError,
    has_control,
    node_kinds,
    node_title,
    read_workflow,
    to_api,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SPECS = {
    "Load": NodeSpec([InputSpec("image", has_widget=True, io_type="STRING")], "Load a Picture"),
    "Work": NodeSpec(
        [
            InputSpec("image", has_widget=False, io_type="IMAGE"),
            InputSpec("seed", has_widget=True, has_control=True, io_type="INT"),
            InputSpec("strength", has_widget=True, io_type="FLOAT"),
            InputSpec("mask", has_widget=False, io_type="MASK"),
            InputSpec("passes", has_widget=True, io_type="COMBO", options=("preset", 1, 2)),
            InputSpec("tiled", has_widget=True, io_type="BOOLEAN"),
        ]
    ),
    "Save": NodeSpec(
        [InputSpec("images", has_widget=False), InputSpec("prefix", has_widget=True)], "Save"
    ),
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
        "1": {
            "class_type": "Load",
            "inputs": {"image": "a.png"},
            "_meta": {"title": "Load a Picture"},
        },
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


def test_unknown_node_and_dangling_link_are_sentences():
    workflow = ui_workflow()
    workflow["nodes"][1]["type"] = "KSampler"
    with pytest.raises(WorkflowError, match=r"Node 2 is a KSampler.*--server"):
        to_api(workflow, SPECS.get)
    workflow = ui_workflow()
    workflow["links"] = []
    with pytest.raises(WorkflowError, match="leads nowhere"):
        to_api(workflow, SPECS.get)


def test_api_form_is_copied_and_its_nodes_get_the_names_people_know():
    api = {"1": {"class_type": "Load", "inputs": {"image": "a"}}}
    copied = to_api(api, SPECS.get)
    set_inputs(copied, {"1.image": "b"}, SPECS.get)
    assert api["1"]["inputs"]["image"] == "a" and copied["1"]["inputs"]["image"] == "b"
    assert node_title(copied, "1") == "Load a Picture"
    api["1"]["_meta"] = {"title": "Mine"}
    assert node_title(to_api(api, SPECS.get), "1") == "Mine"


def test_nodes_are_found_by_id_title_and_class():
    api = to_api(ui_workflow(), SPECS.get)
    assert find_node(api, "2") == find_node(api, "My work") == find_node(api, "Work") == "2"
    assert find_node(api, "Load a Picture") == find_node(api, "Load") == "1"
    with pytest.raises(WorkflowError, match=r"No node is called 'Nope'.*1 \(Load a Pict"):
        find_node(api, "Nope")
    api["9"] = api["1"]
    with pytest.raises(WorkflowError, match=r"Several.*by its number: 1, 9"):
        find_node(api, "Load")
    with pytest.raises(WorkflowError, match=r"NODE.INPUT"):
        set_inputs(api, {"image": 1}, SPECS.get)


@pytest.mark.parametrize(
    ("key", "given", "taken"),
    [
        ("Work.seed", "18446744073709551615", 18446744073709551615),
        ("2.strength", "1", 1.0),
        ("My work.strength", 0.25, 0.25),
        ("2.passes", "2", 2),
        ("2.passes", "preset", "preset"),
        ("2.tiled", "no", False),
        ("2.tiled", "True", True),
        ("1.image", "7", "7"),  # text stays text, whatever it looks like
        ("2.mask", '["1", 1]', ["1", 1]),
        ("2.image", ["3", 0], ["3", 0]),
        ("2.made.by.links", "x", "x"),  # not in the schema, but in the file
    ],
)
def test_text_becomes_what_the_input_takes(key, given, taken):
    api = to_api(ui_workflow(), SPECS.get)
    api["2"]["inputs"]["made.by.links"] = ["1", 0]
    set_inputs(api, {key: given}, SPECS.get)
    node = find_node(api, key.split(".")[0])
    value = api[node]["inputs"][key.partition(".")[2]]
    assert value == taken and type(value) is type(taken)


def test_a_title_may_have_dots():
    api = to_api(ui_workflow(), SPECS.get)
    api["2"]["_meta"]["title"] = "Work 1.5"
    set_inputs(api, {"Work 1.5.strength": "2"}, SPECS.get)
    assert api["2"]["inputs"]["strength"] == 2.0


def test_brackets_behind_a_title_may_be_left_out_unless_another_node_is_called_so():
    api = to_api(ui_workflow(), SPECS.get)
    api["2"]["_meta"]["title"] = "Work (for 1.5, SDXL)"
    set_inputs(api, {"Work (for 1.5, SDXL).strength": "2"}, SPECS.get)
    api["2"]["class_type"] = "Other"
    assert find_node(api, "Work") == "2"
    api["1"]["_meta"]["title"] = "Work"
    assert find_node(api, "Work") == "1"


@pytest.mark.parametrize(
    ("key", "given", "words"),
    [
        ("2.strenght", "1", r"Node 2 \(My work, Work\) has no input 'strenght'. Did you mean 's"),
        ("2.zzz", "1", r"no input 'zzz'. It has: image, seed, strength"),
        ("2.seed", "0.5", "2.seed takes a whole number, got '0.5'"),
        ("2.strength", "much", "takes a number, got 'much'"),
        ("2.tiled", "maybe", "takes true or false, got 'maybe'"),
        ("2.image", "a.png", r"takes IMAGE from another node.*got 'a.png'"),
        ("2.image", "[1]", "its value is a link"),
    ],
)
def test_what_cannot_be_set_is_told(key, given, words):
    api = to_api(ui_workflow(), SPECS.get)
    with pytest.raises(WorkflowError, match=words):
        set_inputs(api, {key: given}, SPECS.get)


def test_node_kinds_of_both_forms_and_inside_subgraphs():
    ui = ui_workflow() | {"definitions": {"subgraphs": [{"nodes": [{"type": "Deep"}]}]}}
    assert node_kinds(ui) == {"Load", "Work", "Save", "Deep"}
    assert node_kinds(to_api(ui_workflow(), SPECS.get)) == {"Load", "Work", "Save"}


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


def test_subgraphs_may_be_defined_within_others():
    inner = {"id": "inner", "nodes": [{"type": "Deep"}]}
    outer = {"id": "outer", "nodes": [{"type": "inner"}], "definitions": {"subgraphs": [inner]}}
    workflow = {"nodes": [{"type": "outer"}], "definitions": {"subgraphs": [outer]}}
    assert node_kinds(workflow) == {"Deep"}
