"""Degradation: presets, reproducibility, recipes as data, and what is refused."""

import json
import multiprocessing
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.degradation import PRESETS, Degradation, describe
from facewright.core.errors import FacewrightError
from torch.utils.data import DataLoader

SEEDS = [5, 3, 8, 9, 1, 0, 2**40]


@pytest.fixture
def gt():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 3, 6, 6, generator=generator)
    return F.interpolate(x, (48, 40), mode="bicubic").clamp(0, 1)


# ---------------------------------------------------------------- presets

# scale, sigma, noise / 255, quality, taps, passes: the published numbers
TABLE = {
    "gfpgan": ((0.8, 8), (0.1, 10), (0, 20), (60, 100), {41}, 1),
    "vqfr": ((0.8, 8), (0.1, 10), (0, 20), (60, 100), {41}, 1),
    "vqfr2": ((1, 30), (1, 15), (0, 20), (30, 90), {41}, 1),
    "codeformer": ((4, 30), (1, 15), (0, 20), (30, 80), {41}, 1),
    "daefr": ((0.8, 30), (0.1, 15), (0, 20), (30, 100), {39, 41}, 1),
    "flipnet": ((0.8, 32), (0.1, 15), (0, 20), (30, 95), {41}, 2),
    "osdface": ((0.8, 32), (0.1, 15), (0, 20), (30, 95), {41}, 2),
    "honestface": ((0.8, 8), (0.1, 10), (0, 20), (60, 100), {41}, 1),
}
LARGE = 10**5  # so that sizes tell the reduction exactly; nothing of this size is carried out


def recipes(count=300, name="flipnet", **overrides):
    degradation = Degradation.preset(name, **overrides)
    return [degradation.draw(seed, LARGE, LARGE)["steps"] for seed in range(count)]


