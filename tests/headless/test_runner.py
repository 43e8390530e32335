"""The embedded runner: order, checks, core nodes, and what it refuses."""

import json

import pytest
import torch
from facewright.core.node_api import Blocked, io
from facewright.headless import runner
from facewright.headless.host.builtin import BUILTIN, PlainNode
from facewright.headless.runner import run_workflow
from facewright.headless.workflows.workflow import WorkflowError
from PIL import Image


class Brighten(PlainNode):
    ID = "Brighten"
    INPUTS = (
        io.Image.Input("image"),
        io.Float.Input("amount", default=0.1, min=0.0, max=1.0),
        io.Float.Input("share", default=0.1, min=0.0, max=1.0, optional=True),
        io.Combo.Input("mode", options=["add", "set"]),
        io.Image.Input("extra", optional=True),
    )
    OUTPUTS = (io.Image.Output(), io.Float.Output())
    calls = 0

    @classmethod
    def validate_inputs(cls, amount):
        return f"{amount} is unlucky" if amount in (0.13, 9) else True

    @classmethod
    def execute(cls, image, amount, mode, share=0, extra=None):
        Brighten.calls += 1
        return io.NodeOutput(image + amount, amount)


class Choose(PlainNode):
    """`image` where `take` says so, else 1 where `image` would be."""

    ID = "Choose"
    INPUTS = (io.Float.Input("take"), io.Image.Input("image", lazy=True))
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def check_lazy_status(cls, take, image=None):
        return ["image"] if take else []

    @classmethod
    def execute(cls, take, image=None):
        if take > 1:
            return io.NodeOutput(Blocked())
        return io.NodeOutput(torch.ones(1, 1, 1, 3) if image is None else image)


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    classes = {n.GET_SCHEMA().node_id: n for n in (*BUILTIN, Brighten, Choose)}
    monkeypatch.setattr(runner, "node_classes", lambda: classes)
    Brighten.calls = 0


def workflow():
    # Written back to front: the order has to come from the links.
    return {
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "s/x"}},
        "2": {
            "class_type": "Brighten",
            "inputs": {"image": ["1", 0], "amount": 0.25, "mode": "add"},
        },
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "unused": {
            "class_type": "Brighten",
            "inputs": {"image": ["1", 0], "amount": 0, "mode": "add"},
        },
    }


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (3, 2), (51, 102, 0)).save(tmp_path / "a.png")
    return tmp_path


def test_runs_what_outputs_need_in_order(picture):
    seen = []
    results = run_workflow(
        workflow(),
        input_dir=picture,
        output_dir=picture / "out",
        on_node=lambda title, done, total: seen.append((title, done, total)),
    )
    assert list(results) == ["1", "2", "3"]
    assert seen == [("LoadImage", 0, 3), ("Brighten", 1, 3), ("SaveImage", 2, 3)]
    torch.testing.assert_close(results["2"][0][0, 0, 0], torch.tensor([0.45, 0.65, 0.25]))
    saved = picture / "out/s/x_00001_.png"
    assert results["3"].ui == {"images": [saved.resolve()]}
    image = Image.open(saved)
    assert image.getpixel((0, 0)) == (115, 166, 64)
    assert json.loads(image.info["prompt"])["2"]["inputs"]["amount"] == 0.25
    run_workflow(workflow(), input_dir=picture, output_dir=picture / "out")
    assert sorted(p.name for p in (picture / "out/s").iterdir()) == ["x_00001_.png", "x_00002_.png"]


@pytest.mark.parametrize(("take", "ran"), [(0, "43"), (1, "1243"), (2, "12")])
def test_lazy_inputs_run_when_wanted_and_nothing_runs_behind_nothing(picture, take, ran):
    api = workflow()
    api["4"] = {"class_type": "Choose", "inputs": {"take": take, "image": ["2", 0]}}
    api["3"]["inputs"]["images"] = ["4", 0]
    results = run_workflow(api, input_dir=picture, output_dir=picture / "out")
    assert "".join(results) == ran
    assert len(list((picture / "out").rglob("*.png"))) == (take < 2)


def test_inputs_may_be_set_and_images_may_be_tensors(tmp_path):
    image = torch.full((2, 2, 2, 3), 0.5)
    inputs = {"LoadImage.image": image, "2.amount": "0.5"}
    results = run_workflow(workflow(), inputs, output_dir=tmp_path)
    assert results["2"][0].shape == (2, 2, 2, 3) and results["2"][0].max() == 1
    assert len(results["3"].ui["images"]) == 2


def test_a_saved_picture_runs_again(picture):
    run_workflow(workflow(), input_dir=picture, output_dir=picture)
    again = run_workflow(picture / "s/x_00001_.png", input_dir=picture, output_dir=picture)
    assert again["2"][1] == 0.25


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"share": 2}, "between 0.0 and 1.0"),
        ({"amount": 9}, "9.0 is unlucky"),  # out of range, but the node checks it itself
        ({"amount": "much"}, "should be FLOAT"),
        ({"mode": "mul"}, "one of: add, set"),
        ({"image": "x"}, "has to be linked"),
        ({"image": ["1", 5]}, "output 5"),
        ({"image": ["1", 1]}, "takes IMAGE, but is linked to MASK"),
        ({"amount": 0.13}, "0.13 is unlucky"),
        ({"image": ["7", 0]}, "node 7, which is absent"),
        ({"image": ["2", 0]}, "feed each other"),
    ],
)
def test_wrong_inputs_are_named_before_anything_runs(inputs, words):
    api = workflow()
    api["2"]["inputs"] |= inputs
    with pytest.raises(WorkflowError, match=words):
        run_workflow(api)
    assert Brighten.calls == 0


def test_missing_inputs_unknown_nodes_and_no_output():
    api = workflow()
    del api["2"]["inputs"]["mode"]
    with pytest.raises(WorkflowError, match=r"Node 2 \(Brighten\): its input 'mode' is missing"):
        run_workflow(api)
    api = workflow()
    api["3"]["class_type"] = "KSamplerAdvanced"
    with pytest.raises(WorkflowError, match=r"Node 3 is a KSamplerAdvanced.*--server"):
        run_workflow(api)
    api = workflow()
    del api["3"]
    with pytest.raises(WorkflowError, match="no output node"):
        run_workflow(api)


def test_an_error_inside_a_node_names_it(picture):
    with pytest.raises(WorkflowError, match=r"Node 1 \(LoadImage\): There is no file .*b\.png"):
        run_workflow(workflow(), {"1.image": "b.png"}, input_dir=picture, output_dir=picture)


def test_saving_outside_the_output_folder_is_refused(picture):
    with pytest.raises(WorkflowError, match="leaves the output folder"):
        run_workflow(
            workflow(), {"3.filename_prefix": "../x"}, input_dir=picture, output_dir=picture / "o"
        )
    assert not (picture / "x_00001_.png").exists()


def test_unknown_inputs_are_ignored_as_in_comfyui(picture):
    api = workflow()
    api["2"]["inputs"]["from_a_newer_version"] = 3
    run_workflow(api, input_dir=picture, output_dir=picture)
