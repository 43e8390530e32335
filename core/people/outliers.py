"""Photographs of an album that may show somebody else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import first_of, listed
from .limits import threshold_of
from .person import Person
from .photos import labels

Remedy = Callable[[Person, Sequence[int]], str]
"""How somebody takes these photographs out of that album, in words that follow "with "."""

_ROWS = 512
"""Photographs compared with all others at once: an album may hold thousands."""
USUAL = 0.08 / 0.35
"""How far a photograph of the person lies from the others, 1 - cosine, as a share of how far the
recogniser's limit lies from 1. Measured on rendered people with the nano recogniser; of others it
is taken to be the same."""
_FAR = 2.9
"""From how many times the expected distance on a photograph is suspect. Chosen on 400 rendered
people: 2 % of albums without anybody else reach it, at the most 3 % of those of one size (3 to 12)
and quality (sharp, or sharp to moderately damaged)."""

_MOST, _NAMES, _COMMANDED = 20, 8, 50
"""How many look-alikes are looked for, how many photographs a warning names, and how many the
command in it takes."""


@dataclass(frozen=True)
class Suspect:
    """Photographs that may show another person than the rest of the album."""

    photos: tuple[int, ...]
    rest: tuple[int, ...]
    """Whom they were compared with."""
    words: str
    """What was measured."""


def suspects(person: Person, limit: float | None = None) -> list[Suspect]:
    """Photographs that do not belong, as far as their embeddings tell; [] where all do.

    First by groups: whoever is at least as close as the recogniser's limit for one person to one of
    a group belongs to it, and every group but the largest is suspect. Then, within the largest, by
    distance to the rest: people who look alike pass the limit. The distance of a photograph is
    d = 1 - cosine to the mean of the others, times the root of its quality over the album's best
    (a damaged photograph may be farther off). What is expected is half the recogniser's usual
    distance and half the mean distance of the others among themselves, drawn towards the usual one
    as by five more photographs. The farthest one is suspect from `_FAR` times that on, is left out,
    and the next is looked at. A pair has no rest: only the limit tells.

    Args:
        limit: cosine of one person, where the recogniser at hand has one of its own; else what
            comes with facewright.
    """
    limit = limit or threshold_of(person.recogniser)
    embeddings = F.normalize(person.embeddings.double(), dim=1)
    groups = _groups(embeddings, limit)
    groups.sort(key=lambda group: (-len(group), sorted(person.sources[i] for i in group)))
    main, found = groups[0], []
    for group in groups[1:]:
        others = torch.ones(len(person), dtype=torch.bool)
        others[group] = False
        nearest = max(
            float((embeddings[rows] @ embeddings[others].T).max())
            for rows in torch.tensor(group).split(_ROWS)
        )
        words = f"the closest cosine is {nearest:.2f}, one person's photos have {limit:.2f} or more"
        found.append(Suspect(tuple(group), tuple(main), words))
    for _ in range(_MOST):
        far = _farthest(person, embeddings, main, limit) if len(main) > 2 else None
        if far is None:
            break
        index, words = far
        main = [i for i in main if i != index]
        found.append(Suspect((index,), tuple(main), words))
    return found


def _farthest(
    person: Person, embeddings: Tensor, among: list[int], limit: float
) -> tuple[int, str] | None:
    """The photograph that lies farthest from the rest of `among`, if it is suspect, and why."""
    own, quality = embeddings[among], person.quality[among].double()
    usual = USUAL * (1 - limit)
    distances = apart(own)
    weights = (quality / quality.max().clamp(min=1e-6)).clamp(min=0.05).sqrt()
    worst = int((distances * weights).argmax())
    others = torch.ones(len(among), dtype=torch.bool)
    others[worst] = False
    rest = apart(own[others])
    expected = (usual + (rest.sum() + 5 * usual) / (len(rest) + 5)) / 2
    if float(distances[worst] * weights[worst]) <= _FAR * float(expected):
        return None
    words = (
        f"its cosine to them is {1 - float(distances[worst]):.2f}, theirs to each other "
        f"{1 - float(rest.mean()):.2f}"
    )
    return among[worst], words


def apart(embeddings: Tensor) -> Tensor:
    """(n, d) of length 1 -> (n,), 1 - cosine of each with the mean of the others."""
    others = embeddings.sum(0) - embeddings
    return 1 - (F.normalize(others, dim=1) * embeddings).sum(1)


def strangers(
    person: Person, remedy: Remedy | None = None, limit: float | None = None
) -> list[str]:
    """Warnings where an album seems to show more than one person; [] where it does not.

    Args:
        remedy: how a photograph is taken out where the reader is.
        limit: as in `suspects`.
    """
    names, lines = labels(person), []
    for suspect in suspects(person, limit):
        who, rest = (
            listed(sorted(names[i] for i in photos), _NAMES)
            for photos in (suspect.photos, suspect.rest)
        )
        what = "it" if len(suspect.photos) == 1 else "them"
        do = "take out what does not belong"
        if remedy is None or len(suspect.photos) > _COMMANDED:
            pass
        elif len(suspect.photos) < len(suspect.rest):
            do = f"if so, take {what} out with {remedy(person, suspect.photos)}"
        else:
            both = (suspect.photos, suspect.rest)
            ways = dict.fromkeys(remedy(person, photos) for photos in both)
            do = f"if so, take out the wrong one with {' or '.join(ways)}"
        lines.append(
            f"warning: {who} may show another person than {rest}: {suspect.words}. Everything was "
            f"kept; {do}."
        )
    return first_of(lines, "warning: {} more photos or groups of them may show others, too.")


def _groups(embeddings: Tensor, limit: float) -> list[list[int]]:
    """Connected components of the photographs whose cosine is at least `limit`."""
    left, groups = torch.ones(len(embeddings), dtype=torch.bool), []
    while bool(left.any()):
        edge = left.nonzero()[:1, 0]
        left[edge] = False
        group = [edge]
        while len(edge):
            near = torch.zeros_like(left)
            for rows in edge.split(_ROWS):
                near |= (embeddings[rows] @ embeddings.T >= limit).any(0)
            edge = (near & left).nonzero()[:, 0]
            left[edge] = False
            group.append(edge)
        groups.append(sorted(torch.cat(group).tolist()))
    return groups
