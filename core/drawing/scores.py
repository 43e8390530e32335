"""Scores of several pictures as a table with a plot: what a list of numbers does not show."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from ..metrics.statistics import CONFIDENCE, Mean, mean_interval
from ..scores.identity import IdentityScores
from ..scores.pictures import PictureScores, number
from .paint import AMBER, GREEN, GREY, RED, Color, fitting, font_of, mark, pixels_of, wrapped

_PLOT, _COLUMN, _ROW, _EDGE = 176, 118, 76, 14
"""Pixels: the plot of a row and its name above it, each of its numbers, a row, the rim."""
_GROUND, _TEXT, _LINE = (28, 28, 30), (235, 235, 235), (70, 70, 74)
_LARGE, _SMALL = 17, 13
"""Of letters: a node that is as wide as most shows this at three quarters of its size."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score of every picture."""

    label: str
    better: str
    """As in `Metric`: "higher", "lower" or "one"."""
    words: Callable[[float, str], str]
    """A value for people; the second argument is "+" where its sign is to be said."""
    values: Sequence[float]
    before: Sequence[float] | None = None
    """The same of the pictures before restoration."""
    gain: Sequence[float] | None = None
    """By how much each is better than before."""


def draw_picture_scores(scores: PictureScores) -> Tensor:
    """The table of Image Score, see `draw_rows`."""
    return draw_rows(
        [
            Row(
                label=one.label,
                better=one.better,
                words=lambda value, sign, one=one: number(value, one, sign=sign),
                values=scores.values[one.name],
                before=scores.values.get(f"{one.name} lq"),
                gain=scores.values.get(f"{one.name} gain"),
            )
            for one in scores.metrics
        ]
    )


def draw_identity_scores(scores: IdentityScores) -> Tensor:
    """The table of Identity Score, see `draw_rows`."""
    return draw_rows(
        [
            Row(
                label="Cosine",
                better="higher",
                words=lambda value, sign: f"{value:{sign}.3f}",
                values=scores.values["cosine"],
            ),
            Row(
                label="Degrees",
                better="lower",
                words=lambda value, sign: f"{value:{sign}.1f}",
                values=scores.values["degrees"],
            ),
        ],
        ends=("less alike", "more alike"),
    )


