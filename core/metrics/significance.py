"""P-values of paired comparisons, and their correction where many are looked at."""

import math
from collections.abc import Sequence

import numpy as np

from ..errors import FacewrightError

EXACT = 14
"""Up to this many differences that are not 0, all choices of signs are gone through."""
SIGN_DRAWS = 19_999
"""Choices of signs that are drawn where there are too many to go through."""
_CHUNK = 2**20


def sign_flip_p(differences: Sequence[float] | np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference: how often random signs give one as far from 0.

    Fisher's randomization test of paired values (The Design of Experiments, 1935, section 21): if
    neither method were better, each difference could as well have the other sign. Up to `EXACT`
    differences that are not 0 all 2^n choices of signs are gone through; beyond, `SIGN_DRAWS` are
    drawn, and p = (1 + as far) / (1 + drawn), which is at least 0.00005.

    Args:
        differences: (n,), one per image.
        seed: of `numpy.random.default_rng`; the same differences give the same p.

    Returns:
        p in (0, 1]; 1 where every difference is 0, NaN without differences.

    Raises:
        FacewrightError: anything but one axis of finite numbers.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise FacewrightError("`differences` should be (n,) finite numbers, one per image.")
    if not len(d):
        return math.nan
    d = d[d != 0]
    if not len(d):
        return 1.0
    n = len(d)
    # Sums of the same numbers in another order differ by rounding, which is no difference.
    reached = abs(d.sum()) - 1e-12 * np.abs(d).sum()
    exact = n <= EXACT
    total, hits = (2 ** (n - 1) if exact else SIGN_DRAWS), 0
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    for start in range(0, total, step):
        stop = min(start + step, total)
        if exact:  # the last sign may stay: turning all of them changes no distance from 0
            turned = np.arange(start, stop)[:, None] >> np.arange(n) & 1
        else:
            drawn = rng.integers(0, 256, (stop - start, -(-n // 8)), dtype=np.uint8)
            turned = np.unpackbits(drawn, axis=1, count=n)
        sums = d.sum() - 2 * (turned.astype(np.float64) @ d)
        hits += int((np.abs(sums) >= reached).sum())
    return hits / total if exact else (1 + hits) / (1 + total)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for looking at several (Holm 1979): the smallest of m is multiplied by m,
    the next by m - 1, and so on, none below the one before it and none above 1.

    Among all that come out below 0.05, one that is mere chance turns up in at most 5 of 100 such
    looks.

    Args:
        p_values: of one family; NaN is left out of it and stays NaN.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        corrected[i] = least
    return corrected
