"""Degrade, Degradation Sheet and Image Score: what they hand to core and what they add to it."""

import json

import pytest
import torch
from facewright.core.degradation import PRESETS, Degradation, describe
from facewright.core.drawing.presets import LARGEST_CELL
from facewright.core.drawing.sheet import GAP
from facewright.core.errors import FacewrightError
from facewright.core.node_api import PreviewText
from facewright.headless.host.host import HeadlessHost
from facewright.nodes.degrade import DegradationSheet, Degrade
from facewright.nodes.score import ImageScore


def degrade(image, preset="moderate", seed=3, **options):
    return Degrade.execute(image=image, preset=preset, seed=seed, **options).result


def by_core(image, preset="moderate", seed=3, **overrides):
    lq, recipes = Degradation.preset(preset, **overrides)(image[..., :3].movedim(-1, 1), seed)
    return lq.movedim(1, -1), recipes


@pytest.mark.parametrize("preset", ["moderate", "gfpgan", "flipnet"])
def test_degrade_gives_what_core_gives(preset):
    image = torch.rand(2, 40, 56, 3)
    degraded, recipe, report = degrade(image, preset)
    expected, recipes = by_core(image, preset)
    assert torch.equal(degraded, expected)
    assert json.loads(recipe, parse_constant=pytest.fail) == json.loads(json.dumps(recipes))
    lines = [f"picture {i}: {describe(r)}" for i, r in enumerate(recipes)]
    if preset != "moderate":  # made for 512 pixels
        lines.append(PRESETS[preset].remark(40, 56))
    assert report.splitlines() == lines


def test_a_picture_fares_the_same_in_any_batch():
    image = torch.rand(3, 32, 32, 3)
    together = degrade(image, seed=7)[0]
    for i in range(3):
        assert torch.equal(degrade(image[i : i + 1], seed=7 + i)[0][0], together[i])


def test_alpha_is_kept_and_grey_becomes_rgb():
    image = torch.rand(1, 32, 32, 4)
    degraded = degrade(image)[0]
    assert torch.equal(degraded[..., 3], image[..., 3])
    assert torch.equal(degraded[..., :3], degrade(image[..., :3])[0])
    grey = image[..., :1]
    assert torch.equal(degrade(grey)[0], degrade(grey.expand(-1, -1, -1, 3))[0])


def test_no_pictures_give_no_pictures():
    degraded, recipe, report = degrade(torch.zeros(0, 8, 8, 3))
    assert degraded.shape == (0, 8, 8, 3) and recipe == "[]" and report == ""


@pytest.mark.parametrize(
    ("widgets", "overrides"),
    [
        ({"scale_min": 2.0, "scale_max": 3.0}, {"scale": (2, 3)}),
        ({"blur_min": 1.5}, {"sigma": (1.5, 1.5)}),
        ({"noise_max": 51.0}, {"noise": (0.2, 0.2)}),
        ({"quality_min": 30, "quality_max": 40}, {"quality": (30, 40)}),
        ({"blur_min": 0.0, "blur_max": 0.0, "noise_max": 0.0}, {"sigma": (0, 0), "noise": (0, 0)}),
        ({"passes": "2", "order": "shuffled"}, {"passes": 2, "order": "shuffled"}),
        ({"kernel_size": 9, "recipe": " "}, {"kernel_size": 9}),
        ({"kernel_size": 0, "blur_min": 9.0}, {"kernel_size": None, "sigma": (9, 9)}),
    ],
)
def test_widgets_override_the_preset(widgets, overrides):
    image = torch.rand(1, 40, 40, 3)
    degraded, recipe, _ = degrade(image, **widgets)
    expected, recipes = by_core(image, **overrides)
    assert torch.equal(degraded, expected)
    assert json.loads(recipe) == json.loads(json.dumps(recipes))


def test_a_recipe_does_the_same_again_whatever_the_widgets_say():
    image = torch.rand(2, 40, 40, 3)
    degraded, recipe, report = degrade(image, "flipnet", seed=11)
    again = degrade(image, "mild", seed=0, scale_min=9.0, recipe=recipe)
    assert torch.equal(again[0], degraded) and again[1] == recipe
    assert again[2].splitlines() == report.splitlines()[:2]  # the remark is on presets
    # One recipe serves all pictures.
    first = json.dumps(json.loads(recipe)[0])
    assert torch.equal(degrade(image, recipe=first)[0][0], degraded[0])
    assert torch.equal(
        degrade(image[:1].repeat(3, 1, 1, 1), recipe=first)[0], degraded[:1].repeat(3, 1, 1, 1)
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality_min": 0, "quality_max": 50}, "from 1 to 100"),
        ({"scale_min": 3.0, "scale_max": 2.0}, "in this order"),
        ({"scale_min": 0.0}, "reduction from 0.1"),
        ({"recipe": "blur it a bit"}, "no JSON"),
        ({"recipe": "[]"}, "1 images, 0 recipes"),
        ({"recipe": '{"size": [32, 32]}'}, "no `steps`"),
        ({"recipe": "7"}, "should be an object"),
    ],
)
def test_bad_settings_and_recipes_are_refused_in_words(options, words):
    with pytest.raises(FacewrightError, match=words):
        degrade(torch.rand(1, 32, 32, 3), **options)


