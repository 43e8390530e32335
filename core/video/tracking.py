"""Faces followed over the frames of a video: which is which by where it is, not by who it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.align import FacePlaces
from ..geometry.warp import invert

_REACH = 0.6
"""Farthest a face can be from where it was expected, in halves of its crop's side."""
_FAR = 1.5
"""The same where nobody else it might be is near."""
_GROWTH = 1.5
"""Most that a face grows or shrinks from frame to frame."""
_MOTION_OVER = (1, 5)
"""Detections over which a face's movement is measured to foresee the next: few where it is fast and
turns, many where it hardly moves and its detections tremble. The better forecast counts."""
_FIELDS = 16
_AROUND = 4
"""Frames on each side that a cut has to stand out from."""


@dataclass
class FrameChange:
    """How much each frame differs from the one before, seen one by one.

    The mean absolute difference, in [0, 1], of the frames' means over 16 x 16 fields and three
    colours; 0 for the first frame.
    """

    differences: list[float] = field(default_factory=list)
    _last: Tensor | None = None

    def see(self, frame: Tensor) -> None:
        """The next frame, (c >= 3, h, w) in [0, 1]."""
        field = F.adaptive_avg_pool2d(frame[None, :3].float(), _FIELDS)[0]
        last, self._last = self._last, field
        self.differences.append(0.0 if last is None else float((field - last).abs().mean()))


def find_cuts(differences: Sequence[float], threshold: float) -> list[int]:
    """Frames with which a new scene begins, ascending, never frame 0.

    A cut is a difference above `threshold` that is also three times the median of the four before
    and of the four after it, so that a fast pan is none. A cross-fade is not found.

    Args:
        differences: of each frame to the one before, see `FrameChange`.
        threshold: in [0, 1]; 1 finds none.
    """
    d = np.asarray(differences)
    cuts = []
    for t in np.flatnonzero(d > threshold):
        around = np.concatenate([d[max(1, t - _AROUND) : t], d[t + 1 : t + 1 + _AROUND]])
        if t > 0 and (not len(around) or d[t] > 3 * np.median(around)):
            cuts.append(int(t))
    return cuts


def follow_faces(
    places: FacePlaces, size: int, cuts: Iterable[int] = (), max_gap: int = 0
) -> Tensor:
    """Number the faces so that a face keeps its number from frame to frame.

    Each frame's faces are assigned one to one to the places where those of earlier frames are
    expected, moving on as they did. A cut ends every track.

    Args:
        places: faces with ascending `image_index`.
        size: side of their crops in pixels.
        cuts: frames with which a new scene begins.
        max_gap: frames that a face may be missing.

    Returns:
        (n,) int64, numbered by their first appearance.
    """
    from scipy.optimize import linear_sum_assignment

    pose, frames = crop_poses(places.matrix, size), places.image_index.tolist()
    in_frame: dict[int, list[int]] = {t: [] for t in sorted({*frames, *cuts})}
    for i, t in enumerate(frames):
        in_frame[t].append(i)
    starts = set(cuts)
    number = np.full(len(frames), -1)
    tracks: list[list[int]] = []
    active: list[int] = []
    for t, faces in in_frame.items():
        last = t if t in starts else t - 1 - max_gap
        active = [k for k in active if frames[tracks[k][-1]] >= last]
        if active and faces:
            distance = _distances(pose, frames, [tracks[k] for k in active], t, faces)
            cost = np.minimum(distance - _REACH, 0)
            pairs = [p for p in zip(*linear_sum_assignment(cost), strict=True) if cost[p] < 0]
            gone = [row for row, k in enumerate(active) if frames[tracks[k][-1]] < t - 1]
            for row, column in [*pairs, *_lonely(distance, pairs, gone)]:
                number[faces[column]] = active[row]
                tracks[active[row]].append(faces[column])
        for face in faces:
            if number[face] < 0:
                number[face] = len(tracks)
                active.append(len(tracks))
                tracks.append([face])
    return torch.from_numpy(number).long()


def crop_poses(matrix: Tensor, size: int) -> np.ndarray:
    """(n, 4): a crop's centre in the picture, and the way from there to its right border."""
    back = invert(matrix)
    centre = back[:, :, :2] @ back.new_full((2,), (size - 1) / 2) + back[:, :, 2]
    return torch.cat([centre, back[:, :, 0] * (size / 2)], 1).numpy()


def _distances(
    pose: np.ndarray, frames: list[int], tracks: list[list[int]], t: int, faces: list[int]
) -> np.ndarray:
    """(tracks, faces): how far each face is from where a track is expected, see `apart`."""
    forecasts = [
        np.stack([_expected(pose, frames, track, t, over) for track in tracks])
        for over in _MOTION_OVER
    ]
    return np.min([apart(expected, pose[faces]) for expected in forecasts], axis=0)


def _expected(
    pose: np.ndarray, frames: list[int], track: list[int], t: int, over: int
) -> np.ndarray:
    """Where a face is at frame t if it moves on as it did."""
    last = track[-1]
    before = track[max(0, len(track) - 1 - over)]
    if before == last:
        return pose[last]
    steps = frames[last] - frames[before]
    return pose[last] + (pose[last] - pose[before]) * ((t - frames[last]) / steps)


def _lonely(
    distance: np.ndarray, pairs: list[tuple[int, int]], gone: list[int]
) -> list[tuple[int, int]]:
    """Further pairs (track, face), farther apart, where neither has anybody else within `_FAR`.

    Of a small face that moves fast nothing is known after its first frame, and its next is beyond
    `_REACH`. Tracks that are `gone` from the frame before wait for a nearer face.
    """
    near = distance < _FAR
    taken = ({*gone, *(row for row, _ in pairs)}, {column for _, column in pairs})
    return [
        (row, column)
        for row, column in zip(*np.nonzero(near), strict=True)
        if row not in taken[0] and column not in taken[1]
        and near[row].sum() == 1 and near[:, column].sum() == 1
    ]  # fmt: skip


def apart(poses: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, m): how far crops are apart in halves of their sides, size and angle included.

    Infinite where one is too much larger than the other.
    """
    size = np.hypot(poses[:, 2], poses[:, 3])[:, None]
    size_other = np.hypot(others[:, 2], others[:, 3])[None]
    offset = poses[:, None, :] - others[None]
    distance = np.hypot(offset[..., 0], offset[..., 1]) + np.hypot(offset[..., 2], offset[..., 3])
    growth = np.exp(np.abs(np.log(size / size_other)))
    return np.where(growth <= _GROWTH, distance / np.sqrt(size * size_other), np.inf)
