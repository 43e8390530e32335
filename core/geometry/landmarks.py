"""Facial landmarks: reductions and templates, all in pixels with pixel i centred at i."""

import torch

from ..errors import FacewrightError
from .templates import template


def ffhq_five_points(size: int) -> torch.Tensor:
    """The FFHQ template for square crops of `size` pixels, (5, 2) float32; see `template`."""
    return template("ffhq", size).float()


def five_points(landmarks: torch.Tensor) -> torch.Tensor:
    """Eye centres, nose tip and mouth corners of iBUG-68 landmarks, (b, 68, 2) -> (b, 5, 2).

    An eye's centre is the mean of its six lid points (36-41 and 42-47); the nose tip is point 30,
    the mouth corners are 48 and 54.

    Raises:
        FacewrightError: the landmarks are not (b, 68, 2).
    """
    if landmarks.ndim != 3 or tuple(landmarks.shape[1:]) != (68, 2):
        raise FacewrightError(
            f"`landmarks` should be (b, 68, 2) points in the iBUG order, "
            f"got {tuple(landmarks.shape)}; add the batch axis or use another point set's reader."
        )
    return torch.stack(
        [
            landmarks[:, 36:42].mean(1),
            landmarks[:, 42:48].mean(1),
            landmarks[:, 30],
            landmarks[:, 48],
            landmarks[:, 54],
        ],
        1,
    )


_REGIONS = {
    68: {  # iBUG
        "eyes": (*range(17, 27), *range(36, 48)),
        "mouth": tuple(range(48, 68)),
        "outer_mouth": tuple(range(48, 60)),
    },
    98: {  # WFLW
        "eyes": (*range(33, 51), *range(60, 76)),
        "mouth": tuple(range(76, 96)),
        "outer_mouth": tuple(range(76, 88)),
    },
}


def region_points(count: int, region: str) -> list[int]:
    """Indices of a region's points in the iBUG-68 or WFLW-98 order.

    Args:
        count: 68 or 98.
        region: "eyes" (lids and brows, no pupils), "mouth" (both lip contours) or "outer_mouth".

    Raises:
        FacewrightError: another number of points or an unknown region.
    """
    if count not in _REGIONS:
        raise FacewrightError(
            f"Regions are known for 68 (iBUG) and 98 (WFLW) landmarks, got {count}; pass the "
            "region's points yourself."
        )
    if region not in _REGIONS[count]:
        raise FacewrightError(
            f"No region '{region}'; known: {', '.join(_REGIONS[count])}, or all points."
        )
    return list(_REGIONS[count][region])


_CHUNK = 256
"""Pairs solved at once: their float64 arrays stay in the processor's cache."""


def affine_landmark_distance(
    restored: torch.Tensor,
    gt: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    squared: bool = False,
) -> torch.Tensor:
    """A-LD (HonestFace, Eq. 14): what no affine map of the restored landmarks can explain.

    min_A sum_k w_k |A [l_k; 1] - h_k|^2 for restored landmarks l and true ones h, by default its
    square root, which is the scale of the published tables. The residual lives in the pixels of
    `gt`; the two arguments are not interchangeable. Position, size, rotation, shear and aspect of
    the restored face are free, so a face stretched as a whole scores 0: read it beside
    `landmark_distance`. The paper names neither weights (1 here) nor points (`region_points`).

    Solved in float64 about the weighted means with the 2x2 inverse written out. Eq. 15 as printed
    (normal equations of homogeneous points) squares the condition number and fails for nearly
    collinear points. Where l has no two-dimensional extent the minimum is still exact, as with
    `numpy.linalg.lstsq`; up to 3 points that span a triangle give 0.

    Args:
        restored, gt: (b, k, 2) in pixels, k >= 1.
        weights: (k,) or (b, k), >= 0, at least one positive per pair; None for 1.
        squared: Eq. 14 itself, in square pixels.

    Returns:
        (b,) float64. Differentiable; the gradient at 0 is 0.

    Raises:
        FacewrightError: shapes that differ, values not finite, weights negative or all zero.
    """
    _check_landmarks(restored, gt)
    rows = _weights(weights, restored)
    parts = [
        _affine_residual(*part)
        for part in zip(
            restored.double().split(_CHUNK),
            gt.double().split(_CHUNK),
            rows.split(_CHUNK),
            strict=True,
        )
    ]
    distance = torch.cat(parts)
    return distance if squared else _root(distance)


