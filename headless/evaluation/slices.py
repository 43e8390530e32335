"""Groups of pictures that a report looks at one by one: a subfolder, or a range of drawn damage."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...core.degradation.recipe import check_recipe
from ...core.errors import FacewrightError, listed
from ..jobs.manifest import read_records
from ..jobs.recorded import MANIFEST
from .pairing import LQ, Pairing

_QUARTERS = 4
_DISTINCT = 6
"""Up to this many different levels each is a group of its own."""


@dataclass(frozen=True)
class Group:
    """Some of the pictures."""

    name: str
    cases: tuple[str, ...]
    low: float = math.nan
    """Least level of damage among them."""
    high: float = math.nan


@dataclass(frozen=True)
class Grouping:
    """All pictures in groups."""

    by: str
    """One of `SLICES`."""
    label: str
    """For axes and headings."""
    groups: tuple[Group, ...]
    levels: Mapping[str, float] = field(default_factory=dict)
    """Case -> its level of damage; empty for subfolders."""
    without: tuple[str, ...] = ()
    """Cases without a level."""


def _sizes(recipe: Mapping[str, Any]) -> float:
    height, width = recipe["size"]
    sizes = [step["size"] for step in recipe["steps"] if step["op"] == "resize"]
    return max((max(height / h, width / w) for h, w in sizes), default=1.0)


def _largest(op: str, *keys: str, unit: float = 1.0) -> Callable[[Mapping[str, Any]], float]:
    def level(recipe: Mapping[str, Any]) -> float:
        steps = [step for step in recipe["steps"] if step["op"] == op]
        return max((unit * step[key] for step in steps for key in keys if key in step), default=0.0)

    return level


def _quality(recipe: Mapping[str, Any]) -> float:
    steps = [step["quality"] for step in recipe["steps"] if step["op"] == "jpeg"]
    return min(steps, default=math.nan)


_LEVELS: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
    "scale": ("times each side was reduced", _sizes),
    "blur": ("largest sigma of the blurs, in pixels", _largest("blur", "sigma", "sigma_y")),
    "noise": (
        "largest sigma of the Gaussian noise, in 1/255",
        _largest("noise", "sigma", unit=255),
    ),
    "quality": ("lowest quality of the JPEGs", _quality),
}
SLICES = ("subfolder", *_LEVELS)
"""What pictures can be grouped by."""


def group(pairing: Pairing, by: Sequence[str]) -> list[Grouping]:
    """The groups that a report looks at.

    Levels of damage are read from the recipes in the manifest.jsonl that `facewright degrade`
    wrote beside the degraded pictures. More than 6 different ones are put into 4 groups of about
    equal size, and equal levels stay together.

    Args:
        pairing: the pictures.
        by: of `SLICES`.

    Raises:
        FacewrightError: another name, pictures that all lie in one folder, or no recipes of them.
    """
    groupings = []
    for name in dict.fromkeys(by):
        if name not in SLICES:
            raise FacewrightError(
                f"Pictures cannot be grouped by {name!r}. Take some of: {', '.join(SLICES)}."
            )
        groupings.append(_folders(pairing) if name == "subfolder" else _by_level(pairing, name))
    return groupings


def _folders(pairing: Pairing) -> Grouping:
    found: dict[str, list[str]] = {}
    for case in pairing.cases:
        found.setdefault(PurePosixPath(case.name).parent.as_posix(), []).append(case.name)
    if len(found) < 2:
        raise FacewrightError(
            f"Pictures cannot be grouped by subfolder: all {len(pairing.cases)} lie in one."
        )
    groups = [
        Group("no subfolder" if folder == "." else folder, tuple(cases))
        for folder, cases in sorted(found.items())
    ]
    return Grouping("subfolder", "subfolder", tuple(groups))


def _by_level(pairing: Pairing, by: str) -> Grouping:
    label, level = _LEVELS[by]
    recipes = _recipes(pairing)
    names = [case.name for case in pairing.cases]
    there = {name: float(level(recipes[name])) for name in names if name in recipes}
    levels = {name: x for name, x in there.items() if not math.isnan(x)}
    if not levels:
        raise FacewrightError(f"Pictures cannot be grouped by {by}: {_no_level(pairing, there)}")
    distinct = sorted(set(levels.values()))
    edges = distinct[1:]
    if len(distinct) > _DISTINCT:
        shares = np.arange(1, _QUARTERS) / _QUARTERS
        edges = sorted(set(np.quantile(list(levels.values()), shares).tolist()))
    places = np.searchsorted(edges, list(levels.values()), side="right").tolist()
    found: dict[int, list[str]] = {}
    for name, place in zip(levels, places, strict=True):
        found.setdefault(place, []).append(name)
    groups = []
    for _, cases in sorted(found.items()):
        low, high = (pick(levels[name] for name in cases) for pick in (min, max))
        text = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        groups.append(Group(text, tuple(cases), low, high))
    without = tuple(name for name in names if name not in levels)
    return Grouping(by, label, tuple(groups), levels, without)


def _no_level(pairing: Pairing, recipes: Mapping[str, Any]) -> str:
    if recipes:
        return "none of them was saved as JPEG."
    if LQ not in pairing.methods:
        return (
            "give --lq with the folder that facewright degrade made, whose "
            f"{MANIFEST} holds their recipes."
        )
    names = listed([case.name for case in pairing.cases], 5)
    return f"{pairing.methods[LQ] / MANIFEST} holds no recipe of them ({names})."


def _recipes(pairing: Pairing) -> dict[str, Mapping[str, Any]]:
    """Case -> its recipe, of the first folder whose manifest has one: LQ's, then the methods'."""
    found: dict[str, Mapping[str, Any]] = {}
    wrong: list[FacewrightError] = []
    for folder in pairing.methods.values():
        try:
            for record in read_records(folder / MANIFEST):
                if (recipe := record.get("recipe")) is not None:
                    check_recipe(recipe)
                    name = PurePosixPath(record["output"]).with_suffix("").as_posix()
                    found.setdefault(name, recipe)
        except FacewrightError as error:  # of another program, unless no recipe is found elsewhere
            wrong.append(error)
    if wrong and not found:
        raise wrong[0]
    return found