def test_the_order_of_presets_is_for_ever():
    own = ["mild", "moderate", "severe", "train"]
    assert Degradation.presets() == [*own, *TABLE] == list(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.source and preset.summary and "\n" not in preset.summary
        assert (preset.evidence == "own") == (name in own)
    grades = {name: PRESETS[name].evidence for name in ("gfpgan", "flipnet", "osdface")}
    assert grades == {"gfpgan": "code", "flipnet": "paper", "osdface": "inferred"}


@pytest.mark.parametrize("name", TABLE)
def test_published_ranges(name):
    *ranges, taps, passes = TABLE[name]
    drawn = recipes(name=name)
    steps = [s for one in drawn for s in one]
    blurs = [s for s in steps if s["op"] == "blur"]
    down = [s for s in steps if s["op"] == "resize" and s["size"] != [LARGE, LARGE]]
    values = (
        [LARGE / s["size"][0] for s in down],
        [v for s in blurs for v in (s["sigma"], s.get("sigma_y", s["sigma"]))],
        [255 * s["sigma"] for s in steps if s["op"] == "noise"],
        [s["quality"] for s in steps if s["op"] == "jpeg"],
    )
    for found, (low, high) in zip(values, ranges, strict=True):
        assert low * 0.999 <= min(found) < low + 0.1 * (high - low)
        assert high * 1.001 >= max(found) > high - 0.1 * (high - low)
        assert abs(np.mean(found) - (low + high) / 2) < 0.06 * (high - low)
    assert {s["taps"] for s in blurs} == taps
    assert 0.42 < np.mean(["angle" in s for s in blurs]) < 0.58
    assert len(blurs) == passes * len(drawn)
    modes = {s["mode"] for s in down}
    assert modes == ({"area", "bilinear", "bicubic"} if passes == 2 else {"bilinear"})
    ops = ["blur", "resize", "noise", "jpeg", "resize"]
    assert all([s["op"] for s in one[:5]] == ops for one in drawn)
    assert all(one[-1] == {"op": "round"} for one in drawn)
    if passes == 2:
        assert all(one[9]["size"] == one[4]["size"] == [LARGE, LARGE] for one in drawn)
        assert len({tuple(s["op"] for s in one[5:9]) for one in drawn}) == 24
    elif name != "gfpgan":
        assert all(len(one) == 6 for one in drawn)


def test_own_ranges():
    for name, low, high in (("mild", 2, 3), ("moderate", 4, 6), ("severe", 8, 8), ("train", 2, 8)):
        drawn = recipes(200, name)
        assert {tuple(s["op"] for s in one) for one in drawn} == {
            ("blur", "resize", "noise", "jpeg", "resize", "round")
        }
        scales = np.array([LARGE / one[1]["size"][0] for one in drawn])
        assert low * 0.999 <= scales.min() and scales.max() <= high * 1.001
        for one, scale in zip(drawn, scales, strict=True):
            assert 0.0999 <= one[0]["sigma"] / scale <= 0.4501 and one[1]["mode"] == "area"
        if name == "train":
            assert np.mean(scales > 7.9) > 0.3 and np.mean(scales < 4) > 0.1


def test_what_was_drawn_for_a_seed_is_for_ever():
    """The shipped benchmarks and models rest on these numbers."""
    steps = Degradation.preset("severe").draw(3, 128, 128)["steps"]
    known = [2.69315, 19, 0.027601, 350340022, 39]
    found = [steps[0]["sigma"], steps[0]["taps"], steps[2]["sigma"], steps[2]["seed"],
             steps[3]["quality"]]  # fmt: skip
    np.testing.assert_allclose(found, known, rtol=1e-3)


def test_gfpgan_changes_colors_as_often_as_its_configuration_says():
    drawn = recipes(600, "gfpgan")
    ops = [[s["op"] for s in one] for one in drawn]
    jitter = {"brightness", "contrast", "saturation", "hue"}
    assert 0.25 < np.mean(["shift" in o for o in ops]) < 0.35
    assert 0.25 < np.mean(["hue" in o for o in ops]) < 0.35
    assert 0 < np.mean(["grey" in o for o in ops]) < 0.03
    orders = {tuple(x for x in o if x in jitter) for o in ops} - {()}
    assert len(orders) == 24 and all(set(order) == jitter for order in orders)
    assert all(abs(v) <= 20 / 255 for one in drawn for s in one for v in s.get("rgb", ()))
    limits = {"brightness": (0.5, 1.5), "contrast": (0.5, 1.5), "saturation": (0, 1.5),
              "hue": (-0.1, 0.1)}  # fmt: skip
    for op, (low, high) in limits.items():
        found = [s["amount"] for one in drawn for s in one if s["op"] == op]
        assert low <= min(found) < low + 0.1 and high >= max(found) > high - 0.1
    assert all("hue" not in str(one) for one in recipes(50, "gfpgan", color=False))


# ---------------------------------------------------------------- overrides


def test_overrides_reach_every_pass():
    for one in recipes(
        60, scale=(2, 3), sigma=(1, 2), noise=(0.1, 0.2), quality=(10, 12), anisotropic=0.0,
        kernel_size=(7, 9), reduce="area", order="fixed", enlarge="bicubic", color=True,
    ):  # fmt: skip
        ops = [s["op"] for s in one[:10]]
        assert ops == ["blur", "resize", "noise", "jpeg", "resize"] * 2
        for blur, down, noise, jpeg, up in (one[:5], one[5:10]):
            assert 1 <= blur["sigma"] <= 2 and blur["taps"] in (7, 9) and "angle" not in blur
            assert 2 <= LARGE / down["size"][0] <= 3.001 and down["mode"] == "area"
            assert 0.1 <= noise["sigma"] <= 0.2 and 10 <= jpeg["quality"] <= 12
            assert up["mode"] == "bicubic"


def test_one_setting_leaves_the_other_draws_alone():
    plain = recipes(40)
    for other in (recipes(40, order="fixed"), recipes(40, reduce="area"), recipes(40, color=True)):
        for a, b in zip(plain, other, strict=True):
            for op, key in (("noise", "seed"), ("jpeg", "quality"), ("blur", "sigma")):
                assert [s[key] for s in a if s["op"] == op] == [s[key] for s in b if s["op"] == op]


def test_sigma_of_an_override_is_in_pixels_of_the_picture():
    blurs = [one[0] for one in recipes(50, "severe", sigma=(2, 3), kernel_size=None)]
    assert all(2 <= b["sigma"] <= 3 and b["taps"] == 2 * np.ceil(3 * b["sigma"]) + 1 for b in blurs)
    assert all(one[0]["taps"] == 1 for one in recipes(5, "severe", sigma=(0, 0)))


def test_passes_and_the_real_esrgan_order():
    assert all(len(one) == 6 for one in recipes(10, passes=1))
    two = recipes(10, "vqfr", passes=2)
    assert all([s["op"] for s in one[:5]] == [s["op"] for s in one[5:10]] for one in two)
    drawn = [[s["op"] for s in one[5:]] for one in recipes(200, order="real-esrgan")]
    last = ["blur", "resize", "noise", "jpeg", "resize", "round"]
    swapped = ["blur", "resize", "noise", "resize", "jpeg", "round"]
    assert all(one in (last, swapped) for one in drawn)
    assert 0.4 < np.mean([one == swapped for one in drawn]) < 0.6


def test_area_does_not_enlarge():
    for one in recipes(10, "severe", scale=(0.5, 0.9)):
        assert one[1]["mode"] == "bilinear" and one[1]["size"][0] > LARGE


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"quality": (0, 50)}, "1 to 100"),
        ({"quality": (50, 101)}, "1 to 100"),
        ({"quality": (30.5, 60)}, "whole numbers"),
        ({"sigma": (-1, 2)}, "0 to 200"),
        ({"sigma": (3, 2)}, "in this order"),
        ({"sigma": (1, float("nan"))}, "numbers"),
        ({"sigma": 3}, "two numbers"),
        ({"sigma": "12"}, "two numbers"),
        ({"noise": (-0.1, 0.1)}, "0 to 1"),
        ({"noise": (0, 20)}, "0 to 1"),
        ({"scale": (0, 8)}, "0.1 to"),
        ({"scale": (1, 2, 3)}, "two numbers"),
        ({"anisotropic": 1.5}, "0 to 1"),
        ({"anisotropic": True}, "numbers"),
        ({"kernel_size": 40}, "odd"),
        ({"kernel_size": (41, 0)}, "odd"),
        ({"kernel_size": ()}, "at least one"),
        ({"reduce": "nearest"}, "area, bilinear, bicubic"),
        ({"reduce": []}, "at least one"),
        ({"order": "random"}, "fixed, shuffled, real-esrgan"),
        ({"passes": 3}, "1 or 2"),
        ({"enlarge": "area"}, "bilinear, bicubic"),
        ({"color": "yes"}, "True, False"),
        ({"sigmas": (1, 2)}, "no setting 'sigmas'"),
    ],
)
def test_bad_overrides(override, words):
    with pytest.raises(FacewrightError, match=words):
        Degradation.preset("flipnet", **override)


