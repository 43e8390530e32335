"""From scores to statements: means with intervals, and methods compared over the same pictures."""

import math
from dataclasses import dataclass

import numpy as np

from ...core.metrics import Metric
from ...core.metrics.statistics import Difference, Mean, mean_interval, paired_difference
from .pairing import LQ
from .scoring import Row, Scores

FEW = 10
"""Below this many pictures an interval is only a rough guide."""


@dataclass(frozen=True)
class Comparison:
    """Two methods over the pictures that both have."""

    method: str
    against: str
    metric: Metric
    difference: Difference

    @property
    def verdict(self) -> str:
        """ "better", "worse", "no clear difference", or "unknown" without an interval."""
        d = self.difference
        if math.isnan(d.low):
            return "unknown"
        if not d.clear:
            return "no clear difference"
        good = d.mean < 0 if self.metric.better == "lower" else d.mean > 0
        return "better" if good else "worse"

    def sentence(self) -> str:
        """What came out, in one sentence for people."""
        d, m = self.difference, self.metric
        if not d.count:
            return f"{self.method} and {self.against} have no picture with {m.label} in common."
        count = (
            f"{round(d.wins * d.count)} of {d.count} {'picture' if d.count == 1 else 'pictures'}"
        )
        better = f"{count} {'is' if d.wins * d.count == 1 else 'are'} better"
        if d.wins + d.losses < 1:
            better += f", {round((1 - d.wins - d.losses) * d.count)} equal"
        if math.isnan(d.mean):
            return f"{self.method} against {self.against} in {m.label}: {better}."
        amount = with_unit(abs(d.mean), m)
        if self.verdict == "unknown":
            signed = with_unit(d.mean, m, signed=True)
            return (
                f"{self.method} differs from {self.against} in {m.label} by {signed}, in the only "
                "picture: too few to say more."
            )
        low, high = sorted((abs(d.low), abs(d.high)))
        if self.verdict == "no clear difference":
            return (
                f"No clear difference between {self.method} and {self.against} in {m.label}: "
                f"{with_unit(d.mean, m, signed=True)} "
                f"[{number(d.low, m, signed=True)}, {number(d.high, m, signed=True)}]; {better}."
            )
        what = "closer to 1" if m.better == "one" else "higher" if d.mean > 0 else "lower"
        return (
            f"{self.method} is {self.verdict} than {self.against} in {m.label}: {what} by {amount} "
            f"[{number(low, m)}, {number(high, m)}]; {better}."
        )


@dataclass
class Result:
    """What a report shows."""

    scores: Scores
    means: dict[str, dict[str, Mean]]
    """Method -> metric -> mean over its pictures."""
    comparisons: list[Comparison]
    """Every method with LQ, then every other method with the first, metric by metric."""

    @property
    def picture_metrics(self) -> list[Metric]:
        return [m for m in self.scores.settings.metrics if m.reads != "set"]

    @property
    def set_metrics(self) -> list[Metric]:
        return [m for m in self.scores.settings.metrics if m.reads == "set"]

    @property
    def sentences(self) -> list[str]:
        """The comparisons in words."""
        return [comparison.sentence() for comparison in self.comparisons]

    @property
    def incomplete(self) -> bool:
        """Some picture was not paired, failed, or lacks a value."""
        scores = self.scores
        no_set = any(scores.set_problems.values())
        return bool(scores.pairing.unmatched or scores.failed or scores.gaps or no_set)


def summarize(scores: Scores) -> Result:
    """Means of every method, and every comparison worth making."""
    by_metric = [m for m in scores.settings.metrics if m.reads != "set"]
    values = {method: rows_of(scores, method) for method in scores.pairing.methods}
    means = {
        method: {m.name: mean_interval([value(row, m) for row in rows.values()]) for m in by_metric}
        for method, rows in values.items()
    }
    restored = scores.pairing.restored
    pairs = [(method, LQ) for method in restored if LQ in values]
    pairs += [(method, restored[0]) for method in restored[1:]]
    comparisons = [
        Comparison(a, b, m, _difference(values[a], values[b], m))
        for a, b in pairs
        for m in by_metric
    ]
    return Result(scores, means, comparisons)


def rows_of(scores: Scores, method: str) -> dict[str, Row]:
    """Case -> row of a method, without those that failed."""
    return {row.case: row for row in scores.rows if row.method == method and not row.error}


def value(row: Row, m: Metric) -> float:
    return row.values.get(m.name, math.nan)


def _difference(a: dict[str, Row], b: dict[str, Row], m: Metric) -> Difference:
    both = [case for case in a if case in b]
    columns = ([value(rows[case], m) for case in both] for rows in (a, b))
    return paired_difference(*map(np.array, columns), m.better)


def direction(m: Metric) -> str:
    """Which values are good, in words."""
    return "closer to 1 is better" if m.better == "one" else f"{m.better} is better"


_DIGITS = {"dB": 2, "°": 2, "px": 2}


def number(x: float | None, m: Metric, *, signed: bool = False) -> str:
    """A value as people read it."""
    if x is None or math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    digits = _DIGITS.get(m.unit, 3 if abs(x) < 10 else 2)
    text = f"{x:+.{digits}f}" if signed else f"{x:.{digits}f}"
    return text.replace("-", "−")


def with_unit(x: float, m: Metric, *, signed: bool = False) -> str:
    text = number(x, m, signed=signed)
    return text + ("" if not m.unit else m.unit if m.unit == "°" else f" {m.unit}")
