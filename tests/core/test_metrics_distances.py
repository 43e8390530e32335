"""Fréchet distance, angle of embeddings and MS-SWD against SciPy, NumPy and naive loops."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.metrics import (
    FrechetStatistics,
    frechet_distance,
    identity_degrees,
    ms_swd,
)
from facewright.core.metrics.color_difference import random_filters


def features(n, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ mix + seed


def textbook(a, b):
    from scipy.linalg import sqrtm

    a, b = a.numpy(), b.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b)
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return shift + np.trace(cov_a + cov_b - 2 * root.real)


def test_frechet_is_scipys():
    a, b = features(400, 24, 1), features(300, 24, 2)
    np.testing.assert_allclose(frechet_distance(a, b), textbook(a, b), rtol=1e-10)


def test_frechet_of_known_gaussians():
    """Points at +-s e_i have a diagonal covariance, so the roots are taken number by number."""
    scale_a, scale_b = torch.tensor([[1.0, 2, 0.5], [3, 1, 0]]).double()
    axes = torch.eye(3).double()
    a, b = (torch.cat([axes * s, -axes * s]) for s in (scale_a, scale_b))
    expected = ((scale_a - scale_b) ** 2).sum() * 2 / 5 + 4
    b = b + torch.tensor([0.0, 2, 0])
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-13)


def test_frechet_with_fewer_pictures_than_features():
    a, b = features(12, 40, 1), features(9, 40, 2)
    centred = [(x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b)]
    # tr (C_a C_b)^(1/2) is the nuclear norm of the small matrix of inner products.
    overlap = np.linalg.svd((centred[0] @ centred[1].T).numpy(), compute_uv=False).sum()
    traces = sum((x**2).sum() for x in centred)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * overlap
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-11)


def test_frechet_of_equal_sets_is_zero_and_it_is_symmetric():
    a, b = features(50, 16, 1), features(50, 16, 2)
    assert frechet_distance(a, a).item() == 0
    assert frechet_distance(a[:5], a[:5]).item() == 0
    assert frechet_distance(a, b).item() == frechet_distance(b, a).item()
    other_order = frechet_distance(a, a[torch.randperm(50)])
    assert 0 <= other_order < 1e-9
    assert frechet_distance(a, b).dtype == torch.float64


def test_frechet_statistics_in_batches_are_those_of_all():
    # A large mean is where sums of squares would lose the covariance.
    x = features(500, 8, 3) + 1e6
    statistics = FrechetStatistics()
    for part in x.split([1, 0, 200, 37, 262]):
        statistics.update(part.clone())
    assert statistics.count == 500
    np.testing.assert_allclose(statistics.mean, x.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(statistics.covariance, np.cov(x.numpy().T), rtol=1e-9, atol=1e-9)
    other = FrechetStatistics()
    other.update(features(60, 8, 4))
    np.testing.assert_allclose(
        statistics.distance(other), frechet_distance(x, features(60, 8, 4)), rtol=1e-9
    )


def test_frechet_refusals():
    with pytest.raises(FacewrightError, match="at least 2 pictures"):
        frechet_distance(torch.rand(1, 4), torch.rand(5, 4))
    with pytest.raises(FacewrightError, match="at least 2 pictures"):
        frechet_distance(torch.rand(0, 4), torch.rand(5, 4))
    with pytest.raises(FacewrightError, match="lengths 4 and 5"):
        frechet_distance(torch.rand(3, 4), torch.rand(3, 5))
    with pytest.raises(FacewrightError, match=r"\(n, d\)"):
        frechet_distance(torch.rand(3, 4, 1), torch.rand(3, 4))
    statistics = FrechetStatistics()
    statistics.update(torch.rand(3, 4))
    with pytest.raises(FacewrightError, match=r"\(n, 4\)"):
        statistics.update(torch.rand(3, 5))
    bad = torch.rand(3, 4)
    bad[1, 2] = math.nan
    with pytest.raises(FacewrightError, match=r"pictures 4"):
        statistics.update(bad)


def test_degrees_are_arccos():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20, 64, generator=g, dtype=torch.float64)
    expected = [
        math.degrees(math.acos(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)))
        for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    np.testing.assert_allclose(identity_degrees(a, b), expected, rtol=1e-13)
    np.testing.assert_allclose(identity_degrees(3 * a, 0.1 * b), expected, rtol=1e-13)
    assert torch.equal(identity_degrees(a, b), identity_degrees(b, a))


@pytest.mark.parametrize("degrees", [1e-9, 1e-5, 0.5, 60, 90, 179.99999])
def test_small_angles_keep_their_digits(degrees):
    angle = math.radians(degrees)
    a = torch.tensor([[1.0, 0]], dtype=torch.float64)
    b = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    np.testing.assert_allclose(identity_degrees(a, b), [degrees], rtol=1e-12)


def test_degrees_at_the_ends():
    a = torch.randn(30, 512)
    # The cosine of a vector with itself often rounds above 1, where arccos is NaN.
    assert torch.equal(identity_degrees(a, a), torch.zeros(30).double())
    np.testing.assert_allclose(identity_degrees(a, -a), np.full(30, 180), rtol=1e-14)


def test_degrees_refusals():
    a = torch.rand(3, 4)
    b = a.clone()
    b[2] = 0
    with pytest.raises(FacewrightError, match=r"`b` at 2"):
        identity_degrees(a, b)
    b[2] = math.nan
    with pytest.raises(FacewrightError, match=r"`b` at 2"):
        identity_degrees(a, b)
    with pytest.raises(FacewrightError, match="one shape"):
        identity_degrees(a, a[:2])


def naive_ms_swd(a, b, scales):
    """One (h, w, 3) pair in float64 with SciPy and scikit-image."""
    from scipy.ndimage import convolve1d, correlate
    from skimage.color import rgb2lab

    def halve(x):
        for axis in (0, 1):
            x = convolve1d(x, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="mirror")
        return x[::2, ::2]

    total = []
    for scale in range(scales):
        lab = [rgb2lab(x) for x in (a, b)]
        differences = []
        for f in random_filters()[scale].double().numpy():
            maps = [
                sum(correlate(x[..., c], f[c], mode="mirror") for c in range(3)).ravel()
                for x in lab
            ]
            differences.append(np.abs(np.sort(maps[0]) - np.sort(maps[1])).mean())
        total.append(np.mean(differences))
        a, b = halve(a), halve(b)
    return np.mean(total)


@pytest.fixture
def pictures():
    g = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 6, 7, generator=g)
    a = torch.nn.functional.interpolate(small, (22, 27), mode="bicubic").clamp(0, 1)
    return a, (0.8 * a + 0.1 * torch.rand(a.shape, generator=g)).clamp(0, 1)


def test_ms_swd_by_hand(pictures):
    a, b = pictures
    # 22 -> 11 -> 6: three scales leave at least 6 pixels.
    expected = [
        naive_ms_swd(*(x.permute(1, 2, 0).double().numpy() for x in pair), 3)
        for pair in zip(a, b, strict=True)
    ]
    # Two slightly different sRGB matrices, and float32.
    np.testing.assert_allclose(ms_swd(a, b), expected, rtol=1e-3)


def test_ms_swd_ideals(pictures):
    a, b = pictures
    assert torch.equal(ms_swd(a, a), torch.zeros(2).double())
    assert torch.equal(ms_swd(a, b), ms_swd(b, a))
    assert torch.equal(ms_swd(a, b)[1:], ms_swd(a[1:], b[1:]))
    assert torch.equal(ms_swd(a, b), ms_swd(a, b))
    assert ms_swd(a[:0], b[:0]).shape == (0,)


def test_ms_swd_grows_with_the_colour_shift_and_hardly_minds_a_pixel(pictures):
    a, _ = pictures
    warmer = [a + torch.tensor([d, 0, -d])[:, None, None] for d in (0.02, 0.05, 0.1)]
    near, mid, far = (ms_swd(a, w.clamp(0, 1)) for w in warmer)
    assert (near < mid).all() and (mid < far).all()
    assert (ms_swd(a[..., :-1], a[..., 1:]) < mid).all()


def test_ms_swd_reduces_large_pictures(pictures):
    large_a, large_b = (
        torch.nn.functional.interpolate(x[:1, :, :8, :9], (512, 640), mode="bicubic").clamp(0, 1)
        for x in pictures
    )
    small_a, small_b = (
        torch.nn.functional.interpolate(x, (256, 320), mode="area") for x in (large_a, large_b)
    )
    np.testing.assert_allclose(ms_swd(large_a, large_b), ms_swd(small_a, small_b), rtol=0.01)


def test_filters_are_fixed():
    """Scores stay comparable between versions: the first drawn numbers, of length 1 per filter."""
    filters = torch.stack(random_filters())
    assert filters.shape == (5, 128, 3, 11, 11)
    np.testing.assert_allclose(filters.flatten(2).norm(dim=2), np.ones((5, 128)), atol=1e-6)
    drawn = np.random.RandomState(0).standard_normal(363)
    np.testing.assert_allclose(filters[0, 0].flatten(), drawn / np.linalg.norm(drawn), atol=1e-7)


def test_ms_swd_refusals(pictures):
    a, b = pictures
    with pytest.raises(FacewrightError, match="at least 11 x 11"):
        ms_swd(a[..., :10], b[..., :10])
    with pytest.raises(FacewrightError, match="one shape"):
        ms_swd(a, b[..., :-1])