# ---------------------------------------------------------------- the same again


@pytest.mark.parametrize("preset", Degradation.presets())
def test_the_same_for_every_batch(gt, preset):
    degrade = Degradation.preset(preset)
    untouched = gt.clone()
    lq, drawn = degrade(gt, seed=SEEDS)
    assert lq.shape == gt.shape and lq.dtype == gt.dtype and torch.equal(gt, untouched)
    for i, seed in enumerate(SEEDS):
        alone, alone_recipe = degrade(gt[i : i + 1], seed=[seed])
        assert torch.equal(alone[0], lq[i]) and alone_recipe[0] == drawn[i]
    assert torch.equal(degrade(gt.flip(0), seed=SEEDS[::-1])[0].flip(0), lq)
    assert torch.equal(degrade(gt[:3], seed=20)[0], degrade(gt[:3], seed=[20, 21, 22])[0])
    # A recipe survives JSON and brings the image back.
    assert torch.equal(Degradation.replay(gt, json.loads(json.dumps(drawn))), lq)
    assert torch.equal(degrade(gt.to(memory_format=torch.channels_last), seed=SEEDS)[0], lq)


def test_the_same_for_any_number_of_threads_and_inside_workers():
    threads = torch.get_num_threads()
    images = Faces()
    try:
        one = []
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            one.append(torch.stack([images[i] for i in range(len(images))]))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one[0], one[1]) and torch.equal(one[0], one[2])
    if "fork" not in multiprocessing.get_all_start_methods():
        return
    loader = DataLoader(images, batch_size=3, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), one[0])


