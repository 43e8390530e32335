"""`facewright person calibrate`: what is written, where it is found, and what is refused."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from facewright.core.doctor import diagnose
from facewright.core.errors import CheckpointError
from facewright.core.files.known import NANO_DIR
from facewright.core.people.limits import limits_file
from facewright.core.people.person import Person
from facewright.core.people.recogniser import load_recogniser, nano_recogniser
from facewright.core.weights import nano
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.cli import app
from facewright.headless.host.catalogue import plain_process
from facewright.headless.host.host import HeadlessHost
from facewright.nodes.recognition import LoadRecogniser
from facewright.training.world.faces3d import photos
from PIL import Image
from typer.testing import CliRunner

runner = CliRunner()


def calibrate(*args):
    return runner.invoke(app, ["person", "calibrate", *map(str, args)])


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture(scope="module")
def people(tmp_path_factory, recogniser):
    """A folder of two photos, and albums of 24 people that nobody has to render."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "ada").mkdir()
    for name, shot in (("1.png", 1), ("2.png", 2)):
        pixels = photos(7, shot, size=192, aligned=False).pixels[0]
        array = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(array).save(folder / "ada" / name)
    for i in range(24):
        write_album(folder / f"p{i}.person", i, recogniser.id)
    return folder


def write_album(path, seed, recogniser):
    g = torch.Generator().manual_seed(seed)
    middle = F.normalize(torch.randn(128, generator=g), dim=0)
    embeddings = F.normalize(middle + 0.03 * torch.randn(2, 128, generator=g), dim=1)
    Person(
        name=path.stem,
        crops=torch.zeros(2, 3, 4, 4),
        embeddings=embeddings,
        landmarks=torch.zeros(2, 68, 2),
        quality=torch.ones(2),
        recogniser=recogniser,
        sources=("a", "b"),
    ).save(path)


@pytest.fixture
def weights(tmp_path):
    """The bundled recogniser as a file of the user's."""
    path = tmp_path / "models/facewright/backbone.pth"
    path.parent.mkdir(parents=True)
    shutil.copy(NANO_DIR / "nano_identity_loss.safetensors", path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def measured(people, weights, *more):
    small = ("--analyzer", "nano", "--size", 128)
    return calibrate(people, "--recogniser", weights, *small, *more)


def test_limits_are_written_beside_the_weights_and_found_there(people, weights, recogniser):
    result = measured(people, weights)
    assert result.exit_code == 0, result.stderr
    file = weights.with_name("backbone.limits.json")
    assert f"Written to {file}" in result.stderr
    assert "25 people, 50 photos, 300 pairs of people" in result.stderr
    found = load_recogniser(weights)
    written = json.loads(file.read_text())
    assert written["recogniser"] == found.id == recogniser.id
    assert found.limits.same_person == written["same_person"] != recogniser.limits.same_person
    assert found.limits.false_match_rate == 0.01 and found.limits.cosine_at(0.01) > 0
    assert "1 % of strangers, 25 people of yours" in found.info
    # Measuring again does not start from what was measured, and a rate can be asked for.
    assert measured(people, weights, "--false-match-rate", 0.1).exit_code == 0
    assert load_recogniser(weights).limits.false_match_rate == 0.1


def test_limits_are_those_of_the_node_which_sees_that_they_changed(people, weights, monkeypatch):
    monkeypatch.setattr(HeadlessHost, "model_path", lambda self, kind, name: weights)
    before = LoadRecogniser.fingerprint_inputs(recogniser_file="b")
    measured(people, weights)
    assert LoadRecogniser.fingerprint_inputs(recogniser_file="b") != before
    assert "25 people of yours" in LoadRecogniser.execute(recogniser_file="b").result[1]


def test_other_weights_do_not_take_them(people, weights):
    measured(people, weights)
    shutil.copy(NANO_DIR / "nano_identity_metric.safetensors", weights)
    with pytest.raises(CheckpointError, match=r"backbone\.limits\.json.*of the recogniser nano-"):
        load_recogniser(weights)
    assert measured(people, weights).exit_code == 1  # the albums are of the other one
    assert load_recogniser(weights, calibrated=False)


def test_the_doctor_says_where_the_limit_comes_from(weights, tmp_path):
    def copy():
        around = plain_process(ModelFolders([tmp_path / "models"]))
        report = diagnose(around, hash_files=False)
        return next(e for e in report["weights"] if "backbone.pth" in e["names"])["copies"][0]

    backbone = weights.rename(weights.with_suffix(".pth"))
    assert copy()["limits"].endswith("(as shipped)")
    limits_file(backbone).write_text("{}")
    assert copy()["limits"] is None and "backbone.limits.json" in copy()["problem"]


def test_too_few_people_write_nothing(people, weights):
    result = measured(people / "ada", weights)
    assert result.exit_code == 1 and "25 people; here are 1" in result.stderr
    assert measured(people, weights, "--false-match-rate", 0.001).exit_code == 1
    assert not limits_file(weights).exists()


def test_too_few_people_are_said_before_any_face_is_looked_at(people, weights, monkeypatch):
    monkeypatch.setattr("facewright.headless.make.calibrate.albums_of", None)
    result = calibrate(people / "ada", "--recogniser", weights, "--analyzer", "nano")
    assert result.exit_code == 1 and "each a folder of photos, or an album" in result.stderr


def test_json_names_who_was_left_out(people, weights, tmp_path):
    other = tmp_path / "other.person"
    write_album(other, 99, "arcface-r50:12")
    result = calibrate(people, other, "--recogniser", "nano", "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["file"] is None and content["people"] == 25
    assert any("other.person was left out" in line for line in content["report"])
    assert [row["rate"] for row in content["table"]] == [0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
    out = tmp_path / "mine.limits.json"
    assert calibrate(people, "--recogniser", "nano", "-o", out).exit_code == 0
    assert json.loads(out.read_text())["measured"]["people"] == 25


def test_what_makes_no_sense_is_wrong_usage(people, tmp_path):
    assert calibrate(tmp_path / "nothing", "--recogniser", "nano").exit_code == 2
    assert calibrate(people, "--recogniser", "nano", "--analyzer", "x").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert calibrate(tmp_path / "empty", "--recogniser", "nano").exit_code == 2
