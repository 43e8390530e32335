"""Paired differences over pictures and training runs."""

import math

import numpy as np
import pytest
import scipy.stats
from facewright.core.errors import FacewrightError
from facewright.core.metrics.crossed import _drawn, crossed_difference, crossed_interval
from facewright.core.metrics.statistics import paired_difference


def table(rng, k, n, mean=0.0, runs=0.0, pictures=0.0, rest=1.0):
    """Values with known parts of their spread."""
    return (
        mean
        + runs * rng.standard_normal((k, 1))
        + pictures * rng.standard_normal((1, n))
        + rest * rng.standard_normal((k, n))
    )


def by_hand(d, rows, columns):
    """The interval of a list of lists, loop by loop."""
    k, n = len(d), len(d[0])
    mean = sum(map(sum, d)) / (k * n)
    of_row = [sum(row) / n for row in d]
    of_column = [sum(d[i][j] for i in range(k)) / k for j in range(n)]
    v_r = sum((x - mean) ** 2 for x in of_row) / (k - 1) / k
    v_c = sum((x - mean) ** 2 for x in of_column) / (n - 1) / n
    rest = [d[i][j] - of_row[i] - of_column[j] + mean for i in range(k) for j in range(n)]
    v_e = sum(x**2 for x in rest) / ((k - 1) * (n - 1)) / (k * n)
    v = v_r + v_c - v_e
    assert v > max(v_r, v_c)
    freedom = v**2 / (v_r**2 / (k - 1) + v_c**2 / (n - 1) + v_e**2 / ((k - 1) * (n - 1)))
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(v)
    means = []
    for some, others in zip(rows, columns, strict=True):
        total = 0.0
        for i in some:
            for j in others:
                total += d[i][j]
        means.append(total / (k * n))
    tail = scipy.stats.norm.cdf(-half / np.std(means))
    low, high = np.quantile(means, [tail, 1 - tail])
    return min(low, mean - half), max(high, mean + half)


def test_interval_is_that_of_loops_by_hand():
    d = table(np.random.default_rng(0), 4, 9, mean=0.2, runs=0.6, pictures=1.0)
    d[:, 0] += 6  # skew, so that the drawn means decide one end
    rows, columns = (
        np.random.default_rng(s).integers(m, size=(300, m)) for s, m in ((7, 4), (8, 9))
    )
    wanted = by_hand(d.tolist(), rows.tolist(), columns.tolist())
    assert crossed_interval(d, draws=300, seed=7) == pytest.approx(wanted, abs=1e-12)
    half = wanted[1] - d.mean()
    assert half > 1.05 * (d.mean() - wanted[0])  # not symmetric: the bootstrap had its say


def test_rows_and_columns_are_both_drawn():
    rng = np.random.default_rng(1)
    noise = 0.01
    of_pictures = crossed_interval(table(rng, 5, 60, pictures=1.0, rest=noise))
    of_runs = crossed_interval(table(rng, 5, 60, runs=1.0, rest=noise))
    assert of_pictures[1] - of_pictures[0] == pytest.approx(2 * 2.0 / math.sqrt(60), rel=0.25)
    # Five runs: t of 4 degrees of freedom; pictures alone would give next to nothing.
    assert of_runs[1] - of_runs[0] > 1.0
    assert (_drawn(5, 100, 0).sum(1) == 5).all()


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize(
    "spread",
    [{"pictures": 1.0}, {"runs": 1.0, "rest": 0.3}, {"runs": 0.3, "pictures": 1.0}, {"rest": 1.0}],
)
def test_intervals_hold_the_truth_as_often_as_they_say(k, spread):
    rng = np.random.default_rng(k)
    hits = 0
    for _ in range(1000):
        low, high = crossed_interval(table(rng, k, 40, mean=0.7, **spread), draws=500)
        hits += low < 0.7 < high
    # Where there is nothing but each value's own error the rule errs to the safe side.
    assert 925 <= hits <= (995 if spread == {"rest": 1.0} else 975)


