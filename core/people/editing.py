"""Albums changed: photographs taken out, another name, two made one, the most useful kept.

Each function gives the album as it shall be, and what there is to say; the given one stays.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, counted, shorten
from .album import joined
from .limits import threshold_of
from .outliers import suspects
from .person import Person, check_name
from .photos import find_photos, labels, subset

_THUMBNAIL = 8
"""Side in pixels at which two photographs are compared by their light and colors."""


def edited(
    person: Person,
    *,
    remove: str = "",
    merge: Person | None = None,
    name: str = "",
    keep: int = 0,
) -> tuple[Person, list[str]]:
    """Several changes in this order; what is empty changes nothing.

    Args:
        remove: sources or numbers of photographs, with commas or line breaks between.
        merge: an album of the same person, whose photographs join.
        name: the new one.
        keep: how many of the most useful photographs stay; 0 keeps all.

    Returns:
        The album, a line on what it is, and lines on what was done.

    Raises:
        FacewrightError: as the single changes.
    """
    said = []
    photos = [text.strip() for text in re.split(r"[,\n]", remove) if text.strip()]
    if photos:
        person, lines = without(person, photos)
        said += lines
    if merge is not None:
        person, lines = merged(person, merge)
        said += lines
    if name.strip():
        person, lines = renamed(person, name)
        said += lines
    if keep:
        person, lines = best(person, keep)
        said += lines
    return person, [person.info, *said]


def without(person: Person, given: Sequence[str]) -> tuple[Person, list[str]]:
    """An album without some of its photographs.

    Args:
        given: sources or numbers, see `photos.find_photos`.

    Raises:
        FacewrightError: a photograph that is not there, or none would be left.
    """
    out = find_photos(person, given)
    left = [i for i in range(len(person)) if i not in set(out)]
    if not left:
        raise FacewrightError(
            f"Without {_all_of(person)} the album of {shorten(person.name)} would be empty. Leave "
            "at least one photo in, or delete the file."
        )
    names = labels(person)
    said = [f"{names[i]}: taken out" for i in out]
    return (subset(person, left) if out else person), said


def _all_of(person: Person) -> str:
    return "its only photo" if len(person) == 1 else f"all its {len(person)} photos"


def renamed(person: Person, name: str) -> tuple[Person, list[str]]:
    """An album of the same photographs under another name.

    Raises:
        FacewrightError: no name, or one that no file holds.
    """
    name = check_name(name)
    if name == person.name:
        return person, []
    return replace(person, name=name), [f"{shorten(person.name)} is called {shorten(name)} now"]


def merged(first: Person, more: Person) -> tuple[Person, list[str]]:
    """The photographs of both albums, under the name of the first; what is in both counts once.

    Raises:
        FacewrightError: albums of different recognisers, landmarks or crop sizes.
    """
    both, said = joined(first, replace(more, name=first.name))
    if more.name != first.name:
        names = shorten(first.name), shorten(more.name)
        said.insert(0, f"the album of {names[1]} joined that of {names[0]}, whose name it bears")
    cosine = float(first.template.double() @ more.template.double())
    limit = threshold_of(first.recogniser)
    if cosine < limit:
        said.append(
            f"warning: the two albums seem to show two people: their cosine is {cosine:.2f}, and "
            f"one person has {limit:.2f} or more"
        )
    return both, said


def best(person: Person, count: int) -> tuple[Person, list[str]]:
    """The `count` most useful photographs: good ones that are unlike each other.

    Photographs are chosen one after the other so that the determinant of q_i S_ij q_j over the
    chosen grows most (greedy inference of a determinantal point process: Kulesza and Taskar,
    "Determinantal point processes for machine learning", 2012). q is the quality, and
    S_ij = exp(-(a_ij + b_ij) / 2) tells how alike two are: a is the squared difference of their
    landmarks (pose and expression), b that of the two reduced to 8 x 8 pixels (light, colors, hair,
    glasses), each over its mean in the album. Those that may show somebody else come last.

    Returns:
        The album, its photographs in the order they had, and a line on each: why it is in or out.

    Raises:
        FacewrightError: less than one photograph is asked for.
    """
    if count < 1:
        raise FacewrightError(f"An album keeps at least one photo; asked for were {count}.")
    if count >= len(person):
        return person, [f"all {counted(len(person), 'photo')} stay: no more than {count} are there"]
    poses, looks = _poses(person), _looks(person)
    doubtful = {i for suspect in suspects(person) for i in suspect.photos}
    quality = person.quality.double().clamp(min=1e-3)
    apart = [poses, looks]
    chosen, reasons = [], {}
    for _ in range(count):
        # What a photograph adds to the determinant is what remains of it when the chosen ones
        # explained what they can.
        left = torch.ones(len(person), dtype=torch.float64)
        if chosen:
            kernel = _alike(apart, chosen)
            among = kernel[:, chosen]
            jitter = 1e-9 * torch.eye(len(chosen), dtype=torch.float64)
            left = 1 - (kernel * torch.linalg.solve(among + jitter, kernel)).sum(0)
        gain = quality.square() * left.clamp(min=1e-12)
        gain[list(doubtful)] *= 1e-15
        gain[chosen] = -1
        pick = int(gain.argmax())
        reasons[pick] = _why(person, apart, chosen, pick)
        chosen.append(pick)
    names, said = labels(person), []
    nearest = _alike(apart, chosen).argmax(0).tolist()
    for i in range(len(person)):
        if i in reasons:
            said.append(f"{names[i]}: kept, {reasons[i]}")
        elif i in doubtful:
            said.append(f"{names[i]}: left out, it may show somebody else")
        else:
            near = chosen[nearest[i]]
            said.append(
                f"{names[i]}: left out, quality {person.quality[i]:.2f}, most like {names[near]} "
                f"({person.quality[near]:.2f})"
            )
    return subset(person, sorted(chosen)), said


def _why(person: Person, apart: Sequence[Tensor], chosen: Sequence[int], pick: int) -> str:
    told = f"quality {person.quality[pick]:.2f}"
    if not chosen:
        return f"the best one ({told})"
    alike = _alike(apart, chosen)[:, pick]
    nearest = chosen[int(alike.argmax())]
    pose, look = (float((x[nearest] - x[pick]).square().sum()) for x in apart)
    kind = "pose or expression" if pose > look else "light or looks"
    return f"{told}, another {kind} than {labels(person)[nearest]}"


def _poses(person: Person) -> Tensor:
    """(n, 2k), squared distances of 1 on average: landmarks as alignment left them."""
    return _scaled(person.landmarks.double().flatten(1))


def _looks(person: Person) -> Tensor:
    small = F.adaptive_avg_pool2d(person.crops.float(), _THUMBNAIL)
    return _scaled(small.double().flatten(1))


def _scaled(features: Tensor) -> Tensor:
    """Features whose squared distances have the mean 1: twice their total variance."""
    apart = features - features.mean(0)
    mean = 2 * apart.square().sum(1).mean() * len(apart) / max(len(apart) - 1, 1)
    return apart / mean.clamp(min=1e-12).sqrt()


def _alike(apart: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """S of the rows against all, (len(rows), n)."""
    squares = sum(torch.cdist(x[list(rows)], x).square() for x in apart)
    return torch.exp(-torch.as_tensor(squares) / 2).reshape(len(rows), -1)
