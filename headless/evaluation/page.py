"""The report as one HTML file that needs nothing beside it."""

import base64
import io
import math
from html import escape
from pathlib import Path

from ...core.metrics import Metric
from ...core.metrics.statistics import CONFIDENCE, FEWEST, Mean
from .cases import Extremes, Shown, thumbnail
from .comparison import (
    FEW,
    VERDICTS,
    Comparison,
    Result,
    direction,
    infinite,
    mean_text,
    number,
    rows_of,
    value,
)
from .glossary import MEANING
from .pairing import GT, LQ
from .style import STYLE
from .tables import INTERVAL, problems, versions

_SIDE = 320
"""Pixels of the longer side of an embedded picture."""
_LOSSLESS = 192 * 192
"""Up to this many pixels a picture is embedded as PNG."""


def to_html(result: Result, ends: Extremes | None, plot: bytes | None) -> str:
    """The whole page; pictures and plot are inside as data."""
    title = " and ".join(result.scores.pairing.restored)
    parts = [
        _head(result),
        _lead(result),
        _means(result),
        _comparisons(result),
        _plot(plot),
        _cases(result, ends),
        _left_out(result),
        _glossary(result),
        _settings(result),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation of {escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _head(result: Result) -> str:
    scores = result.scores
    methods = scores.pairing.restored
    n = len(scores.pairing.cases)
    against = ""
    if scores.pairing.gt is not None:
        of = len({case.gt for case in scores.pairing.cases})  # fewer where there are copies
        originals = f"{of} originals" if of > 1 else "its original" if n == 1 else "1 original"
        against = f", compared with {originals}"
    pictures = "1 picture" if n == 1 else f"{n} pictures"
    lq = " The degraded pictures (LQ) are scored the same way." if LQ in result.means else ""
    names = escape(" and ".join(methods))
    return f"<h1>Evaluation of {names}</h1>\n<p>{pictures}{against}.{lq}</p>\n"


def _lead(result: Result) -> str:
    lines = [f"<li>{escape(line)}</li>" for line in lead(result)]
    warnings = [f'<p class="warning">{escape(note)}</p>' for note in cautions(result)]
    what = f"<ul class=lead>{''.join(lines)}</ul>\n"
    if any(c.difference.clear is not None for c in result.comparisons):
        what += (
            f"<p class=note>In brackets: the {CONFIDENCE:.0%} interval of the mean difference. "
            f"Where it contains 0, no difference is claimed. {chance(result)}</p>\n"
        )
    return f"<h2>What came out</h2>\n{what}{''.join(warnings)}\n"


def lead(result: Result) -> list[str]:
    """Per pair of methods the first metric in a sentence, and the others counted."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in result.comparisons:
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
    differing = [c for c in result.comparisons if c.difference.wins or c.difference.losses]
    if sum(c.difference.clear is not None for c in differing) < 2:
        return ""
    return (
        "Several differences are looked at: of those that are mere chance, about 1 in 20 looks "
        "clear."
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


def _means(result: Result) -> str:
    counts = {m: len(rows_of(result.scores, m)) for m in result.means}
    heads = "".join(
        f"<th>{escape(method)}<br><small>{n} {'picture' if n == 1 else 'pictures'}</small></th>"
        for method, n in counts.items()
    )
    rows = []
    for m in [*result.picture_metrics, *result.set_metrics]:
        best = _best(result, m)
        cells = "".join(_cell(result, method, m, method in best) for method in result.means)
        unit = f" <small>{escape(m.unit)}</small>" if m.unit else ""
        rows.append(
            f"<tr><th scope=row>{escape(m.label)}{unit}<br><small>{direction(m)}</small></th>"
            f"{cells}</tr>"
        )
    note = (
        f"Mean over pictures, and below it its {CONFIDENCE:.0%} interval: other pictures of this "
        f"kind would be expected to give a mean in this range. Below {FEWEST} pictures there is "
        "none."
    )
    means = [(m, of[m.name]) for of in result.means.values() for m in result.picture_metrics]
    if any(mean.infinite and m.better == "higher" for m, mean in means):
        note += (
            " ∞: a picture identical to its original; it is counted, but enters no mean and no "
            "difference of means."
        )
    if len(counts) > 1:
        note += " Bold: the best mean; where 1 is best, the smallest mean distance from 1."
    return (
        f"<div class=wide><table class=means><thead><tr><th class=text>metric</th>{heads}</tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>\n<p class=note>{note}</p>\n"
    )


def _mean(result: Result, method: str, m: Metric) -> Mean:
    if m.reads == "set":
        nan = float("nan")
        return Mean(
            result.scores.sets[method][m.name], nan, nan, result.scores.set_counts[method][m.name]
        )
    return result.means[method][m.name]


def _best(result: Result, m: Metric) -> set[str]:
    """The methods with the best mean; none where infinite values are left out of some mean."""
    means = {method: _mean(result, method, m) for method in result.means}
    if any(mean.infinite for mean in means.values()):
        return set()
    ranks = {method: mean.mean for method, mean in means.items()}
    if m.better == "one":  # as the comparisons do: 0.5 and 1.5 are no ideal pair
        ranks = {method: _from_one(result, method, m) for method in means}
    ranks = {method: x for method, x in ranks.items() if not math.isnan(x)}
    if len(set(ranks.values())) < 2:
        return set()
    best = max(ranks.values()) if m.better == "higher" else min(ranks.values())
    return {method for method, x in ranks.items() if x == best}


def _from_one(result: Result, method: str, m: Metric) -> float:
    """Mean distance from 1 over the finite values."""
    values = [value(row, m) for row in rows_of(result.scores, method).values()]
    finite = [abs(x - 1) for x in values if math.isfinite(x)]
    return sum(finite) / len(finite) if finite else math.nan


def _cell(result: Result, method: str, m: Metric, best: bool) -> str:
    mean = _mean(result, method, m)
    if mean.infinite and not mean.count:
        return f"<td>{mean_text(mean, m)}</td>"
    text = f"<b>{number(mean.mean, m)}</b>" if best else number(mean.mean, m)
    small = []
    if not math.isnan(mean.low):
        small.append(f"{number(mean.low, m)} – {number(mean.high, m)}")
    if m.better == "one" and len(result.means) > 1:
        small.append(f"{number(_from_one(result, method, m), m)} from 1")
    if mean.infinite:
        small.append(f"and {infinite(mean.infinite, m)}")
    if mean.undefined:
        small.append(f"{mean.undefined} missing")
    return f"<td>{text}<br><small>{'<br>'.join(small)}</small></td>"


def _comparisons(result: Result) -> str:
    if not result.comparisons:
        return ""
    rows, pair = [], None
    for c in result.comparisons:
        d, m = c.difference, c.metric
        if pair != (c.method, c.against):
            pair = c.method, c.against
            head = f"<b>{escape(c.method)}</b> compared with <b>{escape(c.against)}</b>"
            rows.append(
                f"<tr class=group><th class=text colspan=3>{head}</th>"
                f"<th>{escape(c.method)} better in</th><th></th></tr>"
            )
        rows.append(
            f"<tr><th scope=row>{escape(m.label)} <small>{direction(m)}</small></th>"
            f"<td>{c.change()}</td><td>{_bounds(c)}</td>"
            f"<td>{round(d.wins * d.count) if d.count else 0} of {d.count}</td>"
            f'<td class="text {c.verdict.split()[0]}">{c.verdict}</td></tr>'
        )
    return (
        "<h2>Picture by picture</h2>\n<div class=wide><table><thead><tr>"
        f"<th class=text>metric</th><th>mean difference</th><th>{CONFIDENCE:.0%} interval</th>"
        f"<th>pictures</th><th class=text>verdict</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>\n<p class=note>Every picture is compared with itself under the other "
        "method, so that easy and hard pictures do not blur the difference. Where the interval of "
        f"the mean difference contains 0, the verdict is that there is no clear difference; below "
        f"{FEWEST} pictures there is no verdict. {chance(result)}</p>\n"
    )


def _bounds(c: Comparison) -> str:
    return "–" if c.difference.clear is None or c.verdict == "equal" else c.bounds(" to ")


def _plot(plot: bytes | None) -> str:
    if plot is None:
        return ""
    data = base64.b64encode(plot).decode()
    return (
        "<h2>Every picture</h2>\n<img class=plot alt='Values of every picture per metric and "
        f"method, with means and intervals' src='data:image/png;base64,{data}'>\n"
    )


def _cases(result: Result, ends: Extremes | None) -> str:
    if ends is None:
        return ""
    parts = []
    for heading, cases in ends.headings:
        if cases:
            rows = "".join(
                _case(result, ends.method, place, shown) for place, shown in enumerate(cases, 1)
            )
            way = direction(ends.metric)
            parts.append(f"<h2>{escape(heading)} <small>{way}</small></h2>\n{rows}")
    return "".join(parts)


def _case(result: Result, method: str, place: int, shown: Shown) -> str:
    figures = []
    for version in [*result.means, GT]:
        path = shown.versions.get(version)
        if path is None:
            if version == GT:
                continue
            inside = "<div class=empty>not there</div>"
        else:
            inside = f'<img alt="{escape(version)}" src="{_data(path)}">'
        lines = "<br>".join(map(escape, shown.scores.get(version, [])))
        label = f"{version} (original)" if version == GT else version
        figures.append(
            f"<figure>{inside}<figcaption><b>{escape(label)}</b><br>{lines}</figcaption></figure>"
        )
    name, value = escape(shown.case.name), escape(shown.values[method])
    return (
        f"<section class=case><h3>{place}. {name} <small>{value}</small></h3>"
        f"<div class=row>{''.join(figures)}</div></section>\n"
    )


def _data(path: Path) -> str:
    image = thumbnail(path, _SIDE)
    buffer = io.BytesIO()
    kind = "png" if image.width * image.height <= _LOSSLESS else "jpeg"
    options = {} if kind == "png" else {"quality": 90, "subsampling": 0}
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _left_out(result: Result) -> str:
    scores = result.scores
    groups = {
        "Without a partner": [(str(u.file), u.why) for u in scores.pairing.unmatched],
        "Failed": [(f"{row.case} ({row.method})", row.error or "") for row in scores.failed],
        "Values missing": [
            *((f"{row.case} ({row.method})", "; ".join(problems(row))) for row in scores.gaps),
            *(
                (method, f"{name}: {why}")
                for method, whys in scores.set_problems.items()
                for name, why in whys.items()
            ),
        ],
    }
    parts = ["<h2>Left out</h2>\n"]
    for heading, lines in groups.items():
        if lines:
            items = "".join(f"<li><b>{escape(n)}</b>: {escape(why)}</li>" for n, why in lines)
            parts.append(f"<h3>{heading} ({len(lines)})</h3>\n<ul class=names>{items}</ul>\n")
    if len(parts) == 1:
        parts.append("<p>Nothing: every picture was paired and scored.</p>\n")
    if aside := scores.pairing.aside:
        items = "".join(f"<li>{escape(str(file))}</li>" for file in aside)
        parts.append(
            f"<h3>Before and after in one picture, left aside ({len(aside)})</h3>\n"
            f"<ul class=names>{items}</ul>\n"
        )
    noted = [(f"{row.case} ({row.method})", note) for row in scores.rows for note in row.notes]
    if noted:
        items = "".join(f"<li><b>{escape(n)}</b>: {escape(note)}</li>" for n, note in noted)
        parts.append(f"<h3>Remarks ({len(noted)})</h3>\n<ul class=names>{items}</ul>\n")
    return "".join(parts)


def _glossary(result: Result) -> str:
    items = []
    for m in result.scores.settings.metrics:
        unit = f", in {escape(m.unit)}" if m.unit else ""
        package = (
            f" Measured by {escape(m.package)} ({escape(m.licence or '')})." if m.package else ""
        )
        items.append(
            f"<dt>{escape(m.label)} <small>{m.name}{unit}; {direction(m)}</small></dt>"
            f"<dd>{escape(MEANING[m.name])}<br><small>Conventions: {escape(m.summary)}{package}"
            "</small></dd>"
        )
    return f"<h2>What the metrics mean</h2>\n<dl>{''.join(items)}</dl>\n"


def _settings(result: Result) -> str:
    scores = result.scores
    facts = {f"{name}": str(folder) for name, folder in scores.pairing.methods.items()}
    if scores.pairing.gt is not None:
        facts[GT] = str(scores.pairing.gt)
    facts["Faces read by"] = scores.settings.faces or "nothing (no --faces)"
    facts["Intervals"] = f"{CONFIDENCE:.0%}, {INTERVAL}"
    facts["Versions"] = ", ".join(f"{name} {of}" for name, of in versions().items())
    rows = "".join(
        f"<tr><th scope=row>{escape(k)}</th><td class=text>{escape(v)}</td></tr>"
        for k, v in facts.items()
    )
    return (
        f"<h2>How it was made</h2>\n<div class=wide><table>{rows}</table></div>\n"
        "<p class=note>results.csv holds every value, results.json everything on this page.</p>\n"
    )
