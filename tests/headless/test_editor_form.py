"""What files of the editor can hold: bypasses, subgraphs, dynamic inputs, group nodes, texts.

What the editor itself sends for the files in `editor/made.json`, test_templates.py compares; here
they are changed, and other expectations are written out.
"""

import json
import random
import re
from datetime import datetime
from pathlib import Path

import pytest
from facewright.headless.workflows import workflow
from facewright.headless.workflows.assign import set_inputs
from facewright.headless.workflows.bypass import bypassed_to, fits_together
from facewright.headless.workflows.specs import UnknownNodeError, specs_of
from facewright.headless.workflows.text_fields import chosen, replaced
from facewright.headless.workflows.workflow import WorkflowError, node_kinds, read_workflow, to_api

from .test_fuzzed_workflows import changed

MADE = json.loads((Path(__file__).parent / "editor/made.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def specs(record):
    return specs_of(record.kept(record.OBJECT_INFO))


def test_changed_at_random_they_convert_or_a_sentence_says_why_not(specs):
    rng = random.Random(7)
    files = list(MADE.values())
    converted = 0
    for _ in range(300):
        text = json.dumps(changed(rng.choice(files), rng))
        try:
            converted += bool(to_api(read_workflow(text), specs))
        except WorkflowError as error:
            assert str(error).isprintable() and str(error).endswith(".")
    assert 50 < converted < 250


def test_of_two_conditionings_each_stays_what_it_was(specs):
    api = to_api(read_workflow(MADE["bypass_two"]), specs)
    sampler = next(n["inputs"] for n in api.values() if n["class_type"] == "KSampler")
    texts = [api[sampler[k][0]]["inputs"]["text"] for k in ("positive", "negative")]
    assert texts[0].startswith("good") and texts[1].startswith("bad")


def test_a_muted_or_bypassed_group_node_runs_nothing(specs):
    for name in ("group_node_mode_2", "group_node_mode_4"):
        api = to_api(read_workflow(MADE[name]), specs)
        assert not {"KSampler", "CLIPTextEncode"} & {n["class_type"] for n in api.values()}


def test_kinds_of_group_nodes_are_those_within():
    kinds = node_kinds(MADE["group"])
    assert {"KSampler", "VAEDecode", "SaveImage"} <= kinds
    assert not any(kind.startswith("workflow") for kind in kinds)
    kinds = node_kinds(MADE["nested"])
    assert kinds == {"EmptyImage", "ImageScaleBy", "PreviewImage", "SaveImage"}


@pytest.mark.parametrize(
    ("inputs", "output", "kind", "wanted", "number"),
    [
        (["A", "A"], 0, "A", "A", 0),
        (["A", "A"], 1, "A", "A", 1),  # its own place comes first
        (["B", "A"], 0, "A", "A", 1),  # else the first that is exactly it
        (["B", "a,c"], 0, "A", "A", 1),  # else the first that fits
        (["*", "A"], 0, "A", "A", 0),
        (["B", "B"], 1, "A", "*", 1),  # anything goes: by the number alone
        (["B"], 3, "A", "*", 0),
        (["B"], 0, "A", "A", None),
        ([], 0, "A", "*", None),
    ],
)
def test_which_input_takes_the_place_of_an_output(inputs, output, kind, wanted, number):
    assert bypassed_to(inputs, output, kind, wanted) == number


def test_types_that_fit():
    assert fits_together("IMAGE,MASK", "mask") and fits_together("*", "IMAGE")
    assert not fits_together("IMAGE", "MASK") and not fits_together("IMAGE,LATENT", "MASK,VAE")


def ui(*nodes, links=(), **more):
    return {"nodes": [{"inputs": [], "outputs": [], **n} for n in nodes], "links": links, **more}


def node(number, kind, *values, **more):
    return {"id": number, "type": kind, "widgets_values": list(values), **more}


def test_a_choice_brings_its_own_widgets_and_set_reaches_them(specs):
    video = node(1, "SaveVideo", "video/x", "mp4", "h264", "auto")
    (sent,) = to_api(ui(video), specs).values()
    assert sent["inputs"]["format"] == "mp4" and sent["inputs"]["format.codec"] == "h264"
    resize = node(1, "ResizeImageMaskNode", "scale dimensions", 640, 480, "disabled", "area")
    api = to_api(ui(resize), specs)
    set_inputs(api, {"1.resize_type.width": "320"}, specs)
    assert api["1"]["inputs"]["resize_type.width"] == 320
    assert api["1"]["inputs"]["resize_type.height"] == 480
    assert api["1"]["inputs"]["scale_method"] == "area"
    with pytest.raises(WorkflowError, match="takes a whole number"):
        set_inputs(api, {"1.resize_type.width": "wide"}, specs)
    with pytest.raises(WorkflowError, match="no input"):
        set_inputs(api, {"1.resize_type.multiplier": "2"}, specs)


def test_a_node_without_values_has_what_its_first_choice_brings(specs):
    sent = to_api(ui(node(1, "SaveVideo")), specs)["1"]["inputs"]
    assert sent["format"] == "auto" and sent["format.codec"] == "auto"


def test_numbers_that_are_taken_are_given_anew_in_subgraphs(specs):
    text = json.dumps(MADE["sub"])
    file = json.loads(re.sub(r'("(?:id|origin_id|target_id)": )21\b', r"\g<1>1", text))
    api = to_api(read_workflow(file), specs)
    assert api.keys() == {"1", "2:31", "2:22", "3"}  # 30 was the last of the file
    assert api["3"]["inputs"]["images"] == ["2:31", 0]
    assert api["2:31"]["inputs"]["scale_by"] == 2.5


@pytest.mark.parametrize(("held", "sent"), [(200.0, 100.0), (-1.0, 0.0), (7.0, 7.0)])
def test_a_primitive_gives_no_more_than_the_widget_takes(specs, held, sent):
    cfg = {"name": "cfg", "type": "FLOAT", "widget": {"name": "cfg"}, "link": 1}
    sampler = node(1, "KSampler", 5, "fixed", 12, 3.5, "euler", "normal", 1.0, inputs=[cfg])
    output = [{"name": "FLOAT", "type": "FLOAT", "links": [1]}]
    primitive = node(2, "PrimitiveNode", held, "fixed", outputs=output)
    api = to_api(ui(sampler, primitive, links=[[1, 2, 0, 1, 0, "FLOAT"]]), specs)
    assert api["1"]["inputs"]["cfg"] == sent


def test_what_a_file_lacks_takes_the_default_and_an_old_seed_shifts_nothing(specs):
    (sent,) = to_api(ui(node(1, "KSampler", 5, True, 12, 3.5, "sample_euler")), specs).values()
    assert sent["inputs"] == {
        "seed": 5,
        "steps": 12,
        "cfg": 3.5,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    }


def test_a_choice_that_is_not_offered_is_refused_where_links_belong_to_it(specs):
    video = node(1, "SaveVideo", "x", "holo", inputs=[{"name": "format.codec", "link": 1}])
    codec = node(2, "PrimitiveString", "h264", outputs=[{"name": "STRING", "type": "STRING"}])
    with pytest.raises(WorkflowError, match=r"Node 1 .*'holo' in format, which is not offered"):
        to_api(ui(video, codec, links=[[1, 2, 0, 1, 0, "STRING"]]), specs)
    sent = to_api(ui({**video, "inputs": []}), specs)["1"]["inputs"]
    assert sent["format"] == "holo" and "format.codec" not in sent


def test_a_link_that_only_the_list_of_links_tells_of_counts(specs):
    saver = node(4, "SaveImage", "x", inputs=[{"name": "images", "type": "IMAGE", "link": None}])
    picture = node(1, "EmptyImage", outputs=[{"name": "IMAGE", "type": "IMAGE", "links": [3]}])
    file = ui(picture, saver, links=[[3, 1, 0, 4, 0, "IMAGE"]])
    assert to_api(file, specs)["4"]["inputs"]["images"] == ["1", 0]
    picture["outputs"][0]["links"] = []  # neither end knows it
    assert "images" not in to_api(file, specs)["4"]["inputs"]
    del picture["outputs"], saver["inputs"]
    file = ui(picture, saver, links=file["links"])
    assert to_api(file, specs)["4"]["inputs"]["images"] == ["1", 0]


def test_reroutes_in_a_group_node_pass_on_what_is_linked_to_it(specs):
    group = {
        "nodes": [
            {"type": "Reroute", "inputs": [{"name": "", "type": "*"}]},
            {"type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE"}]},
        ],
        "links": [[None, 0, 0, 0, 9, "IMAGE"], [0, 0, 1, 0, 9, "IMAGE"]],
        "config": {"0": {"input": {"IMAGE": {"name": "picture"}}}},
    }
    host = node(2, "workflow>save", "named", inputs=[{"name": "picture", "link": 1}])
    links = [[1, 1, 0, 2, 0, "IMAGE"]]
    file = ui(node(1, "EmptyImage"), host, links=links, extra={"groupNodes": {"save": group}})
    api = to_api(read_workflow(file), specs)
    assert api["5:4"]["inputs"] == {"filename_prefix": "named", "images": ["1", 0]}


