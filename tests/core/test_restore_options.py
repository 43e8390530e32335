"""Every option of restoring reaches what it is for, in pictures and in the frames of videos.

The table has a row for each field of `RestoreOptions`; the networks are doubles of a few lines.
"""

import json
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry.align import Tracks
from facewright.core.people.album import make_person
from facewright.core.people.recogniser import Recogniser
from facewright.core.pipeline import pictures, videos
from facewright.core.pipeline.frames import FrameRestorer
from facewright.core.pipeline.options import RestoreOptions
from facewright.core.pipeline.pictures import Restorer
from facewright.core.pipeline.tracks import match_tracks

SIZE = (64, 96)
ROOM = 8
"""Faces nearer to the border than this are not found."""


class Markers:
    """Finds a face around every pixel of full blue; red and green there say its size and score."""

    name, points = "markers", 68

    def detect(self, image):
        found = []
        h, w = image.shape[-2:]
        for y, x in (image[2] == 1).nonzero().tolist():
            if ROOM <= x < w - ROOM and ROOM <= y < h - ROOM:
                half = float(image[0, y, x]) * 50
                box = (x - half, y - half, x + half, y + half)
                found.append(Face(box, float(image[1, y, x])))
        return found

    def landmarks(self, crops):
        base = torch.rand(68, 2, generator=torch.Generator().manual_seed(1))
        return (base + crops.mean((1, 2, 3)).view(-1, 1, 1)) * crops.shape[-1]


class Looks(torch.nn.Module):
    """Tells faces apart by the colours of their quarters."""

    def forward(self, x):
        return F.adaptive_avg_pool2d(x - 0.5, 2).flatten(1)


class Painter:
    """A method whose result shows all that it was given."""

    size, landmarker, takes_people = 16, None, True

    def __init__(self, recogniser):
        self.recogniser, self.chunks = recogniser, set()

    def restore(self, lq, people, *, options, generator, chunk_size, on_chunk=None):
        self.chunks.add(chunk_size)
        if options == "as it was":
            return lq
        out = 1 - 0.8 * lq
        if generator is not None:
            out = out + 0.2 * torch.rand(lq.shape, generator=generator)
        known = torch.tensor([person is not None for person in people])
        out = out + 0.2 * known.view(-1, 1, 1, 1) + (options or 0)
        return out.clamp(0, 1)


class Larger:
    """Enlarges twice, and shows how large its tiles were."""

    name, network = "x2.pth", torch.nn.Identity()

    def __init__(self):
        self.tiles = set()

    def size(self, height, width, by=None):
        return round(height * (by or 2)), round(width * (by or 2))

    def enlarged(self, picture, device, *, by, tile):
        self.tiles.add(tile)
        return F.interpolate(picture[None], self.size(*picture.shape[-2:], by))[0]

    def told(self, picture):
        return f"enlarged, tiles of {self.tiles}"


