"""Whose face is it: albums assigned to the faces of pictures by identity, one to one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import FacewrightError, counted, listed, not_finite, shorten
from .assigning import decided, likeliest
from .limits import limits_of, threshold_of
from .margins import alike, margin_from, margins_of
from .person import NOBODY, Person, check_names
from .recogniser import Recogniser

SAME_PERSON = {name: threshold_of(name) for name in ("nano-identity", "arcface")}
"""Cosine from which two faces count as one person, by kind of recogniser; see `Limits`."""


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
    """No face was given an album whose cosine lies below, but by hand."""
    margin: float = 0.0
    """By how much an album has to beat the next one at least (`core.people.margins`); a face below
    that is `unsure`."""
    unsure: tuple[tuple[str, ...], ...] = ()
    """Per face the names it may be, the likeliest first, where that cannot be told; () where it is
    clear. One name alone: that person or nobody, as another face may be the person, too. An unsure
    face is assigned None."""
    by_hand: frozenset[int] = frozenset()
    """Faces whose person was told."""
    margins: tuple[float | None, ...] = ()
    """Per face as `margin_of`."""

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

    def may_be(self, face: int) -> tuple[str, ...]:
        """The names that an unsure face may have, see `unsure`; () where it is clear."""
        return self.unsure[face] if self.unsure else ()

    def runner_up(self, face: int) -> str | None:
        """Who comes next after the face's own album, or after the likeliest of an unsure face; of
        nobody's face who comes closest. None where there is no such album."""
        first = self._first(face)
        others = [i for i in self._ranked(face) if i != first]
        return self.people[others[0]].name if others else None

    def margin_of(self, face: int) -> float | None:
        """By how much the picture's best assignment beats the best in which this face is another
        album's, or its album another face's; of nobody's face, in which it is anybody's.

        Cosines, see `assigning.losses`; None where there is nothing to compare, and by hand.
        """
        return self.margins[face] if self.margins else None

    @property
    def names(self) -> list[str]:
        """Per face the name of its person, "nobody", or "alice or bob" where it is unsure."""
        return [self._name(face) for face in range(len(self))]

    @property
    def labels(self) -> list[str]:
        """Per face "alice (0.83, next bob 0.41)", or "nobody" with whoever comes closest."""
        return [self._label(face) for face in range(len(self))]

    @property
    def report(self) -> list[str]:
        """A line per face, such as "picture 0, face 1: alice (0.83)", then `warnings`."""
        if not len(self):
            return ["there are no faces"]
        places = zip(self.image_index.tolist(), self.numbers, self.labels, strict=True)
        lines = [f"picture {picture}, face {face}: {label}" for picture, face, label in places]
        return lines + self.warnings

    @property
    def numbers(self) -> list[int]:
        """Per face its number in its picture, from 0."""
        seen: dict[int, int] = {}
        numbers = []
        for picture in self.image_index.tolist():
            seen[picture] = seen.get(picture, -1) + 1
            numbers.append(seen[picture])
        return numbers

    @property
    def warnings(self) -> list[str]:
        """What should be looked at: faces that cannot be told, and albums of nearly one person."""
        lines = alike(self.people, self.threshold, self.margin)
        open_ = [face for face in range(len(self)) if self.may_be(face)]
        if open_:
            batch, face = len(self.image_index.unique()) > 1, open_[0]
            place = f"{int(self.image_index[face])}/" * batch + str(self.numbers[face])
            lines.append(
                f"warning: no album was taken for {counted(len(open_), 'face')} that cannot be "
                f'told for sure. Say by `assign` whose it is, such as "{place}='
                f'{self.may_be(face)[0]}", or lower `margin`: at 0 the likeliest is taken.'
            )
        return lines

    def _first(self, face: int) -> int | None:
        index = self.assigned[face]
        if index is None and self.may_be(face):
            return [person.name for person in self.people].index(self.may_be(face)[0])
        return index

    def _ranked(self, face: int) -> list[int]:
        return self.cosines[face].argsort(descending=True, stable=True).tolist()

    def _name(self, face: int) -> str:
        names = self.may_be(face)
        if names:
            return " or ".join([*names, NOBODY][: max(2, len(names))])
        index = self.assigned[face]
        return NOBODY if index is None else self.people[index].name

    def _cosine(self, face: int, name: str) -> float:
        return float(self.cosines[face, [person.name for person in self.people].index(name)])

    def _where(self, face: int, name: str) -> str:
        """Why an album that a face reaches is not the face's."""
        picture = int(self.image_index[face])
        told = [i for i in self.by_hand if int(self.image_index[i]) == picture]
        if any(self.names[i] == name for i in told):
            return "whom another face is by hand"
        return "whom another face resembles more"

    def _label(self, face: int) -> str:
        index, name, next_ = self.assigned[face], self._name(face), self.runner_up(face)
        hand = ["by hand"] * (face in self.by_hand)
        if names := self.may_be(face):
            return f"{name} ({', '.join(f'{self._cosine(face, n):.2f}' for n in names)})"
        if index is not None:
            said = [f"{float(self.cosines[face, index]):.2f}", *hand]
            said += [f"next {next_} {self._cosine(face, next_):.2f}"] if next_ else []
            return f"{name} ({', '.join(said)})"
        if hand:
            return f"{NOBODY} (by hand)"
        if next_ is None:
            return f"{NOBODY} (there are no albums)"
        cosine = self._cosine(face, next_)
        if cosine >= self.threshold:
            return f"{NOBODY} (best: {next_} {cosine:.2f}, {self._where(face, next_)})"
        near = self.margin > 0 and cosine >= self.threshold - self.margin
        return f"{NOBODY} ({'resembles' if near else 'best:'} {next_} {cosine:.2f})"


