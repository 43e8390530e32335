"""`facewright restore --mask`: what lies beside or over a face stays, in pictures and videos."""

import json

import numpy as np
import pytest
import torch
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.landmarks import five_points
from facewright.core.geometry.paste import paste_faces
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.pipeline import pictures
from facewright.core.pipeline.masks import face_masks
from facewright.core.pipeline.options import MaskOptions
from facewright.headless.cli import app
from facewright.headless.make import restore_files
from facewright.headless.make.restore import Restorer
from facewright.training.world.faces3d import photos
from typer.testing import CliRunner

runner = CliRunner()
SIDE = 64
SHOWN = photos(1003, 3, 96, aligned=False)
POINTS = SHOWN.landmarks[0]
FACE = Face(
    (*POINTS.amin(0).tolist(), *POINTS.amax(0).tolist()), 1.0,
    points5=five_points(POINTS[None])[0], landmarks=POINTS,
)  # fmt: skip


class White:
    size, landmarker, takes_people, recogniser = SIDE, None, False, None

    def restore(self, lq, people, **how):
        return torch.ones_like(lq)


class OneFace:
    name = "fake"

    def detect(self, image):
        return [FACE]


class Upper:
    """Finds skin in the upper half of a crop."""

    net = torch.nn.Identity()

    def shows(self, crops, parts):
        found = torch.zeros(len(crops), SIDE, SIDE, dtype=torch.bool)
        found[:, : SIDE // 2] = "skin" in parts
        return found


@pytest.fixture(autouse=True)
def doubles(monkeypatch, tmp_path):
    load = lambda name, **choice: Restorer(White(), OneFace())  # noqa: E731
    monkeypatch.setattr(restore_files, "load_restorer", load)
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    pixels = (SHOWN.pixels[0] * 255).round() / 255
    write_picture(tmp_path / "in.png", pixels, Picture(pixels))


def cli(*args):
    return runner.invoke(app, ["restore", *map(str, args), "--weights", "nano", "--json"])


def expected(picture, options, parser=None):
    crops = align_faces(picture[None], [[FACE]], SIDE)
    masks = face_masks(crops, options, parser)
    return paste_faces(picture[None], crops, torch.ones_like(crops.pixels), masks=masks)[0][0]


@pytest.mark.parametrize("mode", ["oval", "parsing"])
def test_a_picture_is_restored_within_its_mask(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "load_parser", Upper)
    words = ("--mask", mode, "--mask-grow", 0.02, "--mask-feather", 0.1)
    result = cli(tmp_path / "in.png", "-o", tmp_path / "out.png", *words)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(result.stdout)["done"]
    assert f"mask of face 0: {mode}" in entry["report"]
    before, after = (read_picture(tmp_path / name).pixels for name in ("in.png", "out.png"))
    want = expected(before, MaskOptions(mode=mode, grow=0.02, feather=0.1), Upper)
    assert (after - want).abs().max() <= 0.51 / 255
    whole = cli(tmp_path / "in.png", "-o", tmp_path / "whole.png")
    assert whole.exit_code == 0
    changed = {
        name: (read_picture(tmp_path / name).pixels != before).any(0)
        for name in ("out.png", "whole.png")
    }
    assert changed["out.png"].sum() < 0.7 * changed["whole.png"].sum()
    assert not (changed["out.png"] & ~changed["whole.png"]).any()


def test_a_video_is_restored_within_its_ovals(tmp_path):
    av = pytest.importorskip("av")
    picture = read_picture(tmp_path / "in.png").pixels
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for _ in range(6):
            frame = (picture.movedim(0, -1) * 255).round().byte().numpy()
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    words = ("--mask", "oval", "--fade", 0, "--crf", 4)
    result = cli(tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", *words)
    assert result.exit_code == 0, result.output
    want = expected(picture, MaskOptions())
    with av.open(str(tmp_path / "out.mp4")) as made:
        frames = [f.to_ndarray(format="rgb24") for f in made.decode(video=0)]
    assert len(frames) == 6
    got = torch.from_numpy(np.stack(frames)).movedim(-1, 1) / 255
    assert (got - want).abs().mean() < 0.02
    assert (got[:, :, 5:30] - picture[:, 5:30]).abs().mean() < 0.02 < (want - picture).abs().mean()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mask-grow", "0.1"), "--mask-grow shapes a mask; choose one with --mask, too."),
        (("--mask-parts", "skin"), "--mask-parts shapes a mask"),
        (("--mask", "round"), "not one of none, oval, parsing"),
        (("--mask", "parsing", "--mask-parts", "chin"), "'chin' is none of skin, brows"),
        (("--mask", "parsing"), "parsing_parsenet.pth or parsing_bisenet.pth"),
    ],
)
def test_what_cannot_be_meant_or_is_missing_is_said_at_once(words, said, tmp_path):
    result = cli(tmp_path / "in.png", "-o", tmp_path / "out.png", *words)
    assert result.exit_code == 2 and not (tmp_path / "out.png").exists()
    text = " ".join(
        (result.output + (result.stderr or ""))
        .replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ")
        .split()
    )
    assert said in text