def test_a_recipe_of_another_size_and_broken_pictures_are_refused():
    recipe = degrade(torch.rand(1, 32, 32, 3))[1]
    with pytest.raises(FacewrightError, match=r"\[32, 32\].*\[32, 40\]"):
        degrade(torch.rand(1, 32, 40, 3), recipe=recipe)
    broken = torch.rand(3, 32, 32, 3)
    broken[2, 0, 0, 0] = torch.nan
    with pytest.raises(FacewrightError, match="2"):
        degrade(broken)


@pytest.fixture
def watched(monkeypatch):
    """What the progress bar was told, and how often the stop button was looked at."""
    told, asked = [], []

    class Bar:
        def update(self, n):
            told.append(n)

    monkeypatch.setattr(HeadlessHost, "progress", lambda self, total: told.append(total) or Bar())
    monkeypatch.setattr(HeadlessHost, "check_interrupt", lambda self: asked.append(1))
    return told, asked


def test_progress_counts_pictures_and_listens_for_the_stop_button(watched):
    told, asked = watched
    image = torch.rand(3, 16, 16, 3)
    recipe = degrade(image)[1]
    degrade(image, recipe=recipe)
    DegradationSheet.execute(image=image, seed=0, presets="mild, severe")
    ImageScore.execute(restored=image, metrics="psnr", gt=image)
    assert told == [3, 1, 1, 1, 3, 1, 1, 1, 2, 1, 1, 3, 1, 1, 1]
    assert len(asked) == 11


def test_the_sheet_shows_the_original_and_every_preset():
    image = torch.rand(2, 64, 64, 3)
    out = DegradationSheet.execute(image=image, seed=5)
    sheet, report = out.result
    names = Degradation.presets()
    *lines, remark = report.splitlines()
    assert [line.split(":")[0] for line in lines] == names and "512 x 512" in remark
    columns = (sheet.shape[2] + GAP) // (64 + GAP)
    top = slice(0, 40)  # above the labels
    assert torch.equal(sheet[0, top, :64], image[0, top])
    for i, name in enumerate(names, start=1):
        y, x = i // columns * (64 + GAP), i % columns * (64 + GAP)
        expected = by_core(image[:1], name, seed=5)[0][0, top]
        assert torch.equal(sheet[0, y : y + 40, x : x + 64], expected), name
    assert torch.equal(out.ui.image, sheet)


def test_the_sheet_takes_some_presets_and_reduces_large_pictures():
    sheet, report = DegradationSheet.execute(
        image=torch.rand(1, 300, 1200, 3), seed=0, presets=" severe,gfpgan "
    ).result
    assert len(report.splitlines()) == 2  # 300 x 1200 is near enough to 512 x 512
    assert sheet.shape == (1, 2 * 128 + GAP, 2 * LARGEST_CELL + GAP, 3)
    with pytest.raises(FacewrightError, match="'awful'"):
        DegradationSheet.execute(image=torch.rand(1, 8, 8, 3), seed=0, presets="awful")


def test_image_score_shows_hands_on_and_compares_with_the_baseline():
    gt = torch.rand(2, 32, 32, 4)
    restored, lq = gt[..., :3] + 0.01, gt[..., :3] * 0.5
    out = ImageScore.execute(restored=restored, metrics="psnr, edges", gt=gt, lq=lq)
    score, report, text = out.result
    error = (restored.clamp(0, 1) - gt[..., :3]).double().square().mean((1, 2, 3))
    assert score == pytest.approx(float(-10 * error.log10().mean()), abs=1e-4)
    assert isinstance(out.ui, PreviewText) and out.ui.value == report
    assert f"mean: PSNR {score:.2f} dB" in report
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["mean"]["psnr"]["gain"] > 20 and len(content["images"]) == 2


def test_image_score_refuses_to_resize():
    with pytest.raises(FacewrightError, match="32 x 32 pixels and `gt` 16 x 16"):
        ImageScore.execute(
            restored=torch.rand(1, 32, 32, 3), metrics="psnr", gt=torch.rand(1, 16, 16, 3)
        )
