"""The worst and the best cases of a method, and their pictures in small."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import FacewrightError
from ...core.images import to_array
from ...core.metrics import Metric
from .comparison import Result, rows_of, value, with_unit
from .pairing import GT, Case
from .scoring import load


@dataclass(frozen=True)
class Shown:
    """One case as a report shows it."""

    case: Case
    values: dict[str, str]
    """Version -> its value of the metric that is sorted by, with the unit."""
    scores: dict[str, list[str]]
    """Version -> all its values."""
    refused: frozenset[str] = frozenset()
    """Versions that could not be scored, whose files are not opened again."""

    @property
    def versions(self) -> dict[str, Path]:
        """LQ, the methods, GT: what there is, in the order it is shown."""
        original = {} if self.case.gt is None else {GT: self.case.gt}
        return {**self.case.versions, **original}


@dataclass(frozen=True)
class Extremes:
    """Both ends of a ranking."""

    metric: Metric
    method: str
    worst: list[Shown]
    best: list[Shown]

    @property
    def headings(self) -> tuple[tuple[str, list[Shown]], ...]:
        by = f"{self.metric.label} of {self.method}"
        return ((f"Worst {by}", self.worst), (f"Best {by}", self.best))


def extremes(result: Result, sort: str | None, count: int) -> Extremes | None:
    """The `count` worst and best cases of the first method, or None where nothing can be ranked.

    No case is shown twice: of few cases each end gets half. Equal values go by name.

    Raises:
        FacewrightError: `sort` names no metric that was measured per picture.
    """
    m = sort_metric(result.picture_metrics, sort)
    if m is None or count < 1:
        return None
    method = result.scores.pairing.restored[0]
    cases = {case.name: case for case in result.scores.pairing.cases}
    rows = rows_of(result.scores, method)
    failed = {(row.case, row.method) for row in result.scores.failed}
    ranked = [(_badness(value(row, m), m), name) for name, row in rows.items()]
    ranked = sorted((bad, name) for bad, name in ranked if not np.isnan(bad))
    names = [name for _, name in ranked]
    at_each_end = min(count, (len(names) + 1) // 2)
    worst = names[::-1][:at_each_end]
    best = [name for name in names[:at_each_end] if name not in worst]

    def shown(name: str) -> Shown:
        values = {row.method: with_unit(value(row, m), m) for row in by_case[name]}
        scores = {row.method: _scores(result, row.values) for row in by_case[name]}
        refused = frozenset(of for case, of in failed if case == name)
        return Shown(cases[name], values, scores, refused)

    by_case: dict[str, list] = {name: [] for name in {*worst, *best}}
    for row in result.scores.rows:
        if row.case in by_case and not row.error:
            by_case[row.case].append(row)
    return Extremes(m, method, [shown(n) for n in worst], [shown(n) for n in best])


def sort_metric(metrics: list[Metric], name: str | None) -> Metric | None:
    """The metric to rank by: the named one, else the first."""
    known = {m.name: m for m in metrics if m.reads != "set"}
    if name is None:
        return next(iter(known.values()), None)
    if name not in known:
        raise FacewrightError(
            f"Pictures cannot be sorted by {name!r}, which is not measured for every picture here. "
            f"Take one of: {', '.join(known)}; or add it to --metrics."
        )
    return known[name]


def _badness(x: float, m: Metric) -> float:
    if m.better == "one":
        return abs(x - 1)
    return x if m.better == "lower" else -x


def _scores(result: Result, values: dict[str, float]) -> list[str]:
    metrics = [m for m in result.picture_metrics if m.name in values]
    return [f"{m.label} {with_unit(values[m.name], m)}" for m in metrics]


def small(shown: Shown, version: str, side: int) -> Any:
    """A version of a case as a PIL picture (see `thumbnail`), or in few words why there is none."""
    if version in shown.refused:
        return "could not be scored"
    if version not in shown.versions:
        return "not there"
    try:
        return thumbnail(shown.versions[version], side)
    except Exception:  # noqa: BLE001 (whatever became of the file since: the scores stand)
        return "cannot be read"


def thumbnail(path: Path, side: int) -> Any:
    """A PIL picture of at most `side` pixels a side.

    Small pictures are enlarged by whole numbers without smoothing: what is seen are their pixels.
    """
    from PIL import Image

    pixels, _ = load(path)
    image = Image.fromarray(np.ascontiguousarray(to_array(pixels)))
    scale = side / max(image.size)
    if scale < 1:
        size = [max(1, round(n * scale)) for n in image.size]
        return image.resize(size, Image.Resampling.LANCZOS)
    return image.resize([n * int(scale) for n in image.size], Image.Resampling.NEAREST)
