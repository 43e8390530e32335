"""`facewright person`: what is written, what is said, and the exit codes."""

import json

import numpy as np
import pytest
from facewright.core.people.person import Person
from facewright.headless.cli import app
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene
from PIL import Image
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three photos of one person, one in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "old").mkdir()
    for name, shot in (("a.png", 1), ("b.png", 2), ("old/c.png", 3)):
        pixels = photos(7, shot, size=256, aligned=False).pixels[0]
        array = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(array).save(folder / name)
    return folder


def person(*args):
    return runner.invoke(app, ["person", *map(str, args)])


def make(*args):
    return person("make", *args, "--recogniser", "nano")


def test_a_folder_becomes_an_album(folder, tmp_path):
    out = tmp_path / "sub/alice.person"
    result = make(folder, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "alice: 3 photographs at 128 px" in result.stderr
    album = Person.from_file(out)
    assert album.name == "alice" and album.sources == ("a.png", "b.png", "c.png")
    assert str(folder).encode() not in out.read_bytes()

    sheet = tmp_path / "sheet.png"
    result = person("show", out, "--sheet", sheet)
    assert result.exit_code == 0 and "b.png: quality 0." in result.stderr
    assert Image.open(sheet).size[0] >= 128
    shown = json.loads(person("show", out, "--json").stdout)
    assert shown["name"] == "alice" and shown["landmarks"] == 68 and len(shown["photos"]) == 3


def test_what_cannot_be_read_is_named_and_the_rest_is_used(folder, tmp_path):
    bad, wall = tmp_path / "bad.jpg", tmp_path / "wall.png"
    bad.write_bytes(b"no picture")
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(wall)
    out = tmp_path / "x.person"
    result = make(folder / "a.png", bad, wall, "-o", out, "--name", "alice", "--size", 96, "--json")
    assert result.exit_code == 1
    assert "1 of 3 photos cannot be read" in result.stderr and "bad.jpg" in result.stderr
    made = json.loads(result.stdout)
    assert made["name"] == "alice" and made["size"] == 96
    assert made["failed"][0]["input"] == str(bad)
    assert "wall.png: left out, no face was found" in made["report"]
    assert Person.from_file(out).sources == ("a.png",)


def test_a_face_of_a_group_is_taken_by_its_number(folder, tmp_path):
    group = tmp_path / "group.png"
    pixels = group_scene(5, [8, 7, 9]).pixels
    Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy()).save(group)
    seven, eight = tmp_path / "seven.person", tmp_path / "eight.person"
    assert make(folder / "a.png", "-o", seven).exit_code == 0
    result = make(group, "-o", eight, "--face", "group.png=0")
    assert result.exit_code == 0 and "was taken" not in result.stderr
    likeness = float(Person.from_file(eight).template @ Person.from_file(seven).template)
    assert likeness < 0.65  # the one most like nobody else, or the largest, might be anybody
    added = person("add", seven, group, "--face", "group.png=1")
    assert added.exit_code == 0 and len(Person.from_file(seven)) == 2, added.stderr
    for face, code, words in (
        ("group.png=3", 1, "Face 3 of group.png is chosen, but it has faces 0 to 2"),
        ("other.png=1", 2, "no photo is called so. There are group.png"),
    ):
        result = make(group, "-o", tmp_path / "x.person", "--face", face)
        assert result.exit_code == code and words in " ".join(result.stderr.split())


def test_without_a_usable_photo_nothing_is_written(tmp_path):
    bad, wall = tmp_path / "bad.jpg", tmp_path / "wall.png"
    bad.write_bytes(b"")
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(wall)
    out = tmp_path / "x.person"
    result = make(bad, "-o", out)
    assert result.exit_code == 1 and "bad.jpg is empty" in result.stderr
    result = make(wall, "-o", out)
    assert result.exit_code == 1
    assert "wall.png: left out, no face was found" in result.stderr
    (tmp_path / "a.dng").write_bytes(b"")
    assert "Left aside: 1 .dng" in make(tmp_path, "-o", out).stderr
    assert not out.exists()


def test_wrong_usage_is_2(folder, tmp_path):
    out = tmp_path / "x.person"
    for args, words in (
        ((tmp_path / "nothing.png", "-o", out), "There is no file"),
        ((folder, "-o", tmp_path / "x.png"), "Invalid value for --out"),
        ((folder, "-o", out, "--analyzer", "magic"), "Invalid value for --analyzer"),
    ):
        result = make(*args)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
    assert person("show", tmp_path / "nothing.person").exit_code == 2


def test_files_that_do_not_fit_are_named(folder, tmp_path):
    out = tmp_path / "x.person"
    result = person("make", folder, "-o", out, "--recogniser", "r50.pth", "--analyzer", "nano")
    assert result.exit_code == 1 and "r50.pth" in result.stderr
    assert str(tmp_path / "models") in result.stderr
    result = person("make", folder, "-o", out, "--analyzer", "nano")
    assert result.exit_code == 1 and "ArcFace" in result.stderr and "backbone.pth" in result.stderr
    result = make(folder, "-o", out, "--analyzer", "skimage")
    assert result.exit_code == 1 and "no dense landmarks" in result.stderr
    out.write_bytes(b"something else")
    result = person("show", out)
    assert result.exit_code == 1 and "x.person" in result.stderr


def test_a_recogniser_in_the_models_folder(folder, tmp_path, monkeypatch):
    """By name or by path, through `load_recogniser`."""
    from facewright.core.people import recogniser as recognition
    from facewright.core.weights import nano

    (tmp_path / "models/facewright").mkdir(parents=True)
    file = tmp_path / "models/facewright/r50.pth"
    file.write_bytes(b"weights")
    asked = []

    def load(path, calibrated=True):
        asked.append(path)
        return recognition.nano_recogniser(nano.load_identity("loss"))

    monkeypatch.setattr(recognition, "load_recogniser", load)
    out = tmp_path / "x.person"
    for given in ("r50.pth", file):
        result = person("make", folder, "-o", out, "--recogniser", given, "--analyzer", "nano")
        assert result.exit_code == 0, result.stderr
    assert asked == [file, file] and Person.from_file(out).crops.shape[-1] == 512
