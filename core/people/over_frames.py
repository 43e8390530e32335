"""Whose face is it over the frames of a video: decided once for each face that is followed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry.align import FaceCrops, Tracks
from .assigning import Verdict, decided, likeliest
from .by_hand import told_of_batch
from .looks import look_at, mean_look
from .margins import margin_from, margins_of
from .matching import Matches, match_faces, match_people
from .person import Person
from .recogniser import Recogniser

_SPREAD = 0.1
"""By how much the cosine of one face differs from that of another of the same person. Where two
tracks of one frame are after one album, a short one's cosine is trusted less."""
_FALLS = -1.0
"""Cosine of an album that a track cannot have."""


class Span(NamedTuple):
    """In which frames a face was followed."""

    first: int
    last: int
    count: int

    def __str__(self) -> str:
        if self.first == self.last:
            return f"frame {self.first}"
        return f"frames {self.first} to {self.last}"


@dataclass(frozen=True, kw_only=True)
class TrackMatches(Matches):
    """Who the faces of a video are, one entry per track, by its number."""

    spans: tuple[Span, ...] = ()

    @property
    def report(self) -> list[str]:
        """A line per face, such as "face 0, frames 3 to 57: alice (0.83)", then who comes more than
        once, and `warnings`."""
        if not len(self):
            return ["there are no faces"]
        places = enumerate(zip(self.spans, self.labels, strict=True))
        return [f"face {k}, {span}: {label}" for k, (span, label) in places] + self.remarks

    @property
    def remarks(self) -> list[str]:
        """Whose face was followed more than once, and `warnings`."""
        lines = []
        for index, person in enumerate(self.people):
            mine = [track for track, album in enumerate(self.assigned) if album == index]
            if len(mine) > 1:
                where = ", ".join(f"{track} ({self.spans[track]})" for track in mine)
                lines.append(f"{person.name} was followed {len(mine)} times, as faces {where}")
        return lines + self.warnings

    def of_faces(self, number: Tensor, image_index: Tensor) -> "FollowedMatches":
        """The same for each face of the frames.

        Args:
            number: (n,) tracks of the faces.
            image_index: (n,) their frames.
        """
        of = number.tolist()
        return FollowedMatches(
            people=self.people,
            assigned=tuple(self.assigned[track] for track in of),
            cosines=self.cosines[number],
            image_index=image_index.cpu(),
            threshold=self.threshold,
            margin=self.margin,
            unsure=tuple(self.may_be(track) for track in of),
            by_hand=frozenset(face for face, track in enumerate(of) if track in self.by_hand),
            margins=tuple(self.margin_of(track) for track in of),
            tracks=self,
            track=tuple(of),
        )


@dataclass(frozen=True, kw_only=True)
class FollowedMatches(Matches):
    """Who the faces of frames are: each its track's person in all of them."""

    tracks: TrackMatches
    track: tuple[int, ...]
    """Per face the number of its track."""

    @property
    def numbers(self) -> list[int]:
        """Per face the number of its track, by which it is told by hand, too."""
        return list(self.track)

    @property
    def report(self) -> list[str]:
        """A line per track."""
        return self.tracks.report

    @property
    def warnings(self) -> list[str]:
        """As of the tracks."""
        return self.tracks.warnings


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
    weight: Tensor | None = None,
) -> TrackMatches:
    """Assign albums to tracks: a face is one person in all its frames.

    A track is compared by the mean of its faces, in which poor ones count little (`mean_look`). In
    no frame an album has two faces, but one person may have several tracks one after another. Each
    set of tracks that share a frame is decided as the faces of a picture are; where a track would
    be another person beside other faces, it is nobody whom it cannot be in all its frames.

    Args:
        identities: (m, d) of length 1, of the faces that were found.
        tracks: of n faces, those that were filled in among them.
        frames: (n,) in which frame each is.
        people, threshold, recogniser, margin: as for `match_people`.
        assign: what is told by hand: by a track's number the name of its album, or None.
        weight: (m,) how much each face tells, see `telling`; None: all alike.

    Returns:
        One entry per track, in the order of their numbers.

    Raises:
        FacewrightError: as `match_people`.
    """
    count = int(tracks.number.max()) + 1 if len(tracks.number) else 0
    weight = torch.ones(len(identities)) if weight is None else weight
    means, seen = identities.new_zeros(count, identities.shape[1]), [0] * count
    for track in range(count):
        found = tracks.source[(tracks.number == track) & (tracks.source >= 0)]
        means[track] = mean_look(identities[found], weight[found]).to(means)
        seen[track] = len(found)
    alone = match_people(
        means,
        torch.arange(count),
        people,
        threshold,
        recogniser=recogniser,
        margin=margin,
        assign=assign,
    )
    verdicts = _Assignment(alone, _together(tracks, frames), seen).verdicts()
    assigned = list(alone.assigned)
    unsure: list[tuple[str, ...]] = [()] * count
    margins: list[float | None] = [None] * count
    for track, of_track in verdicts.items():
        doubts = {album for verdict in of_track for album in verdict.others}
        likely = likeliest(doubts, alone.cosines[track])
        unsure[track] = tuple(people[album].name for album in likely)
        assigned[track] = None if doubts else of_track[0].album
        margins[track] = min((v.margin for v in of_track if v.margin is not None), default=None)
    return TrackMatches(
        people=alone.people,
        assigned=tuple(assigned),
        cosines=alone.cosines,
        image_index=torch.zeros(count, dtype=torch.int64),
        threshold=alone.threshold,
        margin=alone.margin,
        unsure=tuple(unsure),
        by_hand=alone.by_hand,
        margins=tuple(margins),
        spans=tuple(_spans(tracks.number, frames, count)),
    )


