"""Who is who in a folder of strangers: faces grouped into people by identity alone.

Groups are joined while the mean cosine between their faces reaches the recogniser's limit (average
linkage, scikit-learn). Two groups of two faces or more have to be one person by themselves, too:
the cosine of their middles, freed of the scatter around them (Spearman 1904: the mean cosine
between them over the geometric mean of those within), has to be that of two halves of one person:
`ONE_PERSON`. Two faces of one photograph are never one person.

Why not DBSCAN or HDBSCAN (`benchmarks/_people_cluster.py` has the figures): at the limit the first
chains people together; the second has no limit, calls everybody noise who was photographed once,
and takes people apart who were photographed often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FacewrightError
from .limits import Limits

ONE_PERSON = {"nano-identity": {2: 0.9, 3: 0.93}, "": {2: 0.5}}
"""By kind of recogniser, then by the number of faces, or more, of the smaller group.

nano-identity: measured on rendered people: 1 % of the halves of one person lie below 0.89 with two
faces each and below 0.93 with three; of pairs of two people one in a thousand is above 0.89 with
three. Others: nobody has measured it. Photographed people change with age and pose as rendered ones
do not, and their recognisers give strangers next to nothing, so only groups are kept apart that are
less than half as like each other as each is by itself.
"""
MOST = 10_000
"""Faces at once: every pair's distance is in memory, 8 bytes each."""
_FAR = 4.0
"""Distance of two faces of one photograph, twice that of opposite vectors."""
_SHOWN = 3
"""People whom an unsure face is said to be like."""


@dataclass(frozen=True)
class Clusters:
    """Which of n faces are one person."""

    group: np.ndarray
    """(n,) int64: number of the group, -1 for unsure. Known groups keep their numbers; new ones
    follow, in the order of their first faces."""
    cosine: np.ndarray
    """(n,) mean cosine with the other faces of the own group, NaN where there is none."""
    maybe: tuple[tuple[tuple[int, float], ...], ...]
    """Per unsure face groups it may be, with the mean cosine, the likest first; else empty."""
    alike: tuple[tuple[int, int, float], ...]
    """Pairs of groups that may be one person, and the mean cosine between them."""


def cluster_faces(
    embeddings: np.ndarray,
    photos: Sequence[int],
    limits: Limits,
    *,
    recogniser: str,
    known: Sequence[int] | None = None,
    clear: Sequence[bool] | None = None,
) -> Clusters:
    """Group faces into people.

    What is known stays as it is: a known group is never split, renumbered or joined with another.
    Deterministic; equal distances are decided by the order of the faces.

    Args:
        embeddings: (n, d) of length 1.
        photos: which photograph a face is in.
        limits: of the recogniser: `same_person` joins; a face that another group is as like as its
            own but for `margin` is unsure, and so is one alone that is so near to a group.
        recogniser: `Recogniser.name` or `Recogniser.id`.
        known: group of each face, numbered from 0; -1 for those to be placed.
        clear: False for faces that are too small or blurred to tell; they are unsure.

    Raises:
        FacewrightError: shapes that do not fit, numbers that are not finite, more than `MOST`.
        ImportError: scikit-learn is missing.
    """
    e, photo = np.asarray(embeddings, np.float64), np.asarray(photos)
    n = len(e)
    group = np.full(n, -1) if known is None else np.array(known, np.int64)
    placed = group >= 0
    able = ~placed & (np.ones(n, bool) if clear is None else np.asarray(clear, bool))
    if e.ndim != 2 or not len(photo) == len(group) == len(able) == n or not np.isfinite(e).all():
        raise FacewrightError(
            f"Faces are grouped by finite embeddings (n, d) with a photograph for each, got "
            f"{e.shape} and {len(photo)}. Look at the photos again."
        )
    if able.sum() > MOST:
        raise FacewrightError(
            f"{able.sum()} faces are more than can be grouped at once ({MOST}). Group a part of "
            "the photos first, then add the others to the same folder."
        )
    halves = next(own for kind, own in ONE_PERSON.items() if recogniser.startswith(kind))
    fresh = _people(e, photo, np.flatnonzero(able), limits.same_person, halves)
    group, doubtful = _join(e, photo, group, fresh, limits, halves)
    likeness = _likeness(e, group)
    _doubt(group, photo, likeness, able, doubtful, limits)
    group = _renumbered(group, placed)
    likeness = _likeness(e, group)
    own = np.where(group >= 0, likeness[np.arange(n), group], np.nan)
    maybe = tuple(
        _maybe(i, group, photo, likeness, limits) if able[i] and group[i] < 0 else ()
        for i in range(n)
    )
    return Clusters(group, own, maybe, tuple(_alike(e, photo, group, limits)))


