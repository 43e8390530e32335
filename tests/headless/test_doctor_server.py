"""`facewright doctor --server`, and workflows of other people: whatever they lack is named."""

import functools
import json

import pytest
from facewright.core.doctor.needs import needs_of
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.cli import app
from facewright.headless.host.catalogue import plain_process
from facewright.headless.remote import doctor, http_client
from facewright.headless.remote.address import Server
from facewright.headless.remote.doctor import diagnose_there
from facewright.headless.workflows.workflow import read_workflow
from typer.testing import CliRunner

from .comfy_double import Double


def node(required, output=("IMAGE",), title=None, **more):
    return {
        "input": {"required": required},
        "output": list(output),
        "output_node": not output,
        "display_name": title,
        **more,
    }


INFO = {
    "LoadImage": node({"image": [["a.png"], {"image_upload": True}]}),
    "LoraLoaderModelOnly": node(
        {"model": ["MODEL"], "lora_name": [["sub/style.safetensors", "b.safetensors"], {}]},
        ["MODEL"],
        "Load LoRA (Model)",
    ),
    "UNETLoader": node({"unet_name": [["one.safetensors"], {}]}, ["MODEL"]),
    "StrangeLoader": node({"file": [["one.safetensors", "two.gguf"], {}]}, ["MODEL"]),
    "Sampler": node(
        {
            "model": ["MODEL"],
            "scheduler": ["COMBO", {"options": ["normal", "karras"]}],
            "tags": ["COMBO", {"options": ["x", "y"], "multiselect": True}],
            "choice": ["COMBO", {"options": []}],
            "asked": ["COMBO", {"remote": {"route": "/somewhere"}}],
            "format": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {
                            "key": "mp4",
                            "inputs": {"required": {"codec": ["COMBO", {"options": ["h264"]}]}},
                        }
                    ]
                },
            ],
        }
    ),
    "Paid": node({"image": ["IMAGE"]}, api_node=True),
    "Save": node({"images": ["IMAGE"]}, []),
    "FacewrightLoadLoRA": node({"model": ["MODEL"], "lora": [["people/x.safetensors"]]}, ["MODEL"]),
}
GOOD = {
    "scheduler": "karras",
    "tags": {"__value__": ["x", "y"]},
    "choice": "written by the editor",
    "asked": "anything",
    "format": "mp4",
    "format.codec": "h264",
}


@pytest.fixture
def double():
    double = Double()
    double.answers |= {
        "/object_info": INFO,
        "/system_stats": {
            "system": {"comfyui_version": "0.9.9"},
            "devices": [{"name": "GPU", "type": "cuda", "index": 0, "vram_total": 8 * 10**9}],
        },
        "/models": ["loras", "../out", "strange", "unet"],
        "/models/loras": ["sub/style.safetensors", "b.safetensors"],
        "/models/strange": ["two.gguf", "one.safetensors"],
        "/models/facewright": ["sub/backbone.pth"],
        "/view": lambda handler: handler.answer(
            b"", 200 if "filename=there.png&subfolder=sub&type=input" in handler.path else 404
        ),
    }
    yield double
    double.close()


@pytest.fixture
def look(double, tmp_path):
    def look(workflow, inputs=tmp_path):
        report = diagnose_there(Server.of(double.address), read_workflow(workflow), inputs)
        assert report["ok"] == (not report["workflow"]["lacks"])
        return report["workflow"]

    return look


def api(kind, **inputs):
    return {"1": {"class_type": kind, "inputs": inputs}}


def test_a_workflow_whose_choices_are_all_offered(look):
    assert look(api("Sampler", model=["2", 0], **GOOD))["lacks"] == []


@pytest.mark.parametrize(
    ("name", "value", "offered"),
    [
        ("scheduler", "beta", "normal, karras"),
        ("scheduler", 3, "normal, karras"),
        ("tags", {"__value__": ["x", "z"]}, "x, y"),
        ("format", "mkv", "mp4"),
        ("format.codec", "av1", "h264"),
    ],
)
def test_a_choice_that_is_not_offered(look, double, name, value, offered):
    found = look(api("Sampler", model=["2", 0], **{**GOOD, name: value}))
    (sentence,) = found["lacks"]
    shown = value["__value__"][1] if isinstance(value, dict) else value
    assert sentence.startswith(f"Node 1 (Sampler) has {shown} as {name}, which the ComfyUI at ")
    assert double.address in sentence and f"what it does: {offered}." in sentence
    assert [e["input"] for e in found["inputs"]] == [name]


