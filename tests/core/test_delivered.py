"""Faces are judged and measured as they leave, and never leave worse than they had to."""

import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from facewright.core.color import luma
from facewright.core.faces import Face, load_analyzer
from facewright.core.geometry.align import align_faces, cut_out, place_faces
from facewright.core.geometry.paste import Pasting, paste_faces
from facewright.core.people.delivery import PasteDelivery
from facewright.core.people.guard import guard_delivery, guard_pictures
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.pipeline import delivering
from facewright.core.pipeline.frames import FrameRestorer
from facewright.core.pipeline.options import RestoreOptions
from facewright.core.pipeline.pictures import Restorer
from facewright.core.weights import nano
from facewright.training.world.faces3d import photos

RECEIPTS = RestoreOptions(receipts=True)
SIDE, SHARES = 64, (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


def face(points):
    eyes = (points[36:42].mean(0), points[42:48].mean(0))
    five = torch.stack([*eyes, points[30], points[48], points[54]])
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    return Face((*low, *high), 1.0, points5=five, landmarks=points)


def couples(count, seed, gap=0):
    """Pictures of two people whose crops overlap but for a gap, softened; and faces to be pasted.

    Returns:
        Pictures, their crops, (2 count, 3, s, s) what is to be pasted, and for every third face a
        photograph of the person, else None.
    """
    ids = [50_000 + 1_000 * seed + i for i in range(2 * count)]
    shot = photos(ids, [seed] * len(ids), 112, aligned=False)
    sharp, wrong = (photos(ids, [seed + k] * len(ids), SIDE).pixels for k in (1, 2))
    pictures, found = [], []
    for i in range(0, len(ids), 2):
        pair = [shot.pixels[i, :, :, 8:104], shot.pixels[i + 1, :, :, 8:104]]
        pair.insert(1, torch.full((3, 112, gap), 0.5))
        soft = F.avg_pool2d(torch.cat(pair, 2), 3, 1, 1)
        pictures.append(soft)
        moved = (torch.tensor([8.0, 0]), torch.tensor([-88.0 - gap, 0]))
        found.append([face(shot.landmarks[i + k] - moved[k]) for k in (0, 1)])
    # Right, another's, and somewhere in between.
    other = wrong.roll(1, 0)
    share = torch.linspace(0, 1, 5).repeat(len(ids))[: len(ids), None, None, None]
    restored = (1 - share) * sharp + share * other
    photo = [None if i % 3 == 0 else sharp[i : i + 1] for i in range(len(ids))]
    return torch.stack(pictures), align_faces(torch.stack(pictures), found, SIDE), restored, photo


def drifts(recogniser, pictures, crops, anchors):
    """1 - cosine of the faces of pictures to their anchors, in float64."""
    seen = recogniser(cut_out(pictures, crops, SIDE)).double()
    return 1 - F.cosine_similarity(seen, anchors)


def delivered(pictures, crops, restored, photo, recogniser, analyzer, limit, **how):
    """Pictures, receipts, and the drifts of input, full strength and delivery."""
    pasting = Pasting(pictures, crops, restored)
    guard = guard_delivery(
        crops.pixels,
        PasteDelivery(pasting, pictures, crops.pixels, 1.0, 0.12, None),
        recogniser=recogniser,
        landmarker=analyzer,
        max_drift=limit,
        references=[None if p is None else recogniser(p) for p in photo],
        places=crops,
        **how,
    )
    own = recogniser(crops.pixels).double()
    anchors = torch.stack(
        [own[i] if p is None else recogniser(p)[0].double() for i, p in enumerate(photo)]
    )
    full, _ = paste_faces(pictures, crops, restored)
    ends = [drifts(recogniser, p, crops, anchors) for p in (pictures, full, pasting.pictures)]
    return pasting.pictures, guard, anchors, ends


def check_promise(guard, ends, limit, apart=False):
    lq, full, now = ends
    # What overshoots in resampling is cut to the range of a whole picture, other faces included.
    near = 1e-4
    torch.testing.assert_close(
        torch.tensor([r.drift for r in guard.receipts]).double(), now, rtol=0, atol=near
    )
    if not apart:  # a face that is kept changes with its neighbours
        full = torch.where(torch.tensor([r.verdict == "kept" for r in guard.receipts]), 2, full)
    worse = (now > torch.maximum(lq, full) + near).nonzero().tolist()
    assert not worse, f"farther than the input and full strength: {worse}"
    for receipt, drift in zip(guard.receipts, now.tolist(), strict=True):
        assert receipt.within == (receipt.verdict in ("kept", "lowered")) or receipt.strength == 0
        assert receipt.drift <= max(receipt.drift_input, receipt.drift_restored) + 2e-6
        if receipt.anchor == "input":
            assert drift <= limit + near


@pytest.mark.parametrize(
    "action", ["lower strength", pytest.param("fall back", marks=pytest.mark.slow)]
)
def test_no_face_is_delivered_farther_than_both_its_ends(recogniser, analyzer, action):
    given = couples(4, seed=1)
    limit = 0.25
    _, guard, _, ends = delivered(*given, recogniser, analyzer, limit, action=action)
    check_promise(guard, ends, limit)
    words = {receipt.verdict for receipt in guard.receipts}
    assert {"kept", "fell back" if action == "fall back" else "lowered"} <= words


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.1, 0.25, 0.5])
def test_of_360_faces_none_is_delivered_farther_than_both_its_ends(recogniser, analyzer, limit):
    for seed in range(2, 8):
        gap = 100 * (seed % 2)
        given = couples(30, seed, gap)
        _, guard, _, ends = delivered(*given, recogniser, analyzer, limit)
        check_promise(guard, ends, limit, apart=gap > 0)


