"""Detections of one picture that come from several looks at it: every face once."""

import torch
from torch import Tensor

SAME = 0.3
"""Share of their union that two boxes of one face have in common, at least."""
_INSIDE = 0.6
"""Share of the smaller box that lies in the larger, where both are one face."""
_NESTED = 0.3
"""Share of the larger box's area below which another face may lie in it: a child in front of a
parent, a portrait on a shirt."""


def overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """What boxes (n, 4) and (m, 4), x0 y0 x1 y1, share: (n, m) of their union, of the smaller one.

    0 where a box has no area.
    """
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas, other_areas = (_areas(b) for b in (boxes, others))
    smaller = torch.minimum(areas[:, None], other_areas)
    union = areas[:, None] + other_areas - shared
    tiny = torch.finfo(shared.dtype).tiny
    return shared / union.clamp(min=tiny), shared / smaller.clamp(min=tiny)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def merge_weighted(
    boxes: Tensor, scores: Tensor, points: Tensor, overlap: float = SAME
) -> tuple[Tensor, Tensor, Tensor]:
    """Non-maximum suppression that averages, as BlazeFace does it (arXiv:1907.05047, section 3.4).

    The best detection takes along all that are left and overlap it by more than `overlap` of the
    union; box and points become their means weighted by score, the score stays the best one's.

    Args:
        boxes: (n, 4) x0 y0 x1 y1.
        scores: (n,) above 0.
        points: (n, k, 2).

    Returns:
        Boxes (m, 4), scores (m,) and points (m, k, 2), best first.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, points = boxes[order], scores[order], points[order]
    shared, _ = overlaps(boxes, boxes)
    left = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    rows = torch.cat([boxes, points.flatten(1)], 1)
    merged, best = [rows[:0]], []
    for i in range(len(boxes)):
        if not left[i]:
            continue
        group = left & (shared[i] > overlap)
        group[i] = True  # also a box without area
        left &= ~group
        weights = scores[group] / scores[group].sum()
        merged.append((weights[:, None] * rows[group]).sum(0, keepdim=True))
        best.append(i)
    found = torch.cat(merged)
    return found[:, :4], scores[best], found[:, 4:].unflatten(1, points.shape[1:])


def alike(boxes: Tensor, others: Tensor) -> Tensor:
    """Which of boxes (n, 4) and (m, 4) share more than 0.3 of their union, (n, m) bool."""
    return overlaps(boxes, others)[0] > SAME


def same_face(boxes: Tensor, others: Tensor, *, nested: bool = False) -> Tensor:
    """Which of boxes (n, 4) and (m, 4) can only be one face, (n, m) bool.

    They share more than 0.3 of their union, or more than 0.6 of the smaller one: a tile cut a face
    off, or a mouth was taken for a face.

    Args:
        nested: whoever asks knows a mouth from a face, so that a box of less than 0.3 of the
            other's area is another face, wherever it lies.
    """
    shared, inside = overlaps(boxes, others)
    within = inside > _INSIDE
    if nested:
        areas, other_areas = _areas(boxes)[:, None], _areas(others)
        larger = torch.maximum(areas, other_areas)
        within &= torch.minimum(areas, other_areas) >= _NESTED * larger
    return (shared > SAME) | within


def one_of_each(boxes: Tensor, scores: Tensor, *, nested: bool = False) -> Tensor:
    """Which detections to keep so that no face counts twice: (m,) indices, best first.

    For detections of several detectors, ranges, tiles or rotations, whose boxes differ more than
    those of one look. Of two that are one face (`same_face`) the one with the lower score goes.
    Nothing is averaged: looks are not equally exact.

    Args:
        boxes: (n, 4) x0 y0 x1 y1.
        scores: (n,)
        nested: as for `same_face`.
    """
    order = scores.argsort(descending=True, stable=True)
    same = same_face(boxes[order], boxes[order], nested=nested)
    kept: list[int] = []
    for i in range(len(order)):
        if not same[i, kept].any():
            kept.append(i)
    return order[kept]
