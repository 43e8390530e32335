"""Scores of a batch, against sums written out here."""

import json
import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.scores.pictures import named_metrics, score_images


class Told:
    """Gives each picture the faces written down for it: points at these offsets."""

    name = "told"

    def __init__(self, *faces):
        self.faces = iter(faces)

    def detect(self, image):
        return [Face((0, 0, 10, 10), 1.0, landmarks=points) for points in next(self.faces)]


POINTS = torch.tensor([[10.0, 10], [30, 10], [20, 25], [12, 30], [28, 30]])


def plain_psnr(a, b):
    return -10 * math.log10(np.mean((a.double().numpy() - b.double().numpy()) ** 2))


@pytest.fixture
def pictures():
    gt = torch.rand(3, 3, 24, 20)
    return gt, (gt + 0.1 * torch.randn_like(gt)).clamp(0, 1), (gt * 0.5 + 0.25)


def test_every_picture_is_scored_beside_its_baseline(pictures):
    gt, restored, lq = pictures
    scores = score_images(restored, named_metrics("psnr, edges"), gt=gt, lq=lq)
    for i in range(3):
        mine, before = plain_psnr(restored[i], gt[i]), plain_psnr(lq[i], gt[i])
        assert scores.values["psnr"][i] == pytest.approx(mine, abs=1e-4)
        assert scores.values["psnr lq"][i] == pytest.approx(before, abs=1e-4)
        assert scores.values["psnr gain"][i] == pytest.approx(mine - before, abs=1e-4)
    assert scores.mean("psnr") == pytest.approx(np.mean(scores.values["psnr"]))
    # An edge ratio is better the closer it comes to 1.
    a, b = scores.values["edges"][0], scores.values["edges lq"][0]
    assert scores.values["edges gain"][0] == pytest.approx(abs(b - 1) - abs(a - 1))


def test_one_original_serves_all_pictures(pictures):
    gt, restored, _ = pictures
    metrics = named_metrics("psnr")
    one = score_images(restored, metrics, gt=gt[:1])
    assert one.values == score_images(restored, metrics, gt=gt[:1].repeat(3, 1, 1, 1)).values


def test_a_picture_scores_the_same_in_any_batch(pictures):
    gt, restored, lq = pictures
    metrics = named_metrics("psnr, ssim, msswd")
    together = score_images(restored, metrics, gt=gt, lq=lq)
    alone = score_images(restored[2:], metrics, gt=gt[2:], lq=lq[2:])
    for name in ("psnr", "ssim", "msswd"):
        assert alone.values[name] == together.values[name][2:]
        assert alone.values[f"{name} gain"] == together.values[f"{name} gain"][2:]


def test_equal_pictures_are_infinite_for_people_and_null_for_programs(pictures):
    gt = pictures[0]
    scores = score_images(gt[:1], named_metrics("psnr, ssim"), gt=gt[:1], lq=gt[:1])
    assert scores.mean("psnr") == math.inf and scores.values["psnr gain"] == [0.0]
    assert scores.report().splitlines() == [
        "PSNR infinite (lq infinite, gain +0.00 dB)",
        "SSIM 1.0000 (lq 1.0000, gain +0.0000)",
    ]
    content = json.loads(scores.to_json(), parse_constant=pytest.fail)
    assert content["mean"]["psnr"] == {"restored": None, "lq": None, "gain": 0.0}
    _, restored, _ = pictures  # where some are finite, they make the mean
    two = score_images(torch.stack([gt[0], restored[1]]), named_metrics("psnr"), gt=gt[:2])
    assert two.mean("psnr") == two.values["psnr"][1] < math.inf == two.values["psnr"][0]


def test_several_pictures_are_a_line_each_and_their_means(pictures):
    gt, restored, _ = pictures
    scores = score_images(restored, named_metrics("psnr,ssim"), gt=gt)
    lines = scores.report().splitlines()
    assert [line.split(":")[0] for line in lines] == ["picture 0", "picture 1", "picture 2", "mean"]
    assert f"{np.mean(scores.values['psnr']):.2f} dB" in lines[-1]
    content = json.loads(scores.to_json())
    assert [entry["ssim"]["restored"] for entry in content["images"]] == scores.values["ssim"]
    assert "lq" not in content["mean"]["ssim"]


def test_faces_are_compared_with_the_nearest_and_missing_ones_are_no_error():
    gt = torch.rand(3, 3, 80, 80)
    far = POINTS + 40
    analyzer = Told(
        [far + 2, POINTS + 1], [POINTS, far],  # two faces, found in another order
        [POINTS + 15], [POINTS],  # somebody else: further than half a face
        [], [POINTS],
    )  # fmt: skip
    scores = score_images(gt, named_metrics("psnr, lmd"), gt=gt, analyzer=analyzer)
    expected = (math.hypot(1, 1) + math.hypot(2, 2)) / 2
    assert scores.values["lmd"][0] == pytest.approx(expected, rel=1e-6)
    assert all(math.isnan(v) for v in scores.values["lmd"][1:])
    assert scores.mean("lmd") == pytest.approx(expected, rel=1e-6)
    lines = scores.report().splitlines()
    assert "LMD no face" in lines[1] and "LMD no face" in lines[2]
    assert json.loads(scores.to_json())["images"][1]["lmd"]["restored"] is None


def test_what_does_not_fit_together_is_refused_in_words(pictures):
    gt, restored, _ = pictures
    psnr = named_metrics("psnr")
    with pytest.raises(FacewrightError, match="compares with the original: connect it to `gt`"):
        score_images(restored, psnr)
    with pytest.raises(FacewrightError, match=r"20 x 24 pixels and `gt` 10 x 12"):
        score_images(restored, psnr, gt=gt[..., ::2, ::2])
    with pytest.raises(FacewrightError, match="holds 3 pictures and `lq` 2"):
        score_images(restored, psnr, gt=gt, lq=gt[:2])
    with pytest.raises(FacewrightError, match="connect a face detector"):
        score_images(restored, named_metrics("lmd"), gt=gt)
    with pytest.raises(FacewrightError, match="'told' gives boxes or five points"):
        score_images(restored, named_metrics("lmd"), gt=gt, analyzer=Told([None], [None]))
    restored[1, 0, 0, 0] = torch.nan
    with pytest.raises(FacewrightError, match="`restored` has NaN or infinity in picture 1"):
        score_images(restored, psnr, gt=gt)


def test_names_are_checked_before_anything_is_scored():
    assert [m.name for m in named_metrics(" SSIM, psnr,,ssim ")] == ["ssim", "psnr"]
    for names, words in (
        ("", "at least one metric"),
        ("psnr, nothing", "'nothing'"),
        ("frechet", "whole sets of pictures"),
        ("deg", "reads embeddings"),
    ):
        with pytest.raises(FacewrightError, match=words):
            named_metrics(names)


def test_a_missing_package_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(FacewrightError, match="pyiqa"):
        named_metrics("psnr, musiq")


def test_the_stop_button_works_between_pictures(pictures):
    gt, restored, _ = pictures
    done = []

    def stop(count):
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_images(restored, named_metrics("psnr"), gt=gt, on_image=stop)
    assert done == [1, 1]