def _people(
    e: np.ndarray, photo: np.ndarray, faces: np.ndarray, limit: float, halves: Mapping[int, float]
) -> list[np.ndarray]:
    """Faces that are one person each, apart from all that is known."""
    if len(faces) < 2:
        return [faces] if len(faces) else []
    from sklearn.cluster import AgglomerativeClustering

    x, where = e[faces], photo[faces]
    distance = 1 - x @ x.T
    np.clip(distance, 0, None, out=distance)
    distance[where[:, None] == where] = _FAR
    np.fill_diagonal(distance, 0)
    whole: dict[str, Any] = {"n_clusters": None, "distance_threshold": 0}
    linkage = AgglomerativeClustering(**whole, metric="precomputed", linkage="average")
    tree = linkage.fit(distance)
    fits = _fitting(x, where, tree.children_.tolist(), tree.distances_.tolist(), limit, halves)
    found, waiting = [], [2 * len(faces) - 2]
    while waiting:
        node = waiting.pop()
        if fits[node]:
            found.append(faces[sorted(_members(node, tree.children_))])
        else:
            waiting += tree.children_[node - len(faces)].tolist()
    return sorted(found, key=lambda mine: mine[0])


def _fitting(
    x: np.ndarray,
    photo: np.ndarray,
    children: list[list[int]],
    distances: list[float],
    limit: float,
    halves: Mapping[int, float],
) -> list[bool]:
    """Which nodes of the tree are one person each; its n leaves come first."""
    members, fits = {i: [i] for i in range(len(x))}, [True] * len(x)
    for node, (pair, distance) in enumerate(zip(children, distances, strict=True), len(x)):
        small, large = sorted(pair, key=lambda part: len(members[part]))
        a, b = members.pop(small), members.pop(large)
        mine = members[node] = b + a
        fits.append(
            distance <= 1 - limit
            # One face tells nothing of the group it joins: that has to be one person before.
            and (len(a) > 1 or fits[large])
            and len(set(photo[mine].tolist())) == len(mine)
            and _one_person(x[a], x[b], halves)
        )
    return fits


def _members(node: int, children: np.ndarray) -> list[int]:
    """Faces below a node of the tree."""
    found, waiting, count = [], [node], len(children) + 1
    while waiting:
        node = waiting.pop()
        if node < count:
            found.append(node)
        else:
            waiting += children[node - count].tolist()
    return found


def _one_person(a: np.ndarray, b: np.ndarray, halves: Mapping[int, float]) -> bool:
    """Whether two groups are as like each other as faces of one person that scatter like theirs."""
    least = max((c for n, c in halves.items() if n <= min(len(a), len(b))), default=None)
    if least is None:
        return True
    within = max(_within(a), 0.0) * max(_within(b), 0.0)
    return float(a.mean(0) @ b.mean(0)) >= least * within**0.5


def _within(x: np.ndarray) -> float:
    """Mean cosine over the pairs of a group, of two faces at the least."""
    total = x.sum(0)
    return float(total @ total - (x * x).sum()) / (len(x) * (len(x) - 1))


