"""Facial landmarks: reductions and templates, all in pixels with pixel i centred at i."""

import torch

from ..devices import widened
from ..errors import FacewrightError, listed, not_finite


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


def _partners(*runs: tuple[int, int, int]) -> dict[int, int]:
    """Pairs of points from (first, last, partner of the first); partners count downwards."""
    pairs = {first + i: other - i for first, last, other in runs for i in range(last - first + 1)}
    return pairs | {b: a for a, b in pairs.items()}


_MIRROR = {
    68: _partners(
        (0, 7, 16), (17, 21, 26), (31, 32, 35), (36, 39, 45), (40, 41, 47), (48, 50, 54),
        (58, 59, 56), (60, 61, 64), (67, 67, 65),
    ),
    98: _partners(
        (0, 15, 32), (33, 37, 46), (38, 41, 50), (55, 56, 59), (60, 64, 72), (65, 67, 75),
        (76, 78, 82), (86, 87, 84), (88, 89, 92), (95, 95, 93), (96, 96, 97),
    ),
}  # fmt: skip


def mirrored(landmarks: torch.Tensor) -> torch.Tensor:
    """The landmarks (b, 68 or 98, 2) that a landmarker finds in the mirror image of a picture.

    Left and right change their names, and x its sign; where the picture's border lies is left out.

    Raises:
        FacewrightError: another number of landmarks.
    """
    count = landmarks.shape[1]
    if count not in _MIRROR:
        raise FacewrightError(f"Mirror images are known for 68 and 98 landmarks, got {count}.")
    order = [_MIRROR[count].get(i, i) for i in range(count)]
    return landmarks[:, order] * landmarks.new_tensor([-1.0, 1.0])


_CHUNK = 2**15
"""Points solved at once: their float64 arrays stay in the processor's cache."""
_FLAT = 1e-12
"""Points are taken for a line where their squared extent across it is below this share of that
along it: float32 coordinates of a line scatter by less."""


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

    Solved in float64 about the weighted means by orthogonalising the two coordinates. Eq. 15 as
    printed (normal equations of homogeneous points) squares the condition number and fails for
    nearly collinear points. Points count as a line where they are a million times longer than
    wide (`_FLAT`), as float32 cannot tell more. On a line the minimum is still exact, as with
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
    _check_shapes(restored, gt)
    step = max(1, _CHUNK // restored.shape[1])
    wide, goal = widened(restored), widened(gt)
    sources, targets = wide.split(step), goal.split(step)
    rows = [None] * len(sources)
    if weights is not None:
        rows = _weights(weights, wide).split(step)
    parts = [_affine_residual(*part) for part in zip(sources, targets, rows, strict=True)]
    distance = torch.cat(parts)
    _check_finite(distance, restored, gt)
    return distance if squared else _root(distance)


def best_affine(restored: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """The affine maps that A-LD leaves free: argmin_A sum_k |A [l_k; 1] - h_k|^2 (Eq. 15).

    Args:
        restored, gt: (b, k, 2) in pixels, k >= 1.

    Returns:
        (b, 2, 3) float64 on the CPU, restored -> gt. Of several minimisers, where the restored
        points lie on a line, the one of least norm about the means.

    Raises:
        FacewrightError: shapes that differ, or values not finite.
    """
    _check_shapes(restored, gt)
    source, target = (p.detach().cpu().double() for p in (restored, gt))
    _check_finite((source + target).sum((1, 2)), source, target)
    middle, goal = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    if not len(source):
        return source.new_zeros(0, 2, 3)
    found = torch.linalg.lstsq(source - middle, target - goal, rcond=_FLAT**0.5, driver="gelsd")
    linear = found.solution.mT
    return torch.cat([linear, goal.mT - linear @ middle.mT], 2)


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
    _check_shapes(restored, gt)
    distance = _root((widened(restored) - widened(gt)).square().sum(2)).mean(1)
    _check_finite(distance, restored, gt)
    return distance


def _affine_residual(
    source: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    """Eq. 14 for (b, k, 2), (b, k, 2), (b, k) or None for ones, all float64 -> (b,)."""
    w = None if weights is None else weights[:, None]
    # A x = y is solved for A - I: the residual is the same, and exactly 0 for equal landmarks.
    # Coordinates first: the sums then run along contiguous memory.
    x, rest = (_centred(p.mT.contiguous(), w) for p in (source, target - source))

    def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b if w is None else w * a * b).sum(2, keepdim=True)

    # Gram and Schmidt on the two coordinates. Of points on a line the longer one is all there is.
    first, second = x[:, :1], x[:, 1:]
    squares, mixed = dot(x, x), dot(first, second)
    p, q = squares[:, :1], squares[:, 1:]
    full = p * q - mixed * mixed > _FLAT * (p + q).square()
    use_first, use_second = full | ((p >= q) & (p > 0)), full | (p < q)
    # The branch not taken divides by 1, so that it has a gradient to be discarded.
    share = torch.where(use_first, -1 / torch.where(use_first, p, 1.0), 0.0)
    second = torch.addcmul(second, first, mixed * share)
    rest = torch.addcmul(rest, first, dot(first, rest) * share)
    height = torch.where(use_second, dot(second, second), 1.0)
    share = torch.where(use_second, -dot(second, rest) / height, 0.0)
    rest = torch.addcmul(rest, second, share)
    return (rest * rest if w is None else w * rest * rest).sum((1, 2))


def _centred(points: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """(b, 2, k) less its mean, weighted by (b, 1, k)."""
    if weights is None:
        return points - points.mean(2, keepdim=True)
    total = weights.sum(2, keepdim=True)
    return points - (weights * points).sum(2, keepdim=True) / total


def _root(x: torch.Tensor) -> torch.Tensor:
    positive = ~(x <= 0)  # NaN stays
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def _weights(weights: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    pairs, points, _ = landmarks.shape
    if tuple(weights.shape) not in ((points,), (pairs, points)):
        raise FacewrightError(
            f"`weights` should be ({points},) or ({pairs}, {points}), got {tuple(weights.shape)}."
        )
    rows = widened(weights).to(landmarks.device).expand(pairs, points)
    if not (rows.isfinite() & (rows >= 0)).all() or not (rows > 0).any(1).all():
        raise FacewrightError(
            "`weights` should be zero or positive, with at least one positive per face; a weight "
            "of 0 leaves a point out."
        )
    return rows


def _check_shapes(restored: torch.Tensor, gt: torch.Tensor) -> None:
    for name, x in (("restored", restored), ("gt", gt)):
        if x.ndim != 3 or x.shape[2] != 2 or not x.shape[1]:
            raise FacewrightError(
                f"`{name}` should be landmarks (b, k, 2) in pixels, got {tuple(x.shape)}."
            )
    if restored.shape != gt.shape:
        raise FacewrightError(
            "The same points of as many faces are compared: got "
            f"{tuple(restored.shape)} and {tuple(gt.shape)}."
        )


def _check_finite(distance: torch.Tensor, restored: torch.Tensor, gt: torch.Tensor) -> None:
    # NaN and infinity reach the distance; looking for them first would take half of the time.
    if distance.isfinite().all():
        return
    for name, x in (("restored", restored), ("gt", gt)):
        bad = not_finite(x)
        if bad:
            raise FacewrightError(
                f"`{name}` has landmarks that are NaN or infinite in faces {listed(bad)}; leave "
                "these faces out or detect them again."
            )