def wire(kind, number, name, link):
    if "set" in kind.lower():
        return node(number, kind, name, inputs=[{"name": "IMAGE", "type": "IMAGE", "link": link}])
    return node(number, kind, name, outputs=[{"name": "IMAGE", "type": "IMAGE"}])


@pytest.mark.parametrize("kinds", [("SetNode", "GetNode"), ("easy setNode", "easy getNode")])
def test_named_wires_lead_to_what_fills_them(kinds, specs):
    saver = node(4, "SaveImage", "x", inputs=[{"name": "images", "type": "IMAGE", "link": 2}])
    file = ui(
        node(1, "EmptyImage", 64, 64, 1, 0),
        wire(kinds[0], 2, "picture", 1),
        wire(kinds[1], 3, "picture", None),
        saver,
        links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]],
    )
    assert to_api(file, specs)["4"]["inputs"]["images"] == ["1", 0]
    file["nodes"][2]["widgets_values"] = ["elsewhere"]
    with pytest.raises(WorkflowError, match="'elsewhere', which no other node fills"):
        to_api(file, specs)


def test_an_unknown_node_is_left_out_only_where_nothing_needs_it(specs):
    picture, label = node(1, "EmptyImage", 64, 64, 1, 0), node(7, "Pretty Label", "hello")
    saver = node(4, "SaveImage", "x", inputs=[{"name": "images", "type": "IMAGE", "link": 1}])
    told = []
    file = ui(picture, saver, label, links=[[1, 1, 0, 4, 0, "IMAGE"]])
    assert to_api(file, specs, told.append).keys() == {"1", "4"}
    (said,) = told
    assert "Pretty Label" in said and "left out" in said
    taker = {**label, "inputs": [{"name": "any", "type": "*", "link": 2}]}
    file = ui(picture, saver, taker, links=[[1, 1, 0, 4, 0, "IMAGE"], [2, 1, 0, 7, 0, "*"]])
    with pytest.raises(UnknownNodeError, match="Pretty Label"):
        to_api(file, specs)
    taker["mode"] = 2
    assert to_api(file | {"nodes": [picture, saver, taker]}, specs).keys() == {"1", "4"}


