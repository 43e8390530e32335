"""Strangers grouped into people: against a naive average linkage, and what holds whatever comes."""

import dataclasses
import itertools

import numpy as np
import pytest
from facewright.core.errors import FacewrightError
from facewright.core.people import clusters
from facewright.core.people.limits import limits_of

LIMITS = dataclasses.replace(limits_of("nano-identity"), same_person=0.65, margin=0.05)


def cluster_faces(embeddings, photos, limits, **more):
    given = {"recogniser": "nano-identity:1", **more}
    return clusters.cluster_faces(embeddings, photos, limits, **given)


def people(sizes, scatter, seed=0, d=24):
    """Embeddings of people whose middles are random, and who each is."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(sizes), d))[who] / d**0.5
    x += scatter * rng.normal(size=x.shape) / d**0.5
    return x / np.linalg.norm(x, axis=1, keepdims=True), who


def at(cosine, count, seed, d=40):
    """A middle, one that has `cosine` with it, and `count` faces around each."""
    rng = np.random.default_rng(seed)
    a, b = np.linalg.qr(rng.normal(size=(d, 2)))[0].T
    middles = np.repeat([a, cosine * a + (1 - cosine**2) ** 0.5 * b], count, axis=0)
    x = middles + 0.2 * rng.normal(size=middles.shape) / d**0.5
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive(x, limit):
    """Average linkage by its definition: join the two groups whose faces are the likest."""
    groups = [[i] for i in range(len(x))]
    while len(groups) > 1:
        best = max(
            (sum(float(x[i] @ x[j]) for i in a for j in b) / (len(a) * len(b)), m, n)
            for (m, a), (n, b) in itertools.combinations(enumerate(groups), 2)
        )
        if best[0] < limit:
            break
        groups[best[1]] += groups.pop(best[2])
    return {frozenset(group) for group in groups}


def partition(group):
    assert (group >= 0).all()
    return {frozenset(np.flatnonzero(group == g).tolist()) for g in set(group.tolist())}


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.65])
@pytest.mark.parametrize("seed", [0, 1])
def test_groups_are_those_of_naive_average_linkage(monkeypatch, limit, seed):
    monkeypatch.setattr(clusters, "ONE_PERSON", {"": {}})
    x, _ = people([7, 5, 4, 3, 2, 1, 1], 0.9, seed)
    limits = dataclasses.replace(LIMITS, same_person=limit, margin=0.0)
    # Without a margin a face may still be nearer to another group than to its own: it is unsure.
    found = cluster_faces(x, range(len(x)), limits)
    wanted = naive(x, limit)
    got = {frozenset(np.flatnonzero(found.group == g).tolist()) for g in set(found.group)}
    unsure = set(np.flatnonzero(found.group < 0).tolist())
    assert {g - unsure for g in wanted} - {frozenset()} == got - {frozenset(unsure)}
    assert len(unsure) < 4


def test_people_are_found_and_numbered_by_their_first_faces():
    x, who = people([6, 3, 1, 1, 5], 0.3)
    found = cluster_faces(x, range(len(x)), LIMITS)
    np.testing.assert_array_equal(found.group, who)
    assert np.isnan(found.cosine[who == 2]).all() and (found.cosine[who == 0] > 0.8).all()
    assert not any(found.maybe)
    own = x[who == 1]
    expected = [own[0] @ own[1:].mean(0), own[1] @ own[[0, 2]].mean(0), own[2] @ own[:2].mean(0)]
    np.testing.assert_allclose(found.cosine[who == 1], expected, atol=1e-12)


def test_two_tight_groups_are_two_people_though_they_reach_the_limit():
    x = at(0.8, 4, 3)
    assert (x[:4] @ x[4:].T).mean() > LIMITS.same_person
    found = cluster_faces(x, range(8), LIMITS)
    assert found.group.tolist() == [0] * 4 + [1] * 4
    (pair,) = found.alike
    assert pair[:2] == (0, 1) and pair[2] == pytest.approx((x[:4] @ x[4:].T).mean())
    assert len(partition(cluster_faces(at(0.99, 4, 3), range(8), LIMITS).group)) == 1
    # A recogniser of photographs sees one person change more with the years.
    found = cluster_faces(x, range(8), LIMITS, recogniser="arcface-r50:1")
    assert len(partition(found.group)) == 1


def test_a_single_face_between_two_people_does_not_make_them_one():
    x = at(0.8, 4, 3)
    far = np.random.default_rng(1).normal(size=x.shape[1])
    far -= x.T @ np.linalg.lstsq(x.T, far, rcond=None)[0]
    middle = x.mean(0) / np.linalg.norm(x.mean(0))
    last = 0.8 * middle + 0.6 * far / np.linalg.norm(far)
    x = np.vstack([x, last])
    # It comes last of all, and its own likeness to all of them passes.
    assert LIMITS.same_person < (x[:8] @ last).mean() < (x[:4] @ x[4:8].T).mean()
    group = cluster_faces(x, range(9), LIMITS).group
    assert group[:8].tolist() == [0] * 4 + [1] * 4


def test_two_faces_of_one_photograph_are_two_people():
    x = at(0.999, 3, 5)
    photos = [0, 1, 2, 0, 1, 2]
    found = cluster_faces(x, photos, dataclasses.replace(LIMITS, margin=0.0))
    for photo in range(3):
        one, other = found.group[[photo, photo + 3]]
        assert one != other or one == -1
    assert not found.alike  # a photograph tells them apart
    # Nor does a face join somebody who is on its photograph already, however like it is.
    x = at(0.999, 3, 5)
    found = cluster_faces(x, photos, LIMITS, known=[0, 0, 0, -1, -1, -1])
    assert found.group[:3].tolist() == [0] * 3 and not (found.group[3:] == 0).any()
    x, who = people([5, 5], 0.2, 3)
    photos = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(cluster_faces(x, photos, LIMITS).group, who)


@pytest.mark.parametrize("seed", range(4))
def test_order_does_not_matter(seed):
    x, _ = people([6, 4, 3, 2, 1, 1, 1], 0.8, seed)
    rng = np.random.default_rng(seed)
    photos = rng.integers(0, 12, len(x))
    order = rng.permutation(len(x))
    first, second = cluster_faces(x, photos, LIMITS), cluster_faces(x[order], photos[order], LIMITS)
    together = first.group[order][:, None] == first.group[order]
    np.testing.assert_array_equal(together, second.group[:, None] == second.group)
    np.testing.assert_array_equal(first.group[order] < 0, second.group < 0)


def test_what_is_known_stays_and_grows():
    x, who = people([12, 4, 3], 0.3, 2)
    known = np.where(np.arange(len(x)) % 2 == 0, who, -1)
    known[who == 2] = -1
    known[14] = 0  # the user's word counts, however unlike
    found = cluster_faces(x, range(len(x)), LIMITS, known=known)
    assert (found.group[known >= 0] == known[known >= 0]).all()
    np.testing.assert_array_equal(np.delete(found.group, 14), np.delete(who, 14))
    # Two known halves of one person stay two, and that is said.
    halves = np.where(who == 0, np.arange(len(x)) % 2, -1)
    found = cluster_faces(x, range(len(x)), LIMITS, known=halves)
    assert found.group[:12].tolist() == [0, 1] * 6
    assert [pair[:2] for pair in found.alike] == [(0, 1)]


def test_a_face_between_two_known_people_is_unsure():
    x = at(0.7, 4, 7)
    between = x[:4].mean(0) + x[4:].mean(0)
    x = np.concatenate([x, between[None] / np.linalg.norm(between)])
    known = [0] * 4 + [1] * 4 + [-1]
    found = cluster_faces(x, range(9), LIMITS, known=known)
    assert found.group[8] == -1 and {g for g, _ in found.maybe[8]} == {0, 1}
    # On a photograph that shows the first of them it can only be the second.
    found = cluster_faces(x, [0, 1, 2, 3, 4, 5, 6, 7, 0], LIMITS, known=known)
    assert found.group[8] == 1 or [g for g, _ in found.maybe[8]] == [1]


def test_faces_that_nobody_can_tell_belong_to_nobody():
    x, _ = people([5, 5], 0.2, 4)
    clear = [True] * 9 + [False]
    found = cluster_faces(x, range(10), LIMITS, clear=clear)
    assert found.group.tolist() == [0] * 5 + [1] * 4 + [-1] and found.maybe[9] == ()


def test_few_and_wrong_faces():
    for n in (0, 1):
        x, _ = people([1], 0.1)
        found = cluster_faces(x[:n], range(n), LIMITS)
        assert found.group.tolist() == [0] * n and not found.alike
    x, _ = people([3], 0.1)
    for wrong, photos in ((x * np.nan, range(3)), (x, range(2)), (x[0], range(3))):
        with pytest.raises(FacewrightError, match="finite embeddings"):
            cluster_faces(wrong, photos, LIMITS)
    with pytest.raises(FacewrightError, match="more than can be grouped"):
        cluster_faces(np.ones((clusters.MOST + 1, 1)), range(clusters.MOST + 1), LIMITS)


def brute_force(group, who):
    """B-cubed precision and recall and pairwise ones by their definitions."""
    n = len(who)
    alone = [(g, -1) if g >= 0 else (-1, i) for i, g in enumerate(group)]
    precision, recall = [], []
    for i in range(n):
        mine = [j for j in range(n) if alone[j] == alone[i]]
        right = sum(who[j] == who[i] for j in mine)
        if group[i] >= 0:
            precision.append(right / len(mine))
        recall.append(right / sum(who[j] == who[i] for j in range(n)))
    pairs = list(itertools.combinations(range(n), 2))
    joined = [(i, j) for i, j in pairs if alone[i] == alone[j]]
    hits = sum(who[i] == who[j] for i, j in joined)
    return {
        "B-cubed precision": sum(precision) / len(precision),
        "B-cubed recall": sum(recall) / n,
        "pair precision": hits / max(1, len(joined)),
        "pair recall": hits / max(1, sum(who[i] == who[j] for i, j in pairs)),
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_of_the_benchmark_are_those_of_brute_force(seed):
    from facewright.benchmarks._people_cluster import scores
    from sklearn.metrics import homogeneity_score, pair_confusion_matrix

    rng = np.random.default_rng(seed)
    who, group = rng.integers(0, 6, 40), rng.integers(-1, 7, 40)
    found = scores(group, who)
    for name, value in brute_force(group.tolist(), who.tolist()).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    alone = np.where(group < 0, 100 + np.arange(40), group)
    (_, wrong), (missed, hits) = pair_confusion_matrix(who, alone)
    assert found["pair precision"] == pytest.approx(hits / (hits + wrong))
    assert found["pair recall"] == pytest.approx(hits / (hits + missed))
    assert scores(who, who)["purity"] == scores(who, who)["placed"] == homogeneity_score(who, who)
    assert scores(np.zeros(40, int), who)["purity"] == np.bincount(who).max() / 40
