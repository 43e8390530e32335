"""What the parts of `bench people` share: rendered people, their albums, counting, intervals.

Everything here and in the parts runs with release 0.1.0, too: `before` is measured by these files.
"""

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from facewright.core.degradation import Degradation
from facewright.core.faces import load_analyzer
from facewright.core.people.person import Person
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.training.world.faces3d import render
from facewright.training.world.identities import Identities, sample_identities
from facewright.training.world.nuisances import sample_nuisances

FIRST = 88_000_000
"""First seed of people and looks; no training, shipped limit or other benchmark goes so far."""
DAMAGE = ("sharp", "mild", "moderate", "severe")
SIZE = 128
_DRAWS = 2000


@cache
def analyzer():
    return load_analyzer("nano")


@cache
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


def seeds(part: int, count: int, start: int = 0) -> list[int]:
    """Of one part's people or looks, a hundred thousand for each."""
    first = FIRST + 100_000 * part + start
    return list(range(first, first + count))


def mixed(a: Identities, b: Identities, share: float) -> Identities:
    """People of whom every measure and color lies `share` of the way from `a` to `b`."""
    values = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in fields(a)}
    return Identities(
        **{k: x + share * (y - x) if x.is_floating_point() else x for k, (x, y) in values.items()}
    )


def looks_of(numbers: list[int], degrees: float | None = None):
    """Photographs; turned to a side by so many degrees where that is asked for."""
    looks = sample_nuisances(numbers)
    if degrees is None:
        return looks
    return replace(looks, yaw=looks.yaw.sign() * math.radians(degrees))


def crops_of(people: Identities, looks: list[int]) -> torch.Tensor:
    """(n, 3, 128, 128): faces as a good detector aligns them."""
    return render(people, sample_nuisances(looks), SIZE, jitter=1.0).pixels


def damaged(pixels: torch.Tensor, kind: str, numbers: list[int]) -> torch.Tensor:
    return pixels if kind == "sharp" else Degradation.preset(kind)(pixels, seed=numbers)[0]


@torch.no_grad()
def embedded(crops: torch.Tensor) -> torch.Tensor:
    """(n, d) float64 of length 1."""
    parts = [recogniser()(part).double() for part in crops.split(32)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def albums_of(people: Identities, names: list[str], looks: list[int]) -> list[Person]:
    """Albums of as many sharp photographs each as there are `looks` per name."""
    shots = len(looks) // len(names)
    index = [i for i in range(len(names)) for _ in range(shots)]
    crops = (crops_of(people.take(index), looks) * 255).round() / 255
    embeddings = embedded(crops).float()
    landmarks = analyzer().landmarks(crops)
    return [
        Person(
            name=name,
            crops=crops[part],
            embeddings=embeddings[part],
            landmarks=landmarks[part],
            quality=torch.ones(shots),
            recogniser=recogniser().id,
            sources=tuple(f"photo {k}" for k in range(shots)),
        )
        for i, name in enumerate(names)
        for part in [slice(i * shots, (i + 1) * shots)]
    ]


def people_of(numbers: list[int]) -> Identities:
    return sample_identities(numbers)


def share(figure: str, hits: list[bool] | list[int], *, goal: str = "", of: str = "") -> dict:
    """A row: so many of independent cases, with Wilson's interval."""
    count, n = int(sum(hits)), len(hits)
    low, high = wilson(count, n)
    return _row(figure, count / n if n else math.nan, low, high, goal, f"{count} of {n}", of)


def share_by(figure: str, hits: list, who: list, *, goal: str = "", of: str = "") -> dict:
    """A row: so many of cases that belong to people, with a bootstrap interval over them."""
    if not len(hits):
        return _row(figure, math.nan, math.nan, math.nan, goal, "0 of 0", of)
    hits, who = np.asarray(hits, float), np.asarray(who)
    groups = [hits[who == one] for one in dict.fromkeys(who.tolist())]
    sums, counts = (np.array([f(group) for group in groups]) for f in (np.sum, len))
    rng = np.random.default_rng(0)
    draws = rng.integers(len(groups), size=(_DRAWS, len(groups)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    if hits.sum() in (0, len(hits)):  # nothing to draw from: as if people were the cases
        low, high = wilson(int(bool(hits.sum())) * len(groups), len(groups))
    count = f"{int(hits.sum())} of {len(hits)}"
    return _row(figure, float(hits.mean()), float(low), float(high), goal, count, of)


def mean_by(figure: str, values: list[float], who: list, *, goal: str = "", of: str = "") -> dict:
    """A row: a mean over cases that belong to people, with a bootstrap interval over them."""
    values, who = np.asarray(values, float), np.asarray(who)
    if not len(values):
        return _row(figure, math.nan, math.nan, math.nan, goal, "0", of) | {"unit": ""}
    groups = [values[who == one] for one in dict.fromkeys(who.tolist())]
    sums, counts = (np.array([f(group) for group in groups]) for f in (np.sum, len))
    draws = np.random.default_rng(0).integers(len(groups), size=(_DRAWS, len(groups)))
    low, high = np.quantile(sums[draws].sum(1) / counts[draws].sum(1), [0.025, 0.975])
    count = f"{len(values)}"
    return _row(figure, float(values.mean()), float(low), float(high), goal, count, of) | {
        "unit": ""
    }


def wilson(count: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share (1927)."""
    if not n:
        return math.nan, math.nan
    p, q = count / n, z * z / n
    middle = (p + q / 2) / (1 + q)
    half = z / (1 + q) * math.sqrt(p * (1 - p) / n + q / n / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _row(
    figure: str, value: float, low: float, high: float, goal: str, count: str, of: str
) -> dict[str, Any]:
    return {
        "figure": figure,
        "value": value,
        "low": low,
        "high": high,
        "count": count,
        "goal": goal,
        "of": of,
        "unit": "%",
    }
