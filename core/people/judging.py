"""How far faces drift by how much of their restoration is shown, and how much that is to be."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError
from .delivery import Delivery
from .person import Person
from .receipts import Verdict
from .recogniser import Recogniser

ACTIONS = ("lower strength", "fall back", "report only")
STRENGTHS = (0.8, 0.6, 0.4, 0.2)
"""Shares of the restored face that are tried, one after another, where all of it is too much."""

_SAME = 1e-6
"""Drifts no farther apart are the same: networks differ by as much with what else they see."""
CHUNK = 8
"""Faces of up to 256 pixels looked at at once."""


def at_once(size: int) -> int:
    """Faces of this side in pixels looked at together, which bounds the memory they take beside
    the finished pictures."""
    return max(1, min(CHUNK, CHUNK * 256**2 // max(1, size) ** 2))


Reference = Person | Tensor | None
"""An album, or embeddings (k, d) of one person, or nothing."""


class Judge:
    """The faces of one part: how far each drifts at which share, and what becomes of it."""

    def __init__(
        self,
        part: Sequence[int],
        lq: Tensor,
        delivery: Delivery,
        templates: Sequence[Tensor | None],
        recogniser: Recogniser,
        max_drift: float,
        action: str,
        share: Tensor,
    ) -> None:
        self._part, self._lq, self._delivery, self._recogniser = part, lq, delivery, recogniser
        self._max, self._action, self._share = max_drift, action, share
        self._most = {i: float(share[i]) for i in part}
        self.own = self._embedded(lq, part)
        self._anchor = {i: self.own[i] if (t := templates[i]) is None else t for i in part}
        self.now: dict[int, Tensor] = {}
        self.drift: dict[int, float] = {}
        """As delivered now."""
        self.first: dict[int, float] = {}
        """As asked, before anything was done about it; of faces that stay so, beside their
        neighbours as these leave."""
        self._tried: dict[int, dict[float, float]] = {i: {} for i in part}

    def decide(self) -> None:
        """Lower the shares until everybody is within, or nothing is left to try."""
        left = {i: self._lower(i) for i in self._part}
        settled: set[int] = set()
        changed = list(self._part)
        while changed:
            seen, changed = self._put(changed), []
            self.first = self.first or dict(self.drift)
            for i in sorted(set(seen) - settled):
                self._tried[i][float(self._share[i])] = self.drift[i]
                # Turned round, so that a NaN does not pass.
                if self.drift[i] <= self._max:
                    continue
                if left[i]:
                    best = left[i].pop(0)
                else:
                    best = self._nearest(i)
                    settled.add(i)
                if best != self._share[i]:
                    self._share[i] = best
                    changed.append(i)
        self._together()
        # Whoever is kept beside a face that was held back has changed by its pixels alone.
        self.first |= {i: d for i, d in self.drift.items() if self._share[i] == self._most[i]}

    def verdict(self, i: int) -> Verdict:
        within = self.drift[i] <= self._max
        if self._share[i] == self._most[i]:
            if within:
                return "kept"
            return "too far" if self._action == "report only" else "nearest"
        if not self._share[i]:
            return "fell back"
        return "lowered" if within else "nearest"

    def drift_input(self, i: int) -> float:
        return drift_between(self.own[i], self._anchor[i])

    def _lower(self, i: int) -> list[float]:
        """Shares to be tried after the first."""
        most = self._most[i]
        if self._action == "report only" or not most or not self._delivery.asked[i]:
            return []
        between = STRENGTHS if self._action == "lower strength" else ()
        return [*(s for s in between if s < most), 0.0]

    def _nearest(self, i: int) -> float:
        known = {s: drift for s, drift in self._tried[i].items() if math.isfinite(drift)}
        return min(known, key=lambda s: (known[s], -s)) if known else min(self._tried[i])

    def _together(self) -> None:
        """Overlapping faces of which one ended farther than it could: all as asked, or none."""
        ends = {i: (self.first[i], self.drift_input(i)) for i in self._part}
        for i in self._part:
            if self.drift[i] <= self._max or not self.drift[i] > max(ends[i]) + _SAME:
                continue
            group = self._delivery.meeting([i])

            def too_far(end: int, group: Sequence[int] = group) -> tuple[int, float]:
                drifts = [ends[j][end] for j in group]
                return sum(not d <= self._max for d in drifts), sum(drifts)

            asked = too_far(0) < too_far(1)
            for j in group:
                self._share[j] = self._most[j] if asked else 0.0
            self._put(group)

    def _put(self, faces: Sequence[int]) -> list[int]:
        """Deliver `faces` by their shares; who was looked at again."""
        self._delivery.put(self._share, faces)
        seen = self._delivery.meeting(faces)
        chunk = at_once(self._lq.shape[-1])
        for start in range(0, len(seen), chunk):
            some = seen[start : start + chunk]
            crops = self._delivery.look(some).to(self._lq)
            self.now |= self._embedded(crops, some)
            for crop, i in zip(crops, some, strict=True):
                if torch.equal(crop, self._lq[i]):
                    self.now[i] = self.own[i]  # exactly, however many were embedded at once
                self.drift[i] = drift_between(self.now[i], self._anchor[i])
        return seen

    def _embedded(self, faces: Tensor, numbers: Sequence[int]) -> dict[int, Tensor]:
        """By face, (d,) float64 of length 1 on the CPU."""
        found: dict[int, Tensor] = {}
        rows = faces[list(numbers)] if len(faces) != len(numbers) else faces
        chunk = at_once(faces.shape[-1])
        for start in range(0, len(numbers), chunk):
            some = slice(start, start + chunk)
            embedded = F.normalize(self._recogniser(rows[some]).cpu().double(), dim=1)
            found |= dict(zip(numbers[some], embedded, strict=True))
        return found


def drift_between(face: Tensor, anchor: Tensor) -> float:
    """1 - cosine as |u - v|^2 / 2, which is exactly 0 for equal vectors."""
    return float((face - anchor).square().sum() / 2)


def template_of(reference: Reference, recogniser: Recogniser) -> Tensor | None:
    if reference is None:
        return None
    if isinstance(reference, Person):
        reference.check_fits(recogniser.id)
        return F.normalize(reference.template.cpu().double(), dim=0)
    if reference.ndim != 2 or reference.shape[1] != recogniser.dim or not len(reference):
        raise FacewrightError(
            f"References should be embeddings (k, {recogniser.dim}) of one person, got "
            f"{tuple(reference.shape)}."
        )
    return F.normalize(F.normalize(reference.cpu().double(), dim=1).mean(0), dim=0)
