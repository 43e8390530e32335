"""Face restorers from files that people have, through Python and `facewright restore`."""

import json

import pytest
import torch
from facewright.core import demo
from facewright.core.faces import find_faces, load_analyzer
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.paste import paste_faces
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.methods import classic
from facewright.core.modules.iresnet import IResNet
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless import RestoreOptions, load_restorer
from facewright.headless.cli import app
from typer.testing import CliRunner

from ..image_models import esrgan, restoreformer

spandrel = pytest.importorskip("spandrel")
runner = CliRunner()


@pytest.fixture(scope="module")
def restorer_file(tmp_path_factory):
    return restoreformer(tmp_path_factory.mktemp("restorer") / "r.pth")


@pytest.fixture
def models(tmp_path, restorer_file, monkeypatch):
    """A models folder as packs for face restoring leave it, and small crops."""
    monkeypatch.setattr(classic, "SIDE", 64)
    monkeypatch.setattr(classic.ClassicFaces, "size", 64)
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    folder = tmp_path / "models/facerestore_models"
    folder.mkdir(parents=True)
    (folder / "RestoreFormer.pth").write_bytes(restorer_file.read_bytes())
    return folder.parent


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    pixels = demo.picture("group")[0][0]
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    write_picture(path, pixels, Picture(pixels))
    return path


def cli(*args):
    done = runner.invoke(app, ["restore", *map(str, args)])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def by_hand(restorer_file, photo):
    """Each step by itself, with spandrel as it comes: the picture and its mask."""
    network = spandrel.ModelLoader().load_from_file(restorer_file)
    pixels = read_picture(photo).pixels
    crops = align_faces(pixels[None], [find_faces(load_analyzer("nano"), pixels)], 64)
    faces = torch.cat([network(face).clone() for face in crops.pixels.split(1)])
    pasted, mask = paste_faces(pixels[None], crops, faces)
    return pasted[0], mask[0]


def test_a_picture_is_what_spandrel_and_pasting_by_hand_give(models, photo, restorer_file, by_hand):
    restorer = load_restorer(str(restorer_file), models, analyzer="nano")
    done = restorer.restore(read_picture(photo).pixels)
    pasted, mask = by_hand
    assert done.faces > 1
    assert torch.equal(done.pixels, pasted) and torch.equal(done.mask, mask)
    outside = (mask == 0).expand_as(pasted)
    assert torch.equal(done.pixels[outside], read_picture(photo).pixels[outside])


@pytest.mark.parametrize("name", ["classic", None])
def test_the_command_takes_a_name_or_a_file_and_says_which(
    models, photo, restorer_file, by_hand, tmp_path, name
):
    given = (*("-o", tmp_path / "out.png"), "--models", models, "--analyzer", "nano")
    code, output = cli(photo, *given, "--weights", name or restorer_file)
    assert code == 0, output
    said = (
        "RestoreFormer.pth: the face restorer RestoreFormer" if name else "r.pth: a face restorer"
    )
    assert said in output and "Licence:" in output
    written = read_picture(tmp_path / "out.png").pixels
    assert torch.equal(written, (by_hand[0] * 255).round() / 255)


def test_the_first_in_the_stated_order_is_taken(models):
    folder = models / "facerestore_models"
    (folder / "codeformer.pth").touch()
    spec = classic.SPECS[0]
    assert next(iter(spec.find(ModelFolders([models])).values())).name == "RestoreFormer.pth"
    (models / "upscale_models").mkdir()
    (models / "upscale_models/GFPGANv1.3.pth").touch()
    (folder / "GFPGANv1.4.pth").touch()
    found = spec.find(ModelFolders([models]))
    assert [p.name for p in found.values()] == ["GFPGANv1.3.pth"]  # ComfyUI's own folder first


