"""Faces that cannot be told, and those whose person is told by hand."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError
from facewright.core.people.assigning import best_pairs, losses
from facewright.core.people.by_hand import faces_of_photos, parse_told, told_of_batch
from facewright.core.people.margins import LEAST_MARGIN, alike, margins_of
from facewright.core.people.matching import match_people
from facewright.core.people.one_for_all import likeness, match_all, warnings_of
from facewright.core.people.person import Person, check_name
from facewright.core.people.recogniser import Recogniser
from facewright.core.pipeline.options import RestoreOptions
from facewright.core.pipeline.pictures import Restorer


def person(name, embedding, recogniser="r:1"):
    return Person(
        name=name,
        crops=torch.zeros(1, 3, 4, 4),
        embeddings=F.normalize(embedding.float(), dim=0)[None],
        landmarks=torch.zeros(1, 68, 2),
        quality=torch.ones(1),
        recogniser=recogniser,
        sources=("a",),
    )


def matched(cosines, names="Ada Bo Cy Di", images=None, threshold=0.5, **more):
    """Faces with the given (m, p) cosines to albums that have nothing to do with one another."""
    cosines = torch.tensor(cosines)
    p = cosines.shape[1]
    albums = [person(name, torch.eye(p + 1)[i]) for i, name in enumerate(names.split()[:p])]
    rest = (1 - (cosines**2).sum(1, keepdim=True)).clamp(min=0).sqrt()
    index = torch.tensor(images) if images else torch.zeros(len(cosines)).long()
    return match_people(
        torch.cat([cosines, rest], 1), index, albums, threshold, recogniser="r:1", **more
    )


def all_assignments(m, p):
    for choice in itertools.product([None, *range(p)], repeat=m):
        used = [a for a in choice if a is not None]
        if len(used) == len(set(used)):
            yield choice


@pytest.mark.parametrize(("m", "p"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3)])
def test_losses_are_those_of_trying_everything(m, p):
    """The best sum with a face forced to an album; where k faces change, by the root of k."""
    for seed in range(25):
        rng = np.random.default_rng([seed, m, p])
        cosines, threshold = rng.uniform(-0.2, 1, (m, p)), 0.4
        pairs = best_pairs(cosines, threshold)
        found, best = losses(cosines, threshold, pairs), dict(pairs)

        def value(choice, gains=cosines - threshold):
            return sum(gains[f, a] for f, a in enumerate(choice) if a is not None)

        now = tuple(best.get(f) for f in range(m))
        for f, a in itertools.product(range(m), range(p)):
            forced = [c for c in all_assignments(m, p) if c[f] == a]
            other = max(forced, key=value)
            changed = max(1, sum(x != y for x, y in zip(now, other, strict=True)))
            expected = (value(now) - value(other)) / changed**0.5
            assert found[f, a] == pytest.approx(expected, abs=1e-6)


def test_below_the_margin_neither_album_is_taken():
    matches = matched([[0.83, 0.81, 0.2]], margin=0.05)
    assert matches.assigned == (None,) and matches.unsure == (("Ada", "Bo"),)
    assert matches.names == ["Ada or Bo"] and matches.labels == ["Ada or Bo (0.83, 0.81)"]
    assert matches.runner_up(0) == "Bo" and matches.margin_of(0) == pytest.approx(0.02, abs=1e-5)
    assert "that cannot be told for sure" in matches.report[1] and '"0=Ada"' in matches.report[1]
    for told in ({"margin": 0}, {"margin": 0.01}, {"margin": 0.05, "assign": {0: "Ada"}}):
        assert matched([[0.83, 0.81, 0.2]], **told).names == ["Ada"]
    assert matched([[0.83, 0.81, 0.2]]).unsure[0]  # so it is by default
    clear = matched([[0.83, 0.81 - 1.5 * LEAST_MARGIN, 0.2]])
    assert clear.labels == ["Ada (0.83, next Bo 0.69)"] and clear.warnings == []


def album(name, middle, generator, photos=4, scatter=0.4, quality=None):
    """Photos around a middle, as far from it as a recogniser's are."""
    noise = torch.randn(photos, len(middle), generator=generator) * scatter / len(middle) ** 0.5
    embeddings = F.normalize(middle + noise, dim=1)
    return Person(
        name=name,
        crops=torch.zeros(photos, 3, 4, 4),
        embeddings=embeddings,
        landmarks=torch.zeros(photos, 68, 2),
        quality=torch.ones(photos) if quality is None else torch.tensor(quality),
        recogniser="nano-identity:1",
        sources=tuple(map(str, range(photos))),
    )