class Halves:
    """Stands in for the network that parses: skin on the left, hair on the right."""

    net = torch.nn.Identity()

    def shows(self, crops, parts):
        n, _, side, _ = crops.shape
        found = torch.zeros(n, side, side, dtype=torch.bool)
        found[..., : side // 2] = "skin" in parts
        found[..., side // 2 :] = "hair" in parts
        return found


@pytest.fixture(autouse=True)
def parser(monkeypatch):
    monkeypatch.setattr(pictures, "load_parser", Halves)


def scene(seed, *faces):
    """A texture with markers (x, y, half a side in pixels, score)."""
    coarse = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(seed))
    picture = F.interpolate(coarse, SIZE, mode="bilinear")[0] * 0.9
    for x, y, half, score in faces:
        picture[:, y, x] = torch.tensor([half / 50, score, 1.0])
    return picture


LEFT, RIGHT, EDGE = (28, 30, 11, 0.9), (66, 34, 8, 0.95), (90, 14, 7, 0.8)
PICTURE = scene(3, LEFT, RIGHT, EDGE)
# The left one trembles; the right one comes late and is missed once; then the scene changes.
TREMBLE = (0, 2, -1, 1, -2, 2, 0, -2, 1)
CUT = 7
FRAMES = [
    scene(
        3 if t < CUT else 17,
        (28 + TREMBLE[t], 30 - TREMBLE[-t], 11, 0.9),
        *([RIGHT] if t >= 2 and t != 4 else []),
        EDGE,
    )
    for t in range(9)
]


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser(Looks(), name="nano-identity", dim=12)


@pytest.fixture(scope="module")
def photo():
    """Of the left face alone."""
    return scene(3, LEFT)


@pytest.fixture(scope="module")
def alice(recogniser, photo):
    album, _ = make_person(
        [photo], name="alice", sources=["1"], analyzer=Markers(), recogniser=recogniser,
        crop_size=16,
    )  # fmt: skip
    return album


TABLE = {
    "size": ({}, 64),
    "strength": ({}, 0.5),
    "color": ({}, "lab"),
    "feather": ({}, 0.4),
    "order": ({"pick": "0"}, "score"),
    "pick": ({}, "1"),
    "min_size": ({}, 18.0),
    "min_score": ({}, 0.92),
    "max_faces": ({}, 1),
    "padding": ({}, 0.3),
    "seed": ({}, 5),
    "faces_at_once": ({}, 1),
    "method": ({}, 0.1),
    "people": ({}, "alice"),
    "person": ({}, "alice"),
    "references": ({}, "photo"),
    "threshold": ({"people": "alice"}, 1.0),
    "max_drift": ({"max_drift": 0.3}, 1.2),
    "on_drift": ({"max_drift": 0.3}, "fall back"),
    "receipts": ({}, True),
    "smoothing": ({}, 0.0),
    "fill_gaps": ({}, 0),
    "fade": ({}, 0),
    "cut_threshold": ({}, 1.0),
    "crf": ({}, 30),
    "upscale": ({}, "x2.pth"),
    "upscale_by": ({"upscale": "x2.pth"}, 1.5),
    "upscale_tile": ({"upscale": "x2.pth"}, 128),
    "detail": ({"method": "as it was"}, 1.0),
    "mask": ({}, "oval"),
    "mask_parts": ({"mask": "parsing"}, "hair"),
    "mask_grow": ({"mask": "oval"}, -0.1),
    "mask_feather": ({"mask": "oval"}, 0.2),
    "margin": ({"people": "twins", "margin": 0.5}, 0.0),
    "assign": ({"people": "alice"}, ("0=nobody",)),
    "location": ({}, "drop"),
    "names": ({}, True),
    "false_match_rate": ({}, 0.001),
    "aligned": ({}, True),
}
"""Field -> what else is set in both runs, and the value it is changed to."""
KNOWN = {}
"""Results from which rows start, by kind."""
OF_VIDEOS = {"smoothing", "fill_gaps", "fade", "cut_threshold", "crf"}
OF_FILES = {"location", "names"}
"""What is written beside the pixels."""


def restored_picture(recogniser, options):
    method = Painter(recogniser)
    restorer = Restorer(method, Markers())
    done = restorer.restore(PICTURE, options)
    told = (done.faces, done.report, done.guard and done.guard.json, method.chunks)
    return done.pixels, (*told, tiles_of(restorer))


def tiles_of(restorer):
    return [upscaler.tiles for upscaler in restorer._upscalers.values()]


def restored_video(recogniser, options, monkeypatch):
    """As `restore_video` does it, with frames in place of a file."""
    method, written, coded = Painter(recogniser), [], []

    def rewrite(source, target, change, *, crf, size, location, resumed, on_written):
        coded.append((crf, size, location))
        for first in range(0, len(FRAMES), 8):
            some = FRAMES[first : first + 8]
            new = change(first, some)
            written.extend(a if b is None else b for a, b in zip(some, new, strict=True))
        on_written()
        return []

    monkeypatch.setattr(videos, "read_frames", lambda source: iter(FRAMES))
    monkeypatch.setattr(videos, "rewrite_video", rewrite)
    restorer = Restorer(method, Markers())
    done = videos.restore_video(restorer, "in", "out", options)
    told = (done.faces, done.report, done.guard and done.guard.json, method.chunks, coded)
    return torch.stack(written), (*told, tiles_of(restorer))


def test_every_option_has_a_row():
    assert set(TABLE) == {field.name for field in fields(RestoreOptions)}


@pytest.mark.parametrize("kind", ["picture", "video"])
@pytest.mark.parametrize("name", TABLE)
def test_an_option_changed_alone_changes_the_result(
    name, kind, recogniser, alice, photo, monkeypatch
):
    def options(**given):
        known = {
            "alice": {"people": [alice], "person": alice},
            "twins": {"people": [alice, replace(alice, name="bob")]},
            "photo": {"references": [photo]},
        }
        return RestoreOptions(
            **{k: known[v][k] if str(v) in known else v for k, v in given.items()}
        )

    def run(**given):
        if kind == "picture":
            return restored_picture(recogniser, options(**given))
        return restored_video(recogniser, options(**given), monkeypatch)

    monkeypatch.setattr(pictures, "load_upscaler", lambda name: Larger())
    monkeypatch.setattr(pictures, "find_upscaler", lambda name: name)
    base, value = TABLE[name]
    if (kind, str(base)) not in KNOWN:
        KNOWN[kind, str(base)] = run(**base)
    before, told_before = KNOWN[kind, str(base)]
    after, told_after = run(**{**base, name: value})
    pixels_differ = not torch.equal(before, after)
    if kind == "picture" and name in OF_VIDEOS:
        assert not pixels_differ and told_before == told_after
    elif name in OF_FILES:  # tests/headless/test_location.py
        assert not pixels_differ
    elif name in ("faces_at_once", "receipts", "crf", "upscale_tile"):
        assert not pixels_differ and told_before != told_after
    else:
        assert pixels_differ


@pytest.mark.parametrize("side", [64, 128])
def test_an_aligned_picture_is_restored_as_it_is(side):
    """What the method makes of it, to the corners; of one that is not square, of its middle."""
    method = Painter(None)
    restorer = Restorer(method, Markers())
    face = scene(3)[:, :, 16:80]
    options = RestoreOptions(aligned=True, size=side)
    done = restorer.restore(face, options)
    assert done.faces == 1 and (done.mask == 1).all()
    if side == 64:
        expected = method.restore(face[None], [None], options=None, generator=None, chunk_size=1)[0]
        assert torch.allclose(done.pixels, expected, atol=1e-5)
    wide = restorer.restore(scene(3), options).pixels
    # An enlarged crop is interpolated with what lies beyond its border.
    assert torch.allclose(wide[:, :, 16:80], done.pixels, atol=1e-5 if side == 64 else 5e-3)
    assert torch.equal(wide[:, :, :16], scene(3)[:, :, :16])
    plain = restorer.restore(face, replace(options, aligned=False))
    assert plain.faces == 0, "nothing in it is found"


def test_what_cannot_be_meant_is_refused(recogniser, alice, photo):
    for given, words in (
        ({"people": [alice], "person": alice}, "Both `people` and `person`"),
        ({"person": alice, "references": [photo]}, "Both `person` and `references`"),
        ({"color": "sepia"}, "`color` should be one of"),
        ({"strength": 2}, "`strength` should be from 0"),
        ({"seed": 2**64}, "`seed` should be from"),
        ({"upscale_by": 2}, "give the upscaler, too"),
        ({"upscale_tile": 256}, "give the upscaler, too"),
    ):
        with pytest.raises(FacewrightError, match=words):
            RestoreOptions(**given)
    alone = Painter(None)
    alone.takes_people = False
    for options, words in (
        (RestoreOptions(receipts=True), "has none"),
        (RestoreOptions(max_drift=0.5), "has none"),
        (RestoreOptions(person=alice), "no use for photographs"),
        (RestoreOptions(references=[photo]), "no use for photographs"),
    ):
        with pytest.raises(FacewrightError, match=words):
            Restorer(alone, Markers()).restore(PICTURE, options)
        with pytest.raises(FacewrightError, match=words):
            FrameRestorer(Restorer(alone, Markers()), options)


def test_a_method_without_a_recogniser_is_judged_by_another(recogniser):
    alone = Restorer(Painter(None), Markers()).with_recogniser(recogniser)
    done = alone.restore(PICTURE, RestoreOptions(receipts=True))
    assert json.loads(done.guard.json)["recogniser"] == recogniser.id


def look_and_restore(restorer, frames, options):
    """All frames of a run, and the `FrameRestorer`."""
    run = FrameRestorer(restorer, options)
    for frame in frames:
        run.look(frame)
    run.settle()
    parts = [run.restore(t, frames[t : t + 8]) for t in range(0, len(frames), 8)]
    return [new for part in parts for new in part], run


def test_a_face_is_one_person_in_all_its_frames(recogniser, alice):
    """The album goes to the left face, and the right one is nobody beside it."""
    bob = replace(alice, name="bob", embeddings=-alice.embeddings)
    _, run = look_and_restore(
        Restorer(Painter(recogniser), Markers()), FRAMES[:CUT], RestoreOptions(people=[bob, alice])
    )
    names = run.matches.names
    assert len(names) == run.followed == 2 and names[0] == "alice" and names[1] != "alice"


def test_a_face_beaten_in_some_frames_is_nobody_in_all(alice):
    """Both look like Alice; where only the second is left it does not become her."""
    look = torch.zeros(2, 12)
    look[0], look[1, 0] = alice.template, 1.0
    both = F.normalize(torch.stack([look[0], look[0] + 0.7 * look[1]]), dim=1)
    number = torch.tensor([0, 1, 0, 1, 1])
    tracks = Tracks(number, 0.0, torch.ones(5), torch.arange(5))
    matches = match_tracks(
        both[number], tracks, torch.tensor([0, 0, 1, 1, 2]), [alice], 0.3,
        recogniser=alice.recogniser,
    )  # fmt: skip
    assert matches.names == ["alice", "nobody"] and float(matches.cosines[1, 0]) > 0.3


def test_somebody_else_at_the_same_place_is_another_face_where_a_recogniser_is_at_hand(recogniser):
    """Without a cut that shows; faces are compared for a guard, or by one that was given."""
    one = scene(3, LEFT)
    other = 1 - one
    other[:, LEFT[1], LEFT[0]] = one[:, LEFT[1], LEFT[0]]
    frames = [one] * 10 + [other] * 10
    still = RestoreOptions(cut_threshold=1.0, smoothing=0.0)
    alone = Restorer(Painter(None), Markers())
    given = alone.with_recogniser(recogniser)
    for restorer, options, faces in (
        (alone, still, 1),
        (given, still, 2),
        (Restorer(Painter(recogniser), Markers()), still, 1),
        (Restorer(Painter(recogniser), Markers()), replace(still, receipts=True), 2),
    ):
        _, run = look_and_restore(restorer, frames, options)
        assert run.followed == faces
    assert [entry["frames"] for entry in json.loads(run.receipts.json)["faces"]] == [
        {"first": 0, "last": 9, "count": 10}, {"first": 10, "last": 19, "count": 10},
    ]  # fmt: skip


def test_receipts_of_a_video_tell_of_each_face_over_its_frames(recogniser):
    _, run = look_and_restore(
        Restorer(Painter(recogniser), Markers()), FRAMES[:CUT], RestoreOptions(max_drift=0.3)
    )
    content = json.loads(run.receipts.json)
    assert (
        content["format"] == "facewright.track_receipts" and content["action"] == "lower strength"
    )
    left, right = content["faces"]
    assert left["frames"] == {"first": 0, "last": 6, "count": 7}
    assert right["frames"] == {"first": 2, "last": 6, "count": 5}  # filled in where it was missed
    assert sum(left["verdicts"].values()) == 7 and left["verdicts"].get("kept", 0) < 7
    held = sum(last - first + 1 for first, last in left["not_kept"])
    assert held == 7 - left["verdicts"].get("kept", 0)
    assert left["worst"]["frame"] in range(7) and left["worst"]["drift_restored"] > 0.3
    assert run.receipts.held_back[0].startswith("face 0: ")


def test_a_face_that_was_held_back_comes_again_over_fade_frames(recogniser):
    """Restored well but for one frame: after it nothing for a while, then more step by step."""

    class Slips(Painter):
        def restore(self, lq, people, **how):
            return torch.stack(
                [1 - face if float(face.mean()) > 0.55 else face * 0.9 for face in lq]
            )

    still = scene(3, LEFT)
    bright = torch.where(still == 1, still, still * 0.5 + 0.4)
    bright[:, LEFT[1], LEFT[0]] = still[:, LEFT[1], LEFT[0]]
    frames = [bright if t == 2 else still for t in range(14)]
    options = RestoreOptions(
        max_drift=0.2, on_drift="fall back", fade=2, smoothing=0.0, cut_threshold=1.0
    )
    new, _ = look_and_restore(Restorer(Slips(recogniser), Markers()), frames, options)
    change = [float((a - b).abs().sum()) for a, b in zip(frames, new, strict=True)]
    full = change[1]
    shares = [c / full for c in change[3:]]
    assert change[0] == full and change[2] < 0.1 * full  # resampled, no more
    assert shares == pytest.approx([0] * 8 + [1 / 3, 2 / 3, 1], abs=0.01)


def test_colors_follow_the_input_steadily(recogniser):
    """Light that flickers in the input does so less in what is shown, and the restorer's not."""

    class Jumps(Painter):
        def restore(self, lq, people, **how):
            level = torch.linspace(0.3, 1, 7)[torch.randint(7, (len(lq),))]
            return lq * level.view(-1, 1, 1, 1)

    still = scene(3, LEFT)
    light = 1 - 0.1 * torch.rand(16).view(-1, 1, 1, 1)
    frames = list(torch.where(still == 1, still, still * light))
    for frame in frames:
        frame[:, LEFT[1], LEFT[0]] = still[:, LEFT[1], LEFT[0]]

    def flicker(shown):
        return float(torch.stack([f[:, 24:36, 22:34].mean() for f in shown]).diff().abs().mean())

    for color in ("adain", "lab"):
        options = RestoreOptions(color=color)
        new, _ = look_and_restore(Restorer(Jumps(recogniser), Markers()), frames, options)
        assert flicker(new) < 0.4 * flicker(frames)


def test_a_face_that_was_missed_takes_the_colors_of_its_neighbors(recogniser):
    """The light goes down evenly, so it makes no difference whether frame 8 has the face."""
    still = scene(3, LEFT)
    levels = []
    for missed in (False, True):
        frames = [torch.where(still == 1, still, still * (1 - t / 30)) for t in range(17)]
        for t, frame in enumerate(frames):
            frame[:, LEFT[1], LEFT[0]] = still[:, LEFT[1], LEFT[0]]
            frame[2, LEFT[1], LEFT[0]] = 0.5 if missed and t == 8 else 1
        restorer = Restorer(Painter(recogniser), Markers())
        shown, run = look_and_restore(restorer, frames, RestoreOptions(color="adain"))
        assert all(new is not None for new in shown) and run.followed == 1
        levels.append(torch.stack([new[:, 24:36, 22:27].mean() for new in shown]))
    assert (levels[0] - levels[1]).abs().max() < 0.002


def test_with_a_seed_all_frames_get_the_same_numbers(recogniser):
    frames = [scene(3, LEFT, RIGHT)] * 10
    options = RestoreOptions(seed=5, smoothing=0.0)
    new, _ = look_and_restore(Restorer(Painter(recogniser), Markers()), frames, options)
    assert all(torch.equal(frame, new[0]) for frame in new)


def test_the_frame_to_show_is_one_where_the_largest_face_has_faded_in(recogniser):
    sizes = [0, 0, 0, 10, 8, 8, 8, 8, 8]
    frames = [scene(3, *([(66, 34, half, 0.9)] if half else [])) for half in sizes]
    options = RestoreOptions(smoothing=0.0, fade=3)
    _, run = look_and_restore(Restorer(Painter(recogniser), Markers()), frames, options)
    assert run.largest() in {6, 7, 8}
