"""Features in two dimensions, for pictures of how sets lie to each other."""

import numpy as np

from ..errors import FacewrightError

PERPLEXITY = 30.0
STEPS = 750
_EXAGGERATED = 250
"""First steps, in which neighbours attract each other more than they should, so that they meet."""
_EXAGGERATION = 12.0
_SMALLEST_GAIN = 0.01


def principal_components(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project features onto the two axes along which they spread most.

    Args:
        x: (n, d), n and d at least 2.

    Returns:
        (n, 2) of mean 0, and (2,) the share of the variance that each axis holds. Of either sign
        the one is taken with which the axis' largest weight is positive.

    Raises:
        FacewrightError: another shape, NaN or infinity.
    """
    x = _checked(x)
    centred = x - x.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])
    total = (sizes**2).sum()
    shares = sizes[:2] ** 2 / total if total > 0 else np.zeros(2)
    return centred @ (axes * np.where(signs == 0, 1, signs)[:, None]).T, shares


def tsne(x: np.ndarray, perplexity: float = PERPLEXITY, steps: int = STEPS) -> np.ndarray:
    """Lay features out in a plane so that neighbours stay neighbours.

    Exact t-SNE (van der Maaten and Hinton, JMLR 2008): descent of KL(P || Q) with momentum and
    gains from the principal components on, so that the same features give the same picture.
    Distances between groups and sizes of groups mean nothing.

    Args:
        x: (n, d), n from 5 up; memory and time grow with n^2.
        perplexity: neighbours that count, at most (n - 1) / 3.

    Returns:
        (n, 2) of mean 0.

    Raises:
        FacewrightError: another shape, too few rows, NaN or infinity.
    """
    x = _checked(x, fewest=5)
    p = joint_probabilities(x, min(perplexity, (len(x) - 1) / 3))
    start, _ = principal_components(x)
    z = start / max(start[:, 0].std(), 1e-12) * 1e-4
    move, gain = np.zeros_like(z), np.ones_like(z)
    rate = max(len(x) / _EXAGGERATION / 4, 50.0)
    for step in range(steps):
        early = step < _EXAGGERATED
        slope = gradient(p * _EXAGGERATION if early else p, z)
        gain = np.where(slope * move < 0, gain + 0.2, gain * 0.8).clip(min=_SMALLEST_GAIN)
        move = (0.5 if early else 0.8) * move - rate * gain * slope
        z = z + move
        z -= z.mean(0)
    return z


def joint_probabilities(x: np.ndarray, perplexity: float) -> np.ndarray:
    """(n, n) of sum 1, symmetric: Gaussians about each one whose entropy is log(perplexity)."""
    squared = _squared_distances(x)
    squared[np.diag_indices(len(x))] = np.inf
    low, high = np.zeros(len(x)), np.full(len(x), np.inf)
    precision = np.ones(len(x))
    nearest = squared.min(1, keepdims=True)
    for _ in range(100):
        weights = np.exp(-(squared - nearest) * precision[:, None])
        p = weights / weights.sum(1, keepdims=True)
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + high) / 2)
    return (p + p.T) / (2 * len(x))


def gradient(p: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(n, 2): dKL(P || Q) / dz = 4 sum_j (p_ij - q_ij) (z_i - z_j) / (1 + |z_i - z_j|^2)."""
    closeness = 1 / (1 + _squared_distances(z))
    closeness[np.diag_indices(len(z))] = 0
    weights = (p - closeness / closeness.sum()) * closeness
    return 4 * (weights.sum(1)[:, None] * z - weights @ z)


def _squared_distances(x: np.ndarray) -> np.ndarray:
    norms = (x**2).sum(1)
    return (norms[:, None] + norms - 2 * x @ x.T).clip(min=0)


def _checked(x: np.ndarray, fewest: int = 2) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or len(x) < fewest:
        raise FacewrightError(
            f"Features should be (n, d) with n from {fewest} and d from 2 up, got {x.shape}."
        )
    if not np.isfinite(x).all():
        raise FacewrightError("Features hold values that are NaN or infinite.")
    return x
