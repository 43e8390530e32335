"""Limits of a recogniser measured on photographs of known people.

Every face is compared with the album of its own person, made of the other photos (genuine), and
with those of other people (impostors), by the cosine that matching and the guard use. From the
impostors follows which cosine a share of strangers reaches, from the genuine ones what that costs.

Faces of one person are alike, so a comparison says little more than others of the same two people:
what counts is how many pairs of people there are. By the rule of three (95 %) n of them without a
false match only show a rate below 3/n, so a rate r takes 3/r pairs. Intervals come from a bootstrap
over people, which leaves both sides of a pair their dependence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, counted
from .limits import Limits, Rate, limits_of, percent
from .margins import margin_from
from .person import Person

RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""Of the table, as far as the people support them."""
USUAL = (0.001, 0.01)
"""Rates that limits are made for where nobody says one: the first that the people support."""
_OTHERS = 1000
"""Albums that a face is compared with at the most, which bounds the memory."""
_RESAMPLED, _SEED = 200, 7
_LOST = 0.5
"""From this share of missed faces on, people are not told apart."""


@dataclass(frozen=True)
class Calibration:
    """What was found."""

    limits: Limits
    people: int
    photos: int
    pairs: int
    """Of two people."""
    genuine: int
    """Comparisons of a face with its own person."""
    impostors: int
    """Comparisons of a face with another person."""
    closest: tuple[str, str, float]
    """The two people whose albums are most alike, and their cosine."""

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        counts = ("people", "photos", "pairs", "genuine", "impostors")
        limits = {key: value for key, value in vars(self.limits).items() if key != "table"}
        return {
            **limits,
            "table": [vars(row) for row in self.limits.table],
            **{name: getattr(self, name) for name in counts},
            "closest": {"people": self.closest[:2], "cosine": self.closest[2]},
        }

    def _line(self, row: Rate) -> str:
        lost = round((row.missed or 0) * self.genuine)
        return (
            f"{percent(row.rate)} of strangers reach {row.cosine:.3f} (95 % interval {row.low:.3f} "
            f"to {row.high:.3f}); {lost} of {self.genuine} faces miss it with their own person"
        )

    @property
    def report(self) -> list[str]:
        """Lines for people; those that need a look begin with "warning: "."""
        same = self.limits.same_person
        compared = f"{self.genuine} comparisons of a face with its own person"
        who = f"{self.people} people, {counted(self.photos, 'photo')}"
        margin = f"{margin_from(self.limits):.3f}"
        guard = f"the guard holds back what drifts farther than {1 - same:.2f}"
        lines = [
            f"{who}, {self.pairs} pairs of people: {compared}, {self.impostors} with another",
            *(self._line(row) for row in self.limits.table),
            f"a face is a person's from {self.limits.told(same)}; {guard}",
            f"a face is unsure where the best album leads by less than {margin}",
        ]
        a, b, cosine = self.closest
        lines.append(f"most alike: {a} and {b}, cosine {cosine:.2f}; are they two people?")
        missed = _row(self.limits, self.limits.false_match_rate).missed or 0
        if missed >= _LOST:
            lines.append(
                f"warning: this recogniser does not tell these people apart: at the limit "
                f"{percent(missed)} of the faces are not taken for their own person. The limits "
                "are right, but of no use: are the weights trained, and the faces cut out well?"
            )
        return lines


def needed(rate: float) -> tuple[int, int]:
    """How many pairs of people, and how many people, a false-match rate takes."""
    pairs = math.ceil(3 / rate)
    return pairs, math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)


def supported(people: int) -> float:
    """The lowest false-match rate that so many people can show."""
    pairs = people * (people - 1) // 2
    return min(1.0, 3 / pairs) if pairs else 1.0


def calibrate(people: Sequence[Person], *, rate: float | None = None) -> Calibration:
    """Limits of the recogniser that these albums were made with.

    Args:
        people: albums, each of another person; those of one photo serve as strangers only.
        rate: the false-match rate of the limits, in (0, 1); None takes the first of `USUAL` that
            so many people support.

    Raises:
        FacewrightError: too few people or photos for the rate (the sentence says how many it
            takes), albums of several recognisers.
    """
    _check(people, rate)
    lowest = supported(len(people))
    if rate is None:
        rate = next(usual for usual in USUAL if usual >= lowest)
    owner = torch.cat([torch.full((len(p),), i) for i, p in enumerate(people)])
    faces = F.normalize(torch.cat([p.embeddings for p in people]).double(), dim=1)
    templates = torch.stack([F.normalize(p.template.double(), dim=0) for p in people])
    own = torch.cat([_without_itself(p) for p in people])
    others = (owner[:, None] + 1 + torch.arange(min(len(people) - 1, _OTHERS))) % len(people)
    foreign = torch.stack(
        [templates[other] @ face for face, other in zip(faces, others, strict=True)]
    )
    known = own.isfinite()
    rates = sorted({rate, *(r for r in RATES if r >= lowest)}, reverse=True)
    rows = _rows(foreign, owner, others, own[known], rates, len(people))
    alike = templates @ templates.T - 2 * torch.eye(len(people), dtype=torch.float64)
    a, b = divmod(int(alike.argmax()), len(people))
    same = next(row.cosine for row in rows if row.rate == rate)
    pairs = len(people) * (len(people) - 1) // 2
    margin = _margin(people, rate)
    limits = Limits(
        same_person=same,
        margin=limits_of(people[0].recogniser).margin if margin is None else margin,
        false_match_rate=rate,
        faces=f"{len(people)} people of yours",
        source=f"Measured by `facewright person calibrate` on {len(faces)} photos of {len(people)} "
        f"people: {foreign.numel()} comparisons of a face with another person's album.",
        table=tuple(rows),
    )
    return Calibration(
        limits=limits,
        people=len(people),
        photos=len(faces),
        pairs=pairs,
        genuine=int(known.sum()),
        impostors=foreign.numel(),
        closest=(people[a].name, people[b].name, float(alike.max())),
    )


