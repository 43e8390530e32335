"""Every metric by name: what it says of itself, its ideals, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.geometry.landmarks import affine_landmark_distance, region_points
from facewright.core.metrics import METRICS, Metric, metric

ORDER = [
    *("psnr", "psnr_y", "ssim", "ssim_y", "psnr_y_studio", "ssim_y_studio", "edges", "msswd"),
    *("lpips", "lpips_vgg", "dists", "musiq"),
    *("maniqa", "maniqa_pipal", "clipiqa", "niqe", "msswd_learned", "fid", "fid_basicsr"),
    *("fid_set", "fid_basicsr_set", "ald", "ald_eyes", "ald_mouth", "ald_lips", "lmd", "deg"),
    *("cosine", "rank", "rank1", "frechet", "frechet_set"),
]
OWN = [n for n in ORDER if METRICS[n].package is None and not n.startswith("fid")]
PIXELS = [n for n in OWN if METRICS[n].reads == "pixels"]


def sample(name, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = {
        "pixels": (3, 3, 24, 30), "landmarks": (3, 68, 2), "embeddings": (3, 16), "set": (12, 4),
        "gallery": (3, 16),
    }[METRICS[name].reads]  # fmt: skip
    return torch.rand(shape, generator=g)


def test_names_and_their_order():
    assert list(METRICS) == ORDER
    assert all(m.name == name for name, m in METRICS.items())
    with pytest.raises(FacewrightError, match=r"'psnrr'; known: psnr, psnr_y"):
        metric("psnrr")


@pytest.mark.parametrize("name", ORDER)
def test_every_metric_says_what_a_reader_needs(name):
    m = metric(name)
    assert m.label and m.summary.endswith(".")
    assert (m.package is None) == (m.extra is None)
    assert m.package is None or m.licence
    assert m.better in ("higher", "lower", "one")


@pytest.mark.parametrize("name", OWN)
def test_own_metrics_are_always_available(name):
    m = metric(name)
    assert m.missing() is None
    assert m.licence is None


@pytest.mark.parametrize("name", OWN)
def test_equal_inputs_give_exactly_the_ideal(name):
    ideal = {"higher": 1.0, "lower": 0.0, "one": 1.0}[METRICS[name].better]
    if METRICS[name].unit == "dB":
        ideal = math.inf
    if name == "rank":
        ideal = 1.0
    x = sample(name)
    values = metric(name)(x, x.clone())
    assert torch.equal(values, torch.full_like(values, ideal))


@pytest.mark.parametrize("name", OWN)
def test_one_float64_per_picture_whatever_the_batch(name):
    m = metric(name)
    a, b = sample(name, 1), sample(name, 2)
    values = m(a, b)
    assert values.dtype == torch.float64 and not values.requires_grad
    if m.reads == "set":
        assert values.shape == ()
        return
    assert values.shape == (3,)
    if m.reads == "gallery":  # among the others of the batch
        return
    np.testing.assert_allclose(m(a[1:2], b[1:2]), values[1:2], rtol=1e-12)
    order = [2, 0, 1]
    np.testing.assert_allclose(m(a[order], b[order]), values[order], rtol=1e-12)
    assert m(a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize(
    "name", [n for n in OWN if n != "edges" and not n.startswith(("ald", "rank"))]
)
def test_symmetric_ones_are_symmetric(name):
    a, b = sample(name, 1), sample(name, 2)
    assert torch.equal(metric(name)(a, b), metric(name)(b, a))


def test_regional_landmark_scores_read_their_points():
    a, b = sample("ald", 1), sample("ald", 2)
    regions = {"ald_eyes": "eyes", "ald_mouth": "mouth", "ald_lips": "outer_mouth"}
    for name, region in regions.items():
        points = region_points(68, region)
        expected = affine_landmark_distance(a[:, points], b[:, points])
        assert torch.equal(metric(name)(a, b), expected)
        moved = b.clone()
        others = [i for i in range(68) if i not in points]
        moved[:, others] += 100
        assert torch.equal(metric(name)(a, moved), expected)
    with pytest.raises(FacewrightError, match="98"):
        metric("ald_eyes")(a[:, :5], b[:, :5])


@pytest.mark.parametrize("name", OWN)
def test_the_truth_is_asked_for(name):
    with pytest.raises(FacewrightError, match="pass `gt`"):
        metric(name)(sample(name))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pictures_with_nan_are_named(name, value):
    good, bad = sample(name), sample(name)
    bad[1, 0] = value
    with pytest.raises(FacewrightError, match=r"`gt` has them at index 1;"):
        metric(name)(good, bad)
    with pytest.raises(FacewrightError, match=r"`restored` has them at index 1;"):
        metric(name)(bad, good)


def test_many_bad_pictures_are_counted():
    bad = torch.full((9, 3, 12, 12), math.nan)
    with pytest.raises(FacewrightError, match=r"0, 1, 2 and 6 more"):
        metric("psnr")(bad, bad)


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(2, 1, 24, 24), "three times"),
        (torch.rand(2, 4, 24, 24), "alpha"),
        (torch.rand(2, 24, 24, 3), "channels first"),
        (torch.rand(3, 24, 24), r"\(n, 3, h, w\)"),
        (torch.zeros(2, 3, 24, 24, dtype=torch.uint8), "divide by 255"),
        (torch.rand(2, 3, 24, 24) * 255, "pictures 0, 1 go outside"),
    ],
)
def test_other_pictures_are_refused_with_a_way_out(name, x, words):
    with pytest.raises(FacewrightError, match=words):
        metric(name)(x, x)


@pytest.mark.parametrize("name", ["ssim", "ssim_y", "msswd"])
def test_pictures_below_the_window(name):
    x = torch.rand(1, 3, 10, 40)
    with pytest.raises(FacewrightError, match="at least 11 x 11 pixels, got 10 x 40"):
        metric(name)(x, x)
    assert metric(name).smallest == 11


@pytest.mark.parametrize("name", OWN)
def test_shapes_that_differ(name):
    x = sample(name)
    other = x[..., :-1] if METRICS[name].reads in ("set", "pixels") else x[:-1]
    with pytest.raises(FacewrightError):
        metric(name)(x, other)


@pytest.mark.parametrize("name", ["ald", "deg", "frechet"])
def test_wrong_ranks_are_refused(name):
    with pytest.raises(FacewrightError, match="floating point"):
        metric(name)(torch.rand(4), torch.rand(4))
    integers = torch.ones(sample(name).shape, dtype=torch.int64)
    with pytest.raises(FacewrightError, match="int64"):
        metric(name)(integers, integers)


def test_sets_of_different_size_are_fine():
    assert metric("frechet")(sample("frechet"), sample("frechet", 1)[:7]).shape == ()
    with pytest.raises(FacewrightError, match="at least 2"):
        metric("frechet")(sample("frechet")[:1], sample("frechet"))


def test_a_metric_that_is_not_available_says_why_when_called():
    missing = Metric(
        name="x", label="X", better="lower", summary="X.", compute=None,
        missing=lambda: "Install x (licence y).",
    )  # fmt: skip
    assert missing.missing() == "Install x (licence y)."
    with pytest.raises(FacewrightError, match=r"Install x \(licence y\)"):
        missing(torch.rand(1, 3, 4, 4))
