"""Commands on the device, each in a process of its own, as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..image_models import restoreformer

ROOT = Path(__file__).parents[2]
START = [sys.executable, str(ROOT / "tests/pretended_device.py")]
if os.environ.get("FACEWRIGHT_DEVICE") != "privateuseone":
    START = [sys.executable, "-m", "facewright"]
LQ, GT = ROOT / "workflows/nano_face_lq.png", ROOT / "workflows/nano_face_gt.png"
PHOTOS = ROOT / "workflows/nano_ada_photos.png"

pytestmark = pytest.mark.slow


def command(*words):
    words = [*START, *map(str, words)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_demo(tmp_path):
    command("demo", "-o", tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize("more", [(), ("--workers", 2)])
def test_restore(tmp_path, more):
    command("restore", LQ, "-o", tmp_path, "--weights", "nano", "--seed", 1, "--receipts", *more)
    assert (tmp_path / LQ.name).exists() and (tmp_path / f"{LQ.name}.receipts.json").exists()


def test_restore_with_a_face_restorers_file(tmp_path):
    pytest.importorskip("spandrel")
    path = restoreformer(tmp_path / "r.pth")
    words = ("--weights", path, "--analyzer", "nano", "--seed", 1)
    command("restore", LQ, "-o", tmp_path / "out", *words)
    assert (tmp_path / "out" / LQ.name).read_bytes() != LQ.read_bytes()


def test_restore_a_video(tmp_path):
    pytest.importorskip("av")
    from facewright.core import demo
    from facewright.core.video.files import write_video

    write_video(tmp_path / "a.mp4", demo.picture("moving group")[0][:4], 16)
    words = ("--weights", "nano", "--color", "adain", "--max-drift", 0.05, "--seed", 1)
    command("restore", tmp_path / "a.mp4", "-o", tmp_path / "out", "--receipts", *words)
    assert (tmp_path / "out/a.mp4.receipts.json").exists()


def test_an_album_and_who_is_who(tmp_path):
    words = ("--analyzer", "nano", "--recogniser", "nano")
    command("person", "make", GT, "-o", tmp_path / "ada.person", *words)
    command("restore", LQ, "-o", tmp_path, "--weights", "nano", "--person", tmp_path / "ada.person",
            "--max-drift", 0.3)  # fmt: skip


def test_align(tmp_path):
    command("align", GT, "-o", tmp_path / "a", "--analyzer", "nano", "--json")


def test_evaluate_and_score(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "g").mkdir()
    for name, lq in (("a.png", LQ), ("b.png", GT)):  # a Fréchet distance takes two
        (tmp_path / "r" / name).write_bytes(lq.read_bytes())
        (tmp_path / "g" / name).write_bytes(GT.read_bytes())
    command("evaluate", tmp_path / "r", "--gt", tmp_path / "g", "-o", tmp_path / "e", "--faces",
            "nano")  # fmt: skip
    done = command("score", LQ, GT, "--faces", "nano", "--json")
    assert json.loads(done.stdout)


def test_run(tmp_path):
    words = ("--embedded", "--input-dir", ROOT / "workflows", "-o", tmp_path)
    command("run", ROOT / "workflows/nano_restore.json", *words)


def test_synthesize(tmp_path):
    command("synthesize", GT, "-o", tmp_path, "--weights", "nano", "--steps", 2)


def test_doctor_says_where():
    report = json.loads(command("doctor", "--no-hash", "--json").stdout)
    assert "FACEWRIGHT_DEVICE" in report["dtypes"]["why"]
