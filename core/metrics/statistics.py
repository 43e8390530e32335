"""Means over images with what is known about their error, and paired comparisons.

Intervals are expanded percentile bootstrap intervals of the mean (Efron 1979; Hesterberg, "What
Teachers Should Know About the Bootstrap", 2015): images are drawn with replacement as many times as
there are, and the interval holds the middle share of the means, a larger share where images are
few. They answer "would other images of this kind give the same mean?", and nothing about systematic
errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FacewrightError
from .significance import sign_flip_p

CONFIDENCE = 0.95
DRAWS = 2000
FEWEST = 6
"""Below this many values no interval is given: it would claim more than so few can tell."""
BETTER = ("higher", "lower", "one")
"""Which values are good: high ones, low ones, or those close to 1."""
_CHUNK = 2**20
"""Numbers drawn at a time: memory stays flat however many images there are."""


@dataclass(frozen=True)
class Mean:
    """A mean over images and what it was taken over."""

    mean: float
    """Over the finite values; NaN where there is none."""
    low: float
    high: float
    """Bootstrap interval; NaN below `FEWEST` finite values."""
    count: int
    """Finite values, all of which entered."""
    infinite: int = 0
    """Left out of the mean: PSNR of equal images, say."""
    undefined: int = 0
    """NaN, left out too."""


@dataclass(frozen=True)
class Difference:
    """How much a differs from b over the same images."""

    mean: float
    """Of the gain where `better` is "one" (how much closer to 1 a is), else of a - b."""
    low: float
    high: float
    """Bootstrap interval of the mean; NaN below `FEWEST` finite differences."""
    wins: float
    """Share of the images where a is better; NaN without images."""
    losses: float
    """Share where b is better; what is left are ties."""
    count: int
    """Images compared: both values are defined."""
    infinite: int = 0
    """Of them, where only one value is infinite: they count as win or loss, not in the mean."""
    undefined: int = 0
    """Images where either value is NaN; left out."""
    p: float = math.nan
    """Of the mean, by `sign_flip_p`; NaN without an interval, or where a difference is infinite."""

    @property
    def clear(self) -> bool | None:
        """The interval leaves out 0; None without an interval."""
        return None if math.isnan(self.low) else self.low > 0 or self.high < 0


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Expanded percentile bootstrap interval of the mean.

    The plain percentile interval is too narrow by the factor sqrt((n - 1) / n), because the draws
    vary around the sample's own mean, and by that of a normal instead of a t quantile: of 5 values
    it misses the mean 15 times in 100 where 5 are allowed. So each tail holds
    Phi(sqrt(n / (n - 1)) t_{(1 - confidence) / 2, n - 1}) of the drawn means instead of
    (1 - confidence) / 2 (Hesterberg 2015, section 5.3); the two agree for many values. Skewed
    values still need more: of 10 exponential ones the interval misses 10 times in 100.

    Args:
        values: (n,), one per image.
        confidence: how often intervals made like this hold the mean, in (0, 1).
        draws: how many means are drawn.
        seed: of `numpy.random.default_rng`; the same values give the same interval.

    Returns:
        (low, high). One value gives itself twice, none gives NaN, a NaN gives NaN; a bound is
        infinite where the drawn means there are.

    Raises:
        FacewrightError: anything but one axis, or an impossible confidence or number of draws.
    """
    array = _one_axis(values, "values")
    if not 0 < confidence < 1:
        raise FacewrightError(f"`confidence` is a share between 0 and 1, got {confidence}.")
    if draws < 1:
        raise FacewrightError(f"`draws` should be at least 1, got {draws}.")
    n = len(array)
    if n == 0 or np.isnan(array).any():
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        means[start:stop] = array[rng.integers(n, size=(stop - start, n))].mean(1)
    tail = _tail(confidence, n)
    # Interpolating between two infinite neighbours would give NaN.
    method = "linear" if np.isfinite(means).all() else "inverted_cdf"
    low, high = np.quantile(means, [tail, 1 - tail], method=method)
    return float(low), float(high)


def mean_interval(values: Sequence[float] | np.ndarray) -> Mean:
    """Mean over the finite values with its interval; infinite and undefined ones are counted."""
    array = _one_axis(values, "values")
    finite = array[np.isfinite(array)]
    low, high = _interval(finite)
    return Mean(
        mean=float(finite.mean()) if len(finite) else math.nan,
        low=low,
        high=high,
        count=len(finite),
        infinite=int(np.isinf(array).sum()),
        undefined=int(np.isnan(array).sum()),
    )


def paired_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    better: str = "higher",
) -> Difference:
    """Compare two methods image by image: a[i] and b[i] belong to the same image.

    Pairing removes the differences between images, which are usually much larger than those
    between methods: the interval is that of the mean of a - b, not of two means.

    Args:
        a, b: (n,), with inf or NaN where a value is infinite or missing.
        better: one of `BETTER`, decides wins and losses. For "one" the difference is
            |b - 1| - |a - 1|: how much closer to 1 a is.

    Raises:
        FacewrightError: lengths that differ, or an unknown `better`.
    """
    if better not in BETTER:
        raise FacewrightError(f"`better` is one of {', '.join(BETTER)}, got {better!r}.")
    a, b = _one_axis(a, "a"), _one_axis(b, "b")
    if len(a) != len(b):
        raise FacewrightError(
            f"A paired comparison needs the same images twice: got {len(a)} and {len(b)} values."
        )
    defined = ~(np.isnan(a) | np.isnan(b))
    a, b = a[defined], b[defined]
    if better == "one":
        a, b = -np.abs(a - 1), -np.abs(b - 1)
    difference = np.zeros(len(a))
    np.subtract(a, b, out=difference, where=a != b)  # equal infinities differ by 0, not by NaN
    finite = difference[np.isfinite(difference)]
    low, high = _interval(finite)
    known = len(finite) == len(difference) and len(finite) >= FEWEST
    gain = -difference if better == "lower" else difference
    return Difference(
        mean=float(finite.mean()) if len(finite) else math.nan,
        low=low,
        high=high,
        wins=float((gain > 0).mean()) if len(gain) else math.nan,
        losses=float((gain < 0).mean()) if len(gain) else math.nan,
        count=len(difference),
        infinite=len(difference) - len(finite),
        undefined=int((~defined).sum()),
        p=sign_flip_p(finite) if known else math.nan,
    )


def _tail(confidence: float, n: int) -> float:
    """Share of the drawn means on each side of the interval."""
    from scipy.special import ndtr, stdtrit

    if n == 1:  # every draw is the same
        return (1 - confidence) / 2
    return float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - confidence) / 2)))


def _interval(finite: np.ndarray) -> tuple[float, float]:
    return (math.nan, math.nan) if len(finite) < FEWEST else bootstrap_interval(finite)


def _one_axis(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise FacewrightError(f"`{name}` should be (n,), one number per image, got {array.shape}.")
    return array
