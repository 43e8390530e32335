"""By how much the best album has to beat another one before a face is taken for it.

How far a face's cosines to two albums lie apart is measured along the line between the albums'
templates. Noise on it grows with the length of that line, and of a line that is short some is noise
itself: templates are means of a few photographs. By the likelihood ratio of two normal
distributions the difference that makes one album so many times as likely as the other is
proportional to

    scatter^2 * |a - b|^2 / (|a - b|^2 - noise),

where the scatter is that of faces around their person, the first |a - b|^2 comes from the length
of the line, and the last is how far the people are apart without what the scatter of the albums'
own photographs makes of it. So the margin for albums clearly apart is multiplied by |a - b|^2 over
what is left of it, and nothing is left of two albums of one person. And a face that lies farther
from its album than photographs of the person do, as damaged ones do, scatters more: by its squared
distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .limits import Limits, limits_of
from .outliers import USUAL, apart
from .person import Person

LEAST_MARGIN = 0.08
"""Margin that no recogniser's measured one goes below: limits are measured on strangers, and
albums are also given of brothers and twins."""
_AS_ONE = 2.5
"""So many photographs of an album tell no more than one: they are often of one day."""
_ALLOWED = 2.0
"""From how many times the usual distance of a photograph on a face needs a larger margin.

Both were chosen on 120 rendered people in groups and 220 pairs of look-alikes, in the picture alone
(nano recogniser). Of 30 wrong albums of look-alikes they leave 3, of 15 in groups 5, and make 2.3
points more of the right ones in groups unsure; 1 and 2 leave 7 and 9 for 1.2 points, 3.5 and 1.5
leave none and 4 for 4.9."""


@dataclass(frozen=True)
class Margins:
    """Between p albums, for m faces."""

    least: float
    """Between albums clearly apart, and where it is one face or another who is somebody."""
    albums: np.ndarray
    """(p, p): between each two albums, infinite where they are one person's."""
    faces: np.ndarray
    """(m, p): how many times that a face needs to be taken for an album; 1 or more."""

    def part(self, faces: Sequence[int], albums: Sequence[int]) -> "Margins":
        """Of some faces and albums."""
        rows, columns = list(faces), list(albums)
        return Margins(
            self.least, self.albums[np.ix_(columns, columns)], self.faces[np.ix_(rows, columns)]
        )

    def between(self, face: int, album: int | None) -> np.ndarray:
        """(p,): by how much that album has to beat each other one; None for nobody."""
        if album is None:
            return np.full(len(self.albums), self.least)
        return self.albums[album] * self.faces[face, album]


def margin_from(limits: Limits, given: float | None = None) -> float:
    """The margin that is given, or else the recogniser's, but no less than `LEAST_MARGIN`."""
    return max(limits.margin, LEAST_MARGIN) if given is None else given


def margins_of(people: Sequence[Person], cosines: Tensor, margin: float) -> Margins:
    """For faces whose cosines (m, p) to the albums are these.

    Args:
        margin: between albums clearly apart; 0 makes all margins 0.
    """
    p = len(people)
    albums = np.full((p, p), margin)
    for (i, a), (j, b) in combinations(enumerate(people), 2):
        albums[i, j] = albums[j, i] = _between(a, b, margin)
    allowed = np.array([_ALLOWED * _usual(person) for person in people])
    times = np.maximum(1, (1 - cosines.double().numpy()) / allowed)
    return Margins(margin, albums, times)


def alike(people: Sequence[Person], threshold: float, margin: float) -> list[str]:
    """A warning for each two albums that are so near one another that faces cannot be told.

    A face at cosine c to one template is at about c times the templates' cosine to the other; where
    that is less than the margin apart for a face that just reaches `threshold`, it is unsure.
    """
    lines = []
    for a, b in combinations(sorted(people, key=lambda person: person.name), 2):
        if a.recogniser != b.recogniser or a.embeddings.shape[1:] != b.embeddings.shape[1:]:
            continue
        cosine = float(a.template @ b.template)
        if threshold * (1 - cosine) < _between(a, b, margin):
            lines.append(
                f"warning: the albums of {a.name} and {b.name} are nearly one person (cosine "
                f"{cosine:.2f}): their faces are often unsure. If it is one person, put all "
                "photos into one album; else say by hand whose face is whose."
            )
    return lines


def _between(a: Person, b: Person, margin: float) -> float:
    if not margin:
        return 0.0
    distance = 2 * (1 - float(a.template.double() @ b.template.double()))
    left = distance - _noise(a) - _noise(b)
    return margin * max(1.0, distance / left) if left > 0 else np.inf


def _noise(person: Person) -> float:
    """Expected squared distance of the template from what it would be of endless photographs.

    That of one photograph, which is taken to be half what is usual and half what the album's have,
    each held against the others; over how many independent ones there are.
    """
    weights = person.quality.double()
    weights = weights if bool(weights.any()) else torch.ones_like(weights)
    count = float(weights.sum() ** 2 / (weights**2).sum())
    single, n = 2 * _usual(person), len(person)
    if n > 1:
        own = float(apart(F.normalize(person.embeddings.double(), dim=1)).mean())
        single = (single + 2 * own * (n - 1) / n) / 2
    return single * min(1.0, _AS_ONE / count)


def _usual(person: Person) -> float:
    return USUAL * (1 - limits_of(person.recogniser).same_person)