def test_margins_grow_by_what_chance_makes_of_the_albums_distance():
    """Against loops over the photographs."""
    generator = torch.Generator().manual_seed(1)
    ada = F.normalize(torch.randn(64, generator=generator), dim=0)
    twin = F.normalize(ada + 0.4 * F.normalize(torch.randn(64, generator=generator), dim=0), dim=0)
    a = album("Ada", ada, generator, quality=[0.9, 0.1, 0.5, 0.5])
    people = [a, album("Bo", twin, generator), album("Cy", -ada, generator)]
    people.append(album("Ann", ada, generator, photos=1))

    def noise(person):
        photos, q = person.embeddings.double().numpy(), person.quality.double().numpy()
        usual = 2 * 0.08
        if len(photos) > 1:
            own = []
            for i, one in enumerate(photos):
                rest = sum(other for k, other in enumerate(photos) if k != i)
                own.append(1 - one @ rest / np.linalg.norm(rest))
            usual = (usual + 2 * np.mean(own) * (len(photos) - 1) / len(photos)) / 2
        return usual * min(1, 2.5 * (q**2).sum() / q.sum() ** 2)

    cosines = torch.tensor([[0.92, 0.88, 0.1, 0.76]])
    margins = margins_of(people, cosines, 0.05)
    for (i, one), (k, other) in itertools.permutations(enumerate(people), 2):
        distance = float((one.template.double() - other.template.double()).pow(2).sum())
        left = distance - noise(one) - noise(other)
        expected = 0.05 * max(1, distance / left) if left > 0 else np.inf
        assert margins.albums[i, k] == pytest.approx(expected, rel=1e-4)
    assert margins.albums[0, 3] == np.inf and 0.05 < margins.albums[0, 2] < 0.055
    assert margins.albums[0, 1] > 0.06
    # A face twice as far from its album as a photograph of the person, and farther.
    assert margins.faces[0] == pytest.approx([1, 1, 0.9 / 0.16, 1.5])
    few = margins.part([0], [3, 1])
    assert few.between(0, None)[0] == 0.05
    assert few.between(0, 0)[1] == pytest.approx(1.5 * margins.albums[3, 1])
    assert not margins_of(people, cosines, 0).albums.any()


def test_of_one_person_under_two_names_neither_album_is_ever_taken():
    generator = torch.Generator().manual_seed(2)
    middles = F.normalize(torch.randn(15, 128, generator=generator), dim=1)
    taken = clear = 0
    for k, middle in enumerate(middles):
        faces = album("", middle, generator, photos=20, scatter=0.5).embeddings
        index = torch.arange(20)
        both = [album(name, middle, generator) for name in ("Ada", "Bo")]
        told = match_people(faces, index, both, 0.0, recogniser="nano-identity:1", margin=0.02)
        taken += told.known
        assert "nearly one person" in told.report[20]
        two = [both[0], album("Cy", middles[k - 1], generator)]
        clear += match_people(faces, index, two, 0.0, recogniser="nano-identity:1").known
    assert taken == 0 and clear == 300


def test_two_who_may_have_changed_places_are_both_unsure():
    """Each is by its own cosines nearer to one album, but the picture as a whole hardly says so."""
    hair = matched([[0.82, 0.80], [0.79, 0.80]], margin=0.05)
    assert hair.unsure == (("Ada", "Bo"), ("Bo", "Ada")) and hair.known == 0
    # Who is clearly Bo leaves Ada to the other, though that one is as near to both.
    clear = matched([[0.82, 0.81], [0.50, 0.80]], margin=0.05)
    assert clear.names == ["Ada", "Bo"] and not any(clear.unsure)
    # So does who is told to be Bo.
    told = matched([[0.82, 0.80], [0.79, 0.80]], margin=0.05, assign={1: "Bo"})
    assert told.names == ["Ada", "Bo"] and told.by_hand == {1}