class Faces(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        x = torch.rand(1, 3, 9, 9, generator=generator)
        x = F.interpolate(x, (256, 200), mode="bicubic").clamp(0, 1)
        return Degradation.preset("flipnet", color=True)(x, seed=[index])[0][0]


def test_what_the_caller_has_set_neither_matters_nor_changes(gt):
    degrade = Degradation.preset("flipnet", color=True)
    expected, _ = degrade(gt, seed=SEEDS)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu"):
            assert torch.equal(degrade(gt, seed=SEEDS)[0], expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    with torch.inference_mode():
        assert torch.equal(degrade(gt, seed=SEEDS)[0], expected)
    assert not degrade(gt.clone().requires_grad_(), seed=SEEDS)[0].requires_grad
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all() and random.getstate() == states[2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_types_come_back(gt, dtype):
    lq, _ = Degradation.preset("vqfr")(gt.to(dtype), seed=0)
    expected, _ = Degradation.preset("vqfr")(gt.to(dtype).float(), seed=0)
    assert lq.dtype == dtype and torch.equal(lq, expected.to(dtype))


@pytest.mark.parametrize("preset", Degradation.presets())
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 2)])
def test_tiny_images(preset, size):
    gt = torch.rand(3, 3, *size)
    untouched = gt.clone()
    lq, _ = Degradation.preset(preset)(gt, seed=0)
    assert lq.shape == gt.shape and torch.isfinite(lq).all() and torch.equal(gt, untouched)


def test_eight_bit_values_in_range(gt):
    lq, _ = Degradation.preset("train")(gt, seed=0)
    assert lq.min() >= 0 and lq.max() <= 1
    assert torch.allclose((lq * 255).round(), lq * 255, atol=1e-4)


def test_noise_has_its_strength():
    grey = torch.full((4, 3, 64, 64), 0.5)
    steps = [{"op": "noise", "sigma": 0.05, "seed": 3}]
    noise = Degradation.replay(grey, [{"size": [64, 64], "steps": steps}] * 4) - grey
    assert abs(float(noise.std()) - 0.05) < 0.002 and abs(float(noise.mean())) < 0.002


def test_progress_is_told_and_can_end_it(gt):
    seen = []
    Degradation.preset("mild")(gt, seed=0, on_image=seen.append)
    assert seen == list(range(1, 8))

    def stop(images):
        raise InterruptedError(images)

    with pytest.raises(InterruptedError):
        Degradation.preset("mild")(gt, seed=0, on_image=stop)


# ---------------------------------------------------------------- recipes for people


def test_a_recipe_in_one_line():
    back = {"op": "resize", "size": [512, 512], "mode": "bilinear"}
    steps = [
        {"op": "blur", "sigma": 7.31, "taps": 41, "sigma_y": 2.1, "angle": 0.7},
        {"op": "resize", "size": [41, 41], "mode": "area"},
        {"op": "noise", "sigma": 9 / 255, "seed": 1},
        {"op": "jpeg", "quality": 52},
        back,
        {"op": "resize", "size": [640, 640], "mode": "area"},
        {"op": "blur", "sigma": 2.0, "taps": 41},
        back,
        {"op": "shift", "rgb": [0.02, 0, -0.02]},
        {"op": "grey"},
        {"op": "hue", "amount": 0.1},
        {"op": "contrast", "amount": 1.2},
        {"op": "round"},
    ]
    assert describe({"size": [512, 512], "steps": steps}) == (
        "blur 7.3 x 2.1 px at 40°, /12.5, noise 9/255, JPEG 52; x1.25, blur 2.0 px; "
        "shift +5/+0/-5, grey, hue +36°, contrast x1.20"
    )
    assert describe({"size": [512, 512], "steps": [{"op": "round"}]}) == "nothing"
    for preset in Degradation.presets():
        for seed in range(5):
            assert "\n" not in describe(Degradation.preset(preset).draw(seed, 64, 48))


# ---------------------------------------------------------------- refusals