def match_people(
    embeddings: Tensor,
    image_index: Tensor,
    people: Sequence[Person],
    threshold: float,
    *,
    recogniser: str,
    margin: float | None = None,
    assign: Mapping[int, str | None] | None = None,
) -> Matches:
    """Assign albums to the faces of each picture, so that each album has one face at most.

    Maximises the sum of (cosine - threshold) over the pairs of a picture; a face that is left
    over, or below the threshold with every album, is nobody. Where another assignment of the
    picture is worse by less than the margin, the faces in which both differ are unsure, and none of
    them gets an album; the margin is `margin`, and more between albums that are near one another
    and of faces that are far from theirs (`core.people.margins`). The order of faces and of albums
    does not matter: between equally good assignments the names decide.

    Args:
        embeddings: (m, d) of length 1, of the faces; m may be 0.
        image_index: (m,) which picture a face is in.
        people: albums, at most one of a name; there may be none.
        threshold: cosine in [0, 1]; 0 takes that of `limits_of`.
        recogniser: `Recogniser.id` of who made the embeddings.
        margin: cosine in [0, 1]; None as `margin_from`, 0 is sure of the best always.
        assign: what is told by hand: by a face's index the name of its album, or None for nobody.
            It holds whatever the cosines say, several faces of a picture may have one album so, and
            the other faces share out the albums that are left.

    Raises:
        FacewrightError: albums of another recogniser or of one name, a threshold or margin out of
            range, an assignment to a face or album that is not there, embeddings that are not
            finite, or shapes that do not fit.
    """
    people = list(people)
    check_names(people)
    limits = limits_of(recogniser)
    margin = margin_from(limits, margin)
    _check(embeddings, image_index, people, threshold, margin, recogniser)
    threshold = threshold or limits.same_person
    told = _told(assign or {}, people, len(embeddings))
    order = sorted(range(len(people)), key=lambda i: people[i].name)
    assigned: list[int | None] = [told.get(face) for face in range(len(embeddings))]
    unsure: list[tuple[str, ...]] = [()] * len(embeddings)
    margins: list[float | None] = [None] * len(embeddings)
    cosines = torch.zeros(len(embeddings), len(people), dtype=torch.float64)
    if people and len(embeddings):
        templates = torch.stack([person.template for person in people]).double()
        cosines = embeddings.cpu().double() @ templates.T
        wanted = margins_of(people, cosines, margin)
        for picture in image_index.unique().tolist():
            faces = (image_index == picture).nonzero()[:, 0].tolist()
            taken = {told[face] for face in faces if face in told}
            faces = [face for face in faces if face not in told]
            albums = [album for album in order if album not in taken]
            if not faces or not albums:
                continue
            asked = wanted.part(faces, albums)
            verdicts = decided(cosines[faces][:, albums].numpy(), threshold, asked)
            for verdict, face in zip(verdicts, faces, strict=True):
                if verdict.album is not None and not verdict.others:
                    assigned[face] = albums[verdict.album]
                margins[face] = verdict.margin
                may_be = likeliest(verdict.others, cosines[face, albums])
                unsure[face] = tuple(people[albums[i]].name for i in may_be)
    return Matches(
        people=tuple(people),
        assigned=tuple(assigned),
        cosines=cosines.float(),
        image_index=image_index.cpu(),
        threshold=threshold,
        margin=margin,
        unsure=tuple(unsure),
        by_hand=frozenset(told),
        margins=tuple(margins),
    )


def match_faces(
    faces: Tensor,
    image_index: Tensor,
    people: Sequence[Person] | None,
    recogniser: Recogniser,
    threshold: float = 0.0,
    *,
    margin: float | None = None,
    assign: Mapping[int, str | None] | None = None,
) -> Matches:
    """`match_people` for FFHQ-aligned faces (m, 3, s, s) in [0, 1]; no albums make everyone nobody.

    Raises:
        FacewrightError: as `match_people`.
    """
    limits = recogniser.limits
    return match_people(
        recogniser.embed(faces),
        image_index,
        people or [],
        threshold or limits.same_person,
        recogniser=recogniser.id,
        margin=margin_from(limits, margin),
        assign=assign,
    )


def _told(
    assign: Mapping[int, str | None], people: Sequence[Person], count: int
) -> dict[int, int | None]:
    """By a face's index that of the album it was given by hand, or None for nobody.

    Raises:
        FacewrightError: there is no such face or album; the sentence says which there are.
    """
    names = [person.name for person in people]
    told: dict[int, int | None] = {}
    for face, name in assign.items():
        if not 0 <= face < count:
            there = f"are numbered 0 to {count - 1}" if count > 1 else "are none but number 0"
            raise FacewrightError(
                f"`assign` names face {face}, but "
                + (f"the faces {there}." if count else "there are no faces.")
            )
        if name is not None and name not in names:
            there = f"There are {listed(names)}." if names else "There are no albums."
            raise FacewrightError(
                f"`assign` gives face {face} to {shorten(name)}, who has no album here. {there} "
                f'"{NOBODY}" says that it is none of them.'
            )
        told[face] = None if name is None else names.index(name)
    return told


def _check(
    embeddings: Tensor,
    image_index: Tensor,
    people: list[Person],
    threshold: float,
    margin: float,
    recogniser: str,
) -> None:
    for person in people:
        person.check_fits(recogniser)
    if not 0 <= threshold <= 1:
        raise FacewrightError(f"`threshold` is a cosine in [0, 1], got {threshold}.")
    if not 0 <= margin <= 1:
        raise FacewrightError(f"`margin` is a difference of cosines in [0, 1], got {margin}.")
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
