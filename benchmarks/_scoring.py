"""What the miniature experiments measure, person by person, and whom they show.

All people here are of no training, no validation and no other benchmark.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation
from facewright.core.geometry.eyes import eye_crops
from facewright.core.geometry.landmarks import affine_landmark_distance, region_points
from facewright.core.methods.honestface import nano_ide
from facewright.core.metrics import (
    edge_ratio,
    face_box_mask,
    feature_distance,
    ms_swd,
    psnr,
    ssim,
)
from facewright.core.weights import nano
from facewright.training.data.real_damage import real_damage
from facewright.training.losses.masked import attention_mask
from facewright.training.world.faces3d import photos
from torch import Tensor

FIRST_IDENTITY = 2**40 + 2**39 + 2**24
BATCH = 16
EYE = 30
"""Side of the crop in which the middle is the iris, in pixels."""
Values = dict[str, np.ndarray]
"""Metric -> a value per person."""
UNTRAINED = "-"
Conditions = dict[str, dict[str, Values]]
"""Condition -> training seed, or `UNTRAINED` -> values."""


@dataclass(frozen=True)
class People:
    """Held-out people: a photo to restore, and others of each."""

    seeds: tuple[int, ...]
    gt: Tensor
    lq: Tensor
    references: Tensor
    """(n, k, 3, s, s), k >= 1; the first of each is the gallery of `rank1`."""
    landmarks: Tensor
    """Of gt, exact."""

    @cached_property
    def face(self) -> Tensor:
        """The box of the face, with forehead."""
        return face_box_mask(self.landmarks, nano.NANO_SIZE)

    @cached_property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Of gt, and of the gallery."""
        return by_batches(_encoder(), self.gt), by_batches(_encoder(), self.references[:, 0])

    @cached_property
    def mask(self) -> Tensor:
        """Where landmarks are, as MFA sees it in the degraded picture."""
        heatmaps = by_batches(landmarker().heatmaps, self.lq)
        return attention_mask(heatmaps, nano.NANO_SIZE)


Damage = Callable[[Tensor, list[int]], Tensor]


def severe(gt: Tensor, seeds: list[int]) -> Tensor:
    """Preset severe: reduced 8 times."""
    return Degradation.preset("severe")(gt, seed=seeds)[0]


def heavy(gt: Tensor, seeds: list[int]) -> Tensor:
    """The heaviest that the arms are trained with: preset severe, reduced 16 times."""
    return Degradation.preset("severe", scale=(16, 16))(gt, seed=seeds)[0]


def hidden(gt: Tensor, seeds: list[int]) -> Tensor:
    """The rendered world's own damage."""
    return real_damage(gt, seeds)[0]


def people(
    count: int, damage: Damage, *, first: int = FIRST_IDENTITY, references: int = 1
) -> People:
    """The first `count` people from a seed on, each damaged by its own seed."""
    seeds = [first + i for i in range(count)]
    chunks = [seeds[i : i + BATCH] for i in range(0, count, BATCH)]
    # Every photo has its own pose, light, expression, background and alignment error.
    shots = [
        [photos(c, [8 * s + k for s in c], nano.NANO_SIZE, jitter=1.0) for c in chunks]
        for k in range(1 + references)
    ]
    pixels = [torch.cat([p.pixels for p in of_k]) for of_k in shots]
    return People(
        seeds=tuple(seeds),
        gt=pixels[0],
        lq=torch.cat([damage(x, s) for x, s in zip(pixels[0].split(BATCH), chunks, strict=True)]),
        references=torch.stack(pixels[1:], 1),
        landmarks=torch.cat([p.landmarks for p in shots[0]]),
    )


