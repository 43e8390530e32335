"""Albums assigned to faces: against all permutations, and whatever the order."""

import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError
from facewright.core.people.matching import SAME_PERSON, match_faces, match_people, threshold_of
from facewright.core.people.person import Person
from facewright.core.people.recogniser import Recogniser


def person(name, embedding, recogniser="r:1"):
    return Person(
        name=name,
        crops=torch.zeros(1, 3, 4, 4),
        embeddings=embedding[None].float(),
        landmarks=torch.zeros(1, 68, 2),
        quality=torch.ones(1),
        recogniser=recogniser,
        sources=("a",),
    )


def unit(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1).float()


def people_with(cosines):
    """One-hot albums, and faces with the given (m, p) cosines to them."""
    p = cosines.shape[1]
    names = [f"n{i:02d}" for i in range(p)]
    albums = [person(name, torch.eye(p + 1)[i]) for i, name in enumerate(names)]
    rest = (1 - (cosines**2).sum(1, keepdim=True)).clamp(min=0).sqrt()
    return torch.cat([cosines, rest], 1), albums


def best_by_trying(cosines, threshold):
    """The largest sum of (cosine - threshold) over all one-to-one pairings, pairs optional."""
    m, p = cosines.shape
    slots = [*range(p), *[None] * m]
    best = 0.0
    for choice in set(itertools.permutations(slots, m)):
        gains = [cosines[f, a] - threshold for f, a in enumerate(choice) if a is not None]
        if all(gain >= 0 for gain in gains):
            best = max(best, float(sum(gains)))
    return best


def total(matches):
    pairs = [(f, a) for f, a in enumerate(matches.assigned) if a is not None]
    assert len({a for _, a in pairs}) == len(pairs)
    values = [float(matches.cosines[f, a]) for f, a in pairs]
    assert all(v >= matches.threshold - 1e-6 for v in values)
    return sum(v - matches.threshold for v in values)


@pytest.mark.parametrize(("m", "p"), [(1, 1), (2, 3), (3, 2), (3, 3), (4, 2), (4, 3)])
def test_no_pairing_is_better(m, p):
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        cosines = torch.rand(m, p, generator=g) * 0.5
        embeddings, albums = people_with(cosines)
        matches = match_people(
            embeddings, torch.zeros(m).long(), albums, 0.25, recogniser="r:1", margin=0
        )
        torch.testing.assert_close(matches.cosines, cosines, rtol=0, atol=1e-6)
        assert total(matches) == pytest.approx(best_by_trying(cosines.double(), 0.25), abs=1e-5)


def test_the_best_sum_beats_the_best_single_pair():
    # Greedily n00 would go to face 0, and face 1 would be nobody.
    embeddings, albums = people_with(torch.tensor([[0.60, 0.55], [0.58, 0.10]]))
    matches = match_people(
        embeddings, torch.tensor([0, 0]), albums, 0.3, recogniser="r:1", margin=0
    )
    assert matches.assigned == (1, 0)


def pairs(matches, faces):
    """{(face's own number, name)}, whatever the order."""
    return {(faces[f], matches.people[a].name) for f, a in enumerate(matches.assigned)
            if a is not None}  # fmt: skip


def test_the_order_of_faces_and_albums_does_not_matter():
    rng = random.Random(0)
    embeddings, images = unit(12, 16), torch.tensor([0, 2, 2, 0, 0, 2, 5, 5, 0, 2, 5, 2])
    albums = [person(f"p{i}", embeddings[i] * 0.7 + unit(16, seed=i + 1) * 0.5) for i in range(6)]
    albums = [person(a.name, F.normalize(a.embeddings[0], dim=0)) for a in albums]
    first = pairs(
        match_people(embeddings, images, albums, 0.1, recogniser="r:1", margin=0), range(12)
    )
    assert len(first) > 6
    for _ in range(20):
        faces = rng.sample(range(12), 12)
        shuffled = rng.sample(albums, 6)
        matches = match_people(
            embeddings[faces], images[faces], shuffled, 0.1, recogniser="r:1", margin=0
        )
        assert pairs(matches, faces) == first


def test_ties_go_by_name_in_any_order():
    twin = F.normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0)
    albums = [person("bob", torch.eye(3)[0]), person("alice", torch.eye(3)[1])]
    for given in (albums, albums[::-1]):
        matches = match_people(
            twin[None], torch.tensor([0]), given, 0.5, recogniser="r:1", margin=0
        )
        assert matches.person_of(0).name == "alice"