def test_what_is_not_there_is_told_with_what_is(models, photo, tmp_path):
    (models / "upscale_models").mkdir()
    esrgan(models / "upscale_models/4x_foo.pth")
    given = (photo, *("-o", tmp_path / "out.png"), "--models", models, "--analyzer", "nano")
    code, output = cli(*given, "--weights", "gfpgan")
    assert code == 2 and "There is no restorer 'gfpgan'; known: osdface, classic" in output
    assert "There are 4x_foo.pth, RestoreFormer.pth." in output
    code, output = cli(*given, "--weights", "GFPGANv1.4.pth")
    assert code == 1 and "the face restorer GFPGAN is missing: put GFPGANv1.4.pth into" in output
    assert "There are 4x_foo.pth, RestoreFormer.pth." in output
    code, output = cli(*given, "--weights", "4x_foo.pth")
    assert code == 1 and "4x_foo.pth is an upscaler (ESRGAN, 4x), and no face restorer" in output
    code, output = cli(*given, "--weights", models / "nowhere.pth")
    assert code == 2 and "There is no file " in output
    code, output = cli(*given, "--weights", "classic", "--reference", photo)
    assert code == 2 and "classic restores from the picture alone" in output
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--size", 128), "sees faces of 64 pixels and no larger ones"),
        (("--fidelity", 0.5), "`fidelity` is an option of CodeFormer, and these weights are Re"),
        (
            ("--mask", "oval", "--mask-parts", "skin"),
            "--mask-parts are recognized by --mask parsing",
        ),
    ],
)
def test_what_no_picture_can_be_given_is_said_before_the_first(
    models, photo, restorer_file, tmp_path, asked, words
):
    given = (photo, "-o", tmp_path / "out", "--models", models, "--analyzer", "nano")
    code, output = cli(*given, "--weights", restorer_file, *asked)
    assert code == 2 and words in output, output
    assert not (tmp_path / "out").exists()


def test_the_guard_and_receipts_work_with_a_recogniser(models, photo, restorer_file, by_hand):
    restorer = load_restorer(str(restorer_file), models, analyzer="nano")
    restorer = restorer.with_recogniser(nano_recogniser(nano.load_identity("loss")))
    pixels = read_picture(photo).pixels
    held = restorer.restore(pixels, RestoreOptions(max_drift=0.0, on_drift="fall back"))
    assert held.guard and len(held.guard.receipts) == held.faces > 0
    torch.testing.assert_close(held.pixels, pixels, atol=0.06, rtol=0)  # a crop, pasted back
    told = restorer.restore(pixels, RestoreOptions(receipts=True))
    assert torch.equal(told.pixels, by_hand[0])


@pytest.mark.slow
def test_the_command_guards_and_writes_receipts(models, photo, restorer_file, tmp_path):
    (models / "facewright").mkdir()
    torch.save(IResNet((2, 2, 2, 2)).state_dict(), models / "facewright/backbone.pth")
    given = (photo, "-o", tmp_path / "out", "--models", models, "--weights", restorer_file)
    given += ("--analyzer", "nano", "--pick", 0, "--receipts", "--max-drift", 0)
    code, output = cli(*given, "--on-drift", "fall back")
    assert code == 0, output
    told = json.loads((tmp_path / "out/photo.png.receipts.json").read_text())
    (receipt,) = told["faces"]
    assert receipt["verdict"] == "fell back" and receipt["drift_restored"] > 0
    pixels = read_picture(tmp_path / "out/photo.png").pixels
    torch.testing.assert_close(pixels, read_picture(photo).pixels, atol=0.06, rtol=0)


@pytest.mark.slow
def test_a_video_is_restored_frame_by_frame(models, tmp_path, restorer_file):
    pytest.importorskip("av")
    from fractions import Fraction

    from facewright.core.pipeline.videos import restore_video
    from facewright.core.video.files import read_frames, write_video

    frames = demo.picture("moving group")[0][:3]
    write_video(tmp_path / "in.mp4", list(frames), Fraction(8), crf=0)
    restorer = load_restorer(str(restorer_file), models, analyzer="nano")
    done = restore_video(restorer, tmp_path / "in.mp4", tmp_path / "out.mp4", RestoreOptions(crf=0))
    assert done.faces > 2 and done.report.startswith("r.pth: a face restorer's file. Licence:")
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 3


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(tmp_path, restorer_file):
    """In processes of their own, so at the 512 pixels of the released weights."""
    face = demo.picture("face")[0][0]
    for name in ("a", "b"):
        write_picture(tmp_path / f"in/{name}.png", face, Picture(face))
        face = face.flip(-1)
    given = (tmp_path / "in", "--weights", restorer_file, "--analyzer", "nano", "--pick", 0)
    for out, more in (("one", ()), ("two", ("--workers", 2))):
        code, output = cli(*given, "-o", tmp_path / out, *more)
        assert code == 0, output
    for name in ("a.png", "b.png"):
        one, two = (tmp_path / out / name for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "one/a.png").read_bytes() != (tmp_path / "in/a.png").read_bytes()
