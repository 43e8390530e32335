"""Degradation: the same again from a seed, recipes as data, and what is refused."""

import json
import multiprocessing
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation, describe
from facewright.core.errors import FacewrightError
from torch import autocast

SEEDS = [5, 3, 8, 9, 1, 0, 2**40]


@pytest.fixture
def gt():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 3, 6, 6, generator=generator)
    return F.interpolate(x, (48, 40), mode="bicubic").clamp(0, 1)


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
    for seeds in (20, np.int64(20), range(20, 23), np.arange(20, 23)):
        assert torch.equal(degrade(gt[:3], seeds)[0], degrade(gt[:3], seed=[20, 21, 22])[0])
    # A recipe survives JSON and brings the image back.
    assert torch.equal(Degradation.replay(gt, json.loads(json.dumps(drawn))), lq)
    assert torch.equal(degrade(gt.to(memory_format=torch.channels_last), seed=SEEDS)[0], lq)


def test_the_same_for_any_number_of_threads():
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


@pytest.mark.slow
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="workers are not forked here"
)
def test_the_same_inside_workers(tmp_path):
    """In a process of its own: one that has threads, as pytest's may, must not be forked."""
    code = (
        "import sys, torch; from test_degradation import Faces; "
        "loader = torch.utils.data.DataLoader(Faces(), batch_size=3, num_workers=2, "
        "multiprocessing_context='fork'); torch.save(torch.cat(list(loader)), sys.argv[1])"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "lq.pt")]
    subprocess.run(run, cwd=Path(__file__).parent, check=True, timeout=300)
    images = Faces()
    alone = torch.stack([images[i] for i in range(len(images))])
    assert torch.equal(torch.load(tmp_path / "lq.pt", weights_only=True), alone)


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
        with autocast("cpu"):
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
    for seed in (-3, 1.5, [0, 1, 2, 3, 4, 5, 1.5], [0, 1, 2, 3, 4, 5, "6"]):
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
