"""People over time: tracks that change people, and albums assigned to tracks, made-up looks."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError
from facewright.core.geometry.align import FaceCrops, Tracks
from facewright.core.people.limits import limits_of
from facewright.core.people.looks import Looks, mean_look, telling
from facewright.core.people.over_frames import match_crops, match_tracks
from facewright.core.people.person import Person
from facewright.core.people.recogniser import Recogniser
from facewright.core.video.identity import change_points, told_apart
from facewright.core.video.smoothing import smooth_places
from facewright.core.video.tracking import follow_faces

from .test_tracking import SIZE, crossing, middles, places_of, points_at

WIDTH = 32
ADA, BO, CY = torch.eye(WIDTH)[:3]


def seen(*people, noise=0.1, seed=0):
    """Looks of faces, one for each of `people`, each a direction."""
    g = torch.Generator().manual_seed(seed)
    clean = torch.stack(list(people))
    x = F.normalize(clean + noise * torch.randn(clean.shape, generator=g), dim=1)
    return Looks(x, torch.ones(len(x)), 0.65, 0.45)


def album(name, look):
    return Person(
        name=name,
        crops=torch.zeros(1, 3, 4, 4),
        embeddings=look[None],
        landmarks=torch.zeros(1, 68, 2),
        quality=torch.ones(1),
        recogniser="r:1",
        sources=("a",),
    )


def tracks_of(number, source=None):
    number = torch.tensor(number)
    source = torch.arange(len(number)) if source is None else torch.tensor(source)
    return Tracks(number, 0.0, torch.ones(len(number)).double(), source)


@pytest.mark.parametrize("at", [8, 9, 40, 152])
def test_a_track_is_split_where_somebody_else_begins(at):
    assert change_points(seen(*[ADA] * at, *[BO] * (160 - at)), range(160)) == [at]


def test_people_who_come_between_and_cross_fades_are_found():
    between = seen(*[ADA] * 50, *[BO] * 12, *[ADA] * 50)
    assert change_points(between, range(112)) == [50, 62]
    fading = [F.normalize(ADA * (1 - s) + BO * s, dim=0) for s in torch.linspace(0, 1, 14)]
    (at,) = change_points(seen(*[ADA] * 40, *fading, *[BO] * 40), range(94))
    assert 44 <= at <= 50


def test_blur_turned_heads_and_single_faces_of_others_split_nothing():
    """Looks that wander, a stretch in which little is seen, two faces of somebody in front."""
    turn = [F.normalize(ADA + 0.9 * np.sin(t / 9) * CY, dim=0) for t in range(120)]
    assert change_points(seen(*turn, noise=0.15), range(120)) == []
    blurred = F.normalize(ADA + 0.9 * BO, dim=0)
    assert change_points(seen(*[ADA] * 40, *[blurred] * 30, *[ADA] * 40), range(110)) == []
    assert change_points(seen(*[ADA] * 40, BO, BO, *[ADA] * 40), range(82)) == []
    hidden = [F.normalize(ADA * (1 - s) + CY * s, dim=0) for s in torch.linspace(0, 1, 10)]
    assert change_points(seen(*[ADA] * 40, *hidden), range(50)) == []
    assert change_points(seen(*[ADA] * 5), range(5)) == change_points(seen(ADA), range(1)) == []


def test_tracks_that_change_people_are_joined_crosswise():
    """Two who cross: by place the tracks go the wrong way from frame 20 on."""
    found = places_of(crossing())
    number = follow_faces(found, SIZE)
    upper = middles(found)[:, 1] < 106
    looks = seen(*[ADA if up else BO for up in upper])
    swapped = torch.where(found.image_index >= 20, 1 - number, number)
    told = told_apart(swapped, found, SIZE, looks, max_gap=3)
    assert told.number.max() == 1
    for k in (0, 1):
        assert len(set(upper[told.number == k].tolist())) == 1
    assert not told.begins and not told.ends  # both are there before and after
    right = told_apart(number, found, SIZE, looks, max_gap=3)
    assert torch.equal(right.number, number) and not right.lines


def test_somebody_else_at_the_same_place_is_a_track_without_a_gap():
    found = places_of([[points_at(100, 100)]] * 40)
    looks = seen(*[ADA] * 25, *[BO] * 15)
    steady, tracks, report = smooth_places(found, SIZE, 40, looks=looks)
    assert tracks.number.tolist() == [0] * 25 + [1] * 15 and bool((tracks.weight == 1).all())
    assert report[1] == "from frame 25 on face 1 is where face 0 was, and is somebody else"
    _, plain, _ = smooth_places(found, SIZE, 40)
    assert plain.number.tolist() == [0] * 40
    assert telling(torch.rand(40, 3, SIZE, SIZE), steady).shape == (40,)


def test_who_comes_back_stays_two_tracks_and_that_is_said():
    found = places_of([[points_at(100, 100)]] * 10 + [[]] * 9 + [[points_at(100, 100)]] * 10)
    _, tracks, report = smooth_places(found, SIZE, 29, looks=seen(*[ADA] * 20))
    assert tracks.number.max() == 1 and "face 1 seems to be face 0 again" in report[1]
    _, tracks, report = smooth_places(found, SIZE, 29, looks=seen(*[ADA] * 10, *[BO] * 10))
    assert tracks.number.max() == 1 and len(report) == 1


def test_small_fast_faces_keep_their_tracks_and_others_are_not_joined():
    """Faster than half a face in a frame, and turning back; the first step is not foreseen."""
    t = np.arange(60)
    x = 200 + 120 * np.sin(2 * np.pi * t / 30)
    fast = places_of([[points_at(a, 100, side=40), points_at(600 - a, 300, side=40)] for a in x])
    assert follow_faces(fast, SIZE).tolist() == [0, 1] * 60
    # Two side by side, so that only what is foreseen tells them apart where they turn.
    x = 200 + 120 * np.cos(2 * np.pi * t / 20)
    pair = places_of([[points_at(a, 100, side=40), points_at(a, 128, side=40)] for a in x])
    assert follow_faces(pair, SIZE).tolist() == [0, 1] * 60
    # One goes, and two others are as near: nobody knows which it is.
    apart = [
        [points_at(100, 100, side=40)],
        [points_at(75, 100, side=40), points_at(125, 100, side=40)],
    ]
    assert follow_faces(places_of(apart), SIZE).tolist() == [0, 1, 2]
    away = [[points_at(100, 100, side=40)], [points_at(140, 100, side=40)]]
    assert follow_faces(places_of(away), SIZE).tolist() == [0, 1]


def test_the_mean_of_a_track_is_that_of_its_telling_and_agreeing_faces():
    x = seen(*[ADA] * 10, *[CY] * 4).embeddings
    alike = mean_look(x, torch.ones(14))
    assert float(alike @ ADA.double()) > 0.97 > float(F.normalize(x.mean(0), dim=0) @ ADA)
    told = mean_look(x, torch.tensor([0.02] * 10 + [1.0] * 4))
    assert float(told @ CY.double()) > 0.9


def matched(looks, number, frames, people, **how):
    return match_tracks(
        looks.embeddings, tracks_of(number), torch.tensor(frames), people, 0.5, recogniser="r:1",
        margin=how.pop("margin", 0.0), **how,
    )  # fmt: skip


def gain(mix, assigned):
    return sum(float(mix[k, p]) - 0.5 for k, p in enumerate(assigned) if p is not None)


def test_no_two_tracks_of_a_frame_have_one_album_and_no_better_choice_is_missed():
    """Against all assignments of tracks in a chain: 0 with 1, 1 with 2, 2 with 3."""
    frames = [0, 0, 1, 1, 2, 2]
    number = [0, 1, 1, 2, 2, 3]
    people = [album("ada", ADA), album("bo", BO)]
    for seed in range(30):
        g = torch.Generator().manual_seed(seed)
        mix = F.normalize(torch.rand(4, 2, generator=g), dim=1)
        looks = Looks(mix[number] @ torch.stack([ADA, BO]), torch.ones(6), 0.65, 0.45)
        m = matched(looks, number, frames, people)
        for a, b in ((0, 1), (1, 2), (2, 3)):
            assert m.assigned[a] is None or m.assigned[a] != m.assigned[b]
        possible = [
            of for of in itertools.product([0, 1, None], repeat=4)
            if all(of[k] is None or of[k] != of[k + 1] for k in range(3))
            and all(p is None or mix[k, p] >= 0.5 for k, p in enumerate(of))
        ]  # fmt: skip
        best = max(gain(mix, of) for of in possible)
        assert gain(mix, m.assigned) >= 0.6 * best


def test_one_person_may_have_two_tracks_and_a_short_look_alike_takes_no_album_away():
    people = [album("ada", ADA), album("bo", BO)]
    near = F.normalize(ADA + 0.1 * CY, dim=0)
    looks = seen(*[near] * 30, ADA, *[ADA] * 5, noise=0.0)
    m = matched(looks, [0] * 30 + [1] + [2] * 5, [*range(30), 29, *range(40, 45)], people)
    assert m.names == ["ada", "nobody", "ada"]
    assert m.report[0].startswith("face 0, frames 0 to 29: ada (1.00")
    assert "ada was followed 2 times, as faces 0 (frames 0 to 29), 2 (frames 40 to 44)" in m.report


def test_what_is_told_by_hand_and_what_is_unsure_holds_for_the_track():
    twin = F.normalize(ADA + 0.1 * BO, dim=0)
    people = [album("ada", ADA), album("twin", twin)]
    looks, number = seen(*[ADA] * 6, noise=0.0), [0] * 3 + [1] * 3
    unsure = matched(looks, number, [0, 1, 2, 4, 5, 6], people, margin=0.05)
    assert unsure.assigned == (None, None) and unsure.may_be(0) == ("ada", "twin")
    told = matched(looks, number, [0, 1, 2, 4, 5, 6], people, margin=0.05, assign={1: "twin"})
    assert told.names == ["ada or twin", "twin"] and told.by_hand == {1}
    assert matched(looks, number, [0, 1, 2] * 2, people, margin=0.05, assign={1: "twin"}).names == [
        "ada", "twin",
    ]  # fmt: skip
    with pytest.raises(FacewrightError, match="names face 2"):
        matched(looks, number, [0, 1, 2, 4, 5, 6], people, assign={2: "ada"})


class Corner(torch.nn.Module):
    """Who somebody is stands in the first pixels of a row."""

    def forward(self, x):
        return x[:, 0, 0, :WIDTH] - 0.5


def test_followed_crops_have_one_name_in_all_frames_and_pictures_each_its_own():
    recogniser = Recogniser(Corner(), name="r", dim=WIDTH)
    people = [
        Person(**{**vars(album("ada", ADA)), "recogniser": recogniser.id}),
        Person(**{**vars(album("bo", BO)), "recogniser": recogniser.id}),
    ]
    poor = F.normalize(0.2 * ADA + CY, dim=0)
    pixels = torch.rand(6, 3, SIZE, SIZE)
    pixels[:, 0, 0, :WIDTH] = torch.stack([ADA, BO, poor, BO, ADA, BO]) * 0.5 + 0.5
    crops = FaceCrops(
        **vars(places_of([[points_at(60, 60), points_at(200, 60)]] * 3)),
        pixels=pixels, image_sizes=[(300, 300)] * 3, report=[],
    )  # fmt: skip
    assert match_crops(crops, people, recogniser).names == [
        "ada",
        "bo",
        "nobody",
        "bo",
        "ada",
        "bo",
    ]
    crops.tracks = tracks_of([0, 1] * 3)
    followed = match_crops(crops, people, recogniser)
    assert followed.names == ["ada", "bo"] * 3 and followed.known == 6
    assert [line.partition(":")[0] for line in followed.report] == [
        "face 0, frames 0 to 2", "face 1, frames 0 to 2",
    ]  # fmt: skip
    by_hand = match_crops(crops, people, recogniser, assign=["0=nobody"])
    assert by_hand.names == ["nobody", "bo"] * 3 and by_hand.by_hand == {0, 2, 4}
    assert limits_of(recogniser.id).same_person == followed.threshold
