"""Paired differences over pictures and training runs at once.

A method that is trained several times gives a table of values, one row per training run and one
column per picture. Its mean has two sources of error: other pictures would give another one, and so
would other runs. Intervals over pictures alone are too narrow as soon as runs differ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import FacewrightError
from .statistics import CONFIDENCE, DRAWS, FEWEST, paired_difference


@dataclass(frozen=True)
class CrossedDifference:
    """How much a differs from b over the same pictures and training runs."""

    mean: float
    """Of a - b; NaN without a picture."""
    low: float
    high: float
    """95 % interval of the mean; NaN below `FEWEST` pictures."""
    runs: tuple[float, ...]
    """The mean of each training run by itself."""
    count: int
    """Pictures compared: every run has both values."""
    undefined: int
    """Pictures left out, where some value is NaN or infinite."""
    p: float
    """Two-sided p-value of the mean; NaN without an interval."""


def crossed_difference(
    a: Sequence[Sequence[float]] | np.ndarray, b: Sequence[Sequence[float]] | np.ndarray
) -> CrossedDifference:
    """Compare two methods picture by picture and training run by training run.

    The interval is that of `crossed_interval`; where there is a single run, that of
    `statistics.paired_difference` over pictures.

    Args:
        a, b: (k, n), training runs by pictures; row i of both was trained with the same seed. One
            row alone stands for a method that is not trained, and is compared with each run of the
            other.

    Raises:
        FacewrightError: tables that do not fit together, or without a run.
    """
    a, b = _table(a, "a"), _table(b, "b")
    if a.shape[1] != b.shape[1] or len({len(a), len(b)} - {1}) > 1:
        raise FacewrightError(
            "A paired comparison needs the same pictures and training runs twice: got "
            f"{len(a)} runs of {a.shape[1]} values and {len(b)} of {b.shape[1]}."
        )
    with np.errstate(invalid="ignore"):
        difference = a - b
    known = np.isfinite(difference).all(0)
    d = difference[:, known]
    count = d.shape[1]
    if len(d) == 1:
        one = paired_difference(d[0], np.zeros(count))
        mean, low, high, p = one.mean, one.low, one.high, one.p
    else:
        mean = float(d.mean()) if count else math.nan
        low, high = crossed_interval(d) if count >= FEWEST else (math.nan, math.nan)
        p = _p_value(d) if count >= FEWEST else math.nan
    runs = tuple(float(row.mean()) if count else math.nan for row in d)
    return CrossedDifference(mean, low, high, runs, count, int((~known).sum()), p)


def crossed_interval(
    values: Sequence[Sequence[float]] | np.ndarray,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the mean of a table of which other rows and other columns could have been drawn.

    Rows and columns are drawn with replacement, independently of each other (the pigeonhole
    bootstrap: Owen, "The pigeonhole bootstrap", 2007). The means drawn so vary too little between
    few rows and count each value's own error three times, so each tail holds
    Phi(-t se / s) of them instead of (1 - confidence) / 2: s is their standard deviation, se that
    of the mean by the analysis of variance, se^2 = V_r + V_c - V_e with V the mean squares of
    rows, columns and the rest, divided by the number of values (never less than V_r or V_c), and t
    Student's quantile with Satterthwaite's degrees of freedom. With one row this is
    `statistics.bootstrap_interval`'s expansion. Where rows are few, drawn means cannot lie beyond
    the outermost row: each end is the farther one of this and mean +- t se.

    Args:
        values: (k, n) finite, k and n at least 2: training runs by pictures.
        confidence: how often intervals made like this hold the mean, in (0, 1).
        draws: how many means are drawn.
        seed: of `numpy.random.default_rng`; the same values give the same interval.

    Raises:
        FacewrightError: another shape, values that are not finite, or an impossible confidence or
            number of draws.
    """
    table = _table(values, "values")
    k, n = table.shape
    if k < 2 or n < 2 or not np.isfinite(table).all():
        raise FacewrightError(
            "`values` should be finite numbers of at least 2 training runs and 2 pictures, got "
            f"{table.shape}."
        )
    if not 0 < confidence < 1:
        raise FacewrightError(f"`confidence` is a share between 0 and 1, got {confidence}.")
    if draws < 2:
        raise FacewrightError(f"`draws` should be at least 2, got {draws}.")
    from scipy.special import ndtr, stdtrit

    mean, (error, freedom) = float(table.mean()), _error(table)
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    rows, columns = _drawn(k, draws, seed), _drawn(n, draws, seed + 1)
    means = ((rows @ table) * columns).sum(1) / (k * n)
    spread = float(means.std())
    if not spread:
        return mean - reach, mean + reach
    tail = float(ndtr(-reach / spread))
    low, high = np.quantile(means, [tail, 1 - tail])
    return min(float(low), mean - reach), max(float(high), mean + reach)


def _error(d: np.ndarray) -> tuple[float, float]:
    """Standard error of the mean of (k, n), and its degrees of freedom."""
    k, n = d.shape
    rows, columns = d.mean(1), d.mean(0)
    rest = d - rows[:, None] - columns + d.mean()
    v_rows, v_columns = rows.var(ddof=1) / k, columns.var(ddof=1) / n
    v_rest = float((rest**2).sum()) / ((k - 1) * (n - 1) * k * n)
    variance = v_rows + v_columns - v_rest
    if variance <= max(v_rows, v_columns):
        larger, freedom = max((v_rows, k - 1), (v_columns, n - 1))
        return math.sqrt(larger), float(freedom)
    parts = v_rows**2 / (k - 1) + v_columns**2 / (n - 1) + v_rest**2 / ((k - 1) * (n - 1))
    return math.sqrt(variance), max(float(variance**2 / parts), float(min(k, n) - 1))


def _p_value(d: np.ndarray) -> float:
    """Two-sided, by Student's t with `_error`: the interval leaves out 0 only where p is below
    0.05, since it holds mean +- t se."""
    from scipy.special import stdtr

    mean, (error, freedom) = float(d.mean()), _error(d)
    if not error:
        return float(mean == 0)
    return float(2 * stdtr(freedom, -abs(mean) / error))


@lru_cache(maxsize=8)
def _drawn(n: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n): how often each of n was drawn, in n draws with replacement."""
    chosen = np.random.default_rng(seed).integers(n, size=(draws, n))
    counts = np.zeros((draws, n))
    np.add.at(counts, (np.arange(draws)[:, None], chosen), 1)
    return counts


def _table(values: Sequence[Sequence[float]] | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not len(array):
        raise FacewrightError(
            f"`{name}` should be (k, n), a row of values per training run, got {array.shape}."
        )
    return array
