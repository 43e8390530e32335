"""Faces that a guard holds back do not pulse over the frames in which they were followed."""

import json

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.geometry.align import FaceCrops, Tracks
from facewright.core.people.receipts import KEYWORD, png_texts
from facewright.core.people.recogniser import Recogniser
from facewright.core.people.steady import LONGEST, WAIT, ShownSoFar, steadied
from facewright.core.pipeline.tracks import guard_followed

from .test_tracking import places_of, points_at

FADE = 3


def shown(let_through, fade=FADE):
    """Shares of one face, frame by frame, with a guard that lets through at most so much."""
    so_far, shares = ShownSoFar(fade), []
    for frame, limit in enumerate(let_through):
        share = min(limit, float(so_far.most([0], frame)))
        so_far.add([0], frame, [share])
        shares.append(share)
    return torch.tensor(shares, dtype=torch.float64)


def pulses(shares):
    """How often it becomes less again."""
    return int((shares.diff() < -1e-9).sum())


@pytest.mark.parametrize("every", [2, 5, 13])
def test_a_face_at_its_limit_does_not_pulse(every):
    limits = torch.tensor([0.6 if t % every == 0 else 1.0 for t in range(200)], dtype=torch.float64)
    live = shown(limits.tolist())
    assert bool((live <= limits).all()) and pulses(limits) > 14 > 2 * pulses(live)
    whole = steadied(limits.tolist(), torch.zeros(200), torch.arange(200), FADE)
    assert bool((whole <= limits).all()) and pulses(whole) == 0


def test_one_bad_frame_is_waited_for_and_left_step_by_step():
    shares = shown([1.0] * 5 + [0.2] + [1.0] * 40)
    wait = WAIT * FADE
    assert shares[5 : 6 + wait].tolist() == pytest.approx([0.2] * (wait + 1))
    assert shares[6 + wait : 10 + wait].tolist() == pytest.approx([0.45, 0.7, 0.95, 1])
    whole = steadied([1.0] * 30 + [0.2] + [1.0] * 30, torch.zeros(61), torch.arange(61), FADE)
    assert torch.equal(whole, whole.flip(0))  # before it, too, where that is known
    assert float(whole.diff().abs().max()) == pytest.approx(0.25)
    assert shown([1.0, 0.2, 1.0], fade=0).tolist() == [1.0, 0.2, 1.0]


def test_tracks_do_not_hold_each_other_back_and_waits_have_an_end():
    number, frames = torch.tensor([0, 1] * 20), torch.arange(20).repeat_interleave(2)
    share = [0.4 if i == 20 else 1.0 for i in range(40)]
    out = steadied(share, number, frames, FADE)
    assert bool((out[1::2] == 1).all()) and bool((out[::2] < 1).any())
    so_far = ShownSoFar(FADE)
    for frame in range(3000):
        so_far.add([7], frame, [min(0.5, float(so_far.most([7], frame)))])
    assert so_far.held[7][2] == LONGEST * WAIT * FADE


class Mean(torch.nn.Module):
    """A look is where a face's mean lies on a quarter circle."""

    def forward(self, x):
        angle = x.mean((1, 2, 3)) * torch.pi / 2
        return torch.stack([angle.cos(), angle.sin()], 1)


class Points:
    points = 68

    def landmarks(self, crops):
        return torch.rand(68, 2, generator=torch.Generator().manual_seed(1)).repeat(
            len(crops), 1, 1
        )


def test_followed_faces_are_guarded_over_their_frames():
    """Every third frame drifts too far; the others go with it, and say at what strength."""
    places = places_of([[points_at(60, 60)]] * 12)
    lq = torch.full((12, 3, 16, 16), 0.2)
    restored = torch.stack([torch.full((3, 16, 16), 0.7 if t % 3 == 0 else 0.4) for t in range(12)])
    faces = FaceCrops(**vars(places), pixels=lq, image_sizes=[(200, 200)] * 12, report=[])
    how = {
        "recogniser": Recogniser(Mean(), name="m", dim=2),
        "landmarker": Points(),
        "max_drift": 0.1,
    }
    alone = guard_followed(lq, restored, faces, **how)
    assert "tracks" not in json.loads(alone.json) and sorted(
        {r.strength for r in alone.receipts}
    ) == [0.4, 1]
    zeros, everyone = torch.zeros(12, dtype=torch.int64), torch.arange(12)
    faces.tracks = Tracks(zeros, 0.0, torch.ones(12).double(), everyone)
    steady = guard_followed(lq, restored, faces, **how)
    assert [r.strength for r in steady.receipts] == pytest.approx([0.4] * 12)
    assert [r.verdict for r in steady.receipts] == ["lowered", "kept", "kept"] * 4
    assert "kept at strength 0.4" in steady.receipts[1].line() and steady.receipts[0].asked == 1
    assert [r.drift_restored for r in steady.receipts] == [r.drift_restored for r in alone.receipts]
    assert torch.allclose(steady.restored, lq + 0.4 * (restored - lq))
    content = json.loads(steady.json)
    (entry,) = content["tracks"]
    assert len(content["faces"]) == 12 and "tracks" not in png_texts(steady.json, 1)[0][KEYWORD]
    assert entry["frames"] == {"first": 0, "last": 11, "count": 12}
    assert entry["verdicts"] == {"kept": 8, "lowered": 4} and "4 of 12 frames" in steady.report
    with pytest.raises(FacewrightError, match="12 faces, but 3 crops"):
        guard_followed(lq[:3], restored[:3], faces, **how)
