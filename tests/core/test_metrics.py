"""Scores against scikit-image, float64 by hand, and their own definitions."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.metrics import edge_ratio, face_box_mask, feature_distance, psnr, ssim


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, 40, 52, generator=generator)
    noise = (
        0.1
        * torch.randn(a.shape, generator=generator)
        * torch.tensor([0.2, 1, 3])[:, None, None, None]
    )
    return a, (a + noise).clamp(0, 1)


def test_psnr_is_scikit_images_per_image(pair):
    from skimage.metrics import peak_signal_noise_ratio

    a, b = pair
    expected = [
        peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=1)
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(psnr(a, b), expected, atol=1e-5)


def test_ssim_is_scikit_images_gaussian_per_image(pair):
    from skimage.metrics import structural_similarity

    a, b = pair
    expected = [
        structural_similarity(
            x.double().numpy(),
            y.double().numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, atol=1e-6)


def test_luma_scores_are_scikit_images_on_its_luma(pair):
    from skimage.color import rgb2yiq
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = pair
    luma = [
        [rgb2yiq(x.double().numpy(), channel_axis=0)[0] for x in pictures] for pictures in (a, b)
    ]
    expected = [peak_signal_noise_ratio(x, y, data_range=1) for x, y in zip(*luma, strict=True)]
    np.testing.assert_allclose(psnr(a, b, channels="y"), expected, atol=1e-10)
    expected = [
        structural_similarity(
            x, y, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(*luma, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b, channels="y"), expected, atol=1e-10)


def test_studio_range_luma_adds_what_the_docstring_says(pair):
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio

    a, b = pair
    x, y = (rgb2ycbcr(p[0].double().numpy(), channel_axis=0)[0] for p in (a, b))
    studio = peak_signal_noise_ratio(x, y, data_range=255)
    assert abs(studio - psnr(a, b, channels="y")[0] - 20 * math.log10(255 / 219)) < 1e-3


def test_equal_pictures_are_exactly_ideal(pair):
    ones = torch.ones(5).double()
    flat = torch.tensor([0.0, 0.5])[:, None, None, None].expand(2, 3, 40, 52)
    a = torch.cat([pair[0], flat])
    for channels in ("rgb", "y"):
        assert torch.equal(psnr(a, a, channels=channels), ones * math.inf)
        assert torch.equal(ssim(a, a, channels=channels), ones)
    assert torch.equal(edge_ratio(a, a), ones)


def test_scores_are_symmetric(pair):
    a, b = pair
    for channels in ("rgb", "y"):
        assert torch.equal(psnr(a, b, channels=channels), psnr(b, a, channels=channels))
        assert torch.equal(ssim(a, b, channels=channels), ssim(b, a, channels=channels))


def test_edges_where_there_are_none(pair):
    a, _ = pair
    flat = torch.full_like(a, 0.3)
    assert torch.equal(edge_ratio(flat, a), torch.zeros(3).double())
    assert torch.isinf(edge_ratio(a, flat)).all()


def test_edge_ratio_by_loops(pair):
    from scipy.ndimage import sobel

    def strength(x):
        planes = [sobel(c, axis=k, mode="nearest") for c in x.double().numpy() for k in (0, 1)]
        return np.abs(planes).mean()

    a, b = pair
    expected = [strength(x) / strength(y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(edge_ratio(a, b), expected, rtol=1e-12)


def test_masked_psnr_sees_the_region_alone(pair):
    a, b = pair
    mask = torch.zeros(3, 1, 40, 52)
    mask[..., 5:30, 10:33] = 1
    expected = psnr(a[..., 5:30, 10:33], b[..., 5:30, 10:33])
    assert torch.allclose(psnr(a, b, mask), expected)
    elsewhere = b.clone()
    elsewhere[..., 31:, :] = 0
    assert torch.equal(psnr(a, elsewhere, mask), psnr(a, b, mask))


def test_masked_ssim_averages_the_map(pair):
    a, b = pair
    everything = torch.ones(3, 1, 40, 52)
    assert torch.allclose(ssim(a, b, everything), ssim(a, b))
    left, right = everything.clone(), everything.clone()
    left[..., 26:], right[..., :26] = 0, 0
    # Equal halves of the valid area (5 pixels lost on each side): their mean is the whole.
    assert torch.allclose((ssim(a, b, left) + ssim(a, b, right)) / 2, ssim(a, b))


def test_blur_lowers_the_edge_ratio(pair):
    a, _ = pair
    soft = torch.nn.functional.avg_pool2d(a, 3, 1, 1)
    assert (edge_ratio(soft, a) < 0.6).all()
    assert torch.allclose(edge_ratio(0.5 * a, a), torch.full((3,), 0.5).double())


def test_face_box_raises_the_top_by_a_fifth():
    landmarks = torch.tensor([[[10.0, 20.0], [30.0, 60.0], [12.0, 40.0]]])
    mask = face_box_mask(landmarks, (80, 50))
    ys, xs = mask[0, 0].nonzero(as_tuple=True)
    assert mask.shape == (1, 1, 80, 50)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (10, 30, 12, 60)
    assert mask.sum() == 21 * 49


def test_feature_distance_by_hand():
    generator = torch.Generator().manual_seed(1)
    b = [torch.randn(4, 5, 6, 6, generator=generator), torch.randn(4, 7, 3, 3, generator=generator)]
    a = [x.clone() for x in b]
    a[1][2] += 0.5
    distance = feature_distance(a, b)
    expected = 0.5 * 0.25 / b[1].double().var()
    assert torch.allclose(distance, torch.tensor([0, 0, float(expected), 0]).double())


@pytest.mark.parametrize("bad", ["shape", "mask", "small", "integer", "channels"])
def test_refusals(pair, bad):
    a, b = pair
    with pytest.raises(FacewrightError):
        if bad == "shape":
            psnr(a, b[..., :-1])
        elif bad == "mask":
            psnr(a, b, torch.ones(3, 40, 52))
        elif bad == "small":
            ssim(a[..., :8, :8], b[..., :8, :8])
        elif bad == "channels":
            psnr(a, b, channels="luma")
        else:
            psnr((a * 255).byte(), b)