@pytest.mark.parametrize("kind", ["Load3D", "WebcamCapture", "RecordAudio"])
def test_what_only_a_browser_makes_is_refused(kind, specs):
    with pytest.raises(WorkflowError, match=r"Node 1 .*only the editor makes.*Queue it there"):
        to_api(ui(node(1, kind)), specs)
    assert to_api(ui(node(1, kind, mode=2)), specs) == {}


def test_circles_and_what_contains_itself_are_refused(specs):
    routes = [
        node(n, "Reroute", inputs=[{"name": "", "type": "*", "link": n}], outputs=[{"type": "*"}])
        for n in (1, 2)
    ]
    saver = node(4, "SaveImage", "x", inputs=[{"name": "images", "type": "IMAGE", "link": 3}])
    links = [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 4, 0, "*"]]
    with pytest.raises(WorkflowError, match="goes in a circle"):
        to_api(ui(*routes, saver, links=links), specs)
    inside = [{"id": f"s{n}", "name": f"s{n}", "nodes": [node(9, f"s{1 - n}")]} for n in (0, 1)]
    with pytest.raises(WorkflowError, match=r"The subgraph s[01] contains itself"):
        to_api(read_workflow(ui(node(1, "s0"), definitions={"subgraphs": inside})), specs)


@pytest.mark.parametrize("inmost", [[], [node(1000, "EmptyImage")]])
def test_subgraphs_that_stand_for_too_many_nodes_are_refused_soon(inmost, specs, monkeypatch):
    monkeypatch.setattr(workflow, "_MOST_NODES", 2000)
    levels = [
        {"id": f"s{n}", "nodes": [node(10 * n + i, f"s{n + 1}") for i in range(8)]}
        for n in range(9)
    ]
    levels.append({"id": "s9", "nodes": inmost})
    file = ui(node(5000, "s0"), definitions={"subgraphs": levels})
    with pytest.raises(WorkflowError, match="more than 2000 nodes"):
        to_api(read_workflow(file), specs)


