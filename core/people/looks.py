"""Who the faces of a video are, together: many poor views of somebody tell more than one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.align import FacePlaces
from ..geometry.eyes import estimate_yaw
from ..geometry.landmarks import five_points
from ..geometry.warp import scale_of
from .album import photo_quality
from .limits import Limits
from .recogniser import Recogniser

_STRANGERS = 0.05
"""A cosine that more than this share of strangers reach speaks for two people."""
_ANOTHER = 0.7
"""Of the cosine of one person, where such a rate is not known: insightface's demonstration takes
0.2 to 0.28."""
_TURNED = 60.0
"""Degrees from which a turned face tells next to nothing."""
_LEAST = 0.02
"""What a face tells at least; a track of poor faces alone is still somebody."""
_PASSES = 3


@dataclass(frozen=True)
class Looks:
    """Who the n faces that were found are, as far as a recogniser tells."""

    embeddings: Tensor
    """(n, d) of length 1, on the CPU."""
    weight: Tensor
    """(n,) > 0, how much each face tells, see `telling`."""
    same: float
    """Cosine from which the means of two tracks are one person."""
    another: float
    """Cosine below which they are two; between the two limits nobody knows."""

    @classmethod
    def of(cls, embeddings: Tensor, weight: Tensor, limits: Limits) -> "Looks":
        """By the limits of the recogniser."""
        another = _ANOTHER * limits.same_person
        if limits.table and limits.table[0].rate >= _STRANGERS >= limits.table[-1].rate:
            another = min(limits.same_person, limits.cosine_at(_STRANGERS))
        return cls(embeddings, weight, limits.same_person, another)

    def mean(self, faces: Sequence[int]) -> Tensor:
        """(d,) float64 of length 1: who some of the faces are together, see `mean_look`."""
        index = list(faces)
        return mean_look(self.embeddings[index], self.weight[index])


@torch.no_grad()
def look_at(crops: Tensor, places: FacePlaces, recogniser: Recogniser) -> Looks:
    """Who faces (n, 3, s, s) in [0, 1] are, by a recogniser on whatever device."""
    return Looks.of(recogniser.embed(crops), telling(crops, places), recogniser.limits)


def telling(crops: Tensor, places: FacePlaces) -> Tensor:
    """(n,) float32 > 0 on the CPU: how much faces (n, 3, s, s) in [0, 1] tell of who they are.

    Size times sharpness (`photo_quality`), and less where a face is turned: cos^2, which falls to
    nothing at 60 degrees.
    """
    if not len(crops):
        return torch.empty(0)
    sizes = torch.tensor([crops.shape[-1] / scale_of(matrix) for matrix in places.matrix])
    quality = photo_quality(crops, sizes) * _frontal(places.landmarks, len(crops))
    return quality.clamp(min=_LEAST)


def mean_look(embeddings: Tensor, weight: Tensor) -> Tensor:
    """(d,) float64 of length 1: the mean direction of (n, d) embeddings.

    Each counts as much as it tells and as it agrees with the mean (its cosine squared, settled in
    a few passes), so that a few faces of somebody in front, or blurred ones, change little.
    """
    x, weight = embeddings.double(), weight.double()
    mean = F.normalize(weight @ x, dim=0)
    for _ in range(_PASSES):
        agreeing = weight * (x @ mean).clamp(min=0).square()
        mean = F.normalize(agreeing @ x, dim=0) if bool(agreeing.any()) else mean
    return mean


def _frontal(landmarks: Tensor | None, count: int) -> Tensor:
    """(n,) in [0, 1] by how far faces are turned; 1 where their points do not say."""
    if landmarks is None or landmarks.shape[1] not in (5, 68):
        return torch.ones(count)
    points = five_points(landmarks) if landmarks.shape[1] == 68 else landmarks
    yaw = torch.tensor([estimate_yaw(face) for face in points])
    return (yaw * (90 / _TURNED)).clamp(max=90).deg2rad().cos().square()
