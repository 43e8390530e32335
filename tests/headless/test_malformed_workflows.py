"""Workflow files of every wrong shape: a sentence that names the node, never a traceback."""

import json

import pytest
from facewright.core.errors import FacewrightError
from facewright.core.node_api import io
from facewright.headless.cli import app
from facewright.headless.runner import input_specs, node_classes, run_workflow
from facewright.headless.workflows.workflow import read_workflow, to_api
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

runner = CliRunner()


def api(**changes):
    """A picture that is saved, in the API form, with entries of node 2 replaced."""
    return {
        "1": {"class_type": "FacewrightDemoPicture", "inputs": {}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "x"},
            **changes,
        },
    }


def inputs(**changes):
    return api(inputs={"images": ["1", 0], "filename_prefix": "x", **changes})


def ui(*, links=None, nodes=(), **changes):
    """The same in the editor's form, with entries of node 2 replaced."""
    saver = {
        "id": 2,
        "type": "SaveImage",
        "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
        "widgets_values": ["x"],
        **changes,
    }
    demo = {"id": 1, "type": "FacewrightDemoPicture", "outputs": [{"type": "IMAGE"}]}
    return {
        "nodes": [demo, saver, *nodes],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]] if links is None else links,
    }


def bypassed(**changes):
    """A node in the way of the link that is bypassed."""
    node = {
        "id": 3,
        "type": "Reroute",
        "mode": 4,
        "inputs": [{"name": "", "type": "*", "link": 2}],
        "outputs": [{"type": "*"}],
        **changes,
    }
    return ui(nodes=[node], links=[[1, 3, 0, 2, 0, "IMAGE"], [2, 1, 0, 3, 0, "IMAGE"]])


def subgraph(*entries):
    return {**ui(), "definitions": {"subgraphs": list(entries)}}


def without(workflow, *way):
    *way, last = way
    holder = workflow
    for key in way:
        holder = holder[key]
    del holder[last]
    return workflow


WHOLE = {
    "nothing": {},
    "a list": [],
    "null": None,
    "a number": 5,
    "text": "nodes",
    "true": True,
    "no nodes": {"nodes": []},
    "no nodes but links": {"nodes": [], "links": [[1]]},
    "nodes null": {"nodes": None},
    "nodes a number": {"nodes": 5},
    "nodes an object": {"nodes": {"1": {}}},
    "nodes text": {"nodes": "SaveImage"},
    "nodes of null": {"nodes": [None]},
    "nodes of lists": {"nodes": [[]]},
    "nodes of text": {"nodes": ["SaveImage"]},
    "nodes empty": {"nodes": [{}]},
    "a request to a server": {"prompt": api(), "client_id": "x"},
    "something else": {"a": 1, "b": {"c": []}},
    "a node that is no object": {**api(), "3": 5},
    "a node that is null": {**api(), "3": None},
    "a node that is a list": {**api(), "3": []},
    "a node without a class": {**api(), "3": {"inputs": {}}},
    "an empty node": {**api(), "3": {}},
    "only a class": {"1": {"class_type": "SaveImage"}},
    "no output node": without(api(), "2"),
}
API = {
    "class null": api(class_type=None),
    "class a list": api(class_type=[]),
    "class an object": api(class_type={}),
    "class a number": api(class_type=5),
    "class empty": api(class_type=""),
    "class blank": api(class_type="  "),
    "class unknown": api(class_type="NoSuchNode"),
    "class endless": api(class_type="x" * 100_000),
    "class with a line": api(class_type="Save\n\x1b[31mImage"),
    "inputs a list": api(inputs=[]),
    "inputs with a list": api(inputs=["1", 0]),
    "inputs text": api(inputs="images"),
    "inputs a number": api(inputs=1),
    "inputs null": api(inputs=None),
    "inputs empty": api(inputs={}),
    "title a number": api(_meta={"title": 5}),
    "title a list": api(_meta={"title": []}),
    "meta a list": api(_meta=[]),
    "meta text": api(_meta="x"),
    "link to nobody": inputs(images=["9", 0]),
    "link to a number": inputs(images=[9, 0]),
    "link to itself": inputs(images=["2", 0]),
    "link to null": inputs(images=[None, 0]),
    "link to true": inputs(images=[True, 0]),
    "link to a list": inputs(images=[["1"], 0]),
    "link to an object": inputs(images=[{}, 0]),
    "link of one": inputs(images=["1"]),
    "link of three": inputs(images=["1", 0, 0]),
    "link of none": inputs(images=[]),
    "link to no output": inputs(images=["1", 7]),
    "link to a negative output": inputs(images=["1", -1]),
    "link to a huge output": inputs(images=["1", 10**30]),
    "link to half an output": inputs(images=["1", 0.5]),
    "link to a named output": inputs(images=["1", "0"]),
    "link to output true": inputs(images=["1", True]),
    "link in the wrong place": inputs(filename_prefix=["1", 0]),
    "no link where one belongs": inputs(images="picture"),
    "null where a link belongs": inputs(images=None),
    "an object where a link belongs": inputs(images={"id": 1}),
    "text that is null": inputs(filename_prefix=None),
    "text that is a list": inputs(filename_prefix=["a"]),
    "text that is a longer list": inputs(filename_prefix=[[1, 2], {}]),
    "text that is an object": inputs(filename_prefix={"a": 1}),
    "circle": {
        "1": {"class_type": "ImageBatch", "inputs": {"image1": ["2", 0], "image2": ["2", 0]}},
        "2": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    },
}
for _name, _value in {
    "text": "many",
    "blank": "",
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "huge": 10**400,
    "huge in words": "9" * 5000,
    "null": None,
    "a list": [1],
    "an object": {"a": 1},
    "negative": -5,
}.items():
    API[f"a whole number that is {_name}"] = {
        "1": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": _value, "height": 64, "batch_size": 1},
        },
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    API[f"a number that is {_name}"] = {
        **api(),
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": _value}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "x", "format": "auto", "codec": []},
        },
    }