def test_a_link_in_place_of_a_choice_is_no_value(look):
    assert look(api("Sampler", model=["2", 0], **{**GOOD, "scheduler": ["2", 0]}))["ok"]


def test_files_that_are_not_listed(look):
    found = look(api("LoraLoaderModelOnly", model=["2", 0], lora_name="style.safetensors"))
    (sentence,) = found["lacks"]
    assert "Node 1 (Load LoRA (Model)) needs style.safetensors in models/loras" in sentence
    assert "It lists sub/style.safetensors: choose that" in sentence
    found = look(api("StrangeLoader", file="three.gguf"))
    assert "needs three.gguf in models/strange" in found["lacks"][0]  # by what lies there
    (entry,) = look(api("StrangeLoader", file="two.gguf"))["files"]
    assert entry["path"] == "models/strange/two.gguf" and entry["problem"] is None
    found = look(api("FacewrightLoadLoRA", lora="people\\x.safetensors"))
    assert found["ok"]  # chosen on Windows
    hint = "(put one in models/loras, press R)"
    assert "has no file chosen" in look(api("FacewrightLoadLoRA", lora=hint))["lacks"][0]
    named = look(api("UNETLoader", unet_name="(v2) one.safetensors"))["lacks"][0]
    assert "needs (v2) one.safetensors in models/diffusion_models" in named
    found = look(api("UNETLoader", unet_name="../../etc/x.safetensors"))
    assert "which is no file in models/diffusion_models" in found["lacks"][0]


def test_pictures_are_looked_for_there_and_here(look, tmp_path):
    assert look(api("LoadImage", image="a.png"))["ok"]
    assert look(api("LoadImage", image="sub/there.png"))["ok"]
    found = look(api("LoadImage", image="mine.png"))
    assert "loads the picture mine.png, which the ComfyUI at" in found["lacks"][0]
    (tmp_path / "mine.png").touch()
    assert look(api("LoadImage", image="mine.png"))["ok"]  # a run would send it
    assert not look(api("LoadImage", image="mine.png [output]"))["ok"]
    assert not look(api("LoadImage", image=f"../{tmp_path.name}/mine.png"))["ok"]


def ui(*nodes, links=(), **more):
    return {"nodes": list(nodes), "links": list(links), **more}


def widget(name, link=None):
    return {"name": name, "type": "COMBO", "widget": {"name": name}, "link": link}


def test_nodes_that_the_server_lacks(look):
    chain = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]
    nodes = [
        {"id": 1, "type": "LoadImage", "widgets_values": ["a.png"],
         "inputs": [widget("image")], "outputs": [{"name": "IMAGE", "links": [1]}]},
        {"id": 2, "type": "New", "properties": {"cnr_id": "comfy-core"},
         "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
         "outputs": [{"name": "IMAGE", "links": [2]}]},
        {"id": 3, "type": "Save", "inputs": [{"name": "images", "type": "IMAGE", "link": 2}]},
        {"id": 4, "type": "Label of a pack"},
        {"id": 5, "type": "SamplerPack", "mode": 4, "properties": {"cnr_id": "muted"}},
    ]  # fmt: skip
    found = look(ui(*nodes, links=chain))
    (sentence,) = found["lacks"]
    assert "Node 2 (New) is a New, one of ComfyUI's own, which the ComfyUI at" in sentence
    assert "(0.9.9) does not have. Update it" in sentence and "--disable-api-nodes" in sentence
    nodes[1]["properties"] = {"cnr_id": "some-pack"}
    (sentence,) = look(ui(*nodes, links=chain))["lacks"]
    assert "the pack some-pack brings it" in sentence and "not installed in the ComfyUI" in sentence
    nodes[1]["type"] = "Paid"
    found = look(ui(*nodes, links=chain))
    assert found["ok"] and any("account at comfy.org" in note for note in found["notes"])
    assert any(
        "Label of a pack was left out" in n or "(Label of a pack)" in n for n in found["notes"]
    )


def test_files_of_nodes_that_the_server_lacks(look):
    models = [{"name": n, "directory": "loras"} for n in ("b.safetensors", "gone.safetensors")]
    loader = {
        "id": 1, "type": "PackLoader", "properties": {"models": models},
        "widgets_values": ["b.safetensors", "gone.safetensors", "any.gguf", "two.gguf"],
        "outputs": [{"name": "IMAGE", "links": [1]}],
    }  # fmt: skip
    save = {"id": 2, "type": "Save", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]}
    found = look(ui(loader, save, links=[[1, 1, 0, 2, 0, "IMAGE"]]))
    assert [(f["name"], f["problem"] is None) for f in found["files"]] == [
        ("b.safetensors", True), ("gone.safetensors", False), ("any.gguf", False),
        ("two.gguf", True),
    ]  # fmt: skip
    assert len(found["lacks"]) == 3 and "is a PackLoader" in found["lacks"][-1]


