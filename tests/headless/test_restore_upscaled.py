"""`facewright restore --upscale`: the picture enlarged, and the restored faces put into it."""

import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.paste import paste_faces
from facewright.core.images import Picture, read_picture, to_array, write_picture
from facewright.core.methods._onestep import OneStepFaces
from facewright.core.modules.spandrel import load_image_model
from facewright.core.pipeline.options import RestoreOptions
from facewright.headless.cli import app
from facewright.headless.jobs.planning import Job
from facewright.headless.make import restore_files
from facewright.headless.make.restore import Restorer
from PIL import Image, ImageCms
from typer.testing import CliRunner

from ..image_models import esrgan, restoreformer

pytest.importorskip("spandrel")
runner = CliRunner()


class OneFace:
    name = "fake"

    def detect(self, image):
        h, w = image.shape[-2:]
        return [Face((w * 0.4, h * 0.4, w * 0.6, h * 0.6), 1.0)]


class Nobody:
    name = "nobody"

    def detect(self, image):
        return []


@pytest.fixture(autouse=True)
def found(monkeypatch, backbone):
    """Who finds faces; the method is a double."""
    finds = [OneFace()]

    def load(name, **choice):
        embed = lambda lq, people: torch.zeros(len(lq), 77, 4)  # noqa: E731
        return Restorer(OneStepFaces(backbone=backbone, embed=embed, size=32), finds[-1])

    monkeypatch.setattr(restore_files, "load_restorer", load)
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    return finds


@pytest.fixture(scope="module")
def x2(tmp_path_factory):
    return esrgan(tmp_path_factory.mktemp("models") / "x2.pth", scale=2)


def cli(*args):
    return runner.invoke(app, ["restore", *map(str, args), "--weights", "nano", "--json"])