UI = {
    "id missing": without(ui(), "nodes", 1, "id"),
    "id null": ui(id=None),
    "id a list": ui(id=[]),
    "id an object": ui(id={}),
    "id true": ui(id=True),
    "id a fraction": ui(id=1.5),
    "id twice": ui(id=1),
    "id twice as text": ui(id="1"),
    "type missing": without(ui(), "nodes", 1, "type"),
    "type null": ui(type=None),
    "type a list": ui(type=[]),
    "type an object": ui(type={}),
    "type a number": ui(type=5),
    "type empty": ui(type=""),
    "type unknown": ui(type="NoSuchNode"),
    "title a number": ui(title=5),
    "title a list": ui(title=["x"]),
    "mode a list": ui(mode=[]),
    "mode text": ui(mode="muted"),
    "inputs an object": ui(inputs={"images": 1}),
    "inputs text": ui(inputs="images"),
    "inputs of null": ui(inputs=[None]),
    "inputs of numbers": ui(inputs=[1]),
    "inputs without a name": ui(inputs=[{"type": "IMAGE", "link": 1}]),
    "inputs with a list for a name": ui(inputs=[{"name": [], "link": 1}]),
    "link text": ui(inputs=[{"name": "images", "link": "1"}]),
    "link a list": ui(inputs=[{"name": "images", "link": [1]}]),
    "link true": ui(inputs=[{"name": "images", "link": True}]),
    "link that is not there": ui(inputs=[{"name": "images", "link": 99}]),
    "no link": ui(inputs=[{"name": "images", "link": None}], links=[]),
    "outputs of null": ui(outputs=[None]),
    "outputs text": ui(outputs="IMAGE"),
    "widgets text": ui(widgets_values="x"),
    "widgets a number": ui(widgets_values=5),
    "widgets of null": ui(widgets_values=[None]),
    "widgets of lists": ui(widgets_values=[[1, 2]]),
    "widgets of objects": ui(widgets_values=[{}]),
    "properties a list": ui(properties=[1]),
    "properties with a list": ui(properties={"cnr_id": []}),
    "links a number": ui(links=5),
    "links text": ui(links="1"),
    "links an object": ui(links={"1": [1, 1, 0, 2, 0, "IMAGE"]}),
    "links of one": ui(links=[[1]]),
    "links of none": ui(links=[[]]),
    "links of numbers": ui(links=[1]),
    "links of null": ui(links=[None]),
    "links of text": ui(links=["12345"]),
    "links with a list for a number": ui(links=[[[], 1, 0, 2, 0, "IMAGE"]]),
    "links from a list": ui(links=[[1, [], 0, 2, 0, "IMAGE"]]),
    "links from null": ui(links=[[1, None, 0, 2, 0, "IMAGE"]]),
    "links from nobody": ui(links=[[1, 77, 0, 2, 0, "IMAGE"]]),
    "links from an output in words": ui(links=[[1, 1, "0", 2, 0, "IMAGE"]]),
    "links from output -1": ui(links=[[1, 1, -1, 2, 0, "IMAGE"]]),
    "links from output 9": ui(links=[[1, 1, 9, 2, 0, "IMAGE"]]),
    "links by name without an end": ui(links=[{"id": 1}]),
    "links by name from a list": ui(links=[{"id": 1, "origin_id": [], "origin_slot": 0}]),
    "links twice": ui(links=[[1, 1, 0, 2, 0, "IMAGE"], [1, 1, 1, 2, 0, "IMAGE"]]),
    "links gone": ui(links=[]),
    "a primitive that holds nothing": ui(
        nodes=[{"id": 3, "type": "PrimitiveNode"}], links=[[1, 3, 0, 2, 0, "IMAGE"]]
    ),
    "a primitive for a picture": ui(
        nodes=[{"id": 3, "type": "PrimitiveNode", "widgets_values": [5]}],
        links=[[1, 3, 0, 2, 0, "IMAGE"]],
    ),
    "a reroute to itself": bypassed(inputs=[{"name": "", "link": 1}]),
    "a bypassed node without outputs": bypassed(type="ImageBatch", outputs=None),
    "a bypassed node with fewer outputs": bypassed(type="ImageBatch", outputs=[]),
    "a bypassed node of another type": bypassed(type="ImageBatch", outputs=[{"type": "MASK"}]),
    "everything muted": ui(mode=2),
    "definitions a list": {**ui(), "definitions": [1]},
    "definitions text": {**ui(), "definitions": "x"},
    "subgraphs a number": {**ui(), "definitions": {"subgraphs": 5}},
    "subgraphs an object": {**ui(), "definitions": {"subgraphs": {"a": 1}}},
    "a subgraph that is null": subgraph(None),
    "a subgraph that is a list": subgraph([]),
    "a subgraph of nothing": subgraph({}),
    "a subgraph without nodes": subgraph({"id": "a"}),
    "a subgraph with wrong nodes": subgraph({"id": "a", "nodes": [{"id": 1}]}),
    "a subgraph with wrong links": subgraph({"id": "a", "nodes": [], "links": [[1]]}),
    "a subgraph twice": subgraph({"id": "a", "nodes": []}, {"id": "a", "nodes": []}),
    "a subgraph in itself": subgraph({"id": "a", "name": "Sub", "nodes": [{"id": 1, "type": "a"}]}),
}
SHAPES = {
    **{f"whole: {k}": json.dumps(v) for k, v in WHOLE.items()},
    **{f"api: {k}": json.dumps(v) for k, v in API.items()},
    **{f"ui: {k}": json.dumps(v) for k, v in UI.items()},
    "text: empty": "",
    "text: blank": " \n",
    "text: cut off": json.dumps(api())[:-5],
    "text: no JSON": "{nodes: []}",
    "text: two workflows": json.dumps(api()) * 2,
    "text: deep lists": '{"nodes": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "text: deep objects": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "text: deep and open": '{"nodes": ' + "[" * 100_000,
    "text: deep where nothing is looked for": json.dumps({**ui(), "extra": 1}).replace(
        '"extra": 1', '"extra": ' + "[" * 900 + "]" * 900
    ),
    "text: a node twice": '{"1": {"class_type": "SaveImage"}, "1": {"class_type": "LoadImage"}}',
    "text: half a character": json.dumps(inputs(filename_prefix="a")).replace('"a"', '"\\ud83d"'),
    "text: thousands of digits": '{"nodes": [' + "9" * 5000 + "]}",
}


def is_sentence(text):
    return text.strip().endswith((".", "?")) and text.isprintable() and len(text) < 2500


@pytest.mark.parametrize("name", SHAPES)
def test_python_gets_a_sentence(name, tmp_path):
    path = tmp_path / "w.json"
    path.write_text(SHAPES[name], encoding="utf-8")
    with pytest.raises(FacewrightError) as caught:
        run_workflow(path, output_dir=tmp_path / "out")
    assert is_sentence(str(caught.value)), str(caught.value)
    assert not (tmp_path / "out").exists(), "nothing ran"


def test_the_table_is_large_and_its_templates_are_whole(tmp_path):
    assert len(SHAPES) > 150
    for workflow in (api(), ui()):
        assert to_api(read_workflow(workflow), input_specs)
    run_workflow(api(), output_dir=tmp_path)
    run_workflow(ui(), output_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_the_commands_get_a_sentence(command, every, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    options = ["--embedded"] if command == "run" else ["--no-hash"]
    if command == "doctor":  # what it looks at besides is the same each time
        for part in ("find_conflicts", "all_weights", "versions", "devices", "dtypes", "packages"):
            monkeypatch.setattr(f"facewright.core.doctor.{part}", lambda *args: [])
    for name, text in list(SHAPES.items())[::every]:
        (tmp_path / "w.json").write_text(text, encoding="utf-8")
        result = runner.invoke(app, [command, "w.json", *options, "--json"])
        assert result.exit_code in ({1, 4} if command == "run" else {0, 1}), name
        assert result.exception is None or isinstance(result.exception, SystemExit), name
        if command == "run":
            assert "Traceback" not in result.output and result.stderr.strip(), name


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        (api(class_type=[]), r"^Node 2 has a list of 0 in `class_type`, not text"),
        (ui(widgets_values=5, title="Keep it"), r"^Node 2 \(Keep it\) has 5 in `widgets_values`"),
        (ui(inputs=[{"link": 1}]), r"^Node 2 \(SaveImage\) lacks `inputs.0.name`"),
        (ui(type=None), r"^Node 2 \(\?\) has nothing in `type`, not text"),
        (without(ui(), "nodes", 1, "id"), r"^Entry 2 of `nodes` lacks `id`"),
        (ui(links=[[1]]), r"^A link, \[1\], lacks `origin_id`. A link is \[its number"),
        (ui(id=1), r"2 nodes have the number 1"),
        (
            subgraph({"id": "a", "name": "Sub", "nodes": [{"id": 7}]}),
            r"^Node 7 \(\?\) lacks `type`",
        ),
        (inputs(images=["9", 0]), r"Node 2 \(SaveImage\) is linked to node 9, which is absent"),
        (inputs(images=["1", 0, 0]), r"Node 2 \(SaveImage\): 'images' is a list of 3; a link is"),
        (
            ui(links=[[1, 77, 0, 2, 0, "IMAGE"]]),
            r"Link 1 to Node 2 \(SaveImage\) comes from node 77",
        ),
    ],
)
def test_the_sentence_names_the_node_and_what_is_wrong(workflow, words, tmp_path):
    with pytest.raises(FacewrightError, match=words):
        run_workflow(workflow, output_dir=tmp_path)


def test_names_from_the_file_are_shortened(tmp_path):
    with pytest.raises(FacewrightError) as caught:
        run_workflow(api(class_type="x" * 100_000), output_dir=tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda text: text.encode("utf-8-sig"), None),
        (lambda text: text.encode("utf-16"), "UTF-16 text and has to be saved as UTF-8"),
        (lambda text: text.encode("utf-16-le"), "UTF-16-LE text and has to be saved as UTF-8"),
        (lambda text: text.encode("utf-32"), "UTF-32 text"),
        (lambda text: text.encode("latin-1"), "is not UTF-8; save it again"),
        (lambda text: bytes(range(256)), "neither JSON nor a PNG"),
    ],
)
def test_encodings(encode, words, tmp_path):
    path = tmp_path / "w.json"
    path.write_bytes(
        encode(json.dumps(inputs(filename_prefix="Gesichtsgröße"), ensure_ascii=False))
    )
    if words is None:
        run_workflow(path, output_dir=tmp_path / "out")
        assert (tmp_path / "out/Gesichtsgröße_00001_.png").exists()
    else:
        with pytest.raises(FacewrightError, match=words):
            run_workflow(path)


