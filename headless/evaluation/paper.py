"""The tables of a report as Markdown and as LaTeX."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ...core.metrics import Metric
from ...core.metrics.statistics import CONFIDENCE, FEWEST
from .comparison import Result, Slices, mean_text, number, p_value, rows_of


@dataclass(frozen=True)
class _Table:
    caption: str
    header: list[str]
    rows: list[list[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    """(Row, column) of the bold cells."""


def to_markdown(result: Result) -> str:
    """Means, all pairs of methods and slices, as tables of GitHub's Markdown."""
    return "\n".join(map(_markdown, _tables(result)))


def to_latex(result: Result) -> str:
    """The same for LaTeX: needs the packages booktabs and, for long ones, nothing else."""
    head = "% \\usepackage{booktabs}; every table is a tabular of its own.\n"
    return head + "\n".join(map(_latex, _tables(result)))


def _tables(result: Result) -> list[_Table]:
    tables = [_means(result)]
    if result.comparisons:
        tables.append(_pairs(result))
    return tables + [_sliced(result, slices) for slices in result.slices]


def _means(result: Result) -> _Table:
    metrics = [*result.picture_metrics, *result.set_metrics]
    rows, bold = [], set()
    for i, (method, means) in enumerate(result.means.items()):
        cells = [method, str(len(rows_of(result.scores, method)))]
        for m in metrics:
            if m.reads == "set":
                cells.append(number(result.scores.sets[method][m.name], m))
                continue
            cells.append(_mean(means[m.name], m))
            if method in result.best(m):
                bold.add((i, len(cells) - 1))
        rows.append(cells)
    caption = (
        "Means over pictures. Bold: better than every other one by the verdict of the paired "
        f"{CONFIDENCE:.0%} interval, or equal to it."
    )
    return _Table(caption, ["method", "pictures", *map(_headed, metrics)], rows, frozenset(bold))


def _pairs(result: Result) -> _Table:
    header = ["metric", "method", "against", "pictures", "difference"]
    header += [f"{CONFIDENCE:.0%} interval", "p", "p (Holm)", "verdict"]
    rows = [
        [
            _headed(c.metric), c.method, c.against, str(c.difference.count), c.change(),
            "–" if math.isnan(c.difference.low) else c.bounds(" to "),
            p_value(c.difference.p), p_value(c.p_holm), c.verdict,
        ]
        for c in result.comparisons
    ]  # fmt: skip
    caption = (
        "All pairs of methods, picture by picture. p: two-sided, by random signs of the "
        "differences; p (Holm): corrected by Holm for all pairs in one metric."
    )
    return _Table(caption, header, rows)


def _sliced(result: Result, slices: Slices) -> _Table:
    metrics = result.picture_metrics
    rows = [
        [g.name, method, str(max((mean.count + mean.infinite for mean in of.values()), default=0)),
         *(_mean(of[m.name], m) for m in metrics)]
        for g, means in zip(slices.grouping.groups, slices.means, strict=True)
        for method, of in means.items()
    ]  # fmt: skip
    caption = f"Means by {slices.grouping.label}, with {CONFIDENCE:.0%} intervals from {FEWEST} on."
    return _Table(caption, [slices.grouping.by, "method", "pictures", *map(_headed, metrics)], rows)


def _mean(mean, m: Metric) -> str:  # noqa: ANN001
    if mean.infinite and not mean.count:
        return mean_text(mean, m)
    text = number(mean.mean, m)
    if not math.isnan(mean.low):
        text += f" [{number(mean.low, m)}, {number(mean.high, m)}]"
    return text + (f" (+{mean.infinite} infinite)" if mean.infinite else "")


def _headed(m: Metric) -> str:
    arrow = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}.get(m.better, "(1)")
    return f"{m.label} ({m.unit}) {arrow}" if m.unit else f"{m.label} {arrow}"


def _markdown(table: _Table) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(text: str, bold: bool) -> str:
        safe = re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", _one_line(text))
        return f"**{safe}**" if bold else safe

    kinds = ["---" if kind == "l" else "---:" for kind in _columns(table)]
    lines = [line([cell(text, False) for text in table.header]), line(kinds)]
    lines += [line(row) for row in _cells(table, cell)]
    return f"{_one_line(table.caption)}\n\n" + "\n".join(lines) + "\n"


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", "]": "{]}", "*": "{*}", "<": "$<$", ">": "$>$", "|": r"\textbar{}", '"': "''",
    "\N{MINUS SIGN}": "$-$", "–": "--", "\N{INFINITY}": r"$\infty$", "°": r"$^\circ$",
    "…": r"\dots{}", "\N{UPWARDS ARROW}": r"$\uparrow$", "\N{DOWNWARDS ARROW}": r"$\downarrow$",
}  # fmt: skip
"""Brackets and stars, too, which a line break before them would take for its own."""


def _latex(table: _Table) -> str:
    def cell(text: str, bold: bool) -> str:
        safe = "".join(_TEX.get(c, c) for c in _one_line(text))
        return rf"\textbf{{{safe}}}" if bold else safe

    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    return "\n".join(
        [
            f"% {_one_line(table.caption)}",
            rf"\begin{{tabular}}{{{_columns(table)}}}",
            r"\toprule",
            line([cell(text, False) for text in table.header]),
            r"\midrule",
            *(line(row) for row in _cells(table, cell)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _columns(table: _Table) -> str:
    """l or r per column: words begin and numbers end at the edge."""
    words = {table.header[0], "method", "against", "verdict"}
    return "".join("l" if name in words else "r" for name in table.header)


def _cells(table: _Table, cell: Callable[[str, bool], str]) -> list[list[str]]:
    return [
        [cell(text, (i, j) in table.bold) for j, text in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]


def _one_line(text: str) -> str:
    """Names of folders may hold anything that their file system takes."""
    return "".join(c if c.isprintable() else "?" for c in text)