def _without_itself(person: Person) -> Tensor:
    """(n,) cosines of each photo with the album of the others; NaN where there are none."""
    faces = F.normalize(person.embeddings.double(), dim=1)
    numbers = range(len(person))
    own = [
        float(faces[i] @ _template(person, [j for j in numbers if j != i]))
        if len(person) > 1
        else math.nan
        for i in numbers
    ]
    return torch.tensor(own, dtype=torch.float64)


def _rows(
    foreign: Tensor, owner: Tensor, others: Tensor, own: Tensor, rates: list[float], people: int
) -> list[Rate]:
    values, order = foreign.flatten().sort(descending=True)
    one = owner[:, None].expand_as(others).flatten()[order]
    other = others.flatten()[order]
    shares = torch.tensor(rates, dtype=torch.float64)
    found = values[((shares * len(values)).long() - 1).clamp(min=0)]
    generator = torch.Generator().manual_seed(_SEED)
    resampled = []
    for _ in range(_RESAMPLED):
        drawn = torch.randint(people, (people,), generator=generator)
        weight = torch.bincount(drawn, minlength=people).double()
        reached = (weight[one] * weight[other]).cumsum(0)
        place = torch.searchsorted(reached, shares * reached[-1], right=True)
        resampled.append(values[place.clamp(max=len(values) - 1)])
    ends = torch.stack(resampled).quantile(torch.tensor([0.025, 0.975]).double(), dim=0)
    return [
        Rate(
            rate=rate,
            cosine=float(found[i]),
            low=min(float(ends[0, i]), float(found[i])),
            high=max(float(ends[1, i]), float(found[i])),
            missed=float((own < found[i]).double().mean()),
        )
        for i, rate in enumerate(rates)
    ]


def _margin(people: Sequence[Person], rate: float) -> float | None:
    """By how much the wrong of two albums of one person leads as rarely as `rate`: nobody's twin
    is more alike. Every face is held against the two halves of the other photos, and either may be
    the wrong one. None where nobody has three photos.
    """
    leads = []
    for person in people:
        for photo in range(len(person)):
            rest = [i for i in range(len(person)) if i != photo]
            if len(rest) > 1:
                face = F.normalize(person.embeddings[photo].double(), dim=0)
                one, other = (face @ _template(person, rest[half::2]) for half in (0, 1))
                leads += [float(one - other), float(other - one)]
    leads.sort(reverse=True)
    return max(0.0, leads[math.ceil(rate * len(leads)) - 1]) if leads else None


def _template(person: Person, photos: Sequence[int]) -> Tensor:
    """(d,) float64 as `Person.template` has it, of some of the photos."""
    weights = person.quality[photos].double()
    weights = weights if bool(weights.any()) else torch.ones_like(weights)
    return F.normalize(weights @ person.embeddings[photos].double(), dim=0)


def _row(limits: Limits, rate: float | None) -> Rate:
    return next(row for row in limits.table if row.rate == rate)


def _check(people: Sequence[Person], rate: float | None) -> None:
    recognisers = {person.recogniser for person in people}
    if len(recognisers) > 1:
        raise FacewrightError(
            f"The albums were made with {len(recognisers)} recognisers: "
            f"{', '.join(sorted(recognisers))}. Measure one at a time."
        )
    check_rate(rate, len(people))
    if not any(len(person) > 1 for person in people):
        raise FacewrightError(
            "No person has two photos, and it takes two to see how alike photos of one person are. "
            "Give some people more photos."
        )


def check_rate(rate: float | None, people: int) -> None:
    """Refuse a false-match rate that so many people cannot show; None: the usual ones.

    Raises:
        FacewrightError: the rate is none, or takes more people.
    """
    if rate is not None and not 0 < rate < 1:
        raise FacewrightError(
            "A false-match rate is a share of strangers between 0 and 1, such as 0.001 for 0.1 %, "
            f"got {rate:g}."
        )
    wanted = min(USUAL[-1:] if rate is None else (rate,))
    lowest, (pairs, count) = supported(people), needed(wanted)
    if wanted < lowest:
        least = math.ceil(1000 * lowest) / 1000
        enough, higher = (
            f"{percent(least)} or more",
            ", or ask for a higher rate (--false-match-rate)",
        )
        if lowest >= 1:
            enough, higher = "no rate at all", ""
        raise FacewrightError(
            f"A false-match rate of {percent(wanted)} takes {pairs} pairs of people, which are "
            f"{count} people; here are {people}, enough for {enough}. Add people (each a folder of "
            f"photos, or an album){higher}."
        )
