"""Photographs of an album that may show somebody else."""

from torch import Tensor

from .limits import threshold_of
from .person import Person


def strangers(person: Person) -> list[str]:
    """Warnings where an album seems to show more than one person; [] where it does not.

    Photos are grouped by cosine: whoever is at least as close as `SAME_PERSON` to one of a group
    belongs to it.
    """
    threshold = threshold_of(person.recogniser)
    cosines = person.embeddings.double() @ person.embeddings.double().T
    groups = _groups(cosines >= threshold)
    if len(groups) < 2:
        return []
    groups.sort(key=lambda group: (-len(group), sorted(person.sources[i] for i in group)))
    main, others = groups[0], groups[1:]
    lines = []
    for group in others:
        names = ", ".join(sorted(person.sources[i] for i in group))
        nearest = float(cosines[group][:, [i for i in range(len(person)) if i not in group]].max())
        lines.append(
            f"warning: {names} may show another person than "
            f"{', '.join(sorted(person.sources[i] for i in main))}: the closest cosine is "
            f"{nearest:.2f}, photos of one person have {threshold:.2f} or more. Everything was "
            "kept; take out what does not belong."
        )
    return lines


def _groups(near: Tensor) -> list[list[int]]:
    """Connected components of a symmetric (n, n) relation."""
    left, groups = set(range(len(near))), []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            edge = {j for i in edge for j in left if bool(near[i, j])} - group
        left -= group
        groups.append(sorted(group))
    return groups
