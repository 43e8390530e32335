"""Recall, coverage and pictures of feature spaces against their definitions."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.metrics.embedding import (
    gradient,
    joint_probabilities,
    principal_components,
    tsne,
)
from facewright.core.metrics.manifolds import coverage, recall
from scipy.optimize import brentq
from scipy.special import entr


def features(n, d=5, seed=0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double() + shift


def nth_nearest(x, i, k):
    return sorted(math.dist(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]


@pytest.mark.parametrize("k", [1, 3])
def test_recall_and_coverage_by_hand(k):
    real, made = features(23, seed=1).tolist(), features(17, seed=2, shift=0.6).tolist()
    within = [
        any(math.dist(r, m) <= nth_nearest(made, j, k) for j, m in enumerate(made)) for r in real
    ]
    near = [
        any(math.dist(r, m) <= nth_nearest(real, i, k) for m in made) for i, r in enumerate(real)
    ]
    assert 0 < sum(within) < 23 and 0 < sum(near) < 23
    one, other = torch.tensor(real).double(), torch.tensor(made).double()
    assert recall(one, other, k) == pytest.approx(sum(within) / 23, abs=1e-12)
    assert coverage(one, other, k) == pytest.approx(sum(near) / 23, abs=1e-12)


def test_sets_far_apart_and_outliers():
    x = features(40)
    assert recall(x, x) == coverage(x, x) == 1
    assert recall(x, x + 100) == coverage(x, x + 100) == 0
    # Ever farther outliers cover everything in recall, and nothing in coverage.
    outliers = torch.tensor([[10.0 * 3**i, 0, 0, 0, 0] for i in range(8)]).double()
    assert recall(x, outliers) == 1 and coverage(x, outliers) == 0


@pytest.mark.parametrize(
    ("real", "made", "words"),
    [
        (features(3), features(9), "more features"),
        (features(9), features(9, d=4), r"\(n, d\)"),
        (features(9), features(9) * float("nan"), "NaN"),
    ],
)
def test_what_cannot_be_told(real, made, words):
    for measure in (recall, coverage):
        with pytest.raises(FacewrightError, match=words):
            measure(real, made)


def test_principal_components_are_eigenvectors():
    x = (features(60, 4) @ torch.diag(torch.tensor([3.0, 1, 0.2, 2]).double())).numpy()
    points, shares = principal_components(x)
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(points.var(0, ddof=1), values[:2], rtol=1e-9)
    np.testing.assert_allclose(shares, values[:2] / values.sum(), rtol=1e-9)
    assert abs(points.mean(0)).max() < 1e-12 and abs((points[:, 0] * points[:, 1]).sum()) < 1e-8
    np.testing.assert_allclose(principal_components(x[::-1])[0][::-1], points, atol=1e-9)


def test_tsne_descends_the_divergence():
    x = features(30, 4).numpy()
    p = joint_probabilities(x, 7)
    assert p.sum() == pytest.approx(1) and np.allclose(p, p.T) and not np.diag(p).any()
    z = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)

    def divergence(z):
        closeness = 1 / (1 + (z[:, None] - z).square().sum(-1))
        closeness = closeness * (1 - torch.eye(30))
        q = closeness / closeness.sum()
        target = torch.from_numpy(p)
        held = target > 0
        return (target[held] * (target[held] / q[held]).log()).sum()

    divergence(z).backward()
    np.testing.assert_allclose(gradient(p, z.detach().numpy()), z.grad.numpy(), atol=1e-12)
    laid, first = tsne(x, 7), principal_components(x)[0]
    scale = min(divergence(torch.from_numpy(first * s)) for s in (0.1, 0.3, 1, 3, 10, 30))
    assert divergence(torch.from_numpy(laid)) < 0.7 * scale
    np.testing.assert_array_equal(laid, tsne(x, 7))


def test_the_perplexity_of_each_point_is_the_one_asked_for():
    """scipy finds the width of each Gaussian."""
    x = features(25, 3).numpy()

    def others(i):
        squared = ((x[i] - np.delete(x, i, 0)) ** 2).sum(1)

        def p(log_precision):
            weights = np.exp(-(squared - squared.min()) * np.exp(log_precision))
            return weights / weights.sum()

        width = brentq(lambda w: entr(p(w)).sum() - np.log(6), -12, 8, xtol=1e-13)
        return np.insert(p(width), i, 0)

    conditional = np.stack([others(i) for i in range(25)])
    expected = (conditional + conditional.T) / 50
    np.testing.assert_allclose(joint_probabilities(x, 6), expected, atol=1e-10)


def test_groups_stay_groups():
    x = torch.cat([features(20, 6, seed=s, shift=12 * s) for s in range(3)]).numpy()
    z = tsne(x)
    middles = z.reshape(3, 20, 2).mean(1)
    nearest = np.linalg.norm(z[:, None] - middles, axis=2).argmin(1)
    assert (nearest == np.repeat([0, 1, 2], 20)).all()
