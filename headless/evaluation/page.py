"""The report as one HTML file that needs nothing beside it."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.metrics import Metric
from ...core.metrics.statistics import CONFIDENCE, FEWEST, Mean
from .cases import Extremes, Shown, small
from .comparison import (
    FEW,
    VERDICTS,
    Comparison,
    Result,
    Slices,
    direction,
    infinite,
    mean_text,
    number,
    p_value,
    rows_of,
    value,
)
from .glossary import MEANING
from .pairing import GT, LQ
from .tables import INTERVAL, problems, versions

_SIDE = 320
"""Pixels of the longer side of an embedded picture."""
_LOSSLESS = 192 * 192
"""Up to this many pixels a picture is embedded as PNG."""


def to_html(
    result: Result,
    ends: Extremes | None,
    plot: bytes | None,
    slice_plots: Mapping[str, bytes | None],
) -> str:
    """The whole page; pictures and plot are inside as data.

    Its text and layout are in page.html. Whatever comes from files and folders is escaped there.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    scores = result.scores
    metrics = [*result.picture_metrics, *result.set_metrics]
    means = [(m, of[m.name]) for of in result.means.values() for m in result.picture_metrics]
    known = (direction, lead, chance, cautions)
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("page.html").render(
        {function.__name__: function for function in known},
        GT=GT,
        LQ=LQ,
        p_value=p_value,
        aside=[(str(file), None) for file in scores.pairing.aside],
        confidence=f"{CONFIDENCE:.0%}",
        counts={method: len(rows_of(scores, method)) for method in result.means},
        ends=ends,
        fewest=FEWEST,
        identical=any(mean.infinite and m.better == "higher" for m, mean in means),
        left_out=left_out(result),
        meaning=MEANING,
        names=" and ".join(scores.pairing.restored),
        picture=_picture,
        plot=plot and _data(plot, "png"),
        remarks=[(f"{r.case} ({r.method})", note) for r in scores.rows for note in r.notes],
        result=result,
        rows=[(m, _cells(result, m)) for m in metrics],
        settings=_settings(result),
        slice_cells=_slice_cells,
        slice_plots={by: data and _data(data, "png") for by, data in slice_plots.items()},
        subject=_subject(result),
    )


def _subject(result: Result) -> str:
    pairing = result.scores.pairing
    n = len(pairing.cases)
    pictures = "1 picture" if n == 1 else f"{n} pictures"
    if pairing.gt is None:
        return pictures
    of = len({case.gt for case in pairing.cases})  # fewer where there are copies
    originals = f"{of} originals" if of > 1 else "its original" if n == 1 else "1 original"
    return f"{pictures}, compared with {originals}"


