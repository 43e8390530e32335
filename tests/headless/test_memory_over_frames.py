"""Peak memory of 1000 frames against 100, each in a process of its own."""

import json
import subprocess
import sys

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]

START = """
import json, os, sys
os.environ["OMP_NUM_THREADS"] = "1"
import torch
import torch.nn.functional as F
torch.set_num_threads(1)
count, folder = int(sys.argv[1]), sys.argv[2]

def done(**facts):
    # Not getrusage: that remembers what was there before exec, which is pytest.
    (line,) = (x for x in open("/proc/self/status") if x.startswith("VmHWM"))
    peak = int(line.split()[1]) * 1024
    print(json.dumps({"peak": peak, **facts}))
"""

WEIGHTLESS = (
    START
    + """
from facewright.core.faces import Face
from facewright.headless.host.host import HeadlessHost

class Told:
    name = "told"
    def detect(self, image):
        return [Face((20, 20, 60, 60), 0.9), Face((60, 30, 90, 60), 0.9)]

class Backbone:
    factor = 8
    def encode(self, pixels, generator=None):
        return F.avg_pool2d(pixels, 8)
    def denoise(self, z_t, t, cond):
        return z_t
    def decode(self, z_0, *, full_precision=False):
        return F.interpolate(z_0, scale_factor=8.0)

class Vre(torch.nn.Module):
    def forward(self, crops):
        return torch.zeros(len(crops), 4, 8)

HeadlessHost.backbone = lambda self, model, vae: Backbone()
HeadlessHost.latent = lambda self, model, z: {"samples": z}
HeadlessHost.lacking = lambda self, model: ""
shared = dict(model=None, vae=None, faces_at_once=4)
paste = dict(feather=0.12, color="lab", strength=1.0)
smoothing = dict(fill_gaps=3, fade=3, cut_threshold=0.1)
"""
)

CHAIN = (
    WEIGHTLESS
    + """
from facewright.nodes.faces import DetectFaces, PasteFaces
from facewright.nodes.frames import SmoothFaces
from facewright.nodes.one_step import OneStepRestore

with torch.no_grad():
    frames = torch.rand(1, 96, 128, 3).expand(count, -1, -1, -1).contiguous()
    found = DetectFaces.execute(
        image=frames, analyzer=Told(), crop_size=64, order="size", pick="", min_size=0,
        min_score=0.0, max_faces=0, padding=0.0,
    ).result
    steady = SmoothFaces.execute(image=frames, faces=found[0], strength=0.5, **smoothing).result
    restored = OneStepRestore.execute(
        conditioning=[[torch.zeros(len(steady[1]), 4, 8), {}]], image=steady[1], timestep=399,
        posterior="mean", seed=0, **shared,
    ).result
    pasted = PasteFaces.execute(image=frames, faces=steady[0], restored=restored[0], **paste).result
kept = [frames, found[0].pixels, steady[0].pixels, *found, *steady, *restored, *pasted]
done(kept=sum(x.nbytes for x in kept if isinstance(x, torch.Tensor)))
"""
)

VIDEO = (
    WEIGHTLESS
    + """
from pathlib import Path
from facewright.core.video.files import write_video
from facewright.headless.host.videos import VideoFile
from facewright.nodes.frames import RestoreVideo

path = Path(folder) / f"{count}.mp4"
write_video(path, (torch.rand(3, 96, 128) for _ in range(count)), 25)
with torch.no_grad():
    _, report, _ = RestoreVideo.execute(
        video=VideoFile(path), vre=Vre(), analyzer=Told(), crop_size=64, smoothing=0.5,
        min_size=0, min_score=0.0, order="size", max_faces=0, crf=16, **smoothing, **shared,
        **paste,
    ).result
done(report=report)
"""
)

COMMAND = (
    WEIGHTLESS
    + """
from pathlib import Path
from facewright.core.methods._onestep import OneStepFaces
from facewright.core.people.recogniser import Recogniser
from facewright.core.pipeline.pictures import Restorer
from facewright.core.video.files import write_video
from facewright.headless.cli import main
from facewright.headless.make import restore_files

class Looks(torch.nn.Module):
    def forward(self, x):
        return torch.ones(len(x), 12)  # one person each; noise would be somebody else every frame

class Points(Told):
    points = 68
    def landmarks(self, crops):
        return torch.rand(len(crops), 68, 2) * crops.shape[-1]

def load(name, **choice):
    embed = lambda lq, people: torch.zeros(len(lq), 4, 8)
    method = OneStepFaces(backbone=Backbone(), embed=embed, size=64)
    return Restorer(method, Points(), Recogniser(Looks(), name="nano-identity", dim=12))

restore_files.load_restorer = load
path = Path(folder) / f"{count}.mp4"
write_video(path, (torch.rand(3, 96, 128) for _ in range(count)), 25)
options = ["--weights", "nano", "--receipts", "--max-drift", "1", "--color", "adain", "--compare"]
sys.argv = ["facewright", "restore", str(path), "-o", f"{folder}/out{count}", *options]
try:
    main()
except SystemExit as end:
    assert not end.code
done(receipts=Path(f"{folder}/out{count}/{count}.mp4.receipts.json").read_text())
"""
)

FOLDER = (
    START
    + """
from facewright.headless.cli import main

sys.argv = ["facewright", "restore", folder, "-o", folder + "_restored", "--weights", "nano"]
try:
    main()
except SystemExit as end:
    assert not end.code
done()
"""
)


def run(code, count, folder):
    done = subprocess.run(
        [sys.executable, "-c", code, str(count), str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nodes_add_nothing_that_grows_to_what_comes_in_and_goes_out(tmp_path):
    few, many = (run(CHAIN, count, tmp_path) for count in (100, 1000))
    growth, results = many["peak"] - few["peak"], many["kept"] - few["kept"]
    # One more copy of the frames would show; the heap's own gaps are about half of that.
    assert growth < results + 900 * 96 * 128 * 3 * 4, (few, many)


def test_a_video_of_1000_frames_needs_what_100_need(tmp_path):
    pytest.importorskip("av")
    few, many = (run(VIDEO, count, tmp_path) for count in (100, 1000))
    assert "2000 faces restored" in many["report"]
    assert many["peak"] < 1.2 * few["peak"]


def test_the_command_needs_for_1000_frames_what_100_need(tmp_path):
    pytest.importorskip("av")
    few, many = (run(COMMAND, count, tmp_path) for count in (100, 1000))
    assert [face["frames"]["count"] for face in json.loads(many["receipts"])["faces"]] == [1000] * 2
    assert many["peak"] < 1.2 * few["peak"], (few["peak"], many["peak"])


def test_a_folder_of_1000_frames_needs_what_100_need(tmp_path):
    from facewright.core import demo
    from facewright.core.images import Picture, write_picture

    lq, _ = demo.picture("face")
    face = torch.nn.functional.interpolate(lq, (128, 128), mode="area")[0]
    blank = torch.full((3, 128, 128), 0.5)
    peaks = []
    for count in (100, 1000):
        for i in range(count):
            pixels = blank if i % 20 else face
            write_picture(tmp_path / str(count) / f"{i:04}.png", pixels, Picture(pixels))
        peaks.append(run(FOLDER, count, tmp_path / str(count))["peak"])
        assert len(list((tmp_path / f"{count}_restored").glob("*.png"))) == count
    assert peaks[1] < 1.2 * peaks[0]
