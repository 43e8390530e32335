"""From which cosine two faces count as one person, said by how often strangers reach it.

A cosine means nothing by itself: one recogniser gives strangers 0.1, another 0.6. What it means is
the false-match rate: the share of pairs of two people, drawn at random, that reach it. `Limits`
keeps a table of both for a recogniser, and everything that judges people (matching, the guard,
warnings of albums) takes its limit from there.

Where nobody has measured a recogniser, `false_match_rate` is None and `cosine_at` says so.
"""

import math
from dataclasses import dataclass

from ..errors import FacewrightError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What cosines of one recogniser mean."""

    same_person: float
    """Cosine from which a face is an album's person; strangers reach it at `false_match_rate`."""
    margin: float
    """By how much the best album has to beat the runner-up; below that the face is unsure."""
    false_match_rate: float | None
    """Share of strangers that reach `same_person`; None where nobody has measured it."""
    source: str
    """A whole sentence: measured on what."""
    table: tuple[tuple[float, float], ...] = ()
    """Pairs (false-match rate, cosine), rates falling and cosines rising."""

    def cosine_at(self, rate: float) -> float:
        """The cosine that this share of strangers reaches; between the rates of the table linear
        in the logarithm of the rate.

        Raises:
            FacewrightError: a rate outside the table, or there is none.
        """
        if not self.table:
            raise FacewrightError(
                "For this recogniser nobody has measured how often strangers reach which cosine, "
                "so a limit cannot be given as a false-match rate. Give a cosine instead."
            )
        (highest, _), (lowest, _) = self.table[0], self.table[-1]
        if not lowest <= rate <= highest:
            raise FacewrightError(
                f"A false-match rate from {lowest:g} to {highest:g} is known of this recogniser, "
                f"got {rate:g}."
            )
        for (r0, c0), (r1, c1) in zip(self.table, self.table[1:], strict=False):
            if rate >= r1:
                share = (math.log(r0) - math.log(rate)) / (math.log(r0) - math.log(r1))
                return c0 + share * (c1 - c0)
        return self.table[-1][1]


_NANO = Limits(
    same_person=0.65,
    margin=0.0,
    false_match_rate=None,
    source="Measured on rendered people: of 60 people with 5 clean photos each, 0.7 % of the pairs "
    "of one person lie below and 1.5 % of those of two people above.",
)
_ARCFACE = Limits(
    same_person=0.28,
    margin=0.0,
    false_match_rate=None,
    source="insightface's demonstration calls faces above 0.28 the same person and below 0.2 "
    "another (web-demos/src_recognition of deepinsight/insightface).",
)


def limits_of(recogniser: str) -> Limits:
    """Limits that come with facewright, for a `Recogniser.name` or `Recogniser.id`.

    Recognisers of photographs trained with an angular margin are taken to be like ArcFace.
    """
    return _NANO if recogniser.startswith("nano-identity") else _ARCFACE


def threshold_of(recogniser: str) -> float:
    """`limits_of(recogniser).same_person`."""
    return limits_of(recogniser).same_person