def test_an_album_may_appear_once_in_every_picture():
    albums = [person("alice", torch.eye(2)[0])]
    faces = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]), dim=1)
    images = torch.tensor([0, 0, 3, 3])
    matches = match_people(faces, images, albums, 0.5, recogniser="r:1", margin=0)
    assert matches.assigned == (None, 0, 0, None)
    assert matches.known == 2 and matches.names == ["nobody", "alice", "alice", "nobody"]
    assert matches.person_of(1) is albums[0] and matches.person_of(0) is None
    assert matches.report == [
        "picture 0, face 0: nobody (best: alice 1.00, whom another face resembles more)",
        "picture 0, face 1: alice (1.00)",
        "picture 3, face 0: alice (0.98)",
        "picture 3, face 1: nobody (best: alice 0.00)",
    ]


def test_below_the_threshold_everyone_is_nobody():
    albums = [person("alice", torch.eye(2)[0])]
    face = F.normalize(torch.tensor([[0.6, 0.8]]), dim=1)
    for threshold, assigned in ((0.59, 0), (0.61, None)):
        matches = match_people(face, torch.tensor([0]), albums, threshold, recogniser="r:1")
        assert matches.assigned == (assigned,)


def test_zero_takes_the_threshold_of_the_recogniser():
    albums = [person("alice", torch.eye(2)[0], "nano-identity:ab")]
    face = F.normalize(torch.tensor([[0.6, 0.8]]), dim=1)
    matches = match_people(face, torch.tensor([0]), albums, 0, recogniser="nano-identity:ab")
    assert matches.threshold == SAME_PERSON["nano-identity"] and matches.assigned == (None,)
    assert threshold_of("arcface-r50:12") == SAME_PERSON["arcface"]


def test_no_faces_or_no_albums_make_nobody():
    embeddings = unit(3, 8)
    none = match_people(embeddings, torch.tensor([0, 0, 1]), [], 0.5, recogniser="r:1")
    assert none.assigned == (None,) * 3 and none.cosines.shape == (3, 0)
    assert none.report[2] == "picture 1, face 0: nobody (there are no albums)"
    alice = [person("alice", unit(8))]
    empty = match_people(embeddings[:0], torch.empty(0).long(), alice, 0.5, recogniser="r:1")
    assert len(empty) == 0 and empty.report == ["there are no faces"] and empty.known == 0


def test_200_faces_and_20_albums():
    embeddings = unit(200, 128)
    albums = [person(f"p{i:02d}", embeddings[7 * i]) for i in range(20)]
    matches = match_people(embeddings, torch.zeros(200).long(), albums, 0.5, recogniser="r:1")
    assert {f: a for f, a in enumerate(matches.assigned) if a is not None} == {
        7 * i: i for i in range(20)
    }


def test_albums_that_cannot_be_compared_are_refused_by_name():
    faces, images = unit(1, 8), torch.tensor([0])
    alice, bob = person("alice", unit(8)), person("bob", unit(8), "arcface:2")
    refused = [
        ([alice, bob], 0.5, r"album of bob was made with the recogniser arcface:2.*by r:1"),
        ([alice, alice], 0.5, "more than one album with the name alice"),
        ([person("carol", unit(9))], 0.5, "album of carol has embeddings of 9"),
        ([alice], 1.5, r"`threshold` is a cosine in \[0, 1\], got 1.5"),
    ]
    for albums, threshold, words in refused:
        with pytest.raises(FacewrightError, match=words):
            match_people(faces, images, albums, threshold, recogniser="r:1")
    with pytest.raises(FacewrightError, match=r"NaN or infinity for the faces 0"):
        match_people(faces * torch.nan, images, [alice], 0.5, recogniser="r:1")
    with pytest.raises(FacewrightError, match="a picture for each of m faces"):
        match_people(faces, torch.tensor([0, 1]), [alice], 0.5, recogniser="r:1")


def test_faces_are_embedded_by_the_recogniser():
    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    recogniser = Recogniser(Mean(), name="mean", dim=3)
    albums = [person("red", torch.eye(3)[0], recogniser.id)]
    faces = torch.zeros(2, 3, 8, 8)
    faces[0, 1], faces[1, 0] = 1, 1
    matches = match_faces(faces, torch.tensor([0, 0]), albums, recogniser, 0.5)
    assert matches.names == ["nobody", "red"]
    assert match_faces(faces, torch.tensor([0, 0]), None, recogniser).names == ["nobody"] * 2
    assert len(match_faces(faces[:0], torch.empty(0).long(), albums, recogniser)) == 0