def test_prompts_are_chosen_from_and_lose_comments():
    random.seed(1)
    seen = {chosen("a {red|green|{dark |}blue} cat /* no */// end") for _ in range(200)}
    assert seen == {f"a {c} cat " for c in ("red", "green", "blue", "dark blue")}
    assert chosen(r"\{kept|so\}") == "{kept|so}" and chosen("{open|") in {"open", ""}
    assert len(chosen("{" * 5000 + "x")) < 5001


def test_names_of_files_take_dates_and_values(specs):
    saver = node(4, "SaveImage", "%date:yyyy-MM%_%Empty.width%_%EmptyImage.color%_%who%_%a.b%")
    named = {"title": "Empty", "properties": {"Node name for S&R": "EmptyImage"}}
    api = to_api(ui(node(1, "EmptyImage", 64, 32, 1, 7, **named), saver), specs)
    prefix = api["4"]["inputs"]["filename_prefix"]
    assert re.fullmatch(rf"{datetime.now():%Y}-\d\d_64_7_%who%_%a\.b%", prefix)
    assert replaced("100% of %x", []) == "100% of %x"


def test_what_would_take_hours_is_refused_at_once(specs):
    count, last = 1500, 1501
    chain = [
        {
            "id": number,
            "type": "Reroute",
            "inputs": [{"name": "", "type": "*", "link": number - 1}],
            "outputs": [{"name": "", "type": "*", "links": [number]}],
        }
        for number in range(2, last)
    ]
    start = {"id": 1, "type": "PrimitiveInt", "widgets_values": [5]}
    end = {"id": last, "type": "PreviewAny", "inputs": [{"name": "source", "link": count}]}
    links = [[n, n, 0, n + 1, 0, "*"] for n in range(1, last)]
    with pytest.raises(WorkflowError, match="more than 1000 reroutes"):
        to_api(read_workflow({"nodes": [start, *chain, end], "links": links}), specs)
    inner = {"id": "inner", "nodes": [{"id": 2, "type": "PrimitiveInt"}], "links": []}
    host = {"id": 1, "type": "inner", "properties": {"proxyWidgets": [["2", "value"]] * 1001}}
    file = {"nodes": [host], "links": [], "definitions": {"subgraphs": [inner]}}
    with pytest.raises(WorkflowError, match=r"shows 1001 widgets .*at most 1000"):
        to_api(read_workflow(file), specs)
