"""Commands that take the best face analyzer that is ready, and say which."""

from pathlib import Path

import pytest
import torch
from facewright.core import faces
from facewright.core.errors import CheckpointError
from facewright.core.faces import AutoAnalyzer, Choice, load_analyzer
from facewright.core.images import Picture, write_picture
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless.cli import app
from facewright.headless.cli.align import _decided
from facewright.headless.cli.evaluate import Measured
from facewright.headless.make import people
from facewright.headless.make.options import AlignOptions, KeepOptions
from facewright.training.world.faces3d import photos
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def asked(monkeypatch):
    """What analyzers were loaded; auto chooses nano, which knows the pictures here."""
    asked, own = [], faces.load_analyzer

    def load(name, *args, **needs):
        asked.append((name, needs))
        file = Path("models/detection/face.task")
        return AutoAnalyzer(own("nano"), Choice("nano", file, ())) if name == "auto" else own(name)

    monkeypatch.setattr(faces, "load_analyzer", load)
    return asked


def test_albums_are_made_with_one_that_gives_landmarks(asked, tmp_path, monkeypatch):
    judge = nano_recogniser(nano.load_identity("loss"))
    monkeypatch.setattr(people, "find_recogniser", lambda given: judge)
    pixels = photos(7, 1, size=256, aligned=False).pixels[0]
    write_picture(tmp_path / "a.png", pixels, Picture(pixels))
    command = ["person", "make", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.person")]
    result = runner.invoke(app, [*command, "--size", "128"])
    assert result.exit_code == 0, result.stderr
    assert asked == [("auto", {"dense": True})]
    assert "Faces are looked for by nano (models/detection/face.task)." in result.stderr
    again = [*command, "--analyzer", "nano", "--overwrite"]
    assert runner.invoke(app, again).exit_code == 0
    assert asked[1][0] == "nano"


def test_scores_are_read_by_one_that_gives_landmarks(asked, tmp_path, capsys):
    settings = Measured(metrics="ald", faces="auto").settings(tmp_path, sets=False)
    assert settings.faces == "nano" and asked[0] == ("auto", {"dense": True})
    assert "looked for by nano" in capsys.readouterr().err


def test_without_one_that_does_its_file_is_named(tmp_path):
    with pytest.raises(CheckpointError) as error:
        Measured(metrics="ald", faces="auto").settings(tmp_path, sets=False)
    assert "put face_landmarker.task" in str(error.value)
    assert str(tmp_path / "models" / "detection") in str(error.value)


def test_photos_are_aligned_by_the_one_that_is_ready(tmp_path):
    options, (said, *broken) = _decided(AlignOptions(), KeepOptions())
    assert options.analyzer == "skimage" and not broken
    assert "because face_landmarker.task is not in" in said
    assert load_analyzer("auto").detect(torch.zeros(3, 64, 64)) == []
    named, nothing = _decided(AlignOptions(analyzer="nano"), KeepOptions())
    assert named.analyzer == "nano" and nothing == []