def test_two_faces_for_one_album_are_both_unsure():
    both = matched([[0.85], [0.84], [0.1]], margin=0.05)
    assert both.names == ["Ada or nobody", "Ada or nobody", "nobody"]
    assert both.labels[0] == "Ada or nobody (0.85)"
    # In two pictures they are not in one another's way.
    assert matched([[0.85], [0.84]], images=[0, 1], margin=0.05).names == ["Ada", "Ada"]


def test_a_stranger_who_resembles_somebody_is_said_to():
    labels = matched([[0.47, 0.1], [0.30, 0.2]], threshold=0.5, margin=0.05).labels
    assert labels == ["nobody (resembles Ada 0.47)", "nobody (best: Ada 0.30)"]


def test_what_is_told_holds_whatever_the_cosines_say():
    matches = matched([[0.9, 0.1], [0.1, 0.2], [0.1, 0.9]], assign={0: None, 1: "Ada"})
    assert matches.assigned == (None, 0, 1) and matches.by_hand == {0, 1}
    assert matches.labels[:2] == ["nobody (by hand)", "Ada (0.10, by hand, next Bo 0.20)"]
    assert matches.margin_of(1) is None
    # A collage may show somebody twice.
    twice = matched([[0.9, 0.1], [0.1, 0.2]], assign={0: "Ada", 1: "Ada"})
    assert twice.names == ["Ada", "Ada"]
    for assign, words in (
        ({2: "Ada"}, "names face 2, but the faces are numbered 0 to 1"),
        ({-1: "Ada"}, "names face -1"),
        ({0: "Al"}, "face 0 to Al, who has no album here. There are Ada, Bo"),
    ):
        with pytest.raises(FacewrightError, match=words):
            matched([[0.9, 0.1], [0.1, 0.2]], assign=assign)
    for margin in (-0.1, 1.1, float("nan")):
        with pytest.raises(FacewrightError, match="`margin` is a difference of cosines"):
            matched([[0.9]], margin=margin)


def test_albums_of_nearly_one_person_are_warned_of():
    ada, cy = torch.eye(3)[0], torch.eye(3)[2]
    twin = 0.96 * ada + (1 - 0.96**2) ** 0.5 * torch.eye(3)[1]
    (line,) = alike([person("Cy", cy), person("Bo", twin), person("Ada", ada)], 0.65, 0.08)
    assert line.startswith("warning: the albums of Ada and Bo are nearly one person (cosine 0.96)")
    assert alike([person("Bo", twin), person("Ada", ada)], 0.65, 0.0) == []
    # What a face just reaches follows from the false-match rate, too.
    half = 0.5 * ada + 0.75**0.5 * torch.eye(3)[1]
    people = [person("Ada", ada, "nano-identity:1"), person("Bo", half, "nano-identity:1")]
    judge = Recogniser(torch.nn.Identity(), name="nano-identity", dim=3)
    for rate, warned in ((None, 1), (0.0001, 0)):
        options = RestoreOptions(people=people, margin=0.3, false_match_rate=rate)
        assert len(Restorer(SimpleNamespace(recogniser=judge), None).alike(options)) == warned
    found = match_people(
        ada[None], torch.tensor([0]), [person("Bo", twin), person("Ada", ada)], 0.65,
        recogniser="r:1", margin=0.08,
    )  # fmt: skip
    assert found.names == ["Ada or Bo"] and line in found.report