def done(*args):
    result = cli(*args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["done"]


def pixels(height, width, channels=3, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def photograph(path):
    """16 bits, alpha, a color profile, and sizes in EXIF."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({40962: 60, 40963: 44})
    exif[271] = "A camera"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    like = Picture(torch.empty(0), bits=16, icc=icc, exif=exif.tobytes())
    write_picture(path, pixels(44, 60, 4), like)
    return path


def test_depth_alpha_profile_and_exif_are_those_of_a_larger_picture(tmp_path, x2):
    source = photograph(tmp_path / "in.png")
    (entry,) = done(source, "-o", tmp_path / "out", "--upscale", x2)
    assert entry["faces"] == 1 and "120 x 88 pixels by x2.pth" in entry["report"]
    before, after = read_picture(source), read_picture(tmp_path / "out/in.png")
    assert after.pixels.shape == (4, 88, 120) and after.bits == 16 and after.icc == before.icc
    exif = Image.Exif()
    exif.load(after.exif)
    assert exif[271] == "A camera"
    assert [exif.get_ifd(0x8769)[tag] for tag in (40962, 40963)] == [120, 88]

    # By hand: spandrel on all of the picture, faces cut out of it as it came, pasted by core.
    larger = load_image_model(x2)(before.pixels[None, :3])
    crops = align_faces(before.pixels[None], [OneFace().detect(before.pixels[:3])], 32)
    restored = restore_files.load_restorer("nano").renewed(crops.pixels, [None], RestoreOptions())
    expected, mask = paste_faces(larger, crops, restored)
    assert 0 < (mask > 0).float().mean() < 0.5
    assert np.array_equal(to_array(after.pixels[:3], 16), to_array(expected[0], 16))
    # Half of the pixels are finer than 8 bits could say.
    assert (to_array(after.pixels[:3], 16) % 257 != 0).mean() > 0.9


def test_a_turned_gray_photograph_without_a_face(tmp_path, x2, found):
    found.append(Nobody())
    gray = (pixels(30, 50)[0].numpy() * 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    Image.fromarray(gray).save(tmp_path / "in.jpg", exif=exif, quality=100)
    out = tmp_path / "out.jpg"
    (entry,) = done(tmp_path / "in.jpg", "-o", out, "--upscale", x2, "--upscale-by", 1.5)
    why, enlarged = entry["report"].splitlines()
    assert why.startswith("no face found by ") and enlarged == "45 x 75 pixels by x2.pth"
    after = read_picture(out)
    assert after.pixels.shape == (3, 75, 45) and after.grey


def test_sizes_that_a_file_cannot_hold_are_refused_before_the_work(tmp_path, x2, monkeypatch):
    write_picture(tmp_path / "in.webp", pixels(4, 8200), Picture(torch.empty(0)))
    monkeypatch.setattr(Restorer, "restore", None)
    result = cli(tmp_path / "in.webp", "-o", tmp_path / "out", "--upscale", x2)
    (failed,) = json.loads(result.stdout)["failed"]
    assert "in.webp would have 16400 x 8 pixels, and WEBP holds at most 16383" in failed["error"]


def test_what_is_no_upscaler_is_wrong_usage(tmp_path, x2):
    write_picture(tmp_path / "in.png", pixels(40, 40), Picture(torch.empty(0)))
    (tmp_path / "facerestore_models").mkdir()
    face = restoreformer(tmp_path / "facerestore_models/RestoreFormer.pth")
    for options, words in (
        (["--upscale", face], "is a face restorer"),
        (["--upscale", "RestoreFormer.pth", "--models", tmp_path], "is a face restorer"),
        (["--upscale", "x9.pth"], "There is no x9.pth in the upscale_models folder"),
        (["--upscale", tmp_path / "x9.pth"], f"There is no file {str(tmp_path)[:20]}"),
        (["--upscale", ""], "`upscale` is empty"),
        (["--upscale-by", "2"], "upscaler, too"),
        (["--upscale", x2, "--upscale-tile", "16"], "--upscale-tile"),
    ):
        result = cli(tmp_path / "in.png", "-o", tmp_path / "out", *options)
        assert result.exit_code == 2 and words in " ".join(
            result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split()
        ), result.output


def test_work_for_other_processes_enlarges_alike(tmp_path, x2):
    source = tmp_path / "in.png"
    write_picture(source, pixels(40, 60), Picture(torch.empty(0)))
    options = RestoreOptions(upscale=str(x2))
    here = restore_files.RestoreFile(restore_files.RestorerChoice("nano"), options)
    here(Job(source, tmp_path / "here.png", "in.png"))
    there = pickle.loads(pickle.dumps(here.unloaded()))
    assert len(pickle.dumps(there)) < 10_000, "the network stays where it is"
    there(Job(source, tmp_path / "there.png", "in.png"))
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()
    assert read_picture(tmp_path / "here.png").pixels.shape == (3, 80, 120)


def test_a_video_is_enlarged_with_its_sound(tmp_path, x2, found):
    av = pytest.importorskip("av")
    from facewright.core.video.files import read_frames, write_video

    tone = torch.sin(2 * math.pi * 440 * torch.arange(4000) / 16000)[None] * 0.3
    frames = [
        torch.nn.functional.interpolate(pixels(5, 6, seed=i)[None], (40, 48))[0] for i in range(3)
    ]
    write_video(tmp_path / "in.mp4", frames, Fraction(16), crf=0, sound=(tone, 16000))
    for finder in (OneFace(), Nobody()):
        found.append(finder)
        out = tmp_path / f"{finder.name}.mp4"
        options = ("--upscale", x2, "--crf", 0, "--compare")
        done(tmp_path / "in.mp4", "-o", out, *options)
        with av.open(str(out)) as container:
            assert [s.type for s in container.streams] == ["video", "audio"]
            assert container.streams.video[0].frames == 3
        network = load_image_model(x2)
        for i, (old, new) in enumerate(
            zip(read_frames(tmp_path / "in.mp4"), read_frames(out), strict=True)
        ):
            assert new.shape == (3, 80, 96)
            away = (new - network(old[None])[0]).abs()[:, :20]  # where there is no face
            assert away.mean() < 0.03, i
    assert read_picture(tmp_path / "fake_compare.png").pixels.shape == (3, 80, 2 * 96 + 4)


def test_the_result_must_be_writable(x2):
    restorer = restore_files.load_restorer("nano")
    large = torch.empty(3, 8000, 1).expand(-1, -1, 8000)
    with pytest.raises(FacewrightError, match="16000 x 16000, 256 megapixels"):
        restorer.restore(large, RestoreOptions(upscale=str(x2)))
