"""How sure landmarks are: what is known of every landmarker's own error.

certainty = certainty_of(analyzer)
certainty.error("ald_eyes", yaw)     how far such a score moves by itself, in eye distances; or NaN
certainty.known                      measured on what, or why there is no number

Two things are told apart. A landmarker puts its points beside the true ones (`off`), by much the
same in two pictures of one face, so that most of it cancels in a score. What does not cancel is how
far its points move between two pictures of the very same face, one of them damaged: `error`. A
score below it says nothing, and two scores that differ by less cannot be ranked.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import FacewrightError
from ..geometry.eyes import NOSE

SCORES = ("ald_eyes", "ald_mouth", "ald_all", "l2")
TURNED = 20.0
"""Degrees to a side from which a face is said to be turned: rendered faces as the nano landmarker
was trained with are turned no farther."""

_YAWS = (0.0, 10.0, 20.0, 30.0, 40.0)


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """Of one landmarker; distances in eye distances."""

    landmarker: str
    known: str
    """Whole sentences for people: what was measured, or why nothing is known."""
    moves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Score -> how far it moves by itself, at each of `yaws`; {}: unknown."""
    off: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Score -> that of the found landmarks against the true ones; {}: unknown."""
    yaws: tuple[float, ...] = (0.0,)
    """Degrees to a side, rising."""
    nose: float = NOSE
    """Depth of the nose of the faces it knows, see `estimate_yaw`."""

    def error(self, score: str, yaw: float = 0.0) -> float:
        """Of one of `SCORES`, of a face turned by `yaw` degrees; NaN where it is unknown."""
        return self._at(self.moves, score, yaw)

    def off_by(self, score: str, yaw: float = 0.0) -> float:
        """How far the found landmarks themselves lie from the true ones; NaN: unknown."""
        return self._at(self.off, score, yaw)

    @property
    def told(self) -> str:
        """In sentences, for reports of scores."""
        if not self.moves:
            return self.known
        last = self.yaws[-1]
        sizes = ", ".join(
            f"{name} {self.error(score):.3f}"
            for name, score in (("eyes", "ald_eyes"), ("mouth", "ald_mouth"), ("all", "ald_all"))
        )
        turned = (
            f" (of a face turned by {last:.0f} degrees {self.error('ald_eyes', last):.3f}, "
            f"{self.error('ald_mouth', last):.3f} and {self.error('ald_all', last):.3f})"
        )
        return (
            f"A-LD of one and the same face in two pictures is, in eye distances, {sizes}"
            f"{turned * (last > 0)} by the landmarker {self.landmarker} alone: of single pictures, "
            f"smaller scores and differences say nothing. {self.known}"
        )

    def _at(self, table: Mapping[str, tuple[float, ...]], score: str, yaw: float) -> float:
        if score not in table:
            return math.nan
        # Straight in between; beyond the last angle its own, which is then too small.
        return float(np.interp(yaw, self.yaws, table[score]))


_NANO = Certainty(
    landmarker="nano",
    known=(
        "Measured on 120 rendered people at 128 pixels, each sharp and with mild, moderate and "
        "severe damage (bench landmark_certainty). Of photographs it says nothing."
    ),
    moves={
        "ald_eyes": (0.048, 0.050, 0.056, 0.065, 0.076),
        "ald_mouth": (0.035, 0.036, 0.037, 0.040, 0.047),
        "ald_all": (0.131, 0.140, 0.158, 0.188, 0.218),
        "l2": (0.049, 0.050, 0.055, 0.067, 0.089),
    },
    off={
        "ald_eyes": (0.127, 0.130, 0.140, 0.163, 0.215),
        "ald_mouth": (0.085, 0.087, 0.092, 0.103, 0.126),
        "ald_all": (0.349, 0.356, 0.379, 0.443, 0.605),
        "l2": (0.056, 0.057, 0.064, 0.084, 0.138),
    },
    yaws=_YAWS,
    nose=0.16,  # rendered faces are flat: 30 degrees are read as 27.5, 40 as 32
)
_MEDIAPIPE = Certainty(
    landmarker="mediapipe",
    known=(
        "Measured on 23 faces of 16 photographs, nearly all from the front, at 512 pixels, each "
        "sharp and with mild, moderate and severe damage (bench landmark_certainty). How far its "
        "points lie from the truth is not known here: that its eyes lie within 0.3 % of their "
        "distance of MediaPipe's own mesh is agreement, not truth."
    ),
    moves={"ald_eyes": (0.066,), "ald_mouth": (0.075,), "ald_all": (0.230,), "l2": (0.036,)},
)
_UNKNOWN = {
    "facexlib": (
        "How far scores of its landmarks move by themselves has not been measured here, for want "
        "of its weights. The paper of AWing (arXiv:1904.07399) states a mean error of its points "
        "of 4.36 % of the distance of the outer corners of the eyes on WFLW's photographs."
    ),
    "insightface": (
        "How far scores of its landmarks move by themselves has not been measured here, for want "
        "of its weights, and no published figure of its 68 points' error is known to facewright."
    ),
}
_BY_NAME = {"nano": _NANO, "mediapipe": _MEDIAPIPE}


def certainty_of(name: str, own: float = 0.0) -> Certainty:
    """What is known of a landmarker.

    Args:
        name: `FaceAnalyzer.name`.
        own: the user's own figure in eye distances, for every score and any angle; 0: what is
            known here. It is what a sharp photograph's score against damaged copies of itself is
            on average.

    Raises:
        FacewrightError: `own` is negative or no number.
    """
    if not 0 <= own < math.inf:
        raise FacewrightError(
            "A landmarker's error is a length in eye distances, such as 0.05, and 0 takes what is "
            f"known of it; got {own}."
        )
    why = f"How far scores of the landmarks of {name} move by themselves is not known here."
    found = _BY_NAME.get(name) or Certainty(landmarker=name, known=_UNKNOWN.get(name, why))
    if not own:
        return found
    moves = dict.fromkeys(SCORES, (own,))
    known = f"The error of {own:g} eye distances was given by the user."
    return replace(found, moves=moves, off={}, yaws=(0.0,), known=known)