def test_texts_that_tell():
    for text, told in (
        ("2=Bo", ["2=Bo"]),
        (
            " 2 = Bo , 3=NOBODY\n\n0/1=Smith, John;4=X",
            ["2=Bo", "3=nobody", "0/1=Smith, John", "4=X"],
        ),
        ("a=1/b.png/2=Bo", ["a=1/b.png/2=Bo"]),
        ("2=Bo,2=Bo", ["2=Bo"]),
        ("2=Bo, 3=Ada ,", ["2=Bo", "3=Ada"]),
        ("2=Bo;\n", ["2=Bo"]),
        ("", []),
    ):
        assert [str(one) for one in parse_told([text])] == told
    for text in (
        "Bo",
        "2=",
        "=Bo",
        "-1=Bo",
        "2=Bo, 2=Ada",
        "1.5=Bo",
        "9999999999=Bo",
        "2=Bo, Ada=3",
    ):
        if text != "2=Bo, Ada=3":  # which may be a name
            with pytest.raises(FacewrightError, match="`assign`"):
                parse_told([text])
    assert told_of_batch(["0/1=Bo", "2/0=nobody"], [0, 0, 2]) == {1: "Bo", 2: None}
    for text, words in (
        ("0=Bo", "in which of 2 pictures"),
        ("1/0=Bo", "numbered from 0, and those with faces are 0, 2"),
        ("0/2=Bo", "picture 0 has 2 faces, numbered from 0"),
        ("0/1=Bo, 00/1=Ada", "face 1 to both"),
    ):
        with pytest.raises(FacewrightError, match=words):
            told_of_batch([text], [0, 0, 2])
    with pytest.raises(FacewrightError, match="the picture has 0 faces"):
        told_of_batch(["0=Bo"], [])


def test_no_album_is_called_nobody():
    for name in ("nobody", " Nobody "):
        with pytest.raises(FacewrightError, match="no album can bear that name"):
            check_name(name)


def test_a_photos_face_is_named_as_the_photo_is():
    files = ["in/a.jpg", "in/b=1, c.jpg", "other/b=1, c.jpg"]
    assert faces_of_photos(["a.jpg=2", "in/b=1, c.jpg=0"], files) == {0: 2, 1: 0}
    assert faces_of_photos(["1=2", " 2=0"], ["photo 0", "photo 1", "photo 2"]) == {1: 2, 2: 0}
    assert faces_of_photos(["2"], ["photo 7"]) == {0: 2} and faces_of_photos([""], files) == {}
    for text, words in (
        ("a.jpg", "such as a.jpg=2. Came 'a.jpg'"),
        ("a.jpg=-1", "such as a.jpg=2"),
        ("2", "Face 2 is chosen, but not of which of the 3 photos. .* such as a.jpg=2"),
        ("d.jpg=2", "Face 2 of d.jpg is chosen, but no photo"),
        ("b=1, c.jpg=2", "several photos are called so"),
        ("a.jpg=2;in/a.jpg=1", "Both face 2 and face 1 of in/a.jpg"),
    ):
        with pytest.raises(FacewrightError, match=words):
            faces_of_photos(text.split(";"), files)
    with pytest.raises(FacewrightError, match="such as 0=1"):
        faces_of_photos(["1"], ["photo 0", "photo 1"])


def test_one_album_for_all_says_how_like_each_is():
    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    recogniser = Recogniser(Mean(), name="mean", dim=3)
    ada = person("Ada", torch.eye(3)[0], recogniser.id)
    faces = F.normalize(torch.tensor([[1.0, 0.1, 0], [0.1, 1, 0], [0.2, 1, 0], [0, 1, 0]]), dim=1)
    index = torch.tensor([0, 0, 0, 1])
    matches = match_all(faces, index, ada, recogniser)
    assert matches.names == ["Ada"] * 4
    (line,) = warnings_of(matches)
    # Alone in its picture a face is who it is said to be.
    assert line.startswith("warning: 2 faces may be somebody else than Ada")
    assert "0/1 (0.10), 0/2 (0.20)" in line and "--assign 0/1=nobody" in line
    told = match_all(faces, index, ada, recogniser, {1: None, 2: "Ada"})
    assert told.names == ["Ada", "nobody", "Ada", "Ada"] and warnings_of(told) == []
    # In a graph, where crops come without their pictures.
    crops = faces.view(4, 3, 1, 1).expand(-1, -1, 8, 8)
    like = likeness(crops[:2], ada, recogniser)
    assert like[:2] == ["face 0: like Ada (1.00)", "face 1: like Ada (0.10)"]
    assert "number 1 (0.10)" in like[2] and "Match People" in like[2] and len(like) == 3
    assert likeness(crops[1:2], ada, recogniser) == []
    with pytest.raises(FacewrightError, match="`assign` names Bo, but all faces share"):
        match_all(faces, index, ada, recogniser, {0: "Bo"})
