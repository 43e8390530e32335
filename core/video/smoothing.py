"""Places of faces smoothed over the frames of a video, so that crops and masks do not shake.

What is smoothed is where a crop lies in the picture. That is linear in the similarity fit of its
landmarks, so it is what smoothing the landmarks before the fit would give, and it works for faces
aligned by a box, too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import FacewrightError, counted
from ..geometry.align import FaceCrops, FacePlaces, Tracks, cut_out
from ..geometry.smooth import smooth_path
from ..geometry.warp import invert
from ..people.looks import Looks, look_at
from ..people.recogniser import Recogniser
from .identity import Told, told_apart
from .tracking import FrameChange, crop_poses, find_cuts, follow_faces

LONGEST_PERIOD = 40.0
"""Frames of the movement that strength 1 halves."""


def check_smoothing(strength: float, fill_gaps: int, fade: int, cut_threshold: float) -> None:
    """Raise FacewrightError where a number is out of its range."""
    for name, value in (("strength", strength), ("cut_threshold", cut_threshold)):
        if not 0 <= value <= 1:
            raise FacewrightError(f"`{name}` should lie in [0, 1], got {value}.")
    for name, value in (("fill_gaps", fill_gaps), ("fade", fade)):
        if value < 0:
            raise FacewrightError(f"`{name}` is a number of frames, 0 or more, got {value}.")


def smooth_places(
    places: FacePlaces,
    size: int,
    frames: int,
    cuts: Sequence[int] = (),
    *,
    strength: float = 0.5,
    fill_gaps: int = 3,
    fade: int = 3,
    looks: Looks | None = None,
) -> tuple[FacePlaces, Tracks, list[str]]:
    """Faces numbered over the frames, with steadier places, and those that were missed filled in.

    Args:
        places: faces with ascending `image_index`.
        size: side of their crops in pixels.
        frames: number of all frames.
        cuts: frames with which a new scene begins, see `find_cuts`.
        strength: in [0, 1]; movements of a period of 40 strength frames are halved, slower ones
            kept, faster ones removed. 0 leaves every place that was found exactly as it is.
        fill_gaps: where a face is missing for so many frames or fewer between two where it was
            found, it is put in between.
        fade: frames over which a face is faded in and out where its track begins or ends within a
            scene, but not where somebody else's begins at its place.
        looks: who the faces are, where a recogniser is at hand: a track in which somebody becomes
            somebody else is split there (`told_apart`).

    Returns:
        The faces in the order of the frames, filled-in ones last in theirs; their tracks; and lines
        of report.

    Raises:
        FacewrightError: numbers out of range.
    """
    check_smoothing(strength, fill_gaps, fade, 0.0)
    told = Told(follow_faces(places, size, cuts, fill_gaps))
    if looks is not None:
        told = told_apart(told.number, places, size, looks, cuts, fill_gaps)
    number = told.number
    period = max(2.0, LONGEST_PERIOD * strength) if strength > 0 else 0.0
    count = int(number.max()) + 1 if len(number) else 0
    by_track: list[list[int]] = [[] for _ in range(count)]
    for i, k in enumerate(number.tolist()):
        by_track[k].append(i)
    values = _values(places, size)
    at = places.image_index.numpy()
    rows, sources, times, owners, shakes = [], [], [], [], []
    for k, faces in enumerate(by_track):
        first, last = at[faces[0]], at[faces[-1]]
        seen = np.zeros(last - first + 1, bool)
        seen[at[faces] - first] = True
        path = np.zeros((len(seen), values.shape[1]))
        path[seen] = values[faces]
        half = np.where(seen, np.hypot(path[:, 2], path[:, 3]), 1.0)
        smooth = path
        if strength > 0:
            smooth = smooth_path(path, seen, period, half)
        elif not seen.all():
            smooth = np.where(seen[:, None], path, smooth_path(path, seen, 2.0))
        shakes.append((_shake(path, seen), _shake(smooth, seen)))
        source = np.full(len(seen), -1)
        source[seen] = faces
        rows.append(smooth)
        sources.append(source)
        times.append(np.arange(first, last + 1))
        owners.append(np.full(len(seen), k))
    if not count:
        tracks = Tracks(number, period, torch.ones(0, dtype=torch.float64), number)
        return replace(places), tracks, [_summary(frames, cuts, 0, 0, [])]
    row, source = np.concatenate(rows), np.concatenate(sources)
    time, owner = np.concatenate(times), np.concatenate(owners)
    weight = np.concatenate(
        [
            _fading(t, frames, cuts, fade, k in told.begins, k in told.ends)
            for k, t in enumerate(times)
        ]
    )
    scores = np.concatenate([_scores(places.scores.numpy(), s) for s in sources])
    # Found faces keep their numbers within a frame.
    order = np.lexsort((owner, np.where(source < 0, len(at), source), time))
    result = _from_values(row[order], places, size)
    result.image_index = torch.from_numpy(time[order]).long()
    result.scores = torch.from_numpy(scores[order]).to(places.scores)
    found = torch.from_numpy(source[order])
    if strength == 0:
        _keep_found(result, places, found)
    number, shown = torch.from_numpy(owner[order]).long(), torch.from_numpy(weight[order])
    tracks = Tracks(number, period, shown, found)
    filled = int((found < 0).sum())
    return result, tracks, [_summary(frames, cuts, count, filled, shakes), *told.lines]


def smooth_faces(
    images: Tensor | Sequence[Tensor],
    crops: FaceCrops,
    *,
    strength: float = 0.5,
    fill_gaps: int = 3,
    fade: int = 3,
    cut_threshold: float = 0.1,
    recogniser: Recogniser | None = None,
    on_frame: Callable[[int], None] = lambda frames: None,
) -> tuple[FaceCrops, str]:
    """The faces of consecutive frames, cut out again where `smooth_places` puts them.

    Args:
        images: what `align_faces` got, frames of a video in their order.
        crops: from `align_faces`.
        strength, fill_gaps, fade: see `smooth_places`.
        cut_threshold: see `find_cuts`.
        recogniser: tells where somebody else is at a face's place; None: nobody does.
        on_frame: called after every frame with 1; an exception that it raises ends the work.

    Returns:
        The faces with `tracks`, and a report.

    Raises:
        FacewrightError: numbers out of range, or pictures the faces were not cut out of.
    """
    check_smoothing(strength, fill_gaps, fade, cut_threshold)
    crops.check_pictures(images)
    change = FrameChange()
    for image in images:
        change.see(image)
        on_frame(1)
    size = crops.pixels.shape[-1]
    cuts = find_cuts(change.differences, cut_threshold)
    looks = None if recogniser is None else look_at(crops.pixels, crops, recogniser)
    places, tracks, lines = smooth_places(
        crops, size, len(change.differences), cuts, strength=strength, fill_gaps=fill_gaps,
        fade=fade, looks=looks,
    )  # fmt: skip
    pixels = crops.pixels
    if strength > 0 or len(places.matrix) > len(crops):
        pixels = cut_out(images, places, size).to(pixels)
    fields = {name: getattr(places, name) for name in FacePlaces.__dataclass_fields__}
    return replace(crops, pixels=pixels, tracks=tracks, **fields), "\n".join(lines)


def _matrices(pose: np.ndarray, size: int) -> Tensor:
    """Inverse of `_poses`: (n, 2, 3) similarities, picture -> crop."""
    cx, cy, vx, vy = torch.from_numpy(np.ascontiguousarray(pose)).unbind(1)
    a, b = vx / (size / 2), vy / (size / 2)
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], 1)
    centre = torch.stack([cx, cy], -1)
    middle = linear.new_full((2,), (size - 1) / 2)
    return invert(torch.cat([linear, (centre - linear @ middle)[..., None]], -1))


def _values(places: FacePlaces, size: int) -> np.ndarray:
    """(n, 4 + 4 + 2 k): pose, box and landmarks, all that moves with a face."""
    parts = [crop_poses(places.matrix, size), places.boxes.double().numpy()]
    if places.landmarks is not None:
        parts.append(places.landmarks.double().flatten(1).numpy())
    return np.concatenate(parts, 1)


def _from_values(values: np.ndarray, like: FacePlaces, size: int) -> FacePlaces:
    rest = torch.from_numpy(values)
    landmarks = None
    if like.landmarks is not None:
        landmarks = rest[:, 8:].view(len(rest), *like.landmarks.shape[1:]).to(like.landmarks)
    return FacePlaces(
        matrix=_matrices(values[:, :4], size),
        image_index=like.image_index,
        landmarks=landmarks,
        boxes=rest[:, 4:8].to(like.boxes),
        scores=like.scores,
    )


def _keep_found(result: FacePlaces, places: FacePlaces, found: Tensor) -> None:
    """Put the very numbers back that were found; the way through `_values` rounds them."""
    here = found >= 0
    for name in ("matrix", "landmarks", "boxes"):
        if getattr(places, name) is not None:
            getattr(result, name)[here] = getattr(places, name)[found[here]]


def _fading(
    time: np.ndarray,
    frames: int,
    cuts: Sequence[int],
    fade: int,
    begins: bool = False,
    ends: bool = False,
) -> np.ndarray:
    """Share of the restored face in each frame of a track.

    Args:
        begins, ends: it does so at a seam, next to somebody else's track.
    """
    scene_start = max([0, *(c for c in cuts if c <= time[0])])
    scene_end = min([frames, *(c for c in cuts if c > time[-1])]) - 1
    weight = np.ones(len(time))
    if time[0] > scene_start and not begins:
        weight = np.minimum(weight, (time - time[0] + 1) / (fade + 1))
    if time[-1] < scene_end and not ends:
        weight = np.minimum(weight, (time[-1] - time + 1) / (fade + 1))
    return weight


def _scores(scores: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Scores of a track's faces; one that was filled in takes the lower of its neighbours'."""
    seen = np.flatnonzero(source >= 0)
    before = np.searchsorted(seen, np.arange(len(source)), side="right") - 1
    after = np.searchsorted(seen, np.arange(len(source)), side="left")
    return np.minimum(scores[source[seen[before]]], scores[source[seen[after]]])


def _shake(path: np.ndarray, seen: np.ndarray) -> tuple[float, int]:
    """Sum of squared second differences of a crop's centre, and how many, where it was seen."""
    whole = seen[:-2] & seen[1:-1] & seen[2:]
    second = np.diff(path[:, :2], 2, axis=0)[whole]
    return float((second**2).sum()), len(second)


def _summary(
    frames: int, cuts: Sequence[int], tracks: int, filled: int, shakes: list[tuple]
) -> str:
    parts = [counted(frames, "frame"), f"{counted(tracks, 'face')} followed"]
    if cuts:
        parts.insert(1, f"cuts before {', '.join(map(str, cuts))}")
    if filled:
        parts.append(f"{filled} missed {'one' if filled == 1 else 'ones'} filled in")
    count = sum(n for (_, n), _ in shakes)
    if count:
        before, after = (math.sqrt(sum(s[i][0] for s in shakes) / count) for i in (0, 1))
        parts.append(f"shaking of the crops {before:.2f} px before, {after:.2f} px now")
    return "; ".join(parts)
