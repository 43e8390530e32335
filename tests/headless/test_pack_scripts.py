"""Widgets and links that only the scripts of node packs know, as their editor nodes send them."""

import pytest
from facewright.headless.workflows.specs import specs_of
from facewright.headless.workflows.workflow import WorkflowError, read_workflow, to_api


def described(module, **inputs):
    return {"input": inputs, "output": ["IMAGE"], "python_module": module}


FORMATS = {"formats": {"video/h264-mp4": [["crf", "INT", {"default": 19}]]}}
SPAN = ["FLOAT", {"default": 0, "widgetType": "TIMESTAMP_OF_A_PACK"}]
WIDE = {"custom_width": ["INT", {}], "custom_height": ["INT", {}]}
NODES = {
    "VHS_VideoCombine": described(
        "custom_nodes.suite",
        required={"rate": ["FLOAT", {}], "format": [["image/gif", "video/h264-mp4"], FORMATS]},
        optional={"save_output": ["BOOLEAN", {"default": True}]},
    ),
    "VHS_LoadVideo": described("custom_nodes.suite", required=WIDE),
    "Power Lora Loader (rgthree)": described("custom_nodes.rgthree", optional={"model": ["MODEL"]}),
    "Power Puter (rgthree)": described("custom_nodes.rgthree", required={}),
    "Anything Everywhere": described("custom_nodes.everywhere", optional={"anything": ["*", {}]}),
    "Spans": described(
        "custom_nodes.audio", required={"from": SPAN, "to": SPAN, "text": ["STRING"]}
    ),
    "Invert": described("nodes", required={"image": ["IMAGE"]}),
    "Core": described("nodes", required={"width": ["INT", {}]}),
}


def sent(*nodes, links=()):
    given = [
        {"id": number, "inputs": [], "outputs": [], **node} for number, node in enumerate(nodes, 1)
    ]
    api = to_api(read_workflow({"nodes": given, "links": list(links)}), specs_of(NODES))
    return [node["inputs"] for node in api.values()]


def test_values_by_name_reach_the_node_of_a_pack_that_takes_more_than_it_tells():
    stored = {"rate": 8, "format": "video/h264-mp4", "crf": 11, "videopreview": {"hidden": False}}
    assert sent({"type": "VHS_VideoCombine", "widgets_values": stored}) == [
        {"rate": 8, "format": "video/h264-mp4", "crf": 11, "save_output": True}
    ]


def test_todays_files_name_the_values_of_every_widget():
    named = {"width": 5, "code": "a + b", "outputs": {"outputs": ["INT"]}}
    node = {"type": "Power Puter (rgthree)", "widgets_values": [], "widgets_values_named": named}
    assert sent(node) == [named]
    # Of ComfyUI's own nodes everything is told.
    core = {"type": "Core", "widgets_values": [7], "widgets_values_named": {"width": 7, "newer": 1}}
    assert sent(core) == [{"width": 7}]


@pytest.mark.parametrize("both", [False, True])
def test_every_row_of_the_lora_stack_is_sent(both):
    one = {"on": True, "lora": "x.safetensors", "strength": 0.7, "strengthTwo": None}
    two = {"on": False, "lora": "y.safetensors", "strength": 1, "strengthTwo": 0.5}
    shows = {"Show Strengths": "Separate Model & Clip"} if both else {}
    node = {
        "type": "Power Lora Loader (rgthree)",
        "widgets_values": [{}, {"type": "PowerLoraLoaderHeaderWidget"}, one, two, {}, ""],
        "properties": shows,
    }
    plain = [{k: v for k, v in row.items() if k != "strengthTwo"} for row in (one, two)]
    strengths = ({"strengthTwo": 1}, {"strengthTwo": 0.5}) if both else ({}, {})
    rows = [row | clip for row, clip in zip(plain, strengths, strict=True)]
    assert sent(node) == [{"lora_1": rows[0], "lora_2": rows[1]}]


def test_positions_of_older_files_keep_their_names():
    outputs = {"outputs": ["STRING"]}
    node = {"type": "Power Puter (rgthree)", "widgets_values": [outputs, "1 + 1"]}
    assert sent(node) == [{"outputs": outputs, "code": "1 + 1"}]


def test_widgets_of_a_packs_own_kind_take_their_place():
    assert sent({"type": "Spans", "widgets_values": [1.5, 4, "late"]}) == [
        {"from": 1.5, "to": 4, "text": "late"}
    ]


@pytest.mark.parametrize(
    ("size", "width", "height"),
    [
        *(("Disabled", 0, 0), ("Custom Width", 512, 0), ("Custom Height", 0, 312)),
        *(("Custom", 512, 312), ("256x?", 256, 0), ("256x128", 256, 128)),
    ],
)
def test_sizes_of_older_video_files_keep_their_meaning(size, width, height):
    stored = {"force_size": size, "custom_width": 512, "custom_height": 312}
    values = sent({"type": "VHS_LoadVideo", "widgets_values": stored})[0]
    assert (values["custom_width"], values["custom_height"]) == (width, height)


def test_a_temporary_video_stays_one():
    stored = {"rate": 8, "format": "image/gif", "save_image": False}
    assert sent({"type": "VHS_VideoCombine", "widgets_values": stored})[0]["save_output"] is False


def everywhere(linked):
    return sent(
        {"type": "VHS_LoadVideo", "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1, 2]}]},
        {"type": "Anything Everywhere", "inputs": [{"name": "anything", "type": "*", "link": 1}]},
        {
            "type": "Invert",
            "inputs": [{"name": "image", "type": "IMAGE", "link": 2 if linked else None}],
        },
        links=[[1, 1, 0, 2, 0, "IMAGE"], *([[2, 1, 0, 3, 0, "IMAGE"]] if linked else [])],
    )


def test_wires_that_only_a_script_draws_are_refused_where_something_waits_for_them():
    with pytest.raises(WorkflowError, match=r"such as 'image' of Node 3 .*export it in the API"):
        everywhere(linked=False)
    assert everywhere(linked=True)[2] == {"image": ["1", 0]}
