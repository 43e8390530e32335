"""Receipts that `facewright restore` writes: of the pixels in the file, whoever made them."""

import json

import pytest
import torch
from facewright.core.files.writing import content_hash
from facewright.core.images import read_picture
from facewright.core.video.files import write_video
from facewright.core.weights import nano
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.cli import app
from PIL import Image
from typer.testing import CliRunner

GROUP = FOLDER / "nano_group_lq.png"


@pytest.fixture(autouse=True)
def dated(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def restored(*args):
    """What the command wrote for people and for programs."""
    given = ["restore", *map(str, args), "--weights", "nano", "--receipts", "--json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["done"]


def read(path):
    return json.loads(path.with_name(f"{path.name}.receipts.json").read_text())


def test_a_receipt_says_what_was_asked_and_what_leaves(tmp_path):
    seen = {}
    for name, more in (
        ("plain", ()), ("nothing", ("--strength", 0)), ("weak", ("--strength", 0.3)),
        ("lab", ("--color", "lab")), ("held", ("--max-drift", 0.02)),
    ):  # fmt: skip
        out = tmp_path / f"{name}.png"
        (entry,) = restored(GROUP, "-o", out, *more)
        seen[name] = read(out)
        assert entry["boxes"] == [face["box"] for face in seen[name]["faces"]]
        assert entry["receipts"] == seen[name]["faces"]
        assert json.loads(Image.open(out).info["facewright_receipts"]) == seen[name]
    numbers = {
        name: [(f["drift"], f["color_difference"], f["seam"]) for f in content["faces"]]
        for name, content in seen.items()
    }
    assert len(set(map(str, numbers.values()))) == len(numbers)
    nothing = seen["nothing"]["faces"]
    assert all(
        (f["drift"], f["strength"], f["color_difference"], f["within"]) == (0, 0, 0, True)
        for f in nothing
    )
    assert torch.equal(read_picture(tmp_path / "nothing.png").pixels, read_picture(GROUP).pixels)
    assert {f["strength"] for f in seen["weak"]["faces"]} == {0.3}
    assert seen["lab"]["options"]["color"] == "lab" and seen["weak"]["options"]["strength"] == 0.3
    assert {f["verdict"] for f in seen["held"]["faces"]} == {"kept", "lowered"}
    assert all(f["drift"] <= 0.02 for f in seen["held"]["faces"])

    content = seen["plain"]
    assert content["date"] == "2023-11-14T22:13:20Z" and content["measured"] == "delivered"
    assert content["pictures"] == [
        {"width": 640, "height": 320, "name": GROUP.name, "sha256": content_hash(GROUP)}
    ]
    hashes = {model["name"]: model["sha256"] for model in content["models"]}
    assert "nano_vre.safetensors" in hashes
    assert all(content_hash(nano.NANO_DIR / name) == sha for name, sha in hashes.items())


@pytest.mark.slow
def test_workers_write_the_same_bytes(tmp_path):
    photos = tmp_path / "in"
    photos.mkdir()
    for name in ("a", "b", "c"):
        (photos / f"{name}.png").write_bytes(GROUP.read_bytes())
    for workers in (1, 2):
        out = tmp_path / f"by {workers}"
        restored(photos, "-o", out, "--max-drift", 0.02, "--workers", workers)
    for path in sorted((tmp_path / "by 1").iterdir()):
        if path.name != "restore.jsonl":
            assert path.read_bytes() == (tmp_path / "by 2" / path.name).read_bytes(), path.name


def test_a_videos_receipts_are_of_its_file(tmp_path):
    frame = read_picture(GROUP).pixels[:, :, :256]
    write_video(tmp_path / "clip.mp4", [frame] * 4, 25, crf=0)
    args = (tmp_path / "clip.mp4", "-o", tmp_path / "out.mp4", "--strength", 0.5, "--fade", 1)
    restored(*args, "--cut-threshold", 1)
    content = read(tmp_path / "out.mp4")
    assert content["format"] == "facewright.track_receipts" and content["version"] == 2
    assert content["pictures"] == [
        {"width": 256, "height": 320, "name": "clip.mp4",
         "sha256": content_hash(tmp_path / "clip.mp4")}
    ]  # fmt: skip
    assert content["options"]["strength"] == 0.5 and content["options"]["fade"] == 1
    for face in content["faces"]:
        # No more than was asked for, in the frames where it fades less.
        assert face["strength"]["mean"] <= 0.5 and face["worst"]["strength"] <= 0.5
        assert 0 < face["worst"]["drift"] < 0.1
