"""People with one mark taken away, or with a mark of somebody else."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from facewright.training.world.identities import Identities, sample_identities
from torch import Tensor

HIT, FALSE_POSITIVE = "hit", "false positive"
IRIS_APART = 0.15
"""The iris is asked for only where the two colours differ by as much in some channel."""
FRECKLES_APART = 0.25
"""Freckles are asked for only where the two people's amounts, 0 to 1, differ by as much."""
LARGE = 0.03
"""Least radius of a mole that is asked for, in face units; smaller ones are 1 to 3 pixels of 128
wide, and hard to tell from the noise of a restoration."""
APART = {"mole": 0.1, "scar": 0.2}
"""In face units, 5 and 10 pixels of 128: closer to an own mark of the kind, whose mark it is cannot
be said."""
MEAN_OF = 1024
"""People whose mean iris colour stands for not knowing it."""


def changes(people: Identities, wrong: Identities) -> Iterator[tuple[str, str, Tensor, Identities]]:
    """What is changed about whom: mark, test, rows (k,) and those k people with the change.

    For a hit the mark is taken away, for a false positive the wrong person's is added.
    """
    yield from _table_changes("mole", "moles", people, wrong, lambda m: m[..., 2] >= LARGE)
    yield from _table_changes("scar", "scars", people, wrong)
    jewels = tuple(f"earring_{x}" for x in ("ring", "radius", "rgb"))
    yield from _worn_changes("earring", "earring", jewels, people, wrong)
    yield from _worn_changes("lips", "lipstick", ("lipstick_rgb",), people, wrong)

    mean = _mean_iris().expand(len(people), -1)
    for test, colour in ((HIT, mean), (FALSE_POSITIVE, wrong.iris_rgb)):
        apart = (people.iris_rgb - colour).abs().amax(1) >= IRIS_APART
        index = apart.nonzero()[:, 0]
        yield "iris", test, index, replace(people.take(index), iris_rgb=colour[index])

    frames = tuple(f"glasses_{x}" for x in ("radius", "square", "thickness", "rgb"))
    yield from _worn_changes("glasses", "glasses", frames, people, wrong)

    more = people.freckles - wrong.freckles
    index = (more >= FRECKLES_APART).nonzero()[:, 0]
    some = people.take(index)
    yield "freckles", HIT, index, replace(some, freckles=torch.zeros(len(some)))
    # The amount is the wrong person's; where the dots lie is the photo's.
    index = (-more >= FRECKLES_APART).nonzero()[:, 0]
    painted = replace(people.take(index), freckles=wrong.take(index).freckles)
    yield "freckles", FALSE_POSITIVE, index, painted


@lru_cache(maxsize=1)
def _mean_iris() -> Tensor:
    return sample_identities(list(range(MEAN_OF))).iris_rgb.mean(0)


def _table_changes(
    mark: str,
    field: str,
    people: Identities,
    wrong: Identities,
    asked: Callable[[Tensor], Tensor] = lambda table: table[..., -1] != 0,
) -> Iterator[tuple[str, str, Tensor, Identities]]:
    """Each mark of a table (b, n, k) by itself; the others stay.

    Args:
        field: the table's name; its marks begin with u and v, and end with 0 if they are not there.
        asked: (b, n, k) -> (b, n), which marks are asked for; those that are there by default.
    """
    own, strange = getattr(people, field), getattr(wrong, field)
    there, theirs = (x[..., -1] != 0 for x in (own, strange))
    for j in range(own.shape[1]):
        index = (there & asked(own))[:, j].nonzero()[:, 0]
        some = people.take(index)
        table = getattr(some, field).clone()
        table[:, j, -1] = 0
        yield mark, HIT, index, replace(some, **{field: table})
    for j in range(strange.shape[1]):
        one = strange[:, j : j + 1]
        near = (own[..., :2] - one[..., :2]).norm(dim=-1) < APART[mark]
        index = ((theirs & asked(strange))[:, j] & ~(near & there).any(1)).nonzero()[:, 0]
        some = people.take(index)
        table = torch.cat([getattr(some, field), one[index]], 1)
        yield mark, FALSE_POSITIVE, index, replace(some, **{field: table})


def _worn_changes(
    mark: str, field: str, looks: tuple[str, ...], people: Identities, wrong: Identities
) -> Iterator[tuple[str, str, Tensor, Identities]]:
    """What one of the two wears and the other does not, with what it looks like there."""
    own, strange = getattr(people, field), getattr(wrong, field)
    index = ((own > 0) & (strange == 0)).nonzero()[:, 0]
    some = people.take(index)
    yield mark, HIT, index, replace(some, **{field: torch.zeros(len(some))})
    index = ((own == 0) & (strange > 0)).nonzero()[:, 0]
    other = wrong.take(index)
    worn = {name: getattr(other, name) for name in (field, *looks)}
    yield mark, FALSE_POSITIVE, index, replace(people.take(index), **worn)
