"""Degradation: each step against an independent implementation, and reproducibility."""

import io
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation, jpeg
from facewright.core.errors import FacewrightError
from PIL import Image


@pytest.fixture
def gt():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 3, 6, 6, generator=generator)
    return F.interpolate(x, (48, 40), mode="bicubic").clamp(0, 1)


def one_step(x, **step):
    recipe = {"size": list(x.shape[-2:]), "steps": [step, {"op": "round"}]}
    return Degradation.replay(x, [recipe] * len(x))


@pytest.mark.parametrize("preset", Degradation.presets())
def test_the_same_for_every_batch(gt, preset):
    degrade = Degradation.preset(preset)
    lq, recipe = degrade(gt, seed=[5, 3, 8, 9, 1, 0, 2**40])
    assert lq.shape == gt.shape and lq.dtype == gt.dtype
    for i, seed in enumerate([5, 3, 8, 9, 1, 0, 2**40]):
        alone, alone_recipe = degrade(gt[i : i + 1], seed=[seed])
        assert torch.equal(alone[0], lq[i]) and alone_recipe[0] == recipe[i]
    assert torch.equal(degrade(gt[:3], seed=20)[0], degrade(gt[:3], seed=[20, 21, 22])[0])


@pytest.mark.parametrize("preset", Degradation.presets())
def test_a_recipe_survives_json_and_brings_the_image_back(gt, preset):
    lq, recipe = Degradation.preset(preset)(gt, seed=100)
    again = Degradation.replay(gt, json.loads(json.dumps(recipe)))
    assert torch.equal(again, lq)


@pytest.mark.parametrize("preset", Degradation.presets())
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 2)])
def test_tiny_images(preset, size):
    lq, _ = Degradation.preset(preset)(torch.rand(3, 3, *size), seed=0)
    assert lq.shape == (3, 3, *size) and torch.isfinite(lq).all()


def test_eight_bit_values_in_range(gt):
    lq, _ = Degradation.preset("train")(gt, seed=0)
    assert lq.min() >= 0 and lq.max() <= 1
    assert torch.allclose((lq * 255).round(), lq * 255, atol=1e-4)


def test_presets_do_what_they_say():
    for name, low, high in (("mild", 2, 3), ("moderate", 4, 6), ("severe", 8, 8), ("train", 2, 8)):
        scales = []
        for seed in range(200):
            steps = Degradation.preset(name).draw(seed, 512, 512)["steps"]
            assert [s["op"] for s in steps] == [
                "blur",
                "resize",
                "noise",
                "jpeg",
                "resize",
                "round",
            ]
            scales.append(512 / steps[1]["size"][0])
        assert low <= min(scales) and max(scales) <= high * 1.02
        if name == "train":
            assert np.mean(np.array(scales) > 7.9) > 0.3 and np.mean(np.array(scales) < 4) > 0.1
    orders = set()
    for seed in range(300):
        steps = Degradation.preset("flipnet").draw(seed, 512, 512)["steps"]
        assert len(steps) == 10
        for step in steps:
            if step["op"] == "blur":
                assert 0.1 <= step["sigma"] <= 15 and step["taps"] == 41
            if step["op"] == "noise":
                assert 0 <= step["sigma"] <= 20 / 255
            if step["op"] == "jpeg":
                assert 30 <= step["quality"] <= 95
        assert [s["op"] for s in steps[:5]] == ["blur", "resize", "noise", "jpeg", "resize"]
        orders.add(tuple(s["op"] for s in steps[5:9]))
    assert len(orders) == 24


def test_rotated_blur_is_scipys_correlation(gt):
    from scipy.ndimage import correlate

    sigma_x, sigma_y, angle, reach = 3.0, 1.2, 0.7, 10
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(rotation @ np.diag([sigma_x**2, sigma_y**2]) @ rotation.T)
    d = np.stack([dx, dy], -1)
    kernel = np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", d, inverse, d))
    kernel /= kernel.sum()
    found = one_step(gt, op="blur", sigma=sigma_x, sigma_y=sigma_y, angle=angle, taps=21)
    for x, y in zip(gt.double().numpy(), found.numpy(), strict=True):
        expected = np.stack([correlate(c, kernel, mode="mirror") for c in x])
        np.testing.assert_allclose(y, expected, atol=0.5 / 255 + 1e-5)


def test_jpeg_is_pillows(gt):
    pixels = (gt[0] * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=40, subsampling=2)
    expected = np.asarray(Image.open(buffer))
    found = (jpeg(gt[0], 40) * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)
    assert (jpeg(gt[0], 30) - gt[0]).abs().mean() > (jpeg(gt[0], 95) - gt[0]).abs().mean()


def test_noise_has_its_strength():
    grey = torch.full((4, 3, 64, 64), 0.5)
    noisy = one_step(grey, op="noise", sigma=0.05, seed=3) - grey
    assert abs(float(noisy.std()) - 0.05) < 0.002 and abs(float(noisy.mean())) < 0.002


def test_refusals(gt):
    with pytest.raises(FacewrightError, match="severe"):
        Degradation.preset("terrible")
    degrade = Degradation.preset("mild")
    with pytest.raises(FacewrightError, match="7 images, 2 seeds"):
        degrade(gt, seed=[1, 2])
    with pytest.raises(FacewrightError, match="from 0 up"):
        degrade(gt, seed=-3)
    _, recipe = degrade(gt, seed=0)
    with pytest.raises(FacewrightError, match="drawn for"):
        Degradation.replay(gt[..., 1:], recipe)
    with pytest.raises(FacewrightError, match="cannot carry out"):
        one_step(gt, op="fog")
    with pytest.raises(FacewrightError, match="channels first"):
        degrade(gt.permute(0, 2, 3, 1), seed=0)
