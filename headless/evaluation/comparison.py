"""From scores to statements: means with intervals, and methods compared over the same pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...core.metrics import Metric
from ...core.metrics.significance import holm
from ...core.metrics.statistics import FEWEST, Difference, Mean, mean_interval, paired_difference
from .pairing import LQ
from .scoring import Row, Scores
from .slices import Grouping

FEW = 10
"""Below this many pictures an interval is only a rough guide."""
TOO_FEW = "too few pictures to tell"
TOO_FEW_FINITE = "too few finite values to tell"
NO_VERDICT = "no verdict (infinite values)"
"""The mean leaves infinite values out, and with them a method that reached the original itself."""
VERDICTS = (
    "better", "worse", "no clear difference", "equal", TOO_FEW, TOO_FEW_FINITE, NO_VERDICT,
    "unknown",
)  # fmt: skip
_OTHER_WAY = {"better": "worse", "worse": "better"}


@dataclass(frozen=True)
class Comparison:
    """Two methods over the pictures that both have."""

    method: str
    against: str
    metric: Metric
    difference: Difference
    p_holm: float = math.nan
    """`difference.p` corrected for all pairs of methods in this metric."""

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`: "equal" where every picture is, "unknown" without pictures."""
        d = self.difference
        if not d.count:
            return "unknown"
        if d.wins == d.losses == 0:
            return "equal"
        if d.clear is None:
            return TOO_FEW if d.count < FEWEST else TOO_FEW_FINITE
        if d.infinite:
            return NO_VERDICT
        if not d.clear:
            return "no clear difference"
        good = d.mean < 0 if self.metric.better == "lower" else d.mean > 0
        return "better" if good else "worse"

    def sentence(self) -> str:
        """What came out, in one sentence for people."""
        d, label = self.difference, self.metric.label
        if not d.count:
            return f"{self.method} and {self.against} have no picture with {label} in common."
        if self.verdict == "equal":
            where = "the only picture" if d.count == 1 else f"all {d.count} pictures"
            return f"{self.method} and {self.against} are equal in {label} in {where}."
        against = f"{self.method} against {self.against} in {label}"
        if math.isnan(d.mean):
            return f"{against}: {self._wins()}; {self.verdict}."
        if d.clear is None or self.verdict == NO_VERDICT:
            if d.count == 1:
                return f"{against}: {self.change()} in the only picture; too few to tell."
            return f"{against}: {self.change()} on average, {self._wins()}; {self.verdict}."
        if self.verdict == "no clear difference":
            return (
                f"No clear difference between {self.method} and {self.against} in {label}: "
                f"{self.change()} [{self.bounds(', ')}]; {self._wins(f'{self.method} is ')}."
            )
        size = with_unit(abs(d.mean), self.metric, digits=self._digits())
        ends = ", ".join(self._sizes())
        way = "higher" if d.mean > 0 else "lower"
        if self.metric.better == "one":
            way = "closer to 1" if d.mean > 0 else "farther from 1"
        return (
            f"{self.method} is {self.verdict} than {self.against} in {label}: {way} by "
            f"{size} [{ends}]; {self._wins()}."
        )

    def change(self) -> str:
        """The mean difference: with its sign and unit, or in words where 1 is best."""
        mean, digits = self.difference.mean, self._digits()
        if self.metric.better != "one" or math.isnan(mean):
            return with_unit(mean, self.metric, signed=True, digits=digits)
        if mean == 0:
            return "as close to 1"
        return f"{'closer to' if mean > 0 else 'farther from'} 1 by {self._number(abs(mean))}"

    def bounds(self, between: str) -> str:
        """Both ends of the interval, the lower one first, in the words of `change`."""
        low, high = self.difference.low, self.difference.high
        if self.metric.better != "one":
            return between.join(self._number(x, signed=True) for x in (low, high))
        if low < 0 <= high:
            return f"{self._number(-low)} farther{between}{self._number(high)} closer"
        return f"{between.join(self._sizes())} {'closer' if low >= 0 else 'farther'}"

    def _sizes(self) -> list[str]:
        """Of both ends, the smaller first."""
        ends = sorted([abs(self.difference.low), abs(self.difference.high)])
        return [self._number(x) for x in ends]

    def _number(self, x: float, *, signed: bool = False) -> str:
        return number(x, self.metric, signed=signed, digits=self._digits())

    def _digits(self) -> int:
        """As many as keep an end of the interval that is not 0 from reading as 0."""
        digits = _digits(self.metric, self.difference.mean)
        ends = [abs(x) for x in (self.difference.low, self.difference.high) if x]
        while digits < 6 and any(round(x, digits) == 0 for x in ends):
            digits += 1
        return digits

    def _wins(self, who: str = "") -> str:
        d = self.difference
        wins, ties = round(d.wins * d.count), round((1 - d.wins - d.losses) * d.count)
        text = f"{who}better in {wins} of {d.count} {'picture' if d.count == 1 else 'pictures'}"
        if ties:
            text += f", equal in {ties}"
        if d.infinite:
            what = "identical to its original" if self.metric.better == "higher" else "infinite"
            text += f"; in {d.infinite} one of them is {what} (not in the mean)"
        return text