@pytest.mark.parametrize("limit", [pytest.param(0.2, marks=pytest.mark.slow), 0.03])
def test_the_largest_share_within_is_delivered_or_else_the_nearest(recogniser, analyzer, limit):
    """Against all shares pasted and compared apart, of people alone in their pictures."""
    pictures, crops, restored, photo = couples(6, seed=9)
    firsts = [face(crops.landmarks[i]) for i in range(0, 12, 2)]
    crops = align_faces(pictures, [[f] for f in firsts], SIDE)
    # The first becomes whom the reference shows, which the input never was.
    photo = [photo[8], photo[2], None, photo[4], None, photo[10]]
    restored = restored[torch.tensor([9, 3, 4, 5, 8, 11])]
    out, guard, anchors, _ = delivered(
        pictures, crops, restored, photo, recogniser, analyzer, limit
    )
    tried = torch.stack(
        [
            drifts(
                recogniser, paste_faces(pictures, crops, restored, strength=s)[0], crops, anchors
            )
            for s in SHARES
        ]
    )
    expected = []
    for column in tried.T:
        passing = [s for s, d in zip(SHARES, column, strict=True) if d <= limit]
        expected.append(passing[0] if passing else SHARES[int(column.argmin())])
    assert guard.shares == expected and len(set(expected)) > 1
    again, _ = paste_faces(
        pictures, crops, restored, strength=torch.tensor(expected, dtype=torch.float64)
    )
    assert torch.equal(out, again)
    nearest = [r for r in guard.receipts if r.verdict == "nearest"]
    assert bool(nearest) == (limit < 0.1) and all(
        r.line().count("nothing that was tried is within") for r in nearest
    )
    assert all(r.strength > 0 and not r.within for r in nearest)


def test_a_face_beside_one_that_is_held_back_is_kept(one):
    picture, restorer = one
    drifts = [r.drift_restored for r in restorer.restore(picture, RECEIPTS).guard.receipts]
    limit = sum(drifts) / 2
    done = restorer.restore(picture, RestoreOptions(max_drift=limit))
    held = [drift > limit for drift in drifts]
    assert sorted(held) == [False, True]
    assert [r.verdict for r in done.guard.receipts] == ["lowered" if h else "kept" for h in held]
    assert [r.strength < 1 for r in done.guard.receipts] == held


def test_numbers_that_are_none_let_the_input_through(recogniser, analyzer):
    class Blind(torch.nn.Module):
        id, dim, limits = recogniser.id, recogniser.dim, recogniser.limits

        def forward(self, faces):
            return recogniser(faces) * torch.nan

    pictures, crops, restored, _ = couples(1, seed=1)
    out, guard, _, _ = delivered(
        pictures, crops, restored, [None, None], Blind(), analyzer, limit=0.5
    )
    assert torch.equal(out, pictures)
    assert [(r.verdict, r.strength) for r in guard.receipts] == [("fell back", 0.0)] * 2


# --- through the chain


class Instead:
    """A method that puts another person in, and the double of an upscaler."""

    size, landmarker, takes_people, recogniser = SIDE, None, False, None
    other = photos([77], [3], SIDE).pixels

    def restore(self, lq, people, **how):
        return (0.25 * lq + 0.75 * self.other).clamp(0, 1) if len(lq) else lq


class Told:
    """Finds the same faces in every picture."""

    name, points = "told", 68

    def __init__(self, analyzer, *faces):
        self.faces, self.landmarks = list(faces), analyzer.landmarks

    def detect(self, image):
        return self.faces


