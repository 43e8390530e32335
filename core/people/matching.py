"""Whose face is it: albums assigned to the faces of pictures by identity, one to one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import FacewrightError, listed, not_finite
from .limits import threshold_of
from .person import Person, check_names
from .recogniser import Recogniser

SAME_PERSON = {name: threshold_of(name) for name in ("nano-identity", "arcface")}
"""Cosine from which two faces count as one person, by kind of recogniser; see `Limits`."""

_STEP = 1e-6
"""Cosines closer than this are equal: summing in another order changes them by less."""
_AT_ONCE = 16
"""Faces a recogniser looks at together: crowds must not need more memory."""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Who the m faces of a batch of pictures are."""

    people: tuple[Person, ...]
    """p albums, as they were given."""
    assigned: tuple[int | None, ...]
    """Per face an index into `people`, or None for nobody known."""
    cosines: Tensor
    """(m, p) float32, between faces and albums (`Person.template`)."""
    image_index: Tensor
    """(m,) int64: which picture of the batch a face is in."""
    threshold: float
    """No face was given an album whose cosine lies below."""

    def __len__(self) -> int:
        return len(self.assigned)

    @property
    def known(self) -> int:
        """How many faces got an album."""
        return sum(index is not None for index in self.assigned)

    def person_of(self, face: int) -> Person | None:
        """The album of a face, or None for nobody known."""
        index = self.assigned[face]
        return None if index is None else self.people[index]

    @property
    def names(self) -> list[str]:
        """Per face the name of its person, or "nobody"."""
        return ["nobody" if i is None else self.people[i].name for i in self.assigned]

    @property
    def labels(self) -> list[str]:
        """Per face "alice (0.83)", or "nobody" with whoever comes closest."""
        return [self._label(face) for face in range(len(self))]

    @property
    def report(self) -> list[str]:
        """A line per face, such as "picture 0, face 1: alice (0.83)"."""
        if not len(self):
            return ["there are no faces"]
        numbers: dict[int, int] = {}
        lines = []
        for picture, label in zip(self.image_index.tolist(), self.labels, strict=True):
            number = numbers[picture] = numbers.get(picture, -1) + 1
            lines.append(f"picture {picture}, face {number}: {label}")
        return lines

    def _label(self, face: int) -> str:
        index = self.assigned[face]
        if index is not None:
            return f"{self.people[index].name} ({float(self.cosines[face, index]):.2f})"
        if not self.people:
            return "nobody (there are no albums)"
        best = int(self.cosines[face].argmax())
        cosine = float(self.cosines[face, best])
        other = ", whom another face resembles more" if cosine >= self.threshold else ""
        return f"nobody (best: {self.people[best].name} {cosine:.2f}{other})"


def match_people(
    embeddings: Tensor,
    image_index: Tensor,
    people: Sequence[Person],
    threshold: float,
    *,
    recogniser: str,
) -> Matches:
    """Assign albums to the faces of each picture, so that each album has one face at most.

    Maximises the sum of (cosine - threshold) over the pairs of a picture; a face that is left
    over, or below the threshold with every album, is nobody. The order of faces and of albums does
    not matter: between equally good assignments the names decide.

    Args:
        embeddings: (m, d) of length 1, of the faces; m may be 0.
        image_index: (m,) which picture a face is in.
        people: albums, at most one of a name; there may be none.
        threshold: cosine in [0, 1]; 0 takes that of `SAME_PERSON`.
        recogniser: `Recogniser.id` of who made the embeddings.

    Raises:
        FacewrightError: albums of another recogniser or of one name, a threshold out of range,
            embeddings that are not finite, or shapes that do not fit.
    """
    people = list(people)
    check_names(people)
    _check(embeddings, image_index, people, threshold, recogniser)
    threshold = threshold or threshold_of(recogniser)
    order = sorted(range(len(people)), key=lambda i: people[i].name)
    assigned: list[int | None] = [None] * len(embeddings)
    if not people or not len(embeddings):
        cosines = torch.zeros(len(embeddings), len(people))
    else:
        templates = torch.stack([person.template for person in people]).double()
        cosines = embeddings.cpu().double() @ templates.T
        for picture in image_index.unique().tolist():
            faces = (image_index == picture).nonzero()[:, 0].tolist()
            pairs = _assign(cosines[faces][:, order].numpy(), threshold)
            for row, column in pairs:
                assigned[faces[row]] = order[column]
    return Matches(
        people=tuple(people),
        assigned=tuple(assigned),
        cosines=cosines.float(),
        image_index=image_index.cpu(),
        threshold=threshold,
    )


def match_faces(
    faces: Tensor,
    image_index: Tensor,
    people: Sequence[Person] | None,
    recogniser: Recogniser,
    threshold: float = 0.0,
) -> Matches:
    """`match_people` for FFHQ-aligned faces (m, 3, s, s) in [0, 1]; no albums make everyone nobody.

    Raises:
        FacewrightError: as `match_people`.
    """
    threshold = threshold or recogniser.limits.same_person
    with torch.no_grad():
        embeddings = torch.cat([recogniser(part).cpu() for part in faces.split(_AT_ONCE)])
    return match_people(embeddings, image_index, people or [], threshold, recogniser=recogniser.id)


def _assign(cosines: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Pairs (face, album) of one picture; columns stand in the order of the albums' names."""
    from scipy.optimize import linear_sum_assignment

    count = cosines.shape[1]
    # The assignment must not depend on the order of the faces either.
    rows = np.lexsort(np.round(cosines / _STEP).T[::-1])
    allowed = cosines[rows] >= threshold
    # Whole numbers, exact in float64. The lower digits prefer earlier names among equal sums.
    steps = np.round((cosines[rows] - threshold) / _STEP)
    gains = steps * (count * (count + 1) // 2 + 1) + np.arange(count, 0, -1)
    faces, albums = linear_sum_assignment(np.where(allowed, gains, 0.0), maximize=True)
    return [(int(rows[f]), int(a)) for f, a in zip(faces, albums, strict=True) if allowed[f, a]]


def _check(
    embeddings: Tensor, image_index: Tensor, people: list[Person], threshold: float, recogniser: str
) -> None:
    for person in people:
        person.check_fits(recogniser)
    if not 0 <= threshold <= 1:
        raise FacewrightError(f"`threshold` is a cosine in [0, 1], got {threshold}.")
    widths = {person.name: person.embeddings.shape[1] for person in people}
    if embeddings.ndim != 2 or len(image_index) != len(embeddings):
        raise FacewrightError(
            f"`embeddings` should be (m, d) with a picture for each of m faces, got "
            f"{tuple(embeddings.shape)} and {tuple(image_index.shape)}."
        )
    other = [name for name, width in widths.items() if width != embeddings.shape[1]]
    if other:
        raise FacewrightError(
            f"The album of {other[0]} has embeddings of {widths[other[0]]} numbers, the faces have "
            f"{embeddings.shape[1]}. Make the album again with this recogniser."
        )
    broken = not_finite(embeddings)
    if broken:
        raise FacewrightError(
            f"The recogniser gave NaN or infinity for the faces {listed(broken)}. Check the "
            "pictures there, and run the recogniser in float32."
        )
