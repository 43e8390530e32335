"""The receipts of a face over all the frames in which it was followed."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import FacewrightError
from ..files.json_text import strict
from ..geometry.align import FaceCrops
from ..people.guard import GuardResult, guard_faces
from ..people.over_frames import match_tracks
from ..people.receipts import About, Receipt, number
from ..people.steady import steadied

__all__ = ["TrackReceipts", "match_tracks"]

FORMAT = "facewright.track_receipts"
VERSION = 2
_MOST_RANGES = 1000
"""Runs of frames that are listed of one face."""


@dataclass
class _TrackReceipt:
    """What the receipts of one face say over its frames."""

    first: int
    worst: tuple[int, Receipt]
    """The frame and the receipt of the largest drift."""
    last: int = -1
    verdicts: Counter[str] = field(default_factory=Counter)
    drift: float = 0.0
    strength: float = 0.0
    weakest: float = 1.0
    ranges: list[list[int]] = field(default_factory=list)
    """First and last frames of runs in which it was not kept."""

    @property
    def count(self) -> int:
        return self.verdicts.total()

    def add(self, frame: int, receipt: Receipt) -> None:
        self.last = frame
        self.verdicts[receipt.verdict] += 1
        self.drift += receipt.drift
        self.strength += receipt.strength
        self.weakest = min(self.weakest, receipt.strength)
        if receipt.verdict != "kept":
            if self.ranges and self.ranges[-1][1] == frame - 1:
                self.ranges[-1][1] = frame
            elif len(self.ranges) < _MOST_RANGES:
                self.ranges.append([frame, frame])
        # Turned round, so that a NaN is the worst of all.
        if not receipt.drift_restored <= self.worst[1].drift_restored:
            self.worst = (frame, receipt)

    def entry(self, track: int) -> dict[str, Any]:
        frame, worst = self.worst
        content = {
            "face": track,
            "person": worst.person,
            "anchor": worst.anchor,
            "frames": {"first": self.first, "last": self.last, "count": self.count},
            "verdicts": dict(sorted(self.verdicts.items())),
            "not_kept": self.ranges,
            "max_drift": worst.max_drift,
            "drift_mean": self.drift / self.count,
            "strength": {"mean": self.strength / self.count, "least": self.weakest},
            "worst": {"frame": frame, **worst.entry(), "face": track},
        }
        return strict(content, digits=6)

    def line(self, track: int) -> str:
        """For people."""
        frame, worst = self.worst
        who = f"face {track}" + (f" ({worst.person})" if worst.person else "")
        held = self.count - self.verdicts["kept"]
        what = f"{held} of {self.count} frames not kept" if held else f"{self.count} frames kept"
        return (
            f"{who}: {what}; mean drift {number(self.drift / self.count)}, most "
            f"{number(worst.drift_restored)} in frame {frame}"
        )


@dataclass
class TrackReceipts:
    """Receipts of a video's faces, in as much memory as there are faces followed."""

    recogniser: str
    """`Recogniser.id` of who judged."""
    action: str
    about: About = field(default_factory=lambda: About(measured="delivered"))
    """What the receipts are of."""
    _tracks: dict[int, _TrackReceipt] = field(default_factory=dict)

    def add(self, guard: GuardResult, tracks: Sequence[int], frames: Sequence[int]) -> None:
        """Receipts of the next frames, with the track and the frame of each."""
        for receipt, track, frame in zip(guard.receipts, tracks, frames, strict=True):
            first = _TrackReceipt(frame, (frame, receipt))
            self._tracks.setdefault(track, first).add(frame, receipt)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """For JSON, by face."""
        return [of.entry(track) for track, of in sorted(self._tracks.items())]

    @property
    def held_back(self) -> list[str]:
        """A line for each face of which not all was kept."""
        tracks = sorted(self._tracks.items())
        return [of.line(k) for k, of in tracks if of.count > of.verdicts["kept"]]

    @property
    def report(self) -> str:
        """A line per face."""
        return "\n".join(of.line(k) for k, of in sorted(self._tracks.items())) or "no faces"

    @property
    def json(self) -> str:
        """Strict JSON in ASCII; null for unknown numbers."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            **self.about.entry(),
            "recogniser": self.recogniser,
            "action": self.action,
            "faces": self.entries,
        }
        return json.dumps(content, allow_nan=False)


@dataclass(frozen=True)
class FollowedGuard(GuardResult):
    """What the guard lets through of faces that were followed over frames."""

    tracks: TrackReceipts = field(default_factory=lambda: TrackReceipts("", ""))

    @property
    def json(self) -> str:
        """As of faces that were not followed, with "tracks" beside "faces"."""
        return json.dumps({**json.loads(super().json), "tracks": self.tracks.entries})

    @property
    def report(self) -> str:
        """A line per track."""
        return self.tracks.report


def guard_followed(
    lq: Tensor, restored: Tensor, faces: FaceCrops | None, *, fade: int = 3, **how: Any
) -> GuardResult:
    """`guard_faces`, and where the faces were followed over frames, without pulsing.

    What is shown of a face follows its most critical frames (`core.people.steady.steadied`); faces
    that are lowered for that alone say so by the strength that was `asked`.

    Args:
        faces: whose crops these are; None: not known.
        how: as for `guard_faces`.

    Raises:
        FacewrightError: the crops are not those of `faces`, or as `guard_faces`.
    """
    if faces is not None and len(faces) != len(restored):
        raise FacewrightError(
            f"`faces` holds {len(faces)} faces, but {len(restored)} crops came. Connect the faces "
            "whose crops were restored: those of Smooth Faces where it is in between."
        )
    guard = guard_faces(lq, restored, **how)
    if faces is None or faces.tracks is None:
        return guard
    number, frames = faces.tracks.number, faces.image_index
    most = steadied(guard.shares, number, frames, fade)
    if any(share > limit for share, limit in zip(guard.shares, most.tolist(), strict=True)):
        quiet = {name: value for name, value in how.items() if name != "on_faces"}
        steady = guard_faces(lq, restored, most=most, **quiet)
        pairs = zip(steady.receipts, guard.receipts, guard.shares, most.tolist(), strict=True)
        receipts = [
            replace(
                now,
                drift_restored=alone.drift_restored,
                asked=limit if share > limit else alone.asked,
                verdict=now.verdict if share > limit else alone.verdict,
            )
            for now, alone, share, limit in pairs
        ]
        guard = replace(steady, receipts=receipts)
    tracks = TrackReceipts(guard.recogniser, guard.action, guard.about)
    tracks.add(guard, number.tolist(), frames.tolist())
    return FollowedGuard(**vars(guard), tracks=tracks)
