"""BlazeFace's raw outputs as boxes, scores and keypoints (arXiv:1907.05047).

The two detectors differ in side, anchors and name only. What is stated here about them (strides,
score threshold, overlap, order of the values) stands in MediaPipe's published graphs
(mediapipe/modules/face_detection, Apache-2.0).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .merging import merge_weighted

KEYPOINTS = 6
"""Eye, eye, nose tip, middle of the mouth, ear, ear; the picture's left first if upright."""
_VALUES = 4 + 2 * KEYPOINTS
_LARGEST_LOGIT = 100.0


@dataclass(frozen=True)
class DetectionGrid:
    """Where a detector's anchors lie."""

    side: int
    """Of the square picture it sees, in pixels."""
    layers: tuple[tuple[int, int], ...]
    """(stride in pixels, anchors per cell), in the order of the detector's rows."""
    min_score: float
    """What the official graph calls a face."""

    @property
    def count(self) -> int:
        """Anchors, which are rows of the raw outputs."""
        return sum((self.side // stride) ** 2 * each for stride, each in self.layers)

    def anchors(self) -> Tensor:
        """(count, 2) float32 xy in shares of the side: the middles of the cells, row by row."""
        parts = []
        for stride, each in self.layers:
            cells = self.side // stride
            middle = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
            xy = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1)
            parts.append(xy.view(-1, 1, 2).expand(-1, each, 2).reshape(-1, 2))
        return torch.cat(parts).float()


SHORT = DetectionGrid(128, ((8, 2), (16, 6)), 0.5)
"""Faces within two metres: 896 anchors."""
FULL = DetectionGrid(192, ((4, 1),), 0.6)
"""Faces within five metres: 2304 anchors."""


def decode(grid: DetectionGrid, raw: Tensor, logits: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Faces per picture from what the network puts out.

    An anchor's values are x and y of the box's middle, its width and height, and x, y of every
    keypoint, in pixels and relative to the anchor (width and height are absolute); its score is a
    logit. Anchors of at least the grid's `min_score` are merged by `merge_weighted`.

    Args:
        raw: (b, count, 16)
        logits: (b, count, 1)

    Returns:
        Per picture boxes (n, 4) x0 y0 x1 y1, scores (n,) and keypoints (n, 6, 2), best first, in
        shares of the side. What is not finite is no face.
    """
    # On the CPU: some hundred numbers, and one transfer.
    values = raw.float().cpu() / grid.side
    scores = logits.float().cpu()[..., 0].clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT).sigmoid()
    likely = (scores >= grid.min_score) & torch.isfinite(values).all(2)
    anchors = grid.anchors()
    found = []
    for rows, row_scores, chosen in zip(values, scores, likely, strict=True):
        v, at = rows[chosen], anchors[chosen]
        points = v[:, 4:_VALUES].unflatten(1, (KEYPOINTS, 2)) + at[:, None]
        middle, half = v[:, :2] + at, v[:, 2:4] / 2
        boxes = torch.cat([middle - half, middle + half], 1)
        found.append(merge_weighted(boxes, row_scores[chosen], points))
    return found
