"""One person's photographs for all faces of a picture: how like the person each of them is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import FacewrightError, counted, listed, shorten
from .matching import Matches, match_people
from .person import NOBODY, Person
from .recogniser import Recogniser

M = TypeVar("M", bound=Matches)
IN_GRAPHS = (
    "Let Match People tell whose face is whose, or pick the right one by `pick` of Detect Faces."
)
"""What to do about faces that are somebody else's, where nodes restore them."""


def match_all(
    embeddings: Tensor,
    image_index: Tensor,
    person: Person,
    recogniser: Recogniser,
    assign: Mapping[int, str | None] | None = None,
) -> Matches:
    """Every face is given the album, however like the person it is.

    Args:
        embeddings, image_index: as for `match_people`.
        assign: faces, by their indices, that are told to be nobody, or the person.

    Raises:
        FacewrightError: another name is told; as `match_people`.
    """
    compared = match_people(
        embeddings,
        image_index,
        [person],
        recogniser.limits.same_person,
        recogniser=recogniser.id,
        margin=0.0,
    )
    return given_to_all(compared, assign or {})


def given_to_all(compared: M, told: Mapping[int, str | None]) -> M:
    """What was matched with one album, with that album for all faces that are not told to be
    nobody; as `match_all`."""
    (person,) = compared.people
    for name in told.values():
        if name not in (None, person.name):
            raise FacewrightError(
                f"`assign` names {shorten(name)}, but all faces share the photos of {person.name}. "
                f'Tell faces to be "{NOBODY}", or give an album for each person (`people`, '
                "--person)."
            )
    nobody = {face for face, name in told.items() if name is None}
    return replace(
        compared,
        assigned=tuple(None if face in nobody else 0 for face in range(len(compared))),
        by_hand=frozenset(told),
    )


def warnings_of(matches: Matches, advice: str = "") -> list[str]:
    """What `match_all` gave to faces that are hardly the person; nothing for pictures of one face.

    Args:
        advice: what to do; by default the options of restoring.
    """
    pictures = matches.image_index.tolist()
    several = {picture for picture in pictures if pictures.count(picture) > 1}
    unlike = [
        face
        for face in range(len(matches))
        if pictures[face] in several
        and matches.assigned[face] is not None
        and face not in matches.by_hand
        and float(matches.cosines[face, 0]) < matches.threshold
    ]
    if not unlike:
        return []
    batch = len(set(pictures)) > 1
    places = [f"{pictures[f]}/" * batch + str(matches.numbers[f]) for f in unlike]
    said = [
        f"{p} ({float(matches.cosines[f, 0]):.2f})" for p, f in zip(places, unlike, strict=True)
    ]
    name = matches.people[0].name
    return [
        f"warning: {counted(len(unlike), 'face')} may be somebody else than {name}, whose photos "
        f"all faces get: number {listed(said)}; the person has {matches.threshold:.2f} or more. "
        + (
            advice
            or "Give an album for each person (--person) in place of one for all, take the right "
            f"face alone by its number (--pick), or restore such a face without (--assign "
            f"{places[0]}={NOBODY})."
        )
    ]


def likeness(lq: Tensor, person: Person, recogniser: Recogniser) -> list[str]:
    """How like the person the faces (n, 3, s, s) in [0, 1] of a graph are, and `warnings_of`."""
    if len(lq) < 2:
        return []
    one_picture = torch.zeros(len(lq), dtype=torch.int64)
    matches = match_all(recogniser.embed(lq), one_picture, person, recogniser)
    lines = [f"face {face}: like {label}" for face, label in enumerate(matches.labels)]
    return lines + warnings_of(matches, IN_GRAPHS)
