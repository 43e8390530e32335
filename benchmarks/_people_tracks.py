"""Videos of rendered people who move, turn, cross and change places, and who is where in them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from facewright.training.world.anatomy import canonical_landmarks, project
from facewright.training.world.backgrounds import paint_background
from facewright.training.world.faces3d import paint_people
from facewright.training.world.identities import sample_identities
from facewright.training.world.nuisances import sample_nuisances
from facewright.training.world.pose import similarity

HEIGHT, WIDTH, FRAMES = 240, 400, 160
KINDS = ("walk", "cross", "another", "fade", "return", "small", "sharpness")
_PEOPLE = 2**42


@dataclass
class Footage:
    """Frames, and where each person's face is: nowhere where it is hidden or away."""

    frames: list[torch.Tensor]
    places: list[dict[int, tuple[float, float, float]]]
    """Per frame, by the person's seed: the middle of the face and half its height, in pixels."""
    people: list[int]
    known: list[int]
    """Those of whom there are albums."""


def _wave(rng, low, high, periods=(40, 120)):
    """A smooth path in time between two numbers."""
    period, phase = rng.uniform(*periods), rng.uniform(0, 2 * math.pi)
    return lambda t: low + (high - low) * (0.5 + 0.5 * math.sin(2 * math.pi * t / period + phase))


def _ramp(t, middle, width):
    """0 before, 1 after, over `width` frames."""
    return min(1.0, max(0.0, (t - middle) / width + 0.5)) if width else float(t >= middle)


def _cast(kind, rng, seed):
    """Per person: seed, place in time, size, whether shown in time, and how far in front."""
    first = _PEOPLE + 16 * seed
    cast = []

    def add(i, x, y, size, shown=lambda t: 1.0, depth=None):
        cast.append((first + i, x, y, size, shown, i if depth is None else depth))

    if kind in ("walk", "sharpness"):
        for i in range(3):
            middle = WIDTH * (i + 0.5) / 3
            add(i, _wave(rng, middle - 30, middle + 30), _wave(rng, 95, 125), rng.uniform(34, 46))
    elif kind == "cross":
        slope, y = rng.uniform(1.4, 2.4), rng.uniform(100, 120)
        half = FRAMES / 2
        add(0, lambda t: WIDTH / 2 + slope * (t - half), lambda t: y, 40)
        add(1, lambda t: WIDTH / 2 - slope * (t - half), lambda t: y + 4, 38)
    elif kind in ("another", "fade"):
        at, width = int(rng.integers(60, 100)), 0 if kind == "another" else rng.integers(8, 20)
        x, y = _wave(rng, 120, 150), _wave(rng, 100, 115)
        add(0, x, y, 40, lambda t: 1 - _ramp(t, at, width))
        add(1, x, y, 40, lambda t: _ramp(t, at, width))
        add(2, _wave(rng, 280, 310), _wave(rng, 100, 115), 38)
    elif kind == "return":
        a, b = int(rng.integers(50, 65)), int(rng.integers(85, 110))
        add(0, _wave(rng, 100, 140), _wave(rng, 100, 115), 40, lambda t: float(not a <= t < b))
        add(1, _wave(rng, 270, 300), _wave(rng, 100, 115), 38)
    elif kind == "small":
        for i in range(3):
            fast = (14, 30)
            low = WIDTH * i / 3 + 25
            add(i, _wave(rng, low, low + 80, fast), _wave(rng, 60, 170, fast), rng.uniform(15, 20))
    return cast


def _degraded(frame, strength, noise):
    """Reduced so many times and enlarged again, then noise."""
    if strength > 1:
        small = (max(8, round(HEIGHT / strength)), max(8, round(WIDTH / strength)))
        frame = F.interpolate(frame[None], small, mode="bilinear", antialias=True)
        frame = F.interpolate(frame, (HEIGHT, WIDTH), mode="bicubic")[0]
    return (frame + noise * torch.randn(frame.shape)).clamp(0, 1)