@pytest.fixture(scope="module")
def one(analyzer, recogniser):
    """A picture of two who overlap, and who restores it."""
    pictures, crops, _, _ = couples(1, seed=4)
    found = [face(points) for points in crops.landmarks]
    return pictures[0], Restorer(Instead(), Told(analyzer, *found)).with_recogniser(recogniser)


COMBINED = [
    dict(zip(("mask", "detail", "color", "strength", "feather"), values, strict=True))
    for values in itertools.product(
        ("none", "oval"), (0.0, 0.8), ("none", "lab"), (1.0, 0.3), (0.12, 0.4)
    )
]


@pytest.mark.parametrize(
    ("limit", "every"),
    [(None, 7), pytest.param(None, 1, marks=pytest.mark.slow), (0.1, 11)],
)
def test_receipts_are_of_the_pixels_that_leave(one, recogniser, limit, every):
    picture, restorer = one
    seen, combined = set(), COMBINED[::every]
    for how in combined:
        done = restorer.restore(picture, RestoreOptions(receipts=True, max_drift=limit, **how))
        places = place_faces([restorer.analyzer.faces], SIDE)
        leaves, came = (cut_out(p[None], places, SIDE) for p in (done.pixels, picture))
        # But for overshoot, which is cut to the range of the whole picture here.
        torch.testing.assert_close(done.guard.restored, leaves, rtol=0, atol=0.01)
        a, b = (recogniser(x).double() for x in (leaves, came))
        for i, receipt in enumerate(done.guard.receipts):
            drift = float(1 - F.cosine_similarity(a[i], b[i], 0))
            assert receipt.drift == pytest.approx(drift, abs=1e-4)
            assert receipt.drift <= max(receipt.drift_restored, receipt.drift_input) + 1e-6
            assert 0 <= receipt.strength <= how["strength"] == receipt.asked
            assert limit is None or receipt.drift <= limit
        seen.add(tuple((r.drift, r.measured.color, r.measured.seam) for r in done.guard.receipts))
        told = json.loads(done.guard.json)["options"]
        assert {name: told[name] for name in how} == how
    assert limit is not None or len(seen) == len(combined)


def test_receipts_of_a_gray_picture_are_of_what_a_gray_file_holds(one, recogniser):
    picture, restorer = one
    picture = luma(picture).expand(3, -1, -1)
    done = restorer.restore(picture, RestoreOptions(receipts=True), gray=True)
    places = place_faces([restorer.analyzer.faces], SIDE)
    saved = luma(done.pixels).expand(3, -1, -1)
    leaves, came = (recogniser(cut_out(p[None], places, SIDE)) for p in (saved, picture))
    drift = 1 - F.cosine_similarity(leaves.double(), came.double())
    assert [r.drift for r in done.guard.receipts] == pytest.approx(drift.tolist(), abs=1e-4)
    torch.testing.assert_close(done.pixels, saved, rtol=0, atol=1e-6)


def test_strength_0_changes_nothing_and_says_so(one):
    picture, restorer = one
    for more in ({}, {"mask": "oval", "color": "lab", "detail": 1.0}, {"max_drift": 0.0}):
        done = restorer.restore(picture, RestoreOptions(receipts=True, strength=0.0, **more))
        assert torch.equal(done.pixels, picture)
        for receipt in done.guard.receipts:
            assert (receipt.verdict, receipt.strength, receipt.drift) == ("kept", 0, 0)
            assert receipt.measured.color == 0 and receipt.measured.sharpness == 1
            assert receipt.line().startswith(f"face {receipt.face}: kept at strength 0.0, drift")


def test_alpha_stays_and_boxes_are_told(one):
    picture, restorer = one
    alpha = torch.cat([picture, torch.rand(1, *picture.shape[1:])])
    done = restorer.restore(alpha, RestoreOptions(max_drift=0.1))
    assert torch.equal(done.pixels[3], alpha[3])
    boxes = [list(f.box) for f in restorer.analyzer.faces]
    assert done.boxes.tolist() == [pytest.approx(box) for box in boxes]
    assert [list(r.box) for r in done.guard.receipts] == [pytest.approx(box) for box in boxes]
    assert [r.picture for r in done.guard.receipts] == [0, 0]


class Larger:
    """Stands in for an upscaler that changes what it enlarges."""

    network = torch.nn.Identity()

    def __init__(self, by):
        self.by = by

    def size(self, height, width, by=None):
        return height * self.by, width * self.by

    def enlarged(self, picture, device, *, by, tile):
        return F.interpolate(picture[None], scale_factor=self.by)[0].square()

    def told(self, picture):
        return "enlarged"


