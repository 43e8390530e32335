"""Colour transfer against plain formulas, SciPy and scikit-image."""

import numpy as np
import pytest
import torch
from facewright.core.color import (
    COLOR_MODES,
    YCBCR,
    lab_to_rgb,
    luma,
    match_color,
    rgb_to_lab,
    wavelet_low,
)
from facewright.core.errors import FacewrightError


def pictures(seed=0, h=40, w=48):
    g = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, h, w, generator=g) * 0.5 + 0.2 for _ in range(2)]


def test_lab_agrees_with_scikit_image():
    color = pytest.importorskip("skimage.color")
    x = torch.rand(1, 3, 30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[..., :3] *= 0.02  # the linear branches too
    want = color.rgb2lab(x[0].permute(1, 2, 0).numpy())
    got = rgb_to_lab(x)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, want, atol=0.02)


def test_luma_and_ycbcr_are_those_of_jpeg():
    from PIL import Image

    rgb = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(rgb).convert("YCbCr"), dtype=float)
    got = rgb @ np.array(YCBCR).T + [0, 128, 128]
    assert np.abs(got - want).max() <= 1
    x = torch.from_numpy(rgb).double()
    np.testing.assert_allclose(luma(x, -1)[..., 0], got[..., 0])
    assert torch.equal(luma(x.permute(2, 0, 1))[0], luma(x, 2)[..., 0])


def test_lab_comes_back():
    x = torch.rand(1, 3, 30, 30, dtype=torch.float64)
    x[..., :3] *= 0.02
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=2e-4, rtol=0)


def test_wavelet_low_agrees_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(1, 1, 40, 50, dtype=torch.float64)
    want = x[0, 0].numpy()
    for i in range(4):
        kernel = np.zeros(2 * 2**i + 1)
        kernel[[0, 2**i, -1]] = 0.25, 0.5, 0.25
        for axis in (0, 1):
            want = ndimage.convolve1d(want, kernel, axis=axis, mode="nearest")
    np.testing.assert_allclose(wavelet_low(x, 4)[0, 0].numpy(), want, atol=1e-12)


def test_wavelet_takes_low_from_ref_and_high_from_x():
    x, ref = pictures()
    got = match_color(x, ref, "wavelet")
    torch.testing.assert_close(got, x - wavelet_low(x) + wavelet_low(ref), atol=1e-5, rtol=0)


def test_adain_takes_over_mean_and_deviation():
    x, ref = pictures()
    got = match_color(x, ref * 0.5 + 0.2, "adain")
    for axis in (
        got.mean((2, 3)) - (ref * 0.5 + 0.2).mean((2, 3)),
        got.std((2, 3)) - (ref * 0.5).std((2, 3)),
    ):
        assert axis.abs().max() < 1e-3


def test_lab_mode_removes_a_colour_cast_and_keeps_contrast():
    x, _ = pictures()
    cast = (x * torch.tensor([1.15, 1.0, 0.85]).view(3, 1, 1)).clamp(0, 1)
    got = match_color(cast, x, "lab")
    assert (got.mean((2, 3)) - x.mean((2, 3))).abs().max() < 0.02
    assert (got - x).abs().mean() < 0.5 * (cast - x).abs().mean()
    flat = match_color(x, x * 0.2 + 0.4, "lab")
    spread = rgb_to_lab(flat)[:, 0].std() / rgb_to_lab(x)[:, 0].std()
    assert spread == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_a_picture_matched_to_itself_stays(mode):
    x, _ = pictures()
    torch.testing.assert_close(match_color(x, x, mode), x, atol=5e-4, rtol=0)


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_shapes_types_and_range(mode):
    for h, w in ((1, 1), (3, 70), (40, 40)):
        x, ref = torch.rand(2, 3, h, w).half(), torch.rand(2, 3, h, w).half()
        got = match_color(x, ref, mode)
        assert got.dtype == torch.float16 and got.shape == x.shape
        assert torch.isfinite(got).all() and got.min() >= 0 and got.max() <= 1
    assert match_color(x[:0], ref[:0], mode).shape == (0, 3, 40, 40)


def test_one_picture_at_a_time_gives_the_same():
    x, ref = pictures()
    for mode in COLOR_MODES:
        both = match_color(x, ref, mode)
        torch.testing.assert_close(match_color(x[1:], ref[1:], mode)[0], both[1])


def test_wrong_input_gets_a_sentence():
    x, ref = pictures()
    with pytest.raises(FacewrightError, match="wavelet"):
        match_color(x, ref, "sepia")
    with pytest.raises(FacewrightError, match="one shape"):
        match_color(x, ref[..., :5], "lab")
