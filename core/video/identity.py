"""Tracks that change people: told apart by who the faces are where their places do not tell.

Somebody else at the same place, without a cut that frames show, a cross-fade, or two people who
cross: by place that is one track. By who the faces are it falls into two, and where two tracks
change people with one another, their parts are joined crosswise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..geometry.align import FacePlaces
from ..people.looks import Looks
from .tracking import apart, crop_poses

_WINDOWS = (16, 6)
"""Faces on each side of a possible change that are compared; many first."""
_FEWEST = 3
"""Faces that are compared at least."""
_SHORTEST = 8
"""Faces in which somebody has to be seen to be told from who was there before. Somebody who passes
behind somebody else looks like nobody for some frames."""
_REACH = 2.0
"""Farthest that one part of a person's track begins from where another ends, in halves of the
crop's side."""


@dataclass(frozen=True)
class Told:
    """Tracks as who the faces are divides them."""

    number: Tensor
    """(n,) int64, numbered by first appearance."""
    seams: tuple[tuple[int, int, int], ...] = ()
    """A track, the one that was at its place before, and the frame in which it is there first."""
    begins: frozenset[int] = frozenset()
    """Tracks that begin at a seam, so that there is no gap before them."""
    ends: frozenset[int] = frozenset()
    """Tracks that end at one."""
    again: tuple[tuple[int, int, float], ...] = ()
    """Two tracks of one person, the later first, and their cosine."""

    @property
    def lines(self) -> list[str]:
        """For the report."""
        lines = [
            f"from frame {frame} on face {after} is where face {before} was, and is somebody else"
            for after, before, frame in self.seams
        ]
        return lines + [
            f"face {later} seems to be face {earlier} again (cosine {cosine:.2f})"
            for later, earlier, cosine in self.again
        ]


def told_apart(
    number: Tensor,
    places: FacePlaces,
    size: int,
    looks: Looks,
    cuts: Sequence[int] = (),
    max_gap: int = 0,
) -> Told:
    """Tracks split where they change people, and joined where one person's part goes on.

    Parts are joined where one begins at most `max_gap` frames after the other ended, without a cut
    between, near by, and both are one person by `Looks.same`; where there is a choice, so that the
    sum of the cosines is largest.

    Args:
        number, places, size, cuts, max_gap: from and as for `follow_faces`.
        looks: of the same faces.
    """
    frames = places.image_index.tolist()
    parts: list[list[int]] = []
    after: dict[int, int] = {}
    """By a part, the part of the same track that it took the place of."""
    for track in range(int(number.max()) + 1 if len(number) else 0):
        faces = (number == track).nonzero()[:, 0].tolist()
        edges = [0, *change_points(looks, faces), len(faces)]
        for k, (first, last) in enumerate(pairwise(edges)):
            if k:
                after[len(parts)] = len(parts) - 1
            parts.append(faces[first:last])
    poses = crop_poses(places.matrix, size)
    goes_on = _continued(parts, frames, poses, looks, cuts, max_gap)
    before = {start: end for end, start in goes_on}

    def whole(part: int) -> int:
        """The first part of a track."""
        while part in before:
            part = before[part]
        return part

    first = sorted({whole(k) for k in range(len(parts))}, key=lambda k: parts[k][0])
    names = {part: i for i, part in enumerate(first)}
    result = torch.full((len(frames),), -1)
    for k, faces in enumerate(parts):
        result[faces] = names[whole(k)]
    changed = {k: was for k, was in after.items() if whole(k) != whole(was)}
    seams = [
        (names[whole(k)], names[whole(was)], frames[parts[k][0]]) for k, was in changed.items()
    ]
    going_on = set(before.values())
    return Told(
        result,
        tuple(sorted(seams, key=lambda seam: seam[2])),
        frozenset(names[k] for k in changed if k not in before),
        frozenset(names[whole(was)] for was in changed.values() if was not in going_on),
        tuple(_again(result, frames, looks)),
    )


def _again(number: Tensor, frames: Sequence[int], looks: Looks) -> list[tuple[int, int, float]]:
    """Tracks that begin after another of the same person ended, with the most alike of these."""
    count = int(number.max()) + 1 if len(number) else 0
    mine = [(number == track).nonzero()[:, 0].tolist() for track in range(count)]
    if count < 2:
        return []
    means = torch.stack([looks.mean(faces) for faces in mine])
    cosines = means @ means.T
    found = []
    for later, faces in enumerate(mine):
        earlier = [k for k in range(later) if frames[mine[k][-1]] < frames[faces[0]]]
        alike = [(float(cosines[later, k]), k) for k in earlier]
        cosine, best = max(alike, default=(0.0, 0))
        if cosine >= looks.same and len(faces) >= _FEWEST:
            found.append((later, best, cosine))
    return found