@torch.no_grad()
def footage(kind: str, seed: int, frames: int = FRAMES) -> Footage:
    """A video of one of `KINDS`, the same for the same arguments."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    torch.manual_seed(seed)
    cast = _cast(kind, rng, seed)
    seeds = [c[0] for c in cast]
    people = sample_identities(seeds)
    photos = sample_nuisances([_PEOPLE + 16 * seed + 8 + i for i in range(len(cast))], strength=0.5)
    for name in ("light", "ambient", "key", "temperature"):
        value = getattr(photos, name)
        value[:] = value[:1].clone()
    turns = [(_wave(rng, -0.5, 0.5), _wave(rng, -0.2, 0.2), _wave(rng, -0.15, 0.15)) for _ in cast]
    talk = [(_wave(rng, 0, 0.8, (8, 25)), _wave(rng, -0.3, 1)) for _ in cast]
    most = 5.0 if kind == "sharpness" else 2.5
    if kind == "small":
        most = 1.3
    blur = _wave(rng, 1.0, most, (30, 80))
    backdrop = paint_background(sample_nuisances([_PEOPLE + seed]), HEIGHT, WIDTH)[0]
    shots, places = [], []
    for t in range(frames):
        for i, (yaw, pitch, roll) in enumerate(turns):
            photos.yaw[i], photos.pitch[i], photos.roll[i] = yaw(t), pitch(t), roll(t)
            photos.mouth_open[i], photos.smile[i] = talk[i][0](t), talk[i][1](t)
        canvas, here = backdrop.clone(), {}
        for i in sorted(range(len(cast)), key=lambda i: -cast[i][5]):
            person, x, y, size, shown, _ = cast[i]
            share = shown(t)
            middle = torch.tensor([[x(t), y(t)]], dtype=torch.float32)
            if share <= 0:
                continue
            camera = similarity(torch.tensor([float(size)]), photos.roll[i : i + 1], middle)
            _paint(canvas, people.take([i]), photos.take([i]), camera, share)
            points = project(
                canonical_landmarks(people.take([i]), photos.take([i])), photos.take([i]), camera
            )[0]
            low, high = points.amin(0), points.amax(0)
            cx, cy = ((low + high) / 2).tolist()
            radius = float(high[1] - low[1]) / 2
            # Who is painted later hides who was there.
            here = {
                k: p for k, p in here.items() if math.hypot(p[0] - cx, p[1] - cy) > 0.8 * radius
            }
            if share >= 0.5 and 0 < cx < WIDTH and 0 < cy < HEIGHT:
                here[person] = (cx, cy, radius)
        shots.append(_degraded(canvas, blur(t), 0.02))
        places.append(here)
    return Footage(shots, places, seeds, seeds[:2])


def _paint(canvas, person, photo, camera, share):
    """One person over the canvas, in their columns alone."""
    reach = 1.9 * float(camera[0, :, 0].norm())
    middle = float(camera[0, 0, 2])
    left, right = max(0, int(middle - reach)), min(WIDTH, int(middle + reach) + 1)
    if right <= left:
        return
    camera = camera.clone()
    camera[:, 0, 2] -= left
    color, matte = paint_people(person, photo, camera, HEIGHT, right - left)
    part = canvas[:, :, left:right]
    part.mul_(1 - share * matte[0]).add_(share * color[0])


@dataclass
class Outcome:
    """Whose albums the faces of one video got, in counts."""

    kind: str
    seed: int
    faces: int = 0
    """That are found, of people with albums."""
    nobody: int = 0
    """Of these, without an album."""
    wrong: int = 0
    """Faces with somebody else's album, strangers among them."""
    changes: int = 0
    """Frames in which a track has another name than in the frame before."""
    missed: int = 0
    """Changes of people within a track."""
    split: int = 0
    """Frames in which somebody's track is another than in the frame before."""
    tracks: int = 0