def draw_rows(rows: Sequence[Row], *, ends: tuple[str, str] = ("worse", "better")) -> Tensor:
    """A row per score: a mark per picture, further right the better, and means in numbers.

    Discs are the pictures, rings what they were before; the bar is the interval of the mean, and
    the upright line the mean itself.

    Args:
        ends: what is said of the left and of the right end.

    Returns:
        (1, 3, h, 558), narrower without pictures before, float32 in [0, 1]; (0, 3, 1, 1) where
        words say it as well: of a single picture without one before.
    """
    count = max((len(row.values) for row in rows), default=0)
    compared = any(row.before is not None for row in rows)
    if (not compared and count < 2) or not count:
        return pixels_of(Image.new("RGB", (1, 1)))[None][:0]
    heads = ("before", "restored", "gain") if compared else ("mean",)
    plot = _PLOT if compared else 2 * _PLOT
    width = 2 * _EDGE + plot + _COLUMN * len(heads)
    small = font_of(_SMALL)
    told = wrapped(_told(rows, count), width - 2 * _EDGE, small)
    top, line = 2 * _EDGE + _SMALL, _SMALL + 5
    height = top + _ROW * len(rows) + line * len(told) + _EDGE
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    middle = _EDGE + _SMALL // 2
    draw.text((_EDGE, middle), ends[0], GREY, small, anchor="lm")
    draw.text((_EDGE + plot, middle), ends[1], GREY, small, anchor="rm")
    for i, head in enumerate(reversed(heads)):
        draw.text((width - _EDGE - i * _COLUMN, middle), head, GREY, small, anchor="rm")
    for i, row in enumerate(rows):
        at = top + _ROW * i
        draw.line((_EDGE, at, width - _EDGE, at), _LINE)
        _draw_row(draw, row, at, plot, width - _EDGE)
    for i, words in enumerate(told):
        place = (_EDGE, height - _EDGE // 2 - line * (len(told) - i - 0.5))
        draw.text(place, words, GREY, small, anchor="lm")
    return pixels_of(sheet)[None]


def _told(rows: Sequence[Row], count: int) -> str:
    means = [mean_interval(row.values) for row in rows]
    told = [f"{count} pictures" if count > 1 else "1 picture"]
    if any(mean.count < count for mean in means):
        told.append("those without a finite number are left out")
    if any(math.isfinite(mean.low) for mean in means):
        told.append(f"in brackets the {CONFIDENCE:.0%} interval of the mean")
    return "; ".join(told)


def _draw_row(draw: ImageDraw.ImageDraw, row: Row, top: int, plot: int, right: int) -> None:
    large = font_of(_LARGE)
    draw.text((_EDGE, top + 18), fitting(row.label, plot - 8, large), _TEXT, large, anchor="lm")
    mean, middle = mean_interval(row.values), top + _ROW // 2
    if row.before is None or row.gain is None:
        _number(draw, (right, middle), row, mean, _TEXT)
    else:
        gain, before = mean_interval(row.gain), mean_interval(row.before)
        _number(draw, (right, middle), row, gain, _color(gain, row), sign="+")
        _number(draw, (right - _COLUMN, middle), row, mean, _TEXT)
        _number(draw, (right - 2 * _COLUMN, middle), row, before, GREY)
    _draw_plot(draw, row, mean, top + 51, plot)


def _draw_plot(draw: ImageDraw.ImageDraw, row: Row, mean: Mean, middle: int, plot: int) -> None:
    before = row.before or ()
    places = [_goodness(v, row.better) for v in (*row.values, *before) if math.isfinite(v)]
    if not places:
        return
    low, high = min(places), max(places)

    def x(value: float) -> float:
        share = (_goodness(value, row.better) - low) / (high - low) if high > low else 0.5
        return _EDGE + 6 + share * (plot - 12)

    draw.line((_EDGE, middle, _EDGE + plot, middle), _LINE)
    # "one" folds the scale at 1: an interval around it has no place there.
    if math.isfinite(mean.low) and row.better != "one":
        a, b = sorted((x(mean.low), x(mean.high)))
        draw.rectangle((a, middle - 5, b, middle + 5), fill=_LINE)
    for values, shape, color, at in ((before, "ring", GREY, 10), (row.values, "disc", GREEN, -10)):
        for value in values:
            if math.isfinite(value):
                mark(draw, (x(value), middle + at), 4, color, shape)
    if mean.count > 1 and row.better != "one":
        draw.line((x(mean.mean), middle - 16, x(mean.mean), middle + 3), _TEXT, 2)


def _goodness(value: float, better: str) -> float:
    """Larger the better the value is."""
    return {"higher": value, "lower": -value, "one": -abs(value - 1)}[better]


def _color(gain: Mean, row: Row) -> Color:
    """Amber where the interval does not tell better from worse, grey where it reads as 0."""
    if not math.isfinite(gain.mean) or not set(row.words(gain.mean, "")) & set("123456789"):
        return GREY
    unsure = math.isfinite(gain.low) and gain.low <= 0 <= gain.high
    return AMBER if unsure else GREEN if gain.mean > 0 else RED


def _number(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    row: Row,
    mean: Mean,
    color: Color,
    *,
    sign: str = "",
) -> None:
    known = math.isfinite(mean.low)
    said = row.words(math.inf if mean.infinite and not mean.count else mean.mean, sign)
    said = "none" if math.isnan(mean.mean) and not mean.infinite else said
    draw.text((at[0], at[1] - 9 * known), said, color, font_of(_LARGE), anchor="rm")
    if known:
        low, high = (row.words(v, "").split(" ")[0] for v in (mean.low, mean.high))
        draw.text((at[0], at[1] + 11), f"[{low}, {high}]", color, font_of(_SMALL), anchor="rm")
