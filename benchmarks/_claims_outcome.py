"""From claims and scores to verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from facewright.benchmarks._claims import Claim, Claims
from facewright.benchmarks._claims_scores import UNTRAINED, Scores
from facewright.core.metrics.crossed import CrossedDifference, crossed_difference
from facewright.core.metrics.significance import holm

NOT_RUN = "not run"
TOO_FEW = "too few people"
REACHED, OPEN, BELOW = "reached", "open", "not reached"


@dataclass(frozen=True)
class Outcome:
    """What became of a claim."""

    claim: Claim
    verdict: str
    """One of `_claims.VERDICTS`, `NOT_RUN` or `TOO_FEW`."""
    why: str = ""
    """Of a claim that was not run."""
    difference: CrossedDifference | None = None
    """first - second, in the metric itself."""
    seeds: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """Where what ran is not what was registered."""
    size: str = ""
    """Whether the size that matters is `REACHED` by the whole interval (in either direction),
    `BELOW` which all of it lies, or `OPEN`."""
    p_holm: float = math.nan

    @property
    def decided(self) -> bool:
        return self.verdict not in (NOT_RUN, TOO_FEW)

    @property
    def as_expected(self) -> bool:
        return self.verdict == self.claim.expected


def outcomes(claims: Claims, scores: Mapping[str, Scores | None]) -> list[Outcome]:
    """The verdict on every claim, in their order; p-values corrected for all that were run.

    Args:
        scores: by experiment; None where nothing was scored.
    """
    found = [_outcome(claims, claim, scores.get(claim.experiment)) for claim in claims.claims]
    corrected = holm([o.difference.p if o.difference else math.nan for o in found])
    return [replace(o, p_holm=p) for o, p in zip(found, corrected, strict=True)]


def gain(claims: Claims, claim: Claim, value: float) -> float:
    """A difference in the metric as a gain: above 0 where `first` is better."""
    return value if claims.metrics[claim.metric].better == "higher" else -value


def _outcome(claims: Claims, claim: Claim, scores: Scores | None) -> Outcome:
    if scores is None:
        return Outcome(claim, NOT_RUN, "no scores yet")
    for name in (claim.first, claim.second):
        if why := scores.missing(name, claim.metric):
            return Outcome(claim, NOT_RUN, why)
    seeds, a, b = scores.pairs(claim.first, claim.second, claim.metric)
    if not seeds:
        return Outcome(claim, NOT_RUN, "no training seed in common")
    d = crossed_difference(a, b)
    remarks = _remarks(claims, claim, scores, seeds, d)
    if math.isnan(d.low):
        return Outcome(claim, TOO_FEW, "", d, tuple(seeds), remarks)
    size = claims.size(claim)
    low, high = sorted(gain(claims, claim, x) for x in (d.low, d.high))
    verdict = "supported" if low > 0 else "contradicted" if high < 0 else "not established"
    reached = REACHED if low >= size or high <= -size else OPEN
    if max(-low, high) < size:
        reached = BELOW
    return Outcome(claim, verdict, "", d, tuple(seeds), remarks, reached)


def _remarks(
    claims: Claims, claim: Claim, scores: Scores, seeds: Sequence[str], d: CrossedDifference
) -> tuple[str, ...]:
    experiment, found = claims.experiments[claim.experiment], []
    if seeds != [UNTRAINED] and len(seeds) != experiment.seeds:
        found.append(f"{experiment.seeds} seeds were registered")
    if scores.people != experiment.people:
        found.append(f"{scores.people} {experiment.unit}, {experiment.people} were registered")
    if d.undefined:
        found.append(f"{d.undefined} without a value")
    return tuple(found)
