"""`facewright pairs`: what belongs together, told before training refuses it."""

import json

import numpy as np
import pytest
from facewright.headless.cli import app
from facewright.training.data.opening import open_source
from facewright.training.settings.config import ConfigError
from facewright.training.settings.data_sections import PairsData
from PIL import Image
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(app, ["pairs", *map(str, arguments)])


def save(path, width=90, height=80, value=120):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, value, value)).save(path)


@pytest.fixture
def haze(tmp_path):
    for i in range(1, 6):
        save(tmp_path / f"haze/GT/{i:02}_GT.png", value=200)
        save(tmp_path / f"haze/hazy/{i:02}_hazy.png", value=40)
    return tmp_path / "haze"


def told(result):
    return " ".join(result.output.split())


def test_pairs_are_listed_with_the_rule_and_the_config_that_trains_on_them(haze, tmp_path):
    result = run(haze, "--size", 64, "--show", 2, "--sheet", tmp_path / "sheet.png")
    words = told(result)
    assert result.exit_code == 0
    assert "GT/01_GT.png <- hazy/01_hazy.png" in words and "... and 3 more" in words
    assert "5 pairs by the rule dense-haze" in words and "90 x 80 pixels" in words
    assert f"{{folder: {haze}, rule: dense-haze}}" in words
    assert "5 good pictures without a caption" in words
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert {40, 200} <= set(pixels.ravel().tolist())
    top = pixels[: pixels.shape[0] // 8, :40]
    assert abs(int(np.median(top)) - 40) < 3  # degraded above good


def test_what_training_refuses_ends_with_a_failure(haze):
    (haze / "GT/03_GT.png").unlink()
    save(haze / "hazy/04_hazy.png", 70, 80)
    (haze / "hazy/05_hazy.png").write_bytes(b"nothing")
    save(haze / "notes.png")
    result = run(haze, "--size", 85)
    words = told(result)
    assert result.exit_code == 1
    assert "1 picture without a counterpart" in words and "03_hazy.png" in words
    assert "1 pair whose pictures differ in size: 04" in words
    assert "1 file that cannot be read" in words and "05_hazy.png" in words
    assert "1 picture of neither side, left out" in words and "notes.png" in words
    assert "2 of 4 pairs smaller than 85 pixels" in words
    with pytest.raises(ConfigError):
        open_source(PairsData(source="pairs", folders=[haze], size=64))


def test_json_holds_the_pairs_that_a_limit_leaves(haze):
    facts = json.loads(run(haze, "--limit", 3, "--json").stdout)
    assert facts["rule"] == "dense-haze" and facts["found"] == 5 and len(facts["pairs"]) == 3
    sides = open_source(PairsData(source="pairs", folders=[{"folder": haze, "limit": 3}], size=64))
    trained = {str(pair.files[0]) for side in sides for pair in side.pairs}
    assert {pair["hq"] for pair in facts["pairs"]} == trained
    assert len(facts["enlarged"]) == 3


def test_two_folders_of_the_same_names_are_pairs(tmp_path):
    for side in ("good", "bad"):
        save(tmp_path / side / "x/1.png")
    result = run("--hq", tmp_path / "good", "--lq", tmp_path / "bad")
    assert result.exit_code == 0 and "1 pair by the rule same-name" in told(result)
    assert f"hq: {tmp_path}/good, lq: {tmp_path}/bad" in told(result)


def test_wrong_use_is_told(haze, tmp_path):
    for wrong in ([], [haze, "--hq", haze, "--lq", haze], ["--hq", haze], [haze, "--lq", haze]):
        result = run(*wrong)
        assert result.exit_code == 2 and "either FOLDER" in told(result)
    assert run(haze, "--rule", "sid").exit_code == 2
    result = run("--hq", haze, "--lq", haze, "--rule", "sidd")
    assert result.exit_code == 2 and "is for a FOLDER" in told(result)
    result = run(haze, "--rule", "sidd")
    assert result.exit_code == 2 and "finds no pair among the 10 pictures" in told(result)
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty")
    assert result.exit_code == 2 and "There are no pictures in" in told(result)