def by_batches(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function` of a few rows at a time."""
    return torch.cat(
        [function(*parts) for parts in zip(*(t.split(BATCH) for t in tensors), strict=True)]
    )


@lru_cache
def landmarker() -> Any:
    """Of the nano models."""
    return nano_ide().landmarker


@lru_cache
def _encoder() -> Any:
    return nano.load_identity("metric")  # in no loss


def _features(a: Tensor, b: Tensor) -> Tensor:
    return feature_distance(_encoder().features(a)[:3], _encoder().features(b)[:3])


@torch.no_grad()
def measured(x: Tensor, of: People, *, masked: bool = False, colour: bool = False) -> Values:
    """Metrics of restored pictures, a value per person.

    psnr, ssim, edges: in the box of the face. feature, identity (cosine), rank1 (the most similar
    of one other photo of everybody is the person's own): by the metric encoder. eyes_colour: RGB
    distance of the irises' mean colours. a_ld, a_ld_eyes: affine landmark distance in pixels, of
    the nano landmarker's points.

    Args:
        masked: masked_feature and masked_edges, too: in MFA's mask.
        colour: MS-SWD, too, which takes longest.
    """
    (same, others), eyes = of.embeddings, region_points(68, "eyes")
    mine = by_batches(_encoder(), x)
    best = (mine @ others.T).argmax(1)
    points = by_batches(landmarker().landmarks, x)
    values = {
        "psnr": psnr(x, of.gt, of.face),
        "ssim": by_batches(ssim, x, of.gt, of.face),
        "edges": edge_ratio(x, of.gt, of.face),
        "feature": by_batches(_features, x, of.gt),
        "identity": F.cosine_similarity(mine, same),
        "rank1": (best == torch.arange(len(x))).double(),
        "eyes_colour": (_iris(x, of) - _iris(of.gt, of)).norm(dim=2).mean(1),
        "a_ld": affine_landmark_distance(points, of.landmarks),
        "a_ld_eyes": affine_landmark_distance(points[:, eyes], of.landmarks[:, eyes]),
    }
    if masked:
        grey = 0.5 * (1 - of.mask)
        seen, wanted = (of.mask * p + grey for p in (x, of.gt))
        values["masked_feature"] = by_batches(_features, seen, wanted)
        values["masked_edges"] = edge_ratio(x, of.gt, (of.mask > 0.3).to(x))
    if colour:
        values["colour"] = ms_swd(x, of.gt)
    return {name: v.double().numpy() for name, v in values.items()}


def _iris(x: Tensor, of: People) -> Tensor:
    """(n, 2, 3): mean colour of the middle of both eyes, where the irises are."""
    crops = eye_crops(x, of.landmarks, EYE)
    return crops[..., 11:19, 11:19].mean((3, 4))


@dataclass(frozen=True)
class Task:
    """What is scored by one process at a time: an arm with some of its seeds, or no run at all."""

    arm: str
    seeds: tuple[int, ...] = ()


MEASURED_BY = ("nano_unet", "nano_vae", "nano_identity_metric", "nano_identity_loss", "nano_faces")
"""Bundled files that all scores hang on."""
Score = Callable[[int, str, Mapping[int, Path]], Conditions]
"""(people, arm, export by training seed) -> what was measured."""


@dataclass(frozen=True)
class Experiment:
    """An experiment of experiments/claims.yaml as it is scored."""

    people: int
    damage: str
    """In words."""
    seeds: Callable[[int], Sequence[int]]
    """Of so many people; who they are."""
    score: Score
    untrained: tuple[str, ...] = ()
    """Names of what needs no run."""
    method: str = ""
    """Of benchmarks/_arms.py."""
    arms: tuple[str, ...] = ()
    together: bool = False
    """All seeds of an arm at once."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    """Bundled files beside `MEASURED_BY` that what is scored is made of."""

    def tasks(self, seeds: Iterable[int]) -> list[Task]:
        """Seeds first, as the runs are made."""
        alone = [Task(name) for name in self.untrained]
        seeds = tuple(seeds)
        if self.together:
            return alone + [Task(arm, seeds) for arm in self.arms]
        return alone + [Task(arm, (seed,)) for seed in seeds for arm in self.arms]