@pytest.mark.parametrize("by", [1, 2])
def test_an_enlarged_face_is_compared_with_itself_enlarged(one, monkeypatch, by):
    picture, restorer = one
    monkeypatch.setattr(Restorer, "upscaler", lambda self, options: Larger(by))
    monkeypatch.setattr(delivering, "_further_files", lambda options: [])
    monkeypatch.setattr(Restorer, "settled", lambda self, options: (options, []))
    nothing = RestoreOptions(receipts=True, upscale="x2.pth", strength=0.0)
    done = restorer.restore(picture, nothing)
    assert done.pixels.shape[-1] == by * picture.shape[-1]
    assert [(r.drift, r.measured.color) for r in done.guard.receipts] == [(0, 0)] * 2
    held = RestoreOptions(upscale="x2.pth", max_drift=0.0)
    assert torch.equal(restorer.restore(picture, held).pixels, done.pixels)


# --- frames


def test_receipts_of_frames_know_of_fading_and_of_coming_again(one, recogniser):
    """Every receipt against its frame: whatever was shown of a face is what it says."""
    picture, restorer = one
    run = FrameRestorer(restorer, RestoreOptions(max_drift=0.15, fade=3, smoothing=0.0))
    frames = [picture + 0.001 * t for t in range(8)]
    for frame in frames:
        run.look(frame)
    run.settle()
    guards, add = [], run.receipts.add
    run.receipts.add = lambda guard, *more: (guards.append(guard), add(guard, *more))
    out = [*run.restore(0, frames[:5]), *run.restore(5, frames[5:])]
    weight = run._tracks.weight.view(8, 2)
    for t, (frame, new, guard) in enumerate(zip(frames, out, guards, strict=True)):
        places = place_faces([restorer.analyzer.faces], SIDE)
        leaves, came = (cut_out(p[None], places, SIDE) for p in (new, frame))
        torch.testing.assert_close(guard.restored, leaves, rtol=0, atol=0.01)
        drift = 1 - F.cosine_similarity(*(recogniser(x).double() for x in (leaves, came)))
        for i, receipt in enumerate(guard.receipts):
            assert receipt.drift == pytest.approx(float(drift[i]), abs=1e-4) and receipt.within
            assert receipt.asked == pytest.approx(float(weight[t, i]))
            assert receipt.strength == pytest.approx(guard.shares[i] * float(weight[t, i]))
    shares = torch.tensor([guard.shares for guard in guards])
    assert (shares.diff(dim=0) <= 0.25 + 1e-9).all() and shares.min() < 1


# --- finished pictures, of which nobody knows how they came about


def test_a_finished_picture_is_judged_and_taken_back(one, recogniser, analyzer):
    picture, restorer = one
    whole = restorer.restore(picture).pixels
    crops = align_faces(picture[None], [restorer.analyzer.faces], SIDE)
    how = {"recogniser": recogniser, "landmarker": analyzer}
    before, after = picture[None], whole[None]
    out, lq, guard = guard_pictures(before, after, crops, max_drift=2.0, **how)
    assert torch.equal(out, after) and out.data_ptr() != after.data_ptr()
    assert torch.equal(lq, crops.pixels) and {r.verdict for r in guard.receipts} == {"kept"}
    assert json.loads(guard.json)["measured"] == "delivered"
    out, _, guard = guard_pictures(before, after, crops, max_drift=0.1, **how)
    torch.testing.assert_close(guard.restored, cut_out(out, crops, SIDE), rtol=0, atol=0.01)
    assert all(r.within and r.verdict == "lowered" for r in guard.receipts)
    nothing, _, guard = guard_pictures(before, after, crops, max_drift=0.0, **how)
    torch.testing.assert_close(nothing, before, rtol=0, atol=1e-6)
    assert all(r.drift < 1e-6 and r.strength == 0 for r in guard.receipts)


def test_lowering_a_finished_face_is_pasting_it_weaker(recogniser, analyzer):
    """A face alone: the same pixels as Paste Faces gives at that strength."""
    pictures, crops, restored, _ = couples(1, seed=5)
    crops = align_faces(pictures, [[face(crops.landmarks[0])]], SIDE)
    after, _ = paste_faces(pictures, crops, restored[1:2], feather=0.3)
    other = after.clone()
    other[..., -3:] = 0.5  # far from the face: nobody's business
    how = {"recogniser": recogniser, "landmarker": analyzer, "max_drift": 0.1}
    out, _, guard = guard_pictures(pictures, other, crops, **how)
    share = guard.shares[0]
    assert 0 < share < 1
    same, _ = paste_faces(pictures, crops, restored[1:2], feather=0.3, strength=share)
    same[..., -3:] = 0.5
    torch.testing.assert_close(out, same, rtol=0, atol=1e-6)