@dataclass(frozen=True)
class Slices:
    """Means over groups of pictures."""

    grouping: Grouping
    means: list[dict[str, dict[str, Mean]]]
    """Per group: method -> metric -> mean over its pictures in the group."""


@dataclass
class Result:
    """What a report shows."""

    scores: Scores
    means: dict[str, dict[str, Mean]]
    """Method -> metric -> mean over its pictures."""
    comparisons: list[Comparison]
    """Every method with LQ, then every other method with the first, then all other pairs of
    methods; metric by metric."""
    slices: list[Slices] = field(default_factory=list)

    @property
    def picture_metrics(self) -> list[Metric]:
        return [m for m in self.scores.settings.metrics if m.reads != "set"]

    @property
    def set_metrics(self) -> list[Metric]:
        return [m for m in self.scores.settings.metrics if m.reads == "set"]

    @property
    def leading(self) -> list[Comparison]:
        """Those with LQ and with the first method."""
        references = {LQ, self.scores.pairing.restored[0]}
        return [c for c in self.comparisons if c.against in references]

    def best(self, m: Metric) -> set[str]:
        """The methods that no verdict leaves open: better than every other one, or equal to it
        and better than the rest."""
        against = {method: set() for method in self.means}
        for c in self.comparisons:
            if c.metric.name == m.name:
                against[c.method].add(c.verdict)
                against[c.against].add(_OTHER_WAY.get(c.verdict, c.verdict))
        wanted = {"better", "equal"}
        return {name for name, found in against.items() if "better" in found and found <= wanted}

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


def summarize(scores: Scores, groupings: Sequence[Grouping] = ()) -> Result:
    """Means of every method, over all its pictures and by groups, and every pair compared."""
    by_metric = [m for m in scores.settings.metrics if m.reads != "set"]
    values = {method: rows_of(scores, method) for method in scores.pairing.methods}
    means = _means(values, by_metric)
    restored = scores.pairing.restored
    pairs = [(method, LQ) for method in restored if LQ in values]
    for i, against in enumerate(restored):
        pairs += [(method, against) for method in restored[i + 1 :]]
    comparisons = [
        Comparison(a, b, m, _difference(values[a], values[b], m))
        for a, b in pairs
        for m in by_metric
    ]
    corrected = {m.name: iter(holm(_p_values(comparisons, m))) for m in by_metric}
    comparisons = [replace(c, p_holm=next(corrected[c.metric.name])) for c in comparisons]
    slices = [
        Slices(grouping, [_means(values, by_metric, set(g.cases)) for g in grouping.groups])
        for grouping in groupings
    ]
    return Result(scores, means, comparisons, slices)


def _means(
    values: dict[str, dict[str, Row]], metrics: list[Metric], cases: set[str] | None = None
) -> dict[str, dict[str, Mean]]:
    """Method -> metric -> mean over its rows, or over those of some cases."""
    chosen = {
        method: [row for case, row in rows.items() if cases is None or case in cases]
        for method, rows in values.items()
    }
    return {
        method: {m.name: mean_interval([value(row, m) for row in rows]) for m in metrics}
        for method, rows in chosen.items()
    }


def _p_values(comparisons: list[Comparison], m: Metric) -> list[float]:
    return [c.difference.p for c in comparisons if c.metric.name == m.name]


def rows_of(scores: Scores, method: str) -> dict[str, Row]:
    """Case -> row of a method, without those that failed."""
    return {row.case: row for row in scores.rows if row.method == method and not row.error}


def value(row: Row, m: Metric) -> float:
    return row.values.get(m.name, math.nan)


def _difference(a: dict[str, Row], b: dict[str, Row], m: Metric) -> Difference:
    both = [case for case in a if case in b]
    first, second = (np.array([value(rows[case], m) for case in both]) for rows in (a, b))
    return paired_difference(first, second, m.better)


def direction(m: Metric) -> str:
    """Which values are good, in words."""
    return "closer to 1 is better" if m.better == "one" else f"{m.better} is better"


def infinite(count: int, m: Metric) -> str:
    """What so many infinite values are: PSNR's belong to pictures identical to their originals."""
    return f"{count} {'identical' if m.better == 'higher' else 'infinite'}"


def mean_text(mean: Mean, m: Metric) -> str:
    """The mean with its unit, or what stands for it where every value is infinite."""
    if mean.infinite and not mean.count:
        return f"\N{INFINITY} ({infinite(mean.infinite, m)})"
    return with_unit(mean.mean, m)


def number(x: float, m: Metric, *, signed: bool = False, digits: int | None = None) -> str:
    """A value as people read it."""
    if math.isnan(x):
        return "–"
    if math.isinf(x):
        return "\N{INFINITY}" if x > 0 else "\N{MINUS SIGN}\N{INFINITY}"
    digits = _digits(m, x) if digits is None else digits
    text = f"{x:+.{digits}f}" if signed else f"{x:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """A p-value as people read it."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def with_unit(x: float, m: Metric, *, signed: bool = False, digits: int | None = None) -> str:
    """The same with the metric's unit."""
    text = number(x, m, signed=signed, digits=digits)
    if not m.unit or math.isnan(x):
        return text
    return text + (m.unit if m.unit == "°" else f" {m.unit}")


def _digits(m: Metric, x: float) -> int:
    return 2 if m.unit or abs(x) >= 10 else 3
