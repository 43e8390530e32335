"""One picture of all that a run logged: losses, held-out metrics, gradients, rates, time."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...core.drawing.palette import COLORS
from ...core.errors import FacewrightError
from ...core.files.writing import remove_leftovers, written_whole
from .records import loss_terms, read_lines

_DPI = 100
_WIDTH = 1600
"""Pixels."""
_PANEL, _LEGEND, _HEADING = 2.0, 0.17, 0.42
"""Inches of height: of a panel, of each line of its legend, of a section's heading."""
_LOG_FROM = 30
"""Curves whose values differ by this factor are drawn on a logarithmic scale."""
_SHARE = 20
"""A smoothed point is the mean of the n/20 logged ones around it."""
_MONITORED = "Monitored"


@dataclass
class Curve:
    """One quantity over steps."""

    name: str
    steps: np.ndarray
    values: np.ndarray


@dataclass
class Panel:
    """Curves that share an axis; a single one is smoothed and stands in the title."""

    title: str
    curves: list[Curve]
    smooth: bool = False


@dataclass
class Section:
    """Panels below one heading."""

    title: str
    panels: list[Panel] = field(default_factory=list)


def curve_sheet(metrics_jsonl: Path, target: Path) -> Path:
    """Draw everything in a run's `metrics.jsonl`, 1600 pixels wide; returns `target`.

    Held-out metrics come first, `restored/psnr` and `lq/psnr` in one panel. Losses, gradient norms
    and what a recipe monitors are drawn faint as logged and, on top, as running means of a
    twentieth of the values. Numbers in titles are the first and the last value, smoothed where the
    curve is. The scale is logarithmic where values differ by a factor of 30 and more.

    Args:
        metrics_jsonl: of a run that has ended, is under way, or was killed.
        target: PNG; replaced as a whole.

    Raises:
        FacewrightError: the file is not there or has no whole line yet.
        OSError: `target` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_lines(metrics_jsonl)
    if not lines:
        raise FacewrightError(
            f"{metrics_jsonl} holds no curves. A run writes the first line before its first step; "
            "give the `output` folder of a run that has begun."
        )
    sections = [section for section in sections_of(lines) if section.panels]
    heights = [_height(section) for section in sections]
    # The object interface: pyplot would keep figures alive and choose a window system.
    figure = Figure(
        figsize=(_WIDTH / _DPI, sum(heights) + 0.8), layout="constrained", facecolor="white"
    )
    figure.suptitle(
        f"{metrics_jsonl.resolve().parent.name}: {_summary(lines)}",
        x=0.01, ha="left", fontsize=13, weight="bold",
    )  # fmt: skip
    figure.supxlabel(
        "Across: steps. Faint: as logged; bold: running mean over a twentieth of the values "
        f"(from {2 * _SHARE} values on). Numbers: first \N{RIGHTWARDS ARROW} last value of the "
        "bold line.",
        fontsize=9,
        color="#444444",
    )
    parts = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)
    for part, section in zip(parts[:, 0], sections, strict=True):
        _draw_section(part, section)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # ticks follow from the layout, and the layout from ticks
    remove_leftovers([target])  # of a drawing that was killed
    with written_whole(target) as path:
        canvas.print_figure(path, dpi=_DPI, format="png")
    return target


def sections_of(lines: Sequence[dict]) -> list[Section]:
    """What is drawn, from the lines of a `metrics.jsonl`."""
    trained = [line for line in lines if "held_out" not in line]
    validated = [line for line in lines if "held_out" in line]
    terms: dict[str, dict[str, None]] = defaultdict(dict)
    for line in trained:
        for phase, keys in loss_terms(line).items():
            terms[phase] |= dict.fromkeys(keys)
    held_out = Section("Held out", _held_out(validated))
    losses = [Section(f"Loss: {p}", _losses(trained, p, list(keys))) for p, keys in terms.items()]
    norms = [
        Panel(f"{phase}: gradient norm", [_curve(trained, f"{phase}/grad_norm")], smooth=True)
        for phase in terms
    ]
    rates = [_curve(trained, f"{phase}/lr", phase) for phase in terms]
    steps = Section("Steps and time", norms)
    if any(len(rate.steps) for rate in rates):
        steps.panels.append(Panel("learning rate", rates))
    if validated:
        steps.panels.append(_time(validated))
    known = {"step", *chain(*terms.values())}
    known |= {f"{phase}/{name}" for phase in terms for name in ("grad_norm", "lr")}
    others = dict.fromkeys(key for line in trained for key in line if key not in known)
    panels = [Panel(key, [_curve(trained, key)], smooth=True) for key in others]
    return [held_out, *losses, Section(_MONITORED, panels), steps]


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean of `window` values, of fewer at both ends; what is not finite does not count."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    places = np.arange(len(values))
    low = np.maximum(places - (window - 1) // 2, 0)
    high = np.minimum(places + window // 2 + 1, len(values))
    found = counts[high] - counts[low]
    return np.where(found > 0, (sums[high] - sums[low]) / np.maximum(found, 1), np.nan)


def _curve(
    lines: Sequence[dict], key: str, name: str = "", read: Callable[[dict], Any] | None = None
) -> Curve:
    read = read or (lambda line: line.get(key))
    found = [(line["step"], read(line)) for line in lines]
    found = [(step, value) for step, value in found if value is not None]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return Curve(name or key, np.array(steps, float), np.array(values, float))


def _held_out(lines: Sequence[dict]) -> list[Panel]:
    """A panel for each metric; `restored/psnr` is the curve "restored" of the metric "psnr"."""
    keys = dict.fromkeys(key for line in lines for key in line["held_out"])
    metrics: dict[str, list[Curve]] = defaultdict(list)
    for key in keys:
        of, _, metric = key.rpartition("/")
        curve = _curve(lines, key, of or metric, lambda line, key=key: line["held_out"].get(key))
        metrics[metric].append(curve)
    return [Panel(metric, curves) for metric, curves in metrics.items()]


def _losses(lines: Sequence[dict], phase: str, keys: list[str]) -> list[Panel]:
    panels = [
        Panel(key.removeprefix(f"{phase}/"), [_curve(lines, key)], smooth=True) for key in keys
    ]
    if len(keys) == 1:
        return panels

    def total(line: dict) -> float | None:
        found = [line[key] for key in keys if key in line]
        return sum(found) if found else None

    return [Panel("sum of all terms", [_curve(lines, "", "sum", total)], smooth=True), *panels]


def _time(lines: Sequence[dict]) -> Panel:
    longest = max(max(line.get("seconds", 0), line.get("cpu_seconds", 0)) for line in lines)
    unit, size = ("hours", 3600) if longest > 2 * 3600 else ("minutes", 60)
    curves = [
        _curve(lines, key, name, lambda line, key=key: line[key] / size if key in line else None)
        for key, name in (("seconds", "wall clock"), ("cpu_seconds", "processor, this process"))
    ]
    return Panel(f"training time, {unit}", curves)


def _summary(lines: Sequence[dict]) -> str:
    last = max(line["step"] for line in lines)
    clocks = [line for line in lines if "seconds" in line]
    if not clocks:
        return f"{last} steps"
    seconds = clocks[-1]["seconds"]
    spent = f"{seconds / 3600:.1f} h" if seconds > 2 * 3600 else f"{seconds / 60:.1f} min"
    return f"{last} steps, {spent} of training"


def _height(section: Section) -> float:
    rows, _ = _grid(section)
    longest = max(0 if _alone(p) else len(p.curves) for p in section.panels)
    return _HEADING + rows * (_PANEL + _LEGEND * longest)


def _grid(section: Section) -> tuple[int, int]:
    """Rows and columns: four columns, or five where that saves a row."""
    four, five = (math.ceil(len(section.panels) / columns) for columns in (4, 5))
    return (five, 5) if five < four else (four, 4)


def _alone(panel: Panel) -> bool:
    return len(panel.curves) == 1


def _draw_section(part: Any, section: Section) -> None:
    part.suptitle(section.title, x=0.01, ha="left", fontsize=11.5)
    axes = part.subplots(*_grid(section), squeeze=False).ravel()
    for axis, panel in zip(axes, section.panels, strict=False):
        _draw_panel(axis, panel)
    for axis in axes[len(section.panels) :]:
        axis.set_axis_off()


def _draw_panel(axis: Any, panel: Panel) -> None:
    drawn = []
    for curve, color in zip(panel.curves, COLORS * len(panel.curves), strict=False):
        values = curve.values
        if panel.smooth:
            values = running_mean(values, max(1, len(values) // _SHARE))
            axis.plot(curve.steps, curve.values, color=color, lw=0.8, alpha=0.35)
        few = "o" if len(values) < 25 and not panel.smooth else None
        ends = f"{_first(values):.4g} \N{RIGHTWARDS ARROW} {_first(values[::-1]):.4g}"
        label = f"{panel.title}: {ends}" if _alone(panel) else f"{curve.name}: {ends}"
        axis.plot(curve.steps, values, color=color, lw=1.6, marker=few, ms=3, label=label)
        drawn.append(values)
    values = np.concatenate(drawn)
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > _LOG_FROM * values.min():
        axis.set_yscale("log")
    else:
        axis.locator_params(axis="y", nbins=5)
        axis.ticklabel_format(axis="y", scilimits=(-4, 5))
        if panel.smooth and len(values):
            _fit(axis, values, np.concatenate([c.values for c in panel.curves]))
    _dress(axis, panel)


def _fit(axis: Any, smoothed: np.ndarray, raw: np.ndarray) -> None:
    """A few spikes do not press the curve flat."""
    low, high = np.percentile(raw[np.isfinite(raw)], [1, 99])
    low, high = min(low, smoothed.min()), max(high, smoothed.max())
    room = 0.06 * (high - low) or 0.06 * abs(high) or 0.1
    axis.set_ylim(low - room, high + room)


def _first(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[0]) if len(finite) else math.nan


def _dress(axis: Any, panel: Panel) -> None:
    if _alone(panel):
        axis.set_title(axis.get_lines()[-1].get_label(), fontsize=9.5, loc="left")
    else:
        axis.set_title(panel.title, fontsize=9.5, loc="left")
        axis.legend(
            loc="upper left", bbox_to_anchor=(0, -0.12), fontsize=8.5, frameon=False,
            borderpad=0, borderaxespad=0.3, labelspacing=0.2, handlelength=1.4,
        )  # fmt: skip
    axis.grid(color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8.5, color="#888888")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#888888")
