"""Distance between two sets of features, for any feature extractor."""

import torch
from torch import Tensor

from ..errors import FacewrightError, listed, not_finite


class FrechetStatistics:
    """Mean and covariance of features that arrive in batches; memory stays at (d, d) float64.

    Batches are merged by Chan, Golub and LeVeque's update (1983), which does not lose digits where
    the mean is large against the spread.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    @classmethod
    def of_moments(
        cls, mean: Tensor, covariance: Tensor, count: int | None = None
    ) -> "FrechetStatistics":
        """Statistics that were taken before, to measure a distance to.

        Args:
            mean: (d,).
            covariance: (d, d), unbiased.
            count: how many pictures they were taken of, 2 or more; None: nobody knows.

        Raises:
            FacewrightError: shapes that do not belong together, NaN, infinity, a covariance that is
                not symmetric or has a negative variance, or fewer than 2 pictures.
        """
        mean, covariance = mean.double(), covariance.double()
        if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
            raise FacewrightError(
                "A mean (d,) and a covariance (d, d) belong together, got "
                f"{tuple(mean.shape)} and {tuple(covariance.shape)}."
            )
        if not mean.isfinite().all() or not covariance.isfinite().all():
            raise FacewrightError("Mean or covariance hold NaN or infinity.")
        uneven = (covariance - covariance.T).abs().max()
        if uneven > 1e-6 * covariance.abs().max() or (covariance.diagonal() < 0).any():
            raise FacewrightError(
                "The covariance is none: it is not symmetric, or has negative variances."
            )
        if count is not None and count < 2:
            raise FacewrightError(f"Statistics are of 2 pictures or more, got {count}.")
        made = cls()
        made.count = count or 2
        made._mean, made._scatter = mean, covariance * (made.count - 1)
        return made

    def update(self, features: Tensor) -> None:
        """Add (n, d) features; n = 0 is fine.

        Raises:
            FacewrightError: another shape or length than before, NaN or infinity.
        """
        if features.ndim != 2 or (self._mean is not None and features.shape[1] != len(self._mean)):
            wanted = "(n, d)" if self._mean is None else f"(n, {len(self._mean)})"
            raise FacewrightError(f"Features should be {wanted}, got {tuple(features.shape)}.")
        x = features.detach().cpu().double()
        bad = not_finite(x)
        if bad:
            raise FacewrightError(
                f"Features of pictures {listed(self.count + i for i in bad)} are NaN or infinite; "
                "look at these pictures and at the extractor."
            )
        if not len(x):
            return
        mean = x.mean(0)
        centred = x - mean
        if self._mean is None or self._scatter is None:
            self.count, self._mean, self._scatter = len(x), mean, centred.T @ centred
            return
        total = self.count + len(x)
        shift = mean - self._mean
        if len(x) > 1:  # one alone has no scatter
            self._scatter += centred.T @ centred
        self._scatter += torch.outer(shift, shift).mul_(self.count * len(x) / total)
        self._mean += shift * (len(x) / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """(d,) float64."""
        return self._fitted()[0]

    @property
    def covariance(self) -> Tensor:
        """(d, d) float64, unbiased (divided by n - 1)."""
        return self._fitted()[1] / (self.count - 1)

    def distance(self, other: "FrechetStatistics") -> Tensor:
        """Fréchet distance of the two fitted Gaussians, scalar float64; see `frechet_distance`."""
        mean_a, mean_b = self.mean, other.mean
        if len(mean_a) != len(mean_b):
            raise FacewrightError(
                f"Features of one extractor are compared, got lengths {len(mean_a)} and "
                f"{len(mean_b)}."
            )
        cov_a, cov_b = self.covariance, other.covariance
        if torch.equal(mean_a, mean_b) and torch.equal(cov_a, cov_b):
            return mean_a.new_zeros(())
        # Singular values of M and of its transpose round differently: a fixed order makes the
        # distance symmetric to the last bit.
        if _key(mean_a, cov_a) > _key(mean_b, cov_b):
            mean_a, cov_a, mean_b, cov_b = mean_b, cov_b, mean_a, cov_a
        overlap = torch.linalg.svdvals(_root(cov_a).T @ _root(cov_b)).sum()
        spread = cov_a.trace() + cov_b.trace() - 2 * overlap
        return (mean_a - mean_b).square().sum() + spread.clamp(min=0)

    def _fitted(self) -> tuple[Tensor, Tensor]:
        if self._mean is None or self._scatter is None or self.count < 2:
            raise FacewrightError(
                f"A Fréchet distance needs at least 2 pictures on either side, got {self.count}; "
                "thousands are usual."
            )
        return self._mean, self._scatter


def frechet_distance(features_a: Tensor, features_b: Tensor) -> Tensor:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson and Landau 1982; with Inception
    features, FID: Heusel et al., arXiv:1706.08500, Eq. 6).

    With C = R R^T from the symmetric eigen-decomposition, the trace of the root is the sum of the
    singular values of R_a^T R_b: exact for covariances without full rank (fewer pictures than
    features), where `scipy.linalg.sqrtm` turns unreliable. Covariances are unbiased. The distance
    of small sets is biased upwards, so compare only sets of equal size.

    Args:
        features_a, features_b: (n, d) and (m, d), n, m >= 2.

    Returns:
        scalar float64 on the CPU, >= 0; exactly 0 for equal sets, symmetric bit for bit.

    Raises:
        FacewrightError: fewer than 2 rows, lengths that differ, NaN or infinity.
    """
    statistics = FrechetStatistics(), FrechetStatistics()
    for each, features in zip(statistics, (features_a, features_b), strict=True):
        each.update(features)
    return statistics[0].distance(statistics[1])


def _root(covariance: Tensor) -> Tensor:
    """(d, r) with R R^T = C. Eigenvalues that are rounding noise are dropped: their roots, about
    1e-8 of the largest, would add up."""
    values, vectors = torch.linalg.eigh(covariance)
    keep = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, keep] * values[keep].sqrt()


def _key(mean: Tensor, covariance: Tensor) -> tuple[bytes, bytes]:
    return mean.numpy().tobytes(), covariance.numpy().tobytes()