def _join(
    e: np.ndarray,
    photo: np.ndarray,
    group: np.ndarray,
    fresh: list[np.ndarray],
    limits: Limits,
    halves: Mapping[int, float],
) -> tuple[np.ndarray, set[int]]:
    """Known groups with new faces that belong to them, and the others in groups of their own.

    Returns:
        Groups, and the faces that belong to two known groups alike.
    """
    group, doubtful = group.copy(), set()
    count, offers = int(group.max(initial=-1)) + 1, []
    none = np.zeros(e.shape[1])
    middles = [e[group == g].mean(0) if (group == g).any() else none for g in range(count)]
    middles = np.stack(middles) if middles else np.zeros((0, len(none)))
    for at, faces in enumerate(fresh):
        middle = e[faces].mean(0)
        cosines = middles @ middle
        near = np.flatnonzero(cosines >= limits.same_person).tolist()
        fits = sorted(
            (-float(cosines[g]), g) for g in near if _one_person(e[faces], e[group == g], halves)
        )
        if len(fits) > 1 and fits[1][0] - fits[0][0] < limits.margin:
            doubtful.update(faces.tolist())
        elif fits:
            offers.append((*fits[0], at))
    for _, g, at in sorted(offers):
        # The likest come first, and the others have to fit what the group has become.
        faces, mine = fresh[at], group == g
        fits = float(e[faces].mean(0) @ e[mine].mean(0)) >= limits.same_person
        apart = not set(photo[mine]) & set(photo[faces])
        if fits and apart and _one_person(e[faces], e[mine], halves):
            group[faces] = g
    for faces in fresh:
        if group[faces[0]] < 0 and faces[0] not in doubtful:
            group[faces] = group.max(initial=-1) + 1
    return group, doubtful


def _likeness(e: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n, g) mean cosine of each face with each group, itself left out; NaN with nobody else."""
    n, count = len(group), int(group.max(initial=-1)) + 1
    member = np.zeros((n, count))
    inside = np.flatnonzero(group >= 0)
    member[inside, group[inside]] = 1
    total, others = e @ (member.T @ e).T, np.broadcast_to(member.sum(0), (n, count)) - member
    total -= member * (e * e).sum(1)[:, None]
    return np.divide(total, others, out=np.full((n, count), np.nan), where=others > 0)


def _rivals(
    i: int, group: np.ndarray, photo: np.ndarray, likeness: np.ndarray
) -> list[tuple[int, float]]:
    """(group, cosine) of those few that face `i` is likest to and may be as far as its photograph
    tells, without its own."""
    able = np.nan_to_num(likeness[i], nan=-np.inf)
    taken = group[photo == photo[i]]
    able[taken[taken >= 0]] = -np.inf
    order = np.argsort(-able, kind="stable")[:_SHOWN]
    return [(int(g), float(able[g])) for g in order if able[g] > -np.inf]


def _doubt(
    group: np.ndarray,
    photo: np.ndarray,
    likeness: np.ndarray,
    able: np.ndarray,
    doubtful: set[int],
    limits: Limits,
) -> None:
    """Take the faces out of their groups that may be somebody else; in place."""
    before = group.copy()
    for i in np.flatnonzero(able & (before >= 0)).tolist():
        rivals = _rivals(i, before, photo, likeness)
        own = likeness[i, before[i]]
        # One alone is compared with the limit: it is somebody new, or the rival on a bad picture.
        own = limits.same_person if np.isnan(own) else own
        if rivals and own - rivals[0][1] < limits.margin:
            group[i] = -1
    group[list(doubtful)] = -1


def _maybe(
    i: int, group: np.ndarray, photo: np.ndarray, likeness: np.ndarray, limits: Limits
) -> tuple[tuple[int, float], ...]:
    rivals = _rivals(i, group, photo, likeness)
    near = [(g, c) for g, c in rivals if c >= limits.same_person - limits.margin]
    return tuple(near or rivals[:1])


def _renumbered(group: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Without gaps among the new groups, which come in the order of their first faces."""
    first = int(group[placed].max(initial=-1)) + 1
    order = [g for g in dict.fromkeys(group.tolist()) if g >= first]
    number = {g: first + i for i, g in enumerate(order)}
    return np.array([number.get(g, g) for g in group.tolist()], np.int64)


def _alike(e: np.ndarray, photo: np.ndarray, group: np.ndarray, limits: Limits) -> list:
    """Pairs of groups that no photograph tells apart, from the limit less the margin on."""
    numbers = sorted(set(group[group >= 0].tolist()))
    if len(numbers) < 2:
        return []
    middle = np.stack([e[group == g].mean(0) for g in numbers])
    between = middle @ middle.T
    pairs = np.argwhere(np.triu(between >= limits.same_person - limits.margin, 1))
    seen = {g: set(photo[group == g]) for g in numbers}
    found = [(numbers[a], numbers[b], float(between[a, b])) for a, b in pairs]
    found = [(a, b, c) for a, b, c in found if not seen[a] & seen[b]]
    return sorted(found, key=lambda pair: (-pair[2], pair[:2]))