def test_refusals(gt):
    with pytest.raises(FacewrightError, match="severe"):
        Degradation.preset("terrible")
    degrade = Degradation.preset("mild")
    with pytest.raises(FacewrightError, match="7 images, 2 seeds"):
        degrade(gt, seed=[1, 2])
    for seed in (-3, [0, 1, 2, 3, 4, 5, 1.5], [0, 1, 2, 3, 4, 5, "6"]):
        with pytest.raises(FacewrightError, match="from 0 up"):
            degrade(gt, seed=seed)
    _, drawn = degrade(gt, seed=0)
    with pytest.raises(FacewrightError, match="drawn for"):
        Degradation.replay(gt[..., 1:], drawn)
    with pytest.raises(FacewrightError, match="7 images, 1 recipes"):
        Degradation.replay(gt, drawn[0])
    with pytest.raises(FacewrightError, match="channels first"):
        degrade(gt.permute(0, 2, 3, 1), seed=0)
    with pytest.raises(FacewrightError, match="should be"):
        degrade(gt[:, :1], seed=0)
    assert degrade(gt[:0], seed=0)[0].shape == (0, 3, 48, 40)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_name_their_image(gt, value):
    gt[4, 1, 3, 3] = value
    gt[5, 0, 0, 0] = -value
    with pytest.raises(FacewrightError, match="Image 4"):
        Degradation.preset("mild")(gt, seed=0)


BLUR = {"op": "blur", "sigma": 1.0, "taps": 5}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("mild", "should be an object"),
        ({"size": [48, 40]}, "no `steps`"),
        ({"steps": []}, "no `size`"),
        ({"size": 48, "steps": []}, "`size` of a recipe"),
        ({"size": [48, 40], "steps": {}}, "should be a list"),
        (["blur"], "Step 1 .* should be an object"),
        ([{"sigma": 1.0}], "with its `op`"),
        ([BLUR, {"op": "fog"}], "Step 2 .* cannot carry out"),
        ([{"op": "blur", "sigma": 1.0}], "lacks `taps`"),
        ([{**BLUR, "sigma": -1.0}], "from 0 up"),
        ([{**BLUR, "sigma": float("nan")}], "from 0 up"),
        ([{**BLUR, "taps": 4}], "odd"),
        ([{**BLUR, "taps": 10**9 + 1}], "odd"),
        ([{**BLUR, "angle": 1.0}], "both"),
        ([{**BLUR, "sigma_x": 1.0}], "'sigma_x'"),
        ([{"op": "resize", "size": [4, -4], "mode": "area"}], "each from 1"),
        ([{"op": "resize", "size": [10**6, 4], "mode": "area"}], "each from 1"),
        ([{"op": "resize", "size": [4.5, 4], "mode": "area"}], "each from 1"),
        ([{"op": "resize", "size": [4, 4], "mode": "nearest"}], "bicubic"),
        ([{"op": "noise", "sigma": 0.1, "seed": -1}], "from 0 up"),
        ([{"op": "noise", "sigma": "0.1", "seed": 1}], "from 0 up"),
        ([{"op": "jpeg", "quality": 0}], "1 to 100"),
        ([{"op": "jpeg", "quality": 101}], "1 to 100"),
        ([{"op": "jpeg", "quality": 50.5}], "1 to 100"),
        ([{"op": "shift", "rgb": [0, 0]}], "three numbers"),
        ([{"op": "hue", "amount": 2}], "circle"),
        ([{"op": "contrast"}], "lacks `amount`"),
    ],
)
def test_bad_recipes(gt, recipe, words):
    if isinstance(recipe, list):
        recipe = {"size": [48, 40], "steps": recipe}
    with pytest.raises(FacewrightError, match=words):
        Degradation.replay(gt[:1], [recipe])
    with pytest.raises(FacewrightError, match=words):
        describe(recipe)


def test_recipes_that_end_at_different_sizes(gt):
    ends = [{"op": "resize", "size": [n, n], "mode": "area"} for n in (4, 5)]
    drawn = [{"size": [48, 40], "steps": [end]} for end in ends]
    with pytest.raises(FacewrightError, match="different sizes"):
        Degradation.replay(gt[:2], drawn)
    assert Degradation.replay(gt[:1], drawn[:1]).shape == (1, 3, 4, 4)