def match_crops(
    faces: FaceCrops,
    people: Sequence[Person] | None,
    recogniser: Recogniser,
    threshold: float = 0.0,
    *,
    margin: float | None = None,
    assign: Iterable[str] = (),
) -> Matches:
    """Who faces (of whatever device) are: of pictures each for itself (`match_faces`), of frames
    that were followed each as its track.

    Args:
        people, threshold, margin: as for `match_faces`.
        assign: texts as for `told_of_batch`; of faces that were followed by the track's number.

    Raises:
        FacewrightError: as `match_people` and `told_of_batch`.
    """
    tracks, limits = faces.tracks, recogniser.limits
    if tracks is None:
        told = told_of_batch(assign, faces.image_index.tolist())
        return match_faces(
            faces.pixels,
            faces.image_index,
            people,
            recogniser,
            threshold,
            margin=margin,
            assign=told,
        )
    looks = look_at(faces.pixels, faces, recogniser)
    here = torch.where(tracks.source >= 0, torch.arange(len(faces)), -1)
    of_tracks = match_tracks(
        looks.embeddings,
        replace(tracks, source=here),
        faces.image_index,
        people or [],
        threshold or limits.same_person,
        recogniser=recogniser.id,
        margin=margin_from(limits, margin),
        assign=told_of_batch(assign, [0] * len(tracks.number.unique())),
        weight=looks.weight,
    )
    return of_tracks.of_faces(tracks.number, faces.image_index)


class _Assignment:
    """Tracks and albums, so that no album has two tracks that share a frame."""

    def __init__(
        self, alone: Matches, groups: Sequence[tuple[int, ...]], seen: Sequence[int]
    ) -> None:
        self.alone, self.groups = alone, groups
        self.order = sorted(range(len(alone.people)), key=lambda i: alone.people[i].name)
        lower = alone.cosines.double() - _SPREAD / torch.tensor(seen).double()[:, None].sqrt()
        enough = alone.cosines.double() >= alone.threshold
        self.margins = margins_of(alone.people, alone.cosines, alone.margin)
        self.values = torch.where(enough, lower.clamp(min=alone.threshold), alone.cosines.double())

    def verdicts(self) -> dict[int, list[Verdict]]:
        """Per track that was not told by hand, what is decided in each set of tracks, which is one
        and the same album; albums as indices of people."""
        decided_in = {group: self._decided(group) for group in self.groups}
        while clash := self._clash(decided_in):
            track, album = clash
            self.values[track, album] = _FALLS
            for group in decided_in:
                if track in group:
                    decided_in[group] = self._decided(group)
        return _by_track(decided_in)

    def _clash(self, decided_in: dict[tuple[int, ...], dict[int, Verdict]]) -> tuple | None:
        """A track, and an album that it has in some of its frames and cannot have in others, as
        another track has it there; of several the least alike pair. None where there is none."""
        clashes = []
        for track, of_track in _by_track(decided_in).items():
            albums = {verdict.album for verdict in of_track} - {None}
            if len({verdict.album for verdict in of_track}) < 2:
                continue
            others = [group for of, group in decided_in.items() if track in of]
            held = {v.album for group in others for k, v in group.items() if k != track}
            for album in albums & held or albums:
                clashes.append((float(self.values[track, album]), track, album))
        return min(clashes)[1:] if clashes else None

    def _decided(self, group: tuple[int, ...]) -> dict[int, Verdict]:
        told = self.alone.by_hand
        taken = {self.alone.assigned[track] for track in group if track in told}
        rows = [track for track in group if track not in told]
        albums = [album for album in self.order if album not in taken]
        if not albums:
            return {track: Verdict(None, [], None) for track in rows}
        cosines, margins = self.values[rows][:, albums], self.margins.part(rows, albums)
        return {
            track: Verdict(
                None if of.album is None else albums[of.album],
                [albums[i] for i in of.others],
                of.margin,
            )
            for track, of in zip(
                rows, decided(cosines.numpy(), self.alone.threshold, margins), strict=True
            )
        }


def _by_track(decided_in: dict[tuple[int, ...], dict[int, Verdict]]) -> dict[int, list[Verdict]]:
    by_track: dict[int, list[Verdict]] = {}
    for verdicts in decided_in.values():
        for track, verdict in verdicts.items():
            by_track.setdefault(track, []).append(verdict)
    return by_track


def _together(tracks: Tracks, frames: Tensor) -> list[tuple[int, ...]]:
    """Sets of tracks that share a frame."""
    in_frame: dict[int, set[int]] = {}
    for frame, track in zip(frames.tolist(), tracks.number.tolist(), strict=True):
        in_frame.setdefault(frame, set()).add(track)
    return sorted({tuple(sorted(group)) for group in in_frame.values()})


def _spans(number: Tensor, frames: Tensor, count: int) -> list[Span]:
    of = [frames[number == track] for track in range(count)]
    return [Span(int(mine.min()), int(mine.max()), len(mine)) for mine in of]
