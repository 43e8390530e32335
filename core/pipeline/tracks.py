"""What is known of a face over all the frames in which it was followed: who it is, its receipts."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, counted
from ..files.json_text import strict
from ..geometry.align import Tracks
from ..people.guard import GuardResult
from ..people.matching import Matches, match_people
from ..people.person import Person
from ..people.receipts import Receipt, number

FORMAT = "facewright.track_receipts"
VERSION = 1
_MOST_RANGES = 1000
"""Runs of frames that are listed of one face."""


def match_tracks(
    identities: Tensor,
    tracks: Tracks,
    frames: Tensor,
    people: Sequence[Person],
    threshold: float,
    *,
    recogniser: str,
    margin: float | None = None,
    assign: Mapping[int, str | None] | None = None,
) -> Matches:
    """Assign albums to tracks: a face is one person in all its frames.

    A track is compared by the mean of its faces. In no frame an album has two faces; a track that
    would be another person, or nobody, beside other faces of its frames is nobody. One that is
    unsure beside some of them is unsure.

    Args:
        identities: (m, d) of length 1, of the faces that were found.
        tracks: of n faces, those that were filled in among them.
        frames: (n,) in which frame each is.
        people, threshold, recogniser, margin: as for `match_people`.
        assign: by a track's number the name of its album, or None for nobody.

    Returns:
        One entry per track, in the order of their numbers.

    Raises:
        FacewrightError: as `match_people`.
    """
    count = int(tracks.number.max()) + 1 if len(tracks.number) else 0
    found = tracks.source >= 0
    means = identities.new_zeros(count, identities.shape[1])
    means.index_add_(0, tracks.number[found], identities[tracks.source[found]])
    together: dict[int, set[int]] = {}
    for frame, track in zip(frames.tolist(), tracks.number.tolist(), strict=True):
        together.setdefault(frame, set()).add(track)
    groups = sorted({tuple(sorted(group)) for group in together.values()})
    rows = torch.tensor([track for group in groups for track in group], dtype=torch.int64)
    told = assign or {}
    if wrong := [track for track in told if not 0 <= track < count]:
        raise FacewrightError(
            f"`assign` names face {wrong[0]}, but {counted(count, 'face')} of the video can be "
            "followed, numbered from 0."
        )
    index = torch.tensor([i for i, group in enumerate(groups) for _ in group], dtype=torch.int64)
    matched = match_people(
        F.normalize(means, dim=1)[rows],
        index,
        people,
        threshold,
        recogniser=recogniser,
        margin=margin,
        assign={row: told[track] for row, track in enumerate(rows.tolist()) if track in told},
    )
    seen: dict[int, set[int | None]] = {track: set() for track in range(count)}
    cosines = matched.cosines.new_zeros(count, len(people))
    unsure: list[set[str]] = [set() for _ in range(count)]
    margins: list[list[float]] = [[] for _ in range(count)]
    for row, track in enumerate(rows.tolist()):
        seen[track].add(matched.assigned[row])
        cosines[track] = matched.cosines[row]
        unsure[track].update(matched.may_be(row))
        margins[track] += [m for m in [matched.margin_of(row)] if m is not None]
    columns = {person.name: i for i, person in enumerate(people)}
    return Matches(
        people=matched.people,
        assigned=tuple(
            next(iter(s)) if len(s) == 1 and not unsure[track] else None
            for track, s in seen.items()
        ),
        cosines=cosines,
        image_index=torch.zeros(count, dtype=torch.int64),
        threshold=matched.threshold,
        margin=matched.margin,
        unsure=tuple(
            tuple(sorted(names, key=lambda name: -float(cosines[track, columns[name]])))
            for track, names in enumerate(unsure)
        ),
        by_hand=frozenset(told),
        margins=tuple(min(m, default=None) for m in margins),
    )


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
    def json(self) -> str:
        """Strict JSON in ASCII; null for unknown numbers."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "recogniser": self.recogniser,
            "action": self.action,
            "faces": self.entries,
        }
        return json.dumps(content, allow_nan=False)
