"""One plot: per metric every picture as a dot, and the mean of every method with its interval."""

import io
import math

import numpy as np

from ...core.drawing.palette import COLORS
from ...core.metrics import Metric
from ...core.metrics.statistics import CONFIDENCE, FEWEST
from .comparison import Result, Slices, direction, infinite, number, rows_of, value
from .pairing import LQ

LQ_COLOR = "#8c8c8c"
_COLUMNS = 2
_WIDTH = 11.0
"""Inches."""


def color_of(result: Result, method: str) -> str:
    """The same colour for a method everywhere; grey for LQ."""
    if method == LQ:
        return LQ_COLOR
    return COLORS[result.scores.pairing.restored.index(method) % len(COLORS)]


def draw_plot(result: Result, dpi: int = 120) -> bytes | None:
    """PNG, or None where no metric has a value per picture."""
    metrics = result.picture_metrics
    if not metrics:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = list(result.means)
    columns = min(_COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    height = rows * (1.15 + 0.5 * len(methods)) + 0.5
    # The object interface: pyplot would keep figures alive and choose a window system.
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis, m in zip(axes, metrics, strict=False):
        _panel(axis, result, m, methods)
    for axis in axes[len(metrics) :]:
        axis.set_axis_off()
    figure.supxlabel(
        "Each dot is one picture. White circle: the mean (number at the right); "
        f"dark bar: its {CONFIDENCE:.0%} interval.",
        fontsize=9,
        color="#444444",
    )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=dpi, format="png")
    return buffer.getvalue()


def draw_slices(result: Result, slices: Slices, dpi: int = 120) -> bytes | None:
    """PNG of every metric against the groups: means with intervals, and for levels of damage every
    picture as a dot at its level. None where no metric has a value per picture.
    """
    metrics = result.picture_metrics
    if not metrics:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(_WIDTH, 3.2 * rows + 0.6), layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis, m in zip(axes, metrics, strict=False):
        for place, method in enumerate(result.means):
            _line(axis, result, slices, m, method, place)
        _dressed(axis, slices, m)
    for axis in axes[len(metrics) :]:
        axis.set_axis_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=9, frameon=False)
    label = slices.grouping.label
    figure.supxlabel(
        f"{label[:1].upper()}{label[1:]}. Circles: means of groups; bars: their {CONFIDENCE:.0%} "
        f"intervals, from {FEWEST} pictures on.",
        fontsize=9,
        color="#444444",
    )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=dpi, format="png")
    return buffer.getvalue()


def _line(axis, result: Result, slices: Slices, m: Metric, method: str, place: int) -> None:  # noqa: ANN001
    levels, color = slices.grouping.levels, color_of(result, method)
    rows = rows_of(result.scores, method)
    if levels:
        dots = [(levels[case], value(row, m)) for case, row in rows.items() if case in levels]
        finite = [(x, y) for x, y in dots if math.isfinite(y)]
        alpha = float(np.clip(12 / math.sqrt(max(len(finite), 1)), 0.12, 0.5))
        if finite:
            axis.scatter(*zip(*finite, strict=True), s=9, color=color, alpha=alpha, linewidths=0)
    points = []
    for index, (g, means) in enumerate(zip(slices.grouping.groups, slices.means, strict=True)):
        mean = means[method][m.name]
        x = index + 0.12 * (place - (len(result.means) - 1) / 2)
        if levels:  # a little apart, so that no method hides another
            reach = max(levels.values()) - min(levels.values())
            x = float(np.mean([levels[case] for case in g.cases])) + (x - index) * reach / 20
        if mean.count:
            points.append((x, mean.mean))
            axis.plot([x, x], [mean.low, mean.high], color=color, lw=1.6)
    xs, ys = zip(*points, strict=True) if points else ((), ())
    style = "o-" if levels else "o"
    axis.plot(xs, ys, style, color=color, ms=5, lw=1.4, mec="white", mew=0.6, label=_short(method))


def _dressed(axis, slices: Slices, m: Metric) -> None:  # noqa: ANN001
    unit = f" ({m.unit})" if m.unit else ""
    axis.set_title(f"{m.label}{unit}: {direction(m)}", fontsize=10.5, loc="left")
    if not slices.grouping.levels:
        names = [_short(g.name) for g in slices.grouping.groups]
        axis.set_xticks(
            range(len(names)), names, fontsize=8.5, rotation=0 if len(names) < 5 else 30
        )
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8.5, color="#888888")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _panel(axis, result: Result, m: Metric, methods: list[str]) -> None:  # noqa: ANN001
    rng = np.random.default_rng(0)
    for y, method in enumerate(methods):
        rows = rows_of(result.scores, method).values()
        values = np.array([value(row, m) for row in rows])
        finite = values[np.isfinite(values)]
        spread = rng.uniform(-0.22, 0.22, len(finite))
        alpha = float(np.clip(12 / math.sqrt(max(len(finite), 1)), 0.15, 0.7))
        color = color_of(result, method)
        axis.scatter(finite, y + spread, s=13, color=color, alpha=alpha, linewidths=0)
        mean = result.means[method][m.name]
        if mean.count:
            axis.plot([mean.low, mean.high], [y, y], color="#111111", lw=4, solid_capstyle="butt")
            axis.plot([mean.mean], [y], "o", color="white", mec="#111111", ms=7, mew=1.6)
        text = number(mean.mean, m) if mean.count or not mean.infinite else "\N{INFINITY}"
        if mean.infinite:
            text += f"\n({infinite(mean.infinite, m)})"
        axis.annotate(text, (1.015, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    unit = f" ({m.unit})" if m.unit else ""
    arrow = {"higher": " \N{RIGHTWARDS ARROW}", "lower": " \N{LEFTWARDS ARROW}", "one": ""}[
        m.better
    ]
    axis.set_title(f"{m.label}{unit}: {direction(m)}{arrow}", fontsize=10.5, loc="left")
    if m.better == "one":
        axis.axvline(1, color="#111111", lw=0.8, ls=":")
    axis.set_yticks(range(len(methods)), [_short(method) for method in methods], fontsize=9.5)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.grid(axis="x", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", labelsize=8.5, color="#888888")
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#888888")


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-most // 2 :]}"
