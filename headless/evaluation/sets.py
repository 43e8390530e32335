"""Metrics of whole sets: features of every picture, gathered per method."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...core.errors import FacewrightError
from ...core.metrics import FrechetStatistics
from .reference import Reference, features_name
from .settings import Settings

Features = Mapping[str, Tensor | str]
"""Metric of sets -> (1, d) features of one picture, or why there are none."""


class Sets:
    """Features of every picture for the metrics of whole sets, gathered per method."""

    def __init__(self, settings: Settings, reference: Reference | None) -> None:
        self.metrics = [m for m in settings.metrics if m.reads == "set"]
        self.reference = {
            m.name: reference.of[features_name(m, settings.looks)]
            for m in self.metrics
            if reference is not None and m.needs == "set"
        }
        self.statistics: dict[tuple[str, str], tuple[FrechetStatistics, FrechetStatistics]] = {}
        """Both registered ones are Fréchet's; statistics stay small however many pictures come."""

    def add(self, row: Any, restored: Features, gt: Features) -> None:
        for m in self.metrics:
            name = m.name
            if name not in restored:
                continue
            mine, truth = restored[name], gt.get(name)
            if name in self.reference and isinstance(mine, Tensor):
                known = self.reference[name]
                mine_and_set = self.statistics.setdefault(
                    (row.method, name), (FrechetStatistics(), known)
                )
                mine_and_set[0].update(mine)
                if mine.shape[1] != len(known.mean):  # before hours are spent
                    raise FacewrightError(
                        f"The reference set has {len(known.mean)} features and {m.name} reads "
                        f"{mine.shape[1]}: it was made with another network."
                    )
            elif isinstance(mine, str) or isinstance(truth, str):
                why = mine if isinstance(mine, str) else truth
                row.problems[name] = f"not in the set: {why}"
            elif truth is not None:
                key = row.method, name
                both = self.statistics.setdefault(key, (FrechetStatistics(), FrechetStatistics()))
                for statistics, features in zip(both, (mine, truth), strict=True):
                    statistics.update(features)

    def measure(self, scores: Any) -> None:
        for method in scores.pairing.methods if self.metrics else ():
            values, problems, counts = {}, {}, {}
            for m in self.metrics:
                empty = FrechetStatistics(), FrechetStatistics()
                restored, gt = self.statistics.get((method, m.name), empty)
                counts[m.name] = restored.count
                try:
                    values[m.name] = float(restored.distance(gt))
                except Exception as error:  # noqa: BLE001
                    values[m.name], problems[m.name] = math.nan, reason_of(error)
            scores.sets[method], scores.set_problems[method] = values, problems
            scores.set_counts[method] = counts
        if self.metrics:
            labels = " and ".join(m.label for m in self.metrics)
            scores.notes.append(
                f"{labels}: one number for all pictures of a method, too high where they are few. "
                "Compare it only between methods over the same pictures."
            )


def reason_of(error: Exception) -> str:
    """Say why something could not be measured."""
    known = isinstance(error, (FacewrightError, OSError))
    return str(error) if known else f"{type(error).__name__}: {error}"