def landmark_distance(restored: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """L2-LD (LMD): the mean Euclidean distance of corresponding landmarks, in pixels.

    Not normalised by the distance of the eyes, as in the scripts of VQFR and RestoreFormer++, so
    it grows with the size of the picture.

    Args:
        restored, gt: (b, k, 2) in pixels, k >= 1.

    Returns:
        (b,) float64; differentiable, the gradient of a point at distance 0 is 0.

    Raises:
        FacewrightError: shapes that differ, or values not finite.
    """
    _check_landmarks(restored, gt)
    return _root((restored.double() - gt.double()).square().sum(2)).mean(1)


def _affine_residual(
    source: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Eq. 14 for (b, k, 2), (b, k, 2), (b, k), all float64 -> (b,)."""
    # Coordinates first: the sums then run along contiguous memory.
    w = weights[:, None]
    total = w.sum(2, keepdim=True)
    x, y = (p.transpose(1, 2).contiguous() for p in (source, target))
    x, y = (p - (w * p).sum(2, keepdim=True) / total for p in (x, y))
    # A x = y is solved for A - I: the residual is the same, and exactly 0 for equal landmarks.
    rest = y - x
    weighted = w * x
    scatter = torch.einsum("bik,bjk->bij", weighted, x)
    cross = torch.einsum("bik,bjk->bij", weighted, rest)
    affine = _pseudo_inverse(scatter) @ cross
    residual = rest - affine.transpose(1, 2) @ x
    return (w * residual.square()).sum((1, 2))


def _pseudo_inverse(s: torch.Tensor) -> torch.Tensor:
    """Of symmetric positive semidefinite (b, 2, 2), with an explicit decision on the rank."""
    p, q, r = s[:, 0, 0], s[:, 0, 1], s[:, 1, 1]
    trace, det = p + r, p * r - q * q
    with torch.no_grad():
        largest = trace / 2 + torch.hypot((p - r) / 2, q)
        # smallest eigenvalue = det / largest
        full = det > 1e-12 * largest * largest
        some = trace > 0
    adjugate = torch.stack([r, -q, -q, p], 1).view(-1, 2, 2)
    # Rank 1: S = trace u u^T, whose pseudo-inverse is u u^T / trace. Rank 0: zero. The branch not
    # taken divides by 1, so that it has a gradient to be discarded.
    inverse = adjugate / torch.where(full, det, 1.0)[:, None, None]
    line = s / torch.where(some, trace, 1.0).square()[:, None, None]
    return torch.where(full[:, None, None], inverse, line)


def _root(x: torch.Tensor) -> torch.Tensor:
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def _weights(weights: torch.Tensor | None, landmarks: torch.Tensor) -> torch.Tensor:
    pairs, points, _ = landmarks.shape
    if weights is None:
        return landmarks.new_ones((), dtype=torch.float64).expand(pairs, points)
    if tuple(weights.shape) not in ((points,), (pairs, points)):
        raise FacewrightError(
            f"`weights` should be ({points},) or ({pairs}, {points}), got {tuple(weights.shape)}."
        )
    rows = weights.to(landmarks.device).double().expand(pairs, points)
    if not (rows.isfinite() & (rows >= 0)).all() or not (rows > 0).any(1).all():
        raise FacewrightError(
            "`weights` should be zero or positive, with at least one positive per face; a weight "
            "of 0 leaves a point out."
        )
    return rows


def _check_landmarks(restored: torch.Tensor, gt: torch.Tensor) -> None:
    for name, x in (("restored", restored), ("gt", gt)):
        if x.ndim != 3 or x.shape[2] != 2 or not x.shape[1]:
            raise FacewrightError(
                f"`{name}` should be landmarks (b, k, 2) in pixels, got {tuple(x.shape)}."
            )
        bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise FacewrightError(
                f"`{name}` has landmarks that are NaN or infinite in faces {bad[:5]}; leave these "
                "faces out or detect them again."
            )
    if restored.shape != gt.shape:
        raise FacewrightError(
            "The same points of as many faces are compared: got "
            f"{tuple(restored.shape)} and {tuple(gt.shape)}."
        )