def outcome(kind: str, seed: int, *, video: bool, recogniser, analyzer) -> Outcome:
    """What becomes of one video's people.

    As Restore Video decides (`video`), or a graph of Detect Faces, Smooth Faces and Match People.
    Runs with release 0.1.0, too, which knows neither looks nor names of tracks in graphs.
    """
    from facewright.core.geometry.align import align_faces
    from facewright.core.people import matching
    from facewright.core.pipeline.tracks import match_tracks
    from facewright.core.video import smoothing

    shot = footage(kind, seed)
    crops = align_faces(shot.frames, [analyzer.detect(x) for x in shot.frames], 128)
    albums = [_album(f"person {i}", seed, recogniser) for i, seed in enumerate(shot.known)]
    new = hasattr(smoothing, "look_at")
    how = {"recogniser": recogniser} if new else {}
    faces, _ = smoothing.smooth_faces(shot.frames, crops, **how)
    if video:
        found = torch.cat([recogniser(part) for part in crops.pixels.split(16)])
        if new:
            from facewright.core.people.looks import telling

            how = {"weight": telling(crops.pixels, crops)}
        matches = match_tracks(
            found, faces.tracks, faces.image_index, albums, 0.0, recogniser=recogniser.id, **how
        )
        names = [matches.assigned[k] for k in faces.tracks.number.tolist()]
    elif new:
        from facewright.core.people.over_frames import match_crops

        names = list(match_crops(faces, albums, recogniser).assigned)
    else:
        names = matching.match_faces(faces.pixels, faces.image_index, albums, recogniser).assigned
    return _counted(Outcome(kind, seed), shot, faces, names)


def _album(name, seed, recogniser):
    from facewright.core.people.person import Person
    from facewright.training.world.faces3d import photos

    seen = photos(seed, [_PEOPLE + 9000 + k for k in range(4)])
    return Person(
        name=name, crops=seen.pixels, embeddings=recogniser(seen.pixels), landmarks=seen.landmarks,
        quality=torch.ones(4), recogniser=recogniser.id, sources=tuple("abcd"),
    )  # fmt: skip


def _counted(outcome, shot, faces, names):
    tracks, frames = faces.tracks.number.tolist(), faces.image_index.tolist()
    last_of_track, last_of_person = {}, {}
    outcome.tracks = len(set(tracks))
    for i, (frame, track) in enumerate(zip(frames, tracks, strict=True)):
        who, name = _who(shot.places[frame], faces.boxes[i].tolist()), names[i]
        if who is None:
            continue
        known = shot.known.index(who) if who in shot.known else None
        outcome.faces += known is not None
        outcome.nobody += known is not None and name is None
        outcome.wrong += name is not None and name != known
        if track in last_of_track:
            person, before = last_of_track[track]
            outcome.missed += person != who
            outcome.changes += before != name
        if last_of_person.get(who, (0, 0))[0] == frame - 1:
            outcome.split += last_of_person[who][1] != track
        last_of_track[track], last_of_person[who] = (who, name), (frame, track)
    return outcome


def _who(places, box):
    """The person whose face a box is around, or None."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    near = [(math.hypot(x - px, y - py) / radius, who) for who, (px, py, radius) in places.items()]
    distance, who = min(near, default=(math.inf, None))
    return who if distance < 0.6 else None


def interval(values: list[float], of: list[float], draws: int = 2000) -> tuple[float, float, float]:
    """A ratio of sums over videos, and the 95 % interval by drawing videos anew."""
    a, b = np.asarray(values, float), np.asarray(of, float)
    picks = np.random.default_rng(0).integers(len(a), size=(draws, len(a)))
    ratios = a[picks].sum(1) / np.maximum(b[picks].sum(1), 1e-12)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(a.sum() / max(b.sum(), 1e-12)), float(low), float(high)