def test_widget_values_that_are_null_are_the_defaults(tmp_path):
    """As the editor fills them in: `widgets_values: null` is a node nobody touched."""
    for stored in (None, [], {}):
        out = tmp_path / str(stored)
        run_workflow(ui(widgets_values=stored), output_dir=out)
        assert [p.name for p in out.iterdir()] == ["ComfyUI_00001_.png"]
    named = tmp_path / "named"
    run_workflow(ui(widgets_values={"filename_prefix": "mine", "more": 1}), output_dir=named)
    assert [p.name for p in named.iterdir()] == ["mine_00001_.png"]


def test_what_older_and_newer_editors_leave_out_is_no_fault(tmp_path):
    workflow = ui(title=None, mode=None, properties=None, outputs=None)
    workflow |= {"extra": {"ds": {"scale": float("nan")}}, "definitions": None, "groups": None}
    workflow["links"] = [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2}]
    run_workflow(workflow, output_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert "_meta" not in read_workflow(api(_meta=None))["2"]


def test_pictures_with_a_broken_workflow_inside(tmp_path):
    def saved(name, **texts):
        info = PngInfo()
        for key, value in texts.items():
            info.add_text(key, value)
        Image.new("RGB", (8, 8)).save(tmp_path / name, pnginfo=info)
        return tmp_path / name

    good = saved("good.png", prompt=json.dumps(api()))
    assert read_workflow(good)["2"]["class_type"] == "SaveImage"
    assert read_workflow(good.rename(tmp_path / "a.json")), "told from its bytes, not its name"
    for path, words in (
        (saved("words.png", prompt="a cat"), "it is not JSON"),
        (saved("deep.png", prompt="[" * 5000 + "]" * 5000), "nested"),
        (saved("none.png"), "no workflow in its metadata"),
        (tmp_path / "half.png", "damaged PNG"),
        (tmp_path, "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        if path.name == "half.png":
            path.write_bytes((tmp_path / "a.json").read_bytes()[:20])
        with pytest.raises(FacewrightError, match=words):
            read_workflow(path)


def test_a_file_without_an_end_is_not_read_to_it(monkeypatch):
    monkeypatch.setattr("facewright.headless.workflows.workflow_file._MOST_BYTES", 1000)
    with pytest.raises(FacewrightError, match="larger than any workflow"):
        read_workflow("/dev/zero")


def test_long_chains_of_nodes_run(tmp_path):
    """Neither links nor what only a lazy input asks for are followed by recursion."""
    length = 3000
    chain = {"0": {"class_type": "FacewrightDemoPicture", "inputs": {}}}
    for i in range(1, length):
        chain[str(i)] = {
            "class_type": "FacewrightScaleForTests",
            "inputs": {"image": [str(i - 1), 0]},
        }
    chain["end"] = {"class_type": "PreviewImage", "inputs": {"images": [str(length - 1), 0]}}

    class Pass(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.Image.Input("image", lazy=True)]
            return io.Schema("FacewrightScaleForTests", inputs=inputs, outputs=[io.Image.Output()])

        @classmethod
        def check_lazy_status(cls, image=None):
            return [] if image is not None else ["image"]

        @classmethod
        def execute(cls, image):
            return io.NodeOutput(image)

    node_classes()["FacewrightScaleForTests"] = Pass
    try:
        results = run_workflow(chain, output_dir=tmp_path)
    finally:
        del node_classes()["FacewrightScaleForTests"]
    assert len(results) == length + 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("x", "should be NODE.INPUT=VALUE"),
        ("=x", "should be NODE.INPUT=VALUE"),
        (".=x", "NODE.INPUT=VALUE"),
        ("2=x", "NODE.INPUT=VALUE"),
        ("nobody.images=x", "No node is called 'nobody'"),
        ("2.nothing=x", "has no input 'nothing'"),
        ("2.images=x", "its value is a link"),
        ("2.images=" + "[" * 5000, "its value is a link"),
        ('2.images=["9", 0]', "node 9, which is absent"),
        ('2.images=["1", -1]', "its value is a link"),
        ("2.images=[true, 0]", "its value is a link"),
        ("x" * 5000 + ".y=1", "No node is called"),
    ],
)
def test_set_that_cannot_be(given, words, tmp_path):
    (tmp_path / "w.json").write_text(json.dumps(api()))
    result = runner.invoke(app, ["run", str(tmp_path / "w.json"), "--embedded", "--set", given])
    assert isinstance(result.exception, SystemExit) and result.exit_code in {1, 2, 4}
    said = " ".join(result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
    assert words in said and len(said) < 1500


def test_an_input_set_twice_is_refused(tmp_path):
    (tmp_path / "w.json").write_text(json.dumps(api()))
    twice = ["--set", "2.filename_prefix=a", "--set", "2.filename_prefix=b"]
    result = runner.invoke(app, ["run", str(tmp_path / "w.json"), "--embedded", *twice])
    assert result.exit_code == 2 and "second" in result.output