def lead(result: Result) -> list[str]:
    """Per pair of methods the first metric in a sentence, and the others counted."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in result.leading:
        pairs.setdefault((comparison.method, comparison.against), []).append(comparison)
    lines = []
    for first, *others in pairs.values():
        groups = {verdict: [] for verdict in VERDICTS}
        for other in others:
            groups[other.verdict].append(other.metric.label.rstrip("."))
        named = [f"{verdict} in {', '.join(of)}" for verdict, of in groups.items() if of]
        rest = f" In the other metrics: {'; '.join(named)}." if named else ""
        lines.append(first.sentence() + rest)
    if not lines:
        for method, means in result.means.items():
            parts = [f"{m.label} {mean_text(means[m.name], m)}" for m in result.picture_metrics]
            lines.append(f"{method}: {', '.join(parts)}.")
    return lines


def chance(result: Result) -> str:
    """What to know before reading several verdicts; empty where there is one or none."""
    judged = {"better", "worse", "no clear difference"}
    if sum(c.verdict in judged for c in result.comparisons) < 2:
        return ""
    return (
        "Several differences are looked at: of those that are mere chance, about 1 in 20 looks "
        "clear. The p-values by Holm are corrected for all pairs of methods in one metric."
    )


def cautions(result: Result) -> list[str]:
    """What to bear in mind before believing the numbers."""
    lines = []
    counts = {len(result.scores.pairing.cases)} | {c.difference.count for c in result.comparisons}
    if counts == {1}:
        lines.append("There is only one picture: nothing can be said about others.")
    elif min(counts) < FEWEST:
        lines.append(
            f"Intervals and verdicts need at least {FEWEST} pictures: fewer are too few to tell "
            "a difference from chance."
        )
    elif min(counts) < FEW:
        lines.append(
            f"There are fewer than {FEW} pictures: take the intervals as a rough guide only."
        )
    if len({frozenset(rows_of(result.scores, method)) for method in result.means}) > 1:
        lines.append(
            "Not every method has every picture, so the means are not over the same pictures; the "
            "differences are."
        )
    if result.incomplete:
        lines.append("Some pictures or values are missing; they are listed under “Left out”.")
    return lines + result.scores.pairing.notes + result.scores.notes


@dataclass(frozen=True)
class _Cell:
    """A mean in the table of means."""

    text: str
    small: list[str]
    """What stands below it."""
    best: bool = False


def _cells(result: Result, m: Metric) -> list[_Cell]:
    best = result.best(m)
    return [_cell(result, method, m, method in best) for method in result.means]


def _cell(result: Result, method: str, m: Metric, best: bool) -> _Cell:
    aside = []
    if m.better == "one" and len(result.means) > 1:
        aside.append(f"{number(_from_one(result, method, m), m)} from 1")
    return _cell_of(_mean(result, method, m), m, aside, best)


def _cell_of(mean: Mean, m: Metric, aside: Sequence[str] = (), best: bool = False) -> _Cell:
    if mean.infinite and not mean.count:
        return _Cell(mean_text(mean, m), [])
    small = []
    if not math.isnan(mean.low):
        small.append(f"{number(mean.low, m)} – {number(mean.high, m)}")
    small += aside
    if mean.infinite:
        small.append(f"and {infinite(mean.infinite, m)}")
    if mean.undefined:
        small.append(f"{mean.undefined} missing")
    return _Cell(number(mean.mean, m), small, best)


def _slice_cells(result: Result, slices: Slices, m: Metric) -> list[tuple[str, int, list[_Cell]]]:
    """Per group its name, how many pictures it has, and the means of all methods."""
    return [
        (g.name, len(g.cases), [_cell_of(of[m.name], m) for of in means.values()])
        for g, means in zip(slices.grouping.groups, slices.means, strict=True)
    ]


def _mean(result: Result, method: str, m: Metric) -> Mean:
    if m.reads == "set":
        nan = float("nan")
        return Mean(
            result.scores.sets[method][m.name], nan, nan, result.scores.set_counts[method][m.name]
        )
    return result.means[method][m.name]


def _from_one(result: Result, method: str, m: Metric) -> float:
    """Mean distance from 1 over the finite values."""
    values = [value(row, m) for row in rows_of(result.scores, method).values()]
    finite = [abs(x - 1) for x in values if math.isfinite(x)]
    return sum(finite) / len(finite) if finite else math.nan


def _picture(shown: Shown, version: str) -> tuple[str, str]:
    """A picture as data, or why there is none."""
    image = small(shown, version, _SIDE)
    if isinstance(image, str):
        return "", image
    buffer = io.BytesIO()
    kind = "png" if image.width * image.height <= _LOSSLESS else "jpeg"
    options = {} if kind == "png" else {"quality": 90, "subsampling": 0}
    image.save(buffer, kind, **options)
    return _data(buffer.getvalue(), kind), ""


def _data(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def left_out(result: Result) -> dict[str, list[tuple[str, str]]]:
    """Heading -> names and why they, or values of theirs, are missing."""
    scores = result.scores
    gaps = [(f"{row.case} ({row.method})", "; ".join(problems(row))) for row in scores.gaps]
    sets = [
        (method, f"{name}: {why}")
        for method, whys in scores.set_problems.items()
        for name, why in whys.items()
    ]
    return {
        "Without a partner": [(str(u.file), u.why) for u in scores.pairing.unmatched],
        "Failed": [(f"{row.case} ({row.method})", row.error or "") for row in scores.failed],
        "Values missing": gaps + sets,
    }


def _settings(result: Result) -> list[tuple[str, str]]:
    pairing, faces = result.scores.pairing, result.scores.settings.faces
    folders = [*pairing.methods.items(), *([] if pairing.gt is None else [(GT, pairing.gt)])]
    reference, looks = result.scores.settings.reference, result.scores.settings.looks
    folders += [] if reference is None else [("Reference set", reference)]
    return [
        *((name, str(folder)) for name, folder in folders),
        ("Faces read by", faces or "nothing (no --faces)"),
        *([("Identity read by", looks.recogniser)] if looks.recogniser else []),
        *([("Pictures", "taken for aligned faces as they are")] if looks.aligned else []),
        ("Intervals", f"{CONFIDENCE:.0%}, {INTERVAL}"),
        ("Versions", ", ".join(f"{name} {of}" for name, of in versions().items())),
    ]
