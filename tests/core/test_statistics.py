"""Bootstrap intervals and paired comparisons."""

import math

import numpy as np
import pytest
import scipy.stats
from facewright.core.errors import FacewrightError
from facewright.core.metrics import statistics
from facewright.core.metrics.statistics import bootstrap_interval, mean_interval, paired_difference

VALUES = np.random.default_rng(3).gamma(2.0, 3.0, 60)


def expanded_tail(confidence, n):
    """Hesterberg 2015, with the distributions of scipy.stats."""
    t = scipy.stats.t.ppf(1 - (1 - confidence) / 2, n - 1)
    return scipy.stats.norm.sf(math.sqrt(n / (n - 1)) * t)


@pytest.mark.parametrize("n", [8, 20, 60])
def test_interval_agrees_with_scipy(n):
    """Different draws, so up to the noise of 20 000 of them."""
    values = VALUES[:n]
    mine = bootstrap_interval(values, draws=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(9),
        confidence_level=1 - 2 * expanded_tail(0.95, n),
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert np.allclose(mine, theirs, atol=0.04 * width)
    t = scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert width == pytest.approx(2 * t, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 8, 10, 20, 50])
def test_a_difference_that_is_not_there_is_claimed_about_once_in_20(n):
    rng = np.random.default_rng(n)
    claims = [paired_difference(rng.normal(size=n), np.zeros(n)).clear for _ in range(4000)]
    assert 0.03 < np.mean(claims) < 0.07


def test_interval_is_that_of_a_naive_loop_whatever_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    means = []
    for _ in range(200):
        means.append(sum(VALUES[i] for i in rng.integers(60, size=60)) / 60)
    means.sort()
    at = expanded_tail(0.9, 60) * 199  # linear interpolation between order statistics
    low = means[int(at)] + (at - int(at)) * (means[int(at) + 1] - means[int(at)])
    for chunk in (1, 7 * 60, 2**20):
        monkeypatch.setattr(statistics, "_CHUNK", chunk)
        mine = bootstrap_interval(VALUES, confidence=0.9, draws=200)
        assert mine[0] == pytest.approx(low, abs=1e-12)
        assert mine[1] > VALUES.mean() > mine[0]


def test_a_wider_confidence_gives_a_wider_interval_and_a_seed_the_same_one():
    narrow, wide = bootstrap_interval(VALUES, 0.5), bootstrap_interval(VALUES, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval(VALUES, seed=1) == bootstrap_interval(list(VALUES), seed=1)
    assert bootstrap_interval(VALUES, seed=1) != bootstrap_interval(VALUES, seed=2)


def test_small_and_odd_samples():
    assert bootstrap_interval([2.5]) == (2.5, 2.5)
    assert bootstrap_interval([4.0] * 9) == (4.0, 4.0)
    assert all(map(math.isnan, bootstrap_interval([])))
    assert all(map(math.isnan, bootstrap_interval([1.0, math.nan])))
    # A mean is infinite where a draw holds the infinite value: for 1 of 10, 65 % of the draws.
    low, high = bootstrap_interval([*range(9), math.inf])
    assert 0 < low < 8 and high == math.inf
    assert bootstrap_interval([math.inf, math.inf]) == (math.inf, math.inf)


def test_means_say_what_they_left_out():
    got = mean_interval([1.0, 3.0, *[2.0] * 4, math.inf, math.nan, math.inf])
    assert (got.mean, got.count, got.infinite, got.undefined) == (2.0, 6, 2, 1)
    assert (got.low, got.high) == bootstrap_interval([1.0, 3.0, *[2.0] * 4])
    assert math.isnan(mean_interval([math.inf]).mean)


def test_below_six_values_nothing_is_claimed():
    few = mean_interval([5.0, 6.0, 5.5, 5.2, 5.1])
    assert few.mean == pytest.approx(5.36) and math.isnan(few.low) and math.isnan(few.high)
    five, six = (paired_difference(range(1, n + 1), [0] * n) for n in (5, 6))
    assert five.clear is None and five.wins == 1 and math.isnan(five.low)
    assert six.clear is True
    assert paired_difference([0, 1] * 3, [1, 0] * 3).clear is False
    # Infinite differences are no values either.
    assert paired_difference([*range(5), math.inf], [9] * 6).clear is None


def test_paired_difference_is_the_interval_of_the_differences():
    rng = np.random.default_rng(1)
    a = VALUES + 0.1 + 0.02 * rng.normal(size=60)
    got = paired_difference(a, VALUES, "higher")
    assert got.mean == pytest.approx((a - VALUES).mean(), abs=1e-12)
    assert (got.low, got.high) == bootstrap_interval(a - VALUES)
    # Two means of these samples are far apart in error: pairing is what makes it clear.
    assert got.clear and got.high - got.low < 0.02
    assert got.wins == sum(x > y for x, y in zip(a, VALUES, strict=True)) / 60
    assert got.wins + got.losses == 1


def test_wins_follow_the_direction_and_ties_are_neither():
    a, b = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 5.0, 3.0]
    higher, lower = paired_difference(a, b, "higher"), paired_difference(a, b, "lower")
    assert (higher.wins, higher.losses) == (0.25, 0.5)
    assert (lower.wins, lower.losses) == (0.5, 0.25)
    assert higher.mean == lower.mean == -0.5
    one = paired_difference([0.9, 1.3], [0.5, 1.2], "one")
    assert one.mean == pytest.approx((0.4 - 0.1) / 2) and (one.wins, one.losses) == (0.5, 0.5)


def test_infinite_and_missing_values_in_pairs():
    inf, nan = math.inf, math.nan
    got = paired_difference([inf, inf, 3.0, nan, 2.0], [inf, 30.0, inf, 1.0, 1.0])
    assert (got.count, got.infinite, got.undefined) == (4, 2, 1)
    assert got.mean == 0.5  # of 0 for the equal infinities, and 1
    assert (got.wins, got.losses) == (0.5, 0.25)
    empty = paired_difference([], [])
    assert empty.count == 0 and math.isnan(empty.mean) and not empty.clear


def test_refusals():
    with pytest.raises(FacewrightError, match="same images twice: got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(FacewrightError, match="one of higher, lower, one"):
        paired_difference([1], [2], "bigger")
    with pytest.raises(FacewrightError, match="share between 0 and 1"):
        bootstrap_interval([1, 2], 95)
    with pytest.raises(FacewrightError, match="one number per image"):
        bootstrap_interval([[1, 2]])
    with pytest.raises(FacewrightError, match="at least 1"):
        bootstrap_interval([1, 2], draws=0)
