"""The best pairs of faces and albums in a picture, what every other pair would cost, and which
faces are unsure."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .margins import Margins

_STEP = 1e-6
"""Cosines closer than this are equal: summing in another order changes them by less."""
_FEWER = 1e-9
"""What a changed face costs, so that among equal exchanges that of the fewest faces counts."""


def best_pairs(cosines: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Pairs (face, album) of the largest sum of (cosine - threshold), each face and album once.

    Args:
        cosines: (m, p) of the faces of one picture, albums in the order of their names, which
            decides among equal sums.
        threshold: no pair lies below.
    """
    from scipy.optimize import linear_sum_assignment

    count = cosines.shape[1]
    # The assignment must not depend on the order of the faces either.
    rows = np.lexsort(np.round(cosines / _STEP).T[::-1])
    allowed = cosines[rows] >= threshold
    # Whole numbers, exact in float64. The lower digits prefer earlier names among equal sums.
    steps = np.round((cosines[rows] - threshold) / _STEP)
    gains = steps * (count * (count + 1) // 2 + 1) + np.arange(count, 0, -1)
    faces, albums = linear_sum_assignment(np.where(allowed, gains, 0.0), maximize=True)
    return [(int(rows[f]), int(a)) for f, a in zip(faces, albums, strict=True) if allowed[f, a]]


def losses(cosines: np.ndarray, threshold: float, pairs: list[tuple[int, int]]) -> np.ndarray:
    """(m, p): by how much the best sum beats the best one in which a face has a given album.

    Where k faces change, the difference is one of k pairs of cosines and its error that of their
    sum; it is divided by the square root of k, so that it means the same for one face as for two
    that change places. With one face it is the difference of two cosines. Pairs of `pairs` have 0.

    To give a face another album is a cycle of exchanges: everyone takes what the next one had, and
    the last one what the first had. The cheapest way back from each to each is found by Floyd and
    Warshall's algorithm; as `pairs` are the best, no cycle gains.
    """
    m, p = cosines.shape
    size = m + p
    # "Nobody" is a column per face, "in no picture" a row per album, all worth 0.
    gains = np.zeros((size, size))
    gains[:m, :p] = cosines - threshold
    has = np.full(size, -1)
    for face, album in pairs:
        has[face] = album
    free = sorted(set(range(size)) - set(has.tolist()))
    nobody = [column for column in free if column >= p]
    unused = [column for column in free if column < p]
    faces = [row for row in range(m) if has[row] < 0]
    has[faces] = nobody[: len(faces)]
    has[m:] = [*unused, *nobody[len(faces) :]]
    changed = np.zeros((size, size))
    changed[:m] = 1
    np.fill_diagonal(changed, 0)
    cost = gains[np.arange(size), has][:, None] - gains[:, has] + _FEWER * changed
    back, faces_back = cost.copy(), changed.copy()
    for k in range(size):
        through = back[:, k, None] + back[k]
        shorter = through < back - _FEWER / 2
        back = np.where(shorter, through, back)
        faces_back = np.where(shorter, faces_back[:, k, None] + faces_back[k], faces_back)
    total, count = (cost + back.T)[:m], (changed + faces_back.T)[:m]
    holder = np.argsort(has)[:p]
    total, count = total[:, holder], count[:, holder]
    return np.maximum(total - _FEWER * count, 0) / np.sqrt(np.maximum(count, 1))


@dataclass(frozen=True)
class Verdict:
    """On one face of a picture."""

    album: int | None
    others: list[int]
    """All albums that it may be, where that is unsure."""
    margin: float | None


def decided(cosines: np.ndarray, threshold: float, margins: Margins) -> list[Verdict]:
    """Of the m faces of one picture, with p albums in the order of their names.

    Args:
        cosines: (m, p).
        margins: of these faces and albums.
    """
    pairs = best_pairs(cosines, threshold)
    loss = losses(cosines, threshold, pairs)
    has, held = dict(pairs), {album for _, album in pairs}
    verdicts = []
    for face, row in enumerate(loss.tolist()):
        album = has.get(face)
        others = {i: cost for i, cost in enumerate(row) if i != album}
        wanted = margins.between(face, album)
        near = [
            i for i, cost in others.items() if cost < wanted[i] and (album is not None or i in held)
        ]
        rivals = {}
        if album is not None:
            rivals = {other: float(loss[other, album]) for other in range(len(loss))}
            del rivals[face]
            close = (cost < margins.between(k, has.get(k))[album] for k, cost in rivals.items())
            if near or any(close):
                near.append(album)
        least = min([*others.values(), *rivals.values()], default=None)
        verdicts.append(Verdict(album, near, least))
    return verdicts


def likeliest(albums: Iterable[int], cosines: Tensor) -> list[int]:
    """Albums by their cosine; what differs by rounding goes by number."""
    return sorted(albums, key=lambda i: (-round(float(cosines[i]), 5), i))