def test_a_few_intervals_hold_the_truth():
    """The same in short: of 100 with runs that differ, as few as pictures alone would hold fail."""
    rng = np.random.default_rng(2)
    tables = [table(rng, 5, 24, runs=0.5, pictures=0.5) for _ in range(100)]
    both = sum(low < 0 < high for low, high in (crossed_interval(t, draws=200) for t in tables))
    alone = [paired_difference(t.mean(0), np.zeros(24)) for t in tables]
    assert both >= 90
    assert sum(one.low < 0 < one.high for one in alone) < 75


def test_p_and_interval_agree():
    rng = np.random.default_rng(4)
    seen = set()
    for shift in np.linspace(0, 1.2, 40):
        d = crossed_difference(table(rng, 5, 30, mean=shift, runs=0.3), np.zeros((5, 30)))
        out = d.low > 0 or d.high < 0
        assert not out or d.p < 0.05
        seen.add(out)
    assert seen == {True, False}
    # Where only runs, or only pictures, differ, it is the t test of their means.
    x = rng.normal(0.5, 1, 7)
    for d in (np.tile(x[:, None], (1, 9)), np.tile(x[None], (4, 1))):
        found = crossed_difference(d, np.zeros(d.shape))
        assert found.p == pytest.approx(scipy.stats.ttest_1samp(x, 0)[1], rel=1e-9)


def test_pairs_are_of_the_same_run_and_picture():
    rng = np.random.default_rng(5)
    a = table(rng, 5, 20, runs=3.0, pictures=3.0)
    b = a - 0.1 + 0.01 * rng.standard_normal(a.shape)
    found = crossed_difference(a, b)
    assert found.mean == pytest.approx(0.1, abs=0.01) and 0.08 < found.low < found.high < 0.12
    assert found.runs == pytest.approx((a - b).mean(1)) and found.count == 20
    assert not crossed_difference(a, b[::-1]).low > 0.08  # other runs are no pairs


def test_what_is_not_trained_is_compared_with_every_run():
    rng = np.random.default_rng(6)
    a, b = table(rng, 3, 12), table(rng, 1, 12)
    found = crossed_difference(a, b)
    assert found == crossed_difference(a, np.repeat(b, 3, 0)) and len(found.runs) == 3
    alone, one = crossed_difference(a[:1], b), paired_difference(a[0], b[0])
    assert (alone.mean, alone.low, alone.high, alone.p) == (one.mean, one.low, one.high, one.p)


def test_pictures_without_a_value_are_left_out_and_counted():
    a, b = np.arange(24.0).reshape(2, 12), np.zeros((2, 12))
    a[1, 3], b[0, 5] = math.nan, math.inf
    found = crossed_difference(a, b)
    kept = [j for j in range(12) if j not in (3, 5)]
    assert (found.count, found.undefined) == (10, 2)
    assert found.mean == pytest.approx(a[:, kept].mean())
    few = crossed_difference(a[:, :5], b[:, :5])
    assert few.count == 4 and math.isnan(few.low) and math.isnan(few.p)
    none = crossed_difference(a * math.nan, b)
    assert none.count == 0 and math.isnan(none.mean) and all(map(math.isnan, none.runs))


def test_equal_tables_differ_by_nothing():
    a = np.ones((3, 8))
    found = crossed_difference(a, a)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_tables_that_do_not_fit_are_refused():
    a = np.zeros((3, 8))
    for b in (np.zeros((2, 8)), np.zeros((3, 7)), np.zeros(8), np.zeros((0, 8))):
        with pytest.raises(FacewrightError, match="training run"):
            crossed_difference(a, b)
    for wrong in (a[:1], a[:, :1], a * math.nan):
        with pytest.raises(FacewrightError, match="at least 2 training runs and 2 pictures"):
            crossed_interval(wrong)
    with pytest.raises(FacewrightError, match="between 0 and 1"):
        crossed_interval(a, confidence=95)
    with pytest.raises(FacewrightError, match="at least 2"):
        crossed_interval(a, draws=1)