def _continued(
    parts: Sequence[Sequence[int]],
    frames: Sequence[int],
    poses: np.ndarray,
    looks: Looks,
    cuts: Sequence[int],
    max_gap: int,
) -> list[tuple[int, int]]:
    """Pairs (part that ends, part of the same person with which it goes on)."""
    from scipy.optimize import linear_sum_assignment

    if len(parts) < 2:
        return []
    ends, starts = ([frames[part[k]] for part in parts] for k in (-1, 0))
    gains = np.zeros((len(parts), len(parts)))
    means = torch.stack([looks.mean(part) for part in parts])
    cosines = (means @ means.T).numpy()
    distance = apart(poses[[part[-1] for part in parts]], poses[[part[0] for part in parts]])
    for i, end in enumerate(ends):
        for j, start in enumerate(starts):
            near = 0 < start - end <= max_gap + 1 and distance[i, j] < _REACH
            if near and cosines[i, j] >= looks.same and not any(end < c <= start for c in cuts):
                gains[i, j] = cosines[i, j]
    pairs = zip(*linear_sum_assignment(gains, maximize=True), strict=True)
    return [(int(i), int(j)) for i, j in pairs if gains[i, j] > 0]


def change_points(looks: Looks, faces: Sequence[int]) -> list[int]:
    """Where somebody else begins in a track, as positions in `faces`, ascending.

    Means of some faces before and after are compared; where their cosine falls below
    `Looks.another`, the change lies where two people explain the faces best: the largest
    |sum before| + |sum after| of their embeddings. Parts that are one person as a whole after all
    are joined again, so that a blur or a turned head between is no change.
    """
    index = list(faces)
    weight = looks.weight[index].double().numpy()
    values = looks.embeddings[index].double().numpy() * weight[:, None]
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, 0)])
    found: list[int] = []
    for window in _WINDOWS:
        for first, last in _runs(_cosines(sums, window) < looks.another):
            at = _best(sums, first + _FEWEST, last + _FEWEST, window)
            if all(abs(at - other) >= min(_WINDOWS) for other in found):
                found.append(at)
    return _confirmed(looks, index, sorted(found))


def _cosines(sums: np.ndarray, window: int) -> np.ndarray:
    """Of what lies before and after each position from `_FEWEST` on."""
    count = len(sums) - 1
    at = np.arange(_FEWEST, count - _FEWEST + 1)
    before = sums[at] - sums[np.maximum(at - window, 0)]
    after = sums[np.minimum(at + window, count)] - sums[at]
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return (before * after).sum(1) / np.maximum(lengths, 1e-12)


def _best(sums: np.ndarray, first: int, last: int, window: int) -> int:
    """The position from `first` to `last` that divides what lies around into two people best."""
    at = np.arange(first, last + 1)
    start, end = sums[max(0, first - window)], sums[min(len(sums) - 1, last + window)]
    lengths = np.linalg.norm(sums[at] - start, axis=1) + np.linalg.norm(end - sums[at], axis=1)
    return int(at[lengths.argmax()])


def _confirmed(looks: Looks, faces: list[int], found: list[int]) -> list[int]:
    """Positions at which the parts before and after are two people as a whole, and no part is so
    short that it may be a face half hidden."""
    while found:
        edges = [0, *found, len(faces)]
        means = torch.stack([looks.mean(faces[a:b]) for a, b in pairwise(edges)])
        cosines = (means[1:] * means[:-1]).sum(1)
        lengths = [b - a for a, b in pairwise(edges)]
        shorter = torch.tensor([min(pair) for pair in pairwise(lengths)])
        wrong = (shorter < _SHORTEST) | (cosines >= looks.another)
        if not bool(wrong.any()):
            break
        del found[int(torch.where(wrong, cosines, -2).argmax())]
    return found


def _runs(below: np.ndarray) -> list[tuple[int, int]]:
    """First and last positions of runs of True."""
    edges = np.diff(np.concatenate([[0], below.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
