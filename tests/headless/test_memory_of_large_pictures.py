"""Peak memory of 48 megapixels with 20 faces against the same faces in a small picture."""

import json
import subprocess
import sys

import numpy as np
import pytest
from facewright.core import demo
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]

COMMAND = """
import json, os, sys
os.environ["OMP_NUM_THREADS"] = "1"
import torch
torch.set_num_threads(1)
from facewright.headless.cli import main

try:
    main()
except SystemExit as end:
    assert not end.code
(line,) = (x for x in open("/proc/self/status") if x.startswith("VmHWM"))
print(json.dumps({"peak": int(line.split()[1]) * 1024}))
"""


def crowd(path, width, height):
    """A picture in which the bundled analyzer finds 20 faces, a ninth of its height each."""
    canvas = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    face = Image.open(demo.FACE_GT).convert("RGB").resize((height // 9, height // 9))
    for i in range(20):
        x, y = width * (2 * (i % 5) + 1) // 10, height * (2 * (i // 5) + 1) // 8
        canvas.paste(face, (x - face.width // 2, y - face.height // 2))
    canvas.save(path)
    return path


def run(path, out, *options):
    args = ["restore", str(path), "-o", str(out), "--weights", "nano", "--json", *options]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *args], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary, peak = done.stdout.rsplit("\n", 2)[:2]
    assert json.loads(summary)["done"][0]["faces"] == 20
    return json.loads(peak)["peak"]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_48_megapixels_need_two_pictures_more_than_the_faces_alone(tmp_path, suffix):
    """What was read and what is written, in float32; and some for the mask where the faces are."""
    small = run(crowd(tmp_path / f"small.{suffix}", 1280, 960), tmp_path / "small")
    large = run(crowd(tmp_path / f"large.{suffix}", 8000, 6000), tmp_path / "large")
    two_pictures = 2 * 8000 * 6000 * 3 * np.dtype(np.float32).itemsize
    assert large - small < 1.1 * two_pictures, (small, large, (large - small) / two_pictures)
