"""The curve sheet: what it draws against the lines it is drawn from, and how it looks."""

import json
import math

import numpy as np
import pytest
from facewright.core.errors import FacewrightError
from facewright.training.log.curves import curve_sheet, running_mean, sections_of
from PIL import Image


def lines(steps=60):
    found = [{"step": 0, "seconds": 0, "cpu_seconds": 0, "held_out": {"lq/psnr": 20.0, "eps": 1.0}}]
    for step in range(1, steps + 1):
        line = {"step": step, "generator/mse": 2.0 / step, "generator/gan": -0.1,
                "generator/grad_norm": 1.0, "generator/lr": 1e-4}  # fmt: skip
        if step > steps // 2:
            line |= {"discriminator/hinge": 1.0, "discriminator/grad_norm": 2.0,
                     "discriminator/lr": 1e-5, "discriminator/real": 0.5}  # fmt: skip
        found.append(line)
    held_out = {"lq/psnr": 20.0, "restored/psnr": 24.0, "eps": 0.5}
    found.append({"step": steps, "seconds": 90, "cpu_seconds": 60, "held_out": held_out})
    return found


def write(path, found, torn=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in found) + torn)
    return path


def test_every_number_has_its_place():
    sections = {s.title: {p.title: p for p in s.panels} for s in sections_of(lines())}
    assert list(sections["Held out"]) == ["psnr", "eps"]
    lq, restored = sections["Held out"]["psnr"].curves
    assert (lq.name, lq.steps.tolist(), lq.values.tolist()) == ("lq", [0, 60], [20, 20])
    assert (restored.name, restored.steps.tolist()) == ("restored", [60])

    assert list(sections["Loss: generator"]) == ["sum of all terms", "mse", "gan"]
    total = sections["Loss: generator"]["sum of all terms"].curves[0].values
    np.testing.assert_allclose(total, [2.0 / s - 0.1 for s in range(1, 61)])
    assert list(sections["Loss: discriminator"]) == ["hinge"]
    assert sections["Loss: discriminator"]["hinge"].curves[0].steps.tolist() == [*range(31, 61)]
    assert list(sections["Monitored"]) == ["discriminator/real"]
    assert list(sections["Steps and time"]) == [
        "generator: gradient norm", "discriminator: gradient norm", "learning rate",
        "training time, minutes",
    ]  # fmt: skip
    rates = sections["Steps and time"]["learning rate"].curves
    assert [(c.name, c.values[0]) for c in rates] == [("generator", 1e-4), ("discriminator", 1e-5)]
    clock, processor = sections["Steps and time"]["training time, minutes"].curves
    assert clock.values.tolist() == [0, 1.5] and processor.values.tolist() == [0, 1]


@pytest.mark.parametrize("window", [1, 2, 5])
def test_running_mean_equals_a_loop(window):
    values = np.random.default_rng(0).normal(size=23)
    values[[3, 4, 5, 6, 7, 20]] = [math.nan] * 5 + [math.inf]
    expected = []
    for i in range(len(values)):
        around = values[max(0, i - (window - 1) // 2) : i + window // 2 + 1]
        finite = [v for v in around if math.isfinite(v)]
        expected.append(sum(finite) / len(finite) if finite else math.nan)
    np.testing.assert_allclose(running_mean(values, window), expected)


def test_the_sheet_of_a_killed_run_is_1600_wide_and_shows_its_curves(tmp_path):
    found = lines()
    found[5]["generator/mse"] = math.nan
    path = write(tmp_path / "run" / "metrics.jsonl", found, torn='{"step": 61, "gener')
    before = path.read_bytes()
    assert curve_sheet(path, tmp_path / "out" / "curves.png") == tmp_path / "out" / "curves.png"
    assert path.read_bytes() == before  # a run may be writing it
    picture = Image.open(tmp_path / "out" / "curves.png")
    assert picture.width == 1600 and picture.height > 800
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "curves.png"]

    # Something is drawn: curves in the first colour of the house's plots.
    blue = (np.abs(np.asarray(picture.convert("RGB")).astype(int) - [31, 111, 180]) < 8).all(-1)
    assert blue.sum() > 3000


def test_a_run_that_has_only_begun_has_a_sheet_and_none_before(tmp_path):
    path = write(tmp_path / "metrics.jsonl", lines()[:1])
    curve_sheet(path, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width == 1600
    for empty in (write(tmp_path / "e" / "metrics.jsonl", []), tmp_path / "nowhere.jsonl"):
        with pytest.raises(FacewrightError, match="holds no curves"):
            curve_sheet(empty, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
