"""Descriptors of damage: each answers to its own damage and to nothing that others see."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation
from facewright.core.degradation.descriptors import DESCRIPTORS, describe_damage
from facewright.core.errors import FacewrightError
from scipy.ndimage import convolve1d

AT = {name: i for i, name in enumerate(DESCRIPTORS)}


@pytest.fixture(scope="module")
def good():
    """(4, 3, 96, 96): detail at every scale."""
    generator = torch.Generator().manual_seed(0)
    x = sum(
        F.interpolate(torch.rand(4, 3, s, s, generator=generator), (96, 96), mode="bicubic")
        for s in (4, 8, 16, 32, 64)
    )
    return (0.5 + 0.8 * (x / 5 - 0.5)).clamp(0.02, 0.98)


def of(x, name):
    return describe_damage(x)[:, AT[name]]


def steps(x, *steps):
    recipe = {"size": list(x.shape[-2:]), "steps": list(steps)}
    return Degradation.replay(x, [recipe] * len(x))


def test_light_and_contrast_are_numpys(good):
    weights = np.array([0.299, 0.587, 0.114])
    found = describe_damage(good).numpy()
    for x, row in zip(good.double().numpy(), found, strict=True):
        y = np.tensordot(weights, x, 1)
        expected = [y.mean(), y.std(ddof=1), *np.quantile(y, [0.05, 0.95])]
        np.testing.assert_allclose(row[:4], expected, rtol=1e-6)
        np.testing.assert_allclose(row[4], np.log((x - y).std(ddof=1) + 1e-3), rtol=1e-6)
        pairs = y.reshape(48, 2, 48, 2).mean((1, 3))
        band = y - pairs.repeat(2, 0).repeat(2, 1)
        expected = np.log(band.std(ddof=1) + 1e-3) - np.log(y.std(ddof=1) + 1e-3)
        np.testing.assert_allclose(row[AT["detail_2"]], expected, rtol=1e-6)
        a, b, c, d = y[::2, ::2], y[::2, 1::2], y[1::2, ::2], y[1::2, 1::2]
        detail = np.sort(np.abs(a - b - c + d).ravel() / 2)
        lower_median = detail[(len(detail) - 1) // 2]
        np.testing.assert_allclose(row[AT["noise"]], np.log(lower_median + 1e-3), rtol=1e-6)


def test_each_damage_moves_its_descriptor(good):
    blurred = steps(good, {"op": "blur", "sigma": 1.5, "taps": 11})
    assert (of(blurred, "detail_2") < of(good, "detail_2") - 0.5).all()
    assert ((of(blurred, "detail_16") - of(good, "detail_16")).abs() < 0.3).all()
    noisy = steps(good, {"op": "noise", "sigma": 0.1, "seed": 1})
    grey = steps(good, {"op": "noise", "sigma": 0.1, "seed": 1, "grey": True})
    for x in (noisy, grey):
        assert (of(x, "noise") > of(good, "noise") + 0.5).all()
    assert (of(noisy, "color_noise") > of(grey, "color_noise") + 0.3).all()
    y = good.mean(1, keepdim=True)
    sensor = (good + 0.25 * y * torch.randn(good.shape, generator=torch.manual_seed(0))).clamp(0, 1)
    assert (of(sensor, "noise_in_light") > of(noisy, "noise_in_light") + 0.05).all()
    shaken = torch.from_numpy(convolve1d(good.numpy(), np.full(15, 1 / 15), 3))
    diagonal = torch.from_numpy(
        sum(np.roll(good.numpy(), (k, k), (2, 3)) for k in range(-7, 8)) / 15
    )
    for x in (shaken, diagonal):
        assert (of(x, "direction") > 0.35).all() and (of(good, "direction") < 0.3).all()
    blocky = steps(good, {"op": "jpeg", "quality": 8})
    assert (of(blocky, "blocks") > of(good, "blocks") + 0.2).all()
    assert (of(good * 0.4, "light") < 0.45 * of(good, "light")).all()
    hazy = 0.4 * good + 0.6 * 0.9
    assert (of(hazy, "contrast") < 0.5 * of(good, "contrast")).all()
    assert (of(hazy, "dark") > of(good, "dark") + 0.2).all()
    pale = steps(good, {"op": "saturation", "amount": 0.2})
    assert (of(pale, "color") < of(good, "color") - 1).all()


def test_what_a_picture_gets_does_not_depend_on_others(good):
    together = describe_damage(good)
    assert together.shape == (4, len(DESCRIPTORS)) and together.dtype == torch.float64
    for i in range(4):
        assert torch.equal(describe_damage(good[i : i + 1])[0], together[i])
    odd = describe_damage(good[..., :67, :51])
    flat = describe_damage(torch.full((2, 3, 32, 40), 0.5))
    assert odd.isfinite().all() and flat.isfinite().all()


def test_what_is_refused(good):
    for x, words in (
        (good[..., :31], "from 32 x 32"),
        (good[0], "(b, 3, h, w)"),
        (good * float("nan"), "NaN"),
    ):
        with pytest.raises(FacewrightError, match=words.replace("(", r"\(").replace(")", r"\)")):
            describe_damage(x)
