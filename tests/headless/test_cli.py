"""The `facewright` command, with a restorer that needs no weights."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.core.faces import Face
from facewright.core.methods._onestep import OneStepFaces
from facewright.headless.cli import app
from facewright.headless.make import restore as restore_module
from facewright.headless.make import restore_files
from facewright.headless.make.restore import Restorer, load_restorer
from facewright.headless.workflows import workflow_file
from facewright.headless.workflows.workflow_file import WorkflowError, read_workflow
from PIL import Image
from typer.testing import CliRunner

runner = CliRunner()


class OneFace:
    name = "fake"

    def detect(self, image):
        """A face in the middle of every picture that is large enough to hold one."""
        h, w = image.shape[-2:]
        if min(h, w) < 32:
            return []
        return [Face((w * 0.3, h * 0.3, w * 0.7, h * 0.7), 1.0)]


@pytest.fixture
def calls(monkeypatch, backbone):
    made = []

    def load(name, **choice):
        if name != "nano":
            return load_restorer(name, **choice)
        made.append(name)
        method = OneStepFaces(
            backbone=backbone, embed=lambda lq, people: torch.zeros(len(lq), 77, 4), size=32
        )
        return Restorer(method, OneFace())

    monkeypatch.setattr(restore_files, "load_restorer", load)
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    return made


def picture(path, mode="RGB", size=(48, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.frombytes(mode, size, array.tobytes()).save(path)
    return path


def nano(*args):
    return runner.invoke(app, ["restore", *map(str, args), "--weights", "nano"])


def test_a_folder_of_everything_people_have(calls, tmp_path):
    """The unreadable file is named, all others are done, the exit code is 1."""
    root = tmp_path / "in"
    picture(root / "rgb.png")
    picture(root / "alpha.png", "RGBA")
    picture(root / "grey.png", "L")
    picture(root / "sub/cmyk.jpg", "CMYK")
    picture(root / "tiny.png", size=(1, 1))
    picture(root / "palette.gif", "L")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    out = tmp_path / "out"
    result = nano(root, "-o", out)
    assert result.exit_code == 1
    assert "broken.png" in result.stderr and "1 of 7 pictures failed" in result.stderr
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert written == [
        "alpha.png", "grey.png", "palette.png", "restore.jsonl", "rgb.png", "sub/cmyk.jpg",
        "tiny.png",
    ]  # fmt: skip
    assert Image.open(out / "alpha.png").mode == "RGBA"
    before = np.asarray(Image.open(root / "alpha.png"))
    after = np.asarray(Image.open(out / "alpha.png"))
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    assert (after[..., :3] != before[..., :3]).any()
    np.testing.assert_array_equal(after[0], before[0])
    assert Image.open(out / "grey.png").mode == "L"
    assert "CMYK was converted" in result.stderr
    assert "no face" in result.stderr


def test_a_batch_goes_on_where_it_stopped(calls, tmp_path):
    for name in "ab":
        picture(tmp_path / f"in/{name}.png")
    out = tmp_path / "out"
    assert nano(tmp_path / "in", "-o", out, "--json").exit_code == 0
    stamp = (out / "a.png").stat().st_mtime_ns
    (out / "b.png").unlink()
    summary = json.loads(nano(tmp_path / "in", "-o", out, "--json").stdout)
    assert [d["output"] for d in summary["done"]] == [str(out / "b.png")]
    assert summary["skipped"] == [str(tmp_path / "in/a.png")]
    assert (out / "a.png").stat().st_mtime_ns == stamp
    assert nano(tmp_path / "in", "-o", out).exit_code == 0
    assert calls == ["nano", "nano"]  # nothing left to do: no models are loaded
    summary = json.loads(nano(tmp_path / "in", "-o", out, "--json", "--overwrite").stdout)
    assert len(summary["done"]) == 2 and summary["done"][0]["faces"] == 1


def test_16_bits_stay_16_bits(calls, tmp_path):
    cv2 = pytest.importorskip("cv2")
    array = np.random.default_rng(0).integers(0, 65536, (40, 48, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), array)
    assert nano(tmp_path / "a.png", "-o", tmp_path / "b.png").exit_code == 0
    after = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert after.dtype == np.uint16
    np.testing.assert_array_equal(after[0], array[0])
    assert (after != array).any()


def test_comparison_pictures(calls, tmp_path):
    picture(tmp_path / "a.png")
    assert nano(tmp_path / "a.png", "-o", tmp_path / "out", "--compare").exit_code == 0
    assert Image.open(tmp_path / "out/a_compare.png").width > 2 * 48


def test_strength_zero_changes_nothing(calls, tmp_path):
    picture(tmp_path / "a.png")
    assert nano(tmp_path / "a.png", "-o", tmp_path / "b.png", "--strength", 0).exit_code == 0
    a, b = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in "ab")
    np.testing.assert_array_equal(a, b)


def test_faces_are_picked_by_number(calls, tmp_path):
    picture(tmp_path / "a.png")
    for name, args in {"all": [], "none": ["--pick", "1"], "doubt": ["--min-score", "1"]}.items():
        result = nano(tmp_path / "a.png", "-o", tmp_path / f"{name}.png", "--json", *args)
        faces = json.loads(result.stdout)["done"][0]["faces"]
        assert faces == (0 if name == "none" else 1)


@pytest.mark.parametrize(
    "args",
    [
        ["a.png"],
        ["a.png", "-o", "out", "--order", "sideways"],
        ["a.png", "-o", "out", "--pick", "first"],
        ["a.png", "-o", "out", "--color", "sepia"],
        ["a.png", "-o", "out", "--weights", "large"],
        ["a.png", "-o", "out", "--strength", "2"],
        ["missing.png", "-o", "out"],
        ["a.png", "-o", "."],
    ],
)
def test_wrong_usage_is_code_2(calls, tmp_path, monkeypatch, args):
    picture(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["restore", *args])
    assert result.exit_code == 2 and result.stderr
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_all_named_with_their_source(calls, tmp_path):
    picture(tmp_path / "a.png")
    result = runner.invoke(
        app, ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--models",
              str(tmp_path)]
    )  # fmt: skip
    assert result.exit_code == 1
    for words in (
        "v2-1_512-ema-pruned.safetensors",
        "associate_2.ckpt",
        "embedding_change_weights.pth",
        "pytorch_lora_weights.safetensors",
        str(tmp_path / "checkpoints"),
        "jkwang28/OSDFace",
        "Open RAIL++-M",
    ):
        assert words in result.stderr
    assert not calls  # the nano models never step in


def test_osdface_from_files(calls, osdface_files, tmp_path, monkeypatch):
    monkeypatch.setattr(restore_module, "load_analyzer", lambda name, **needs: OneFace())
    picture(tmp_path / "a.png")
    args = ["--models", str(osdface_files), "--size", "64", "--json"]
    result = runner.invoke(
        app, ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "o"), *args]
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["done"][0]["faces"] == 1
    a, b = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("a", "o/a"))
    assert (a != b).any()
    np.testing.assert_array_equal(a[0], b[0])


def test_a_lora_of_another_model_is_refused(osdface_files, monkeypatch):
    from facewright.core.errors import LoraError
    from facewright.core.weights.model_folders import ModelFolders
    from safetensors.torch import save_file

    monkeypatch.setattr(restore_module, "load_analyzer", lambda name, **needs: OneFace())
    lora = {"unet.x.to_q.lora_A.weight": torch.zeros(2, 4)}
    lora["unet.x.to_q.lora_B.weight"] = torch.zeros(4, 2)
    save_file(lora, osdface_files / "loras/pytorch_lora_weights.safetensors")
    with pytest.raises(LoraError):
        load_restorer("osdface", ModelFolders([osdface_files]))
    (osdface_files / "checkpoints/v2-1_512-ema-pruned.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(CheckpointError):
        load_restorer("osdface", ModelFolders([osdface_files]))


def test_a_base_model_of_any_name(osdface_files, tmp_path, monkeypatch):
    monkeypatch.setattr(restore_module, "load_analyzer", lambda name, **needs: OneFace())
    for name in ("FACEWRIGHT_MODELS", "FACEWRIGHT_BASE"):
        monkeypatch.setenv(name, "")  # what the command sets goes away after the test
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    known = osdface_files / "checkpoints/v2-1_512-ema-pruned.safetensors"
    other = known.rename(osdface_files / "checkpoints/mine.safetensors")
    source = picture(tmp_path / "a.png", size=(96, 96))
    command = ["restore", str(source), "-o", str(tmp_path / "out"), "--models", str(osdface_files)]
    command += ["--size", "64"]
    lost = runner.invoke(app, command)
    assert lost.exit_code == 1 and "mine.safetensors: of the same architecture" in lost.stderr
    done = runner.invoke(app, [*command, "--base", str(other)])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "out" / "a.png").is_file()


def test_run_executes_a_workflow(tmp_path, monkeypatch):
    from facewright.headless import runner as runner_module
    from facewright.headless.host.builtin import BUILTIN

    classes = {n.GET_SCHEMA().node_id: n for n in BUILTIN}
    monkeypatch.setattr(runner_module, "node_classes", lambda: classes)
    picture(tmp_path / "a.png")
    api = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        "3": {
            "class_type": "PreviewAny",
            "inputs": {"source": ["1", 0]},
            "_meta": {"title": "Values"},
        },
    }
    (tmp_path / "w.json").write_text(json.dumps(api))
    args = ["--embedded", "-o", str(tmp_path / "o"), "--input-dir", str(tmp_path), "--json"]
    result = runner.invoke(
        app, ["run", str(tmp_path / "w.json"), "--set", "2.filename_prefix=y", *args]
    )
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["saved"] == [str((tmp_path / "o/y_00001_.png").resolve())]
    assert answer["texts"].keys() == {"3"} and answer["texts"]["3"].startswith("tensor(")
    words = runner.invoke(app, ["run", str(tmp_path / "w.json"), *args[:-1]])
    assert words.stdout == f"Values:\n{answer['texts']['3']}\n"
    bad = runner.invoke(app, ["run", str(tmp_path / "w.json"), "--set", "9.x=1", *args])
    assert bad.exit_code == 2 and "No node is called '9'" in bad.stderr
    assert runner.invoke(app, ["run", "w.json", "--set", "nonsense", *args]).exit_code == 2


def test_help_imports_neither_torch_nor_diffusers():
    code = (
        "import sys\n"
        "from facewright.headless.cli import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'diffusers', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_and_bundled_workflows_are_there_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0 and re.fullmatch(r"facewright \d+\.\d+\.\d+\n", result.stdout)
    by_name = read_workflow("nano_restore")
    assert by_name == read_workflow(
        Path(workflow_file.__file__).parents[2] / "workflows/nano_restore.json"
    )
    with pytest.raises(WorkflowError, match=r"come along: .*nano_restore"):
        read_workflow("nano_restor")
    with pytest.raises(WorkflowError, match="No such file"):
        read_workflow("elsewhere/nano_restore")
    (tmp_path / "nano_restore").write_text('{"1": {"class_type": "Mine", "inputs": {}}}')
    assert read_workflow("nano_restore")["1"]["class_type"] == "Mine"