def test_a_workflow_that_cannot_be_sent_is_looked_at_all_the_same(look):
    """A subgraph holds itself, and an old file names no widgets."""
    nodes = [
        {"id": 1, "type": "LoraLoaderModelOnly", "widgets_values": ["gone.safetensors", 1.0]},
        {"id": 2, "type": "LoadImage", "widgets_values": ["no.png", "image"]},
        {"id": 3, "type": "self"},
    ]
    graph = {"id": "self", "name": "Self", "nodes": [{"id": 4, "type": "self"}], "links": []}
    lacks = look(ui(*nodes, definitions={"subgraphs": [graph]}))["lacks"]
    assert len(lacks) == 3 and "Self" in lacks[2]
    assert "needs gone.safetensors in models/loras" in lacks[0]
    assert "loads the picture no.png" in lacks[1]


def promoted(loader="LoraLoaderModelOnly", widget_name="lora_name", **instance):
    """A subgraph in a subgraph whose one widget is on the outside."""
    inner = {
        "id": "inner", "name": "Inner",
        "inputs": [{"id": "i", "name": "file", "type": "COMBO", "linkIds": [1]}], "outputs": [],
        "nodes": [{"id": 7, "type": loader, "widgets_values": ["inside.safetensors"],
                   "inputs": [widget(widget_name, 1)]}],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0,
                   "type": "COMBO"}],
    }  # fmt: skip
    outer = {
        "id": "outer", "name": "Outer",
        "inputs": [{"id": "o", "name": "file", "type": "COMBO", "linkIds": [1]}], "outputs": [],
        "nodes": [{"id": 3, "type": "inner", "inputs": [widget("file", 1)], "widgets_values": []}],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 3, "target_slot": 0,
                   "type": "COMBO"}],
    }  # fmt: skip
    whole = {"id": 12, "type": "outer", "inputs": [widget("file")], **instance}
    return ui(whole, definitions={"subgraphs": [outer, inner]})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The doctor of this machine, without a ComfyUI."""
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    models = tmp_path / "models"
    models.mkdir()
    return lambda workflow, **more: needs_of(
        read_workflow(workflow), plain_process(ModelFolders([models]), **more)
    )


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        ({"widgets_values": ["outside.safetensors"]}, "outside.safetensors"),
        ({"widgets_values": []}, "inside.safetensors"),
        ({"widgets_values": ["outside.safetensors"], "mode": 4}, None),
    ],
)
def test_subgraphs_in_subgraphs(here, instance, name):
    found = here(promoted(**instance))
    named = {(f["name"], f["folder"]) for f in found["files"]}
    assert named == ({(name, "loras")} if name else set())
    assert [n["node"] for n in found["nodes"]] == (["12:3:7"] if name else [])


def test_group_nodes(here):
    members = [
        {"type": "LoraLoaderModelOnly", "widgets_values": ["old.safetensors", 1.0]},
        {"type": "Note", "widgets_values": []},
        {"type": "VAELoader", "widgets_values": ["v.safetensors"]},
    ]
    whole = {"id": 5, "type": "workflow>mine", "widgets_values": ["new.safetensors", 0.5, "w.pt"]}
    found = here(ui(whole, extra={"groupNodes": {"mine": {"nodes": members}}}))
    assert {(f["node"], f["name"], f["folder"]) for f in found["files"]} == {
        ("5:0", "new.safetensors", "loras"), ("5:2", "w.pt", "vae"),
    }  # fmt: skip
    assert not any(n["class"].startswith("workflow") for n in found["nodes"])


def test_files_of_nodes_that_nobody_knows(here, tmp_path):
    said = {"name": "q.gguf", "directory": "unet_gguf", "url": "https://example.com/q.gguf"}
    away = {"name": "r.gguf", "directory": "../../out", "url": "https://example.com/r.gguf"}
    loader = {"id": 1, "type": "Loader", "widgets_values": ["q.gguf", "r.gguf", "a text", 3]}
    loader["properties"] = {"models": [said, away, 3, {"name": 1}]}
    found = here(ui(loader))
    (first, second) = found["files"]
    assert first["folder"] == "unet_gguf" and "example.com/q.gguf" in first["problem"]
    assert second["folder"] is None and "none of the models folders" in second["problem"]
    assert not any("out" in place for place in second["searched"])
    (tmp_path / "models/any/where").mkdir(parents=True)
    (tmp_path / "models/any/where/r.gguf").touch()
    assert [bool(f["problem"]) for f in here(ui(loader))["files"]] == [True, False]


def test_pictures_of_the_input_folder(here, tmp_path):
    workflow = api("LoadImage", image="p.png")
    assert here(workflow)["inputs"] == []  # nobody knows where they lie
    (problem,) = [e["problem"] for e in here(workflow, inputs=tmp_path)["inputs"]]
    assert f"loads the picture p.png, which is not in {tmp_path}" in problem
    (tmp_path / "p.png").touch()
    assert here(workflow, inputs=tmp_path)["inputs"][0]["problem"] is None


def test_a_file_may_begin_with_a_bracket(here):
    sentence = here(api("UNETLoader", unet_name="(v2) one.safetensors"))["lacks"][0]
    assert "needs (v2) one.safetensors in models/diffusion_models" in sentence


def test_a_node_of_comfyui_without_one_at_hand(here):
    (sentence,) = here(api("SaveText"))["lacks"]
    assert "no pack is named in the file" in sentence and "--server" in sentence


def running(workflow):
    graphs = {g["id"]: g for g in (workflow.get("definitions") or {}).get("subgraphs") or ()}

    def inside(graph, root):
        for one in graph["nodes"]:
            off = one.get("mode") in (2, 4)
            if one["type"] in graphs:
                if not off or not root:
                    yield from inside(graphs[one["type"]], root=False)
            elif not off:
                yield one

    return inside(workflow, root=True)


def test_official_templates_say_themselves_what_is_missing(
    record, official, here, double, tmp_path, monkeypatch
):
    double.answers |= {"/object_info": record.kept(record.OBJECT_INFO), "/models": []}
    server, named = Server.of(double.address), 0
    asked = functools.cache(lambda path, shape: http_client.get(server, path, shape))
    monkeypatch.setattr(doctor, "get", lambda at, path, shape, **more: asked(path, shape))
    for name, workflow in list(official.items())[::25]:
        wanted = {
            (model["name"], model["directory"])
            for one in running(workflow)
            for model in (one.get("properties") or {}).get("models") or ()
        }
        there = diagnose_there(server, workflow, tmp_path)["workflow"]
        for found in (here(workflow), there):
            lacks = {(f["name"], f["folder"]) for f in found["files"] if f["problem"]}
            assert wanted == lacks, name
        named += len(wanted)
    assert named > 20


def test_the_command(double, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps(api("UNETLoader", unet_name="x.safetensors")))

    def run(*more):
        return CliRunner().invoke(app, ["doctor", *more])

    lacking = run("w.json", "--server", double.address)
    assert lacking.exit_code == 1 and "needs x.safetensors in models/diffus" in lacking.stdout
    bare = run("--server", double.address, "--json")
    report = json.loads(bare.stdout)
    assert bare.exit_code == 0 and report["server"] == double.address
    assert report["devices"][0]["device"] == "cuda:0"
    assert report["versions"]["comfyui"] == {"version": "0.9.9", "path": double.address}
    (arcface,) = [w for w in report["weights"] if "backbone.pth" in w["names"]]
    assert arcface["found"] and arcface["copies"][0]["path"] == "models/facewright/sub/backbone.pth"
    assert double.told == []  # it looks, and changes nothing
    assert "cuda:0: GPU, 8 GB" in run("--server", double.address).stdout
    double.answers["/object_info"] = {}
    assert "has no node of facewright" in run("--server", double.address).stdout.replace("\n", "")
    assert run("w.json", "--server", double.address, "--models", ".").exit_code == 2
    assert run("--insecure").exit_code == 2
    double.answers["/object_info"] = []
    assert "not as a ComfyUI does" in run("--server", double.address).output.replace("\n", " ")
    double.close()
    assert run("--server", double.address).exit_code == 3


def test_descriptions_that_make_no_sense_stop_nothing(look, double):
    double.answers["/object_info"] = INFO | {"Odd": {"input": 3}, "Other": node({"x": [3, 4, 5]})}
    workflow = api("Odd", a=1) | {
        "2": {"class_type": "UNETLoader", "inputs": {"unet_name": "x.pt"}}
    }
    assert len(look(workflow)["lacks"]) == 1
