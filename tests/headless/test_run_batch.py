"""A workflow over a folder, in this process."""

import json

import numpy as np
import pytest
from facewright.core.errors import FacewrightError
from facewright.core.node_api import io, ui
from facewright.headless.cli import app
from facewright.headless.host.builtin import BUILTIN
from facewright.headless.workflows.run_batch import MANIFEST, batch_node
from facewright.headless.workflows.workflow import WorkflowError
from PIL import Image
from typer.testing import CliRunner


class Amount(io.ComfyNode):
    """Like a loader: slow, and the same for each picture."""

    calls = 0

    @classmethod
    def define_schema(cls):
        inputs = [io.Float.Input("amount", default=0.5, min=0, max=1), io.Int.Input("seed")]
        return io.Schema("Amount", "Load Amount", inputs=inputs, outputs=[io.Float.Output()])

    @classmethod
    def execute(cls, amount, seed):
        cls.calls += 1
        return io.NodeOutput(amount)


class Scale(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        inputs = [io.Image.Input("image"), io.Float.Input("by", force_input=True)]
        return io.Schema("Scale", "Scale", inputs=inputs, outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, image, by):
        if image.shape[1] == 1:
            raise FacewrightError("one row is not enough")
        return io.NodeOutput(image * by, ui=ui.PreviewImage(image, cls=cls))


API = {
    "1": {"class_type": "Amount", "inputs": {"amount": 0.5, "seed": 7}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "3": {"class_type": "Scale", "inputs": {"image": ["2", 0], "by": ["1", 0]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "w/dim"}},
}


@pytest.fixture
def batch(tmp_path, monkeypatch):
    classes = {n.GET_SCHEMA().node_id: n for n in (*BUILTIN, Amount, Scale)}
    for place in ("runner", "host.catalogue"):
        monkeypatch.setattr(f"facewright.headless.{place}.node_classes", lambda: classes)
    monkeypatch.setattr(Amount, "calls", 0)
    (tmp_path / "in/sub").mkdir(parents=True)
    for name, value in (("a.jpg", 100), ("b.png", 150), ("sub/c.png", 200)):
        Image.new("RGB", (4, 3), (value,) * 3).save(tmp_path / "in" / name, quality=95)
    workflow = tmp_path / "w.json"

    def run(*args, api=API):
        workflow.write_text(json.dumps(api))
        folders = ["--batch", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
        words = ["run", str(workflow), *folders, "--embedded", *args]
        return CliRunner().invoke(app, words)

    run.out = tmp_path / "out"
    run.folder = tmp_path / "in"
    return run


def files(out):
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def level(path):
    return int(np.asarray(Image.open(path))[1, 1, 0])


def test_names_stay_and_loaders_run_once(batch):
    result = batch("--json")
    assert result.exit_code == 0, result.stderr
    assert files(batch.out) == ["a.png", "b.png", MANIFEST, "sub/c.png"]
    assert [level(batch.out / p) for p in ("a.png", "b.png", "sub/c.png")] == [50, 75, 100]
    assert Amount.calls == 1
    told = json.loads(result.stdout)
    first, second, _ = told["done"]
    assert first["saved"] == [str(batch.out / "a.png")] and first["seeds"] == {"1.seed": 7}
    assert [(n["id"], n["title"], n["cached"]) for n in first["nodes"]] == [
        ("1", "Load Amount", False),
        ("2", "LoadImage", False),
        ("3", "Scale", False),
        ("4", "SaveImage", False),
    ]
    assert {n["id"]: n["cached"] for n in second["nodes"]}["1"]
    assert told["failed"] == [] and told["where"] == "this process"


def test_a_failing_picture_is_named_and_the_others_are_done(batch):
    Image.new("RGB", (4, 1)).save(batch.folder / "aa.png")
    (batch.folder / "bb.png").write_bytes(b"no picture")
    result = batch()
    assert result.exit_code == 1
    assert "2 of 5 pictures failed" in result.stderr
    assert "aa.png: Node 3 (Scale): one row is not enough" in result.stderr
    assert "bb.png: Node 2 (LoadImage)" in result.stderr
    assert files(batch.out) == ["a.png", "b.png", MANIFEST, "sub/c.png"]


def test_a_batch_goes_on_where_it_stopped_and_starts_anew_with_other_settings(batch):
    batch()
    lines = (batch.out / MANIFEST).read_text()
    (batch.out / "b.png").unlink()
    (batch.out / ".run_killed").mkdir()
    Image.new("RGB", (2, 2), (20,) * 3).save(batch.out / "a.png")
    again = json.loads(batch("--json").stdout)
    assert [d["input"] for d in again["done"]] == [str(batch.folder / "b.png")]
    assert len(again["skipped"]) == 2 and level(batch.out / "a.png") == 20
    assert [json.loads(x)["output"] for x in lines.splitlines()] == [
        json.loads(x)["output"] for x in (batch.out / MANIFEST).read_text().splitlines()
    ]
    other = json.loads(batch("--json", "--set", "Load Amount.amount=0.25").stdout)
    assert len(other["done"]) == 3 and level(batch.out / "a.png") == 25
    assert files(batch.out) == ["a.png", "b.png", MANIFEST, "sub/c.png"]
    assert len(json.loads(batch("--json", "--overwrite", "--set", "1.amount=.25").stdout)["done"])


def test_several_savers_keep_their_prefix(batch):
    api = json.loads(json.dumps(API))
    api["5"] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "raw"}}
    batch(api=api)
    assert files(batch.out)[:4] == ["a_dim.png", "a_raw.png", "b_dim.png", "b_raw.png"]
    del api["5"]
    batch(api=api)  # what the old workflow saved besides does not stay
    assert files(batch.out) == ["a.png", "b.png", MANIFEST, "sub/c.png"]


def test_what_is_wrong_with_all_pictures_is_told_at_once(batch):
    for args, words in (
        (["--set", "1.amonut=1"], "Did you mean 'amount'?"),
        (["--batch-node", "Scale"], "loads no picture"),
        (["--batch-node", "Nope"], "No node is called 'Nope'"),
    ):
        result = batch(*args)
        assert result.exit_code == 2 and words in result.stderr.replace("\n", " "), result.stderr
    assert not batch.out.exists()


def test_which_node_takes_the_pictures():
    two = {**API, "9": {**API["2"], "_meta": {"title": "Photo of Ada"}}}
    with pytest.raises(WorkflowError, match=r"2 \(LoadImage\), 9 \(Photo of Ada\).*--batch-node"):
        batch_node(two)
    assert batch_node(two, "Photo of Ada") == "9" and batch_node(API) == "2"
    with pytest.raises(WorkflowError, match="no Load Image"):
        batch_node({"1": API["1"]})


def test_options_that_exclude_each_other(batch):
    for args in (["--server", "x"], ["--comfy"], ["--comfy-args", "--cpu"]):
        assert batch(*args).exit_code == 2
    assert CliRunner().invoke(app, ["run", "w.json", "--overwrite"]).exit_code == 2


def test_a_failing_run_is_json_too(batch, tmp_path):
    (tmp_path / "w.json").write_text(json.dumps(API))
    result = CliRunner().invoke(app, ["run", str(tmp_path / "w.json"), "--embedded", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert "x.png" in told["error"] and told["saved"] == []
