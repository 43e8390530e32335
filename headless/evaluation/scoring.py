"""Scores picture by picture: one picture is in memory at a time, one that fails stops no other."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import FacewrightError
from ...core.metrics import METRICS, FrechetStatistics, Metric, metric
from ..images import read_picture
from .faces import FaceReader, Reading
from .pairing import Case, Pairing

DEFAULT_METRICS = ("psnr", "ssim", "edges", "msswd")


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    metrics: tuple[Metric, ...]
    faces: str | None
    """Face analyzer for the metrics that read faces."""


@dataclass
class Row:
    """One version of one picture."""

    case: str
    method: str
    values: dict[str, float] = field(default_factory=dict)
    """Metric -> value; infinite for equal pictures, NaN where it could not be measured."""
    problems: dict[str, str] = field(default_factory=dict)
    """Metric -> why it could not be measured."""
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    """Why nothing at all could be measured."""


@dataclass
class Scores:
    """Everything measured."""

    pairing: Pairing
    settings: Settings
    rows: list[Row] = field(default_factory=list)
    """Cases in order, and in each the methods in order."""
    sets: dict[str, dict[str, float]] = field(default_factory=dict)
    """Method -> metric of all its pictures together -> value."""
    set_problems: dict[str, dict[str, str]] = field(default_factory=dict)
    set_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Method -> metric -> how many pictures entered."""
    notes: list[str] = field(default_factory=list)
    """What the reader has to know about all of them."""

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.error]

    @property
    def gaps(self) -> list[Row]:
        """Rows where some metric could not be measured."""
        return [row for row in self.rows if row.problems]


def choose_metrics(
    names: Sequence[str] | None, faces: str | None, has_gt: bool, *, sets: bool = True
) -> Settings:
    """The metrics to measure; without names the usual ones that the inputs allow.

    Args:
        names: of `METRICS`, or None.
        faces: analyzer, or None.
        has_gt: there are originals.
        sets: whole sets of pictures are measured; without, metrics of sets are not the usual ones.

    Raises:
        FacewrightError: an unknown name, a package that is not installed, or a metric that needs
            originals or faces that are not there.
    """
    if names is None:
        chosen = [metric(name) for name in DEFAULT_METRICS if has_gt]
        chosen += [metric(name) for name in FaceReader.metrics(faces) if has_gt]
        chosen = [m for m in chosen if sets or m.reads != "set"]
        if not chosen:
            free = ", ".join(name for name, m in METRICS.items() if m.needs == "nothing")
            raise FacewrightError(
                "Without an original only metrics that need none can be measured. Give it "
                f"(evaluate: --gt DIR; score: a second file), or --metrics with some of: {free}."
            )
    else:
        chosen = [metric(name) for name in dict.fromkeys(names)]
    for m in chosen:
        if m.needs == "gt" and not has_gt:
            raise FacewrightError(
                f"{m.label} compares with an original. Give it (evaluate: --gt DIR; score: a "
                f"second file), or leave {m.name} out."
            )
        if m.reads in ("landmarks", "embeddings") or m.name == "frechet":
            FaceReader.check(m, faces)
        if missing := m.available():
            raise FacewrightError(missing)
    return Settings(tuple(chosen), faces)


def score_all(
    pairing: Pairing,
    settings: Settings,
    on_case: Callable[[int, str], None] = lambda done, name: None,
) -> Scores:
    """Measure every version of every case.

    Args:
        pairing: what belongs together.
        settings: from `choose_metrics`.
        on_case: told how many cases are done, and the name of the last one.

    Raises:
        FacewrightError: the face analyzer or its weights are missing.
    """
    reader = FaceReader(settings.faces) if settings.faces else None
    scores = Scores(pairing, settings)
    sets = _Sets(settings)
    for done, case in enumerate(pairing.cases, 1):
        scores.rows += _score_case(case, pairing, settings, reader, sets)
        on_case(done, case.name)
    sets.measure(scores)
    if reader is not None:
        scores.notes.append(reader.note())
    return scores


def score_files(restored: Path, gt: Path | None, settings: Settings) -> Row:
    """Measure one picture, against its original if there is one."""
    case = Case(restored.name, gt, {restored.name: restored})
    pairing = Pairing({restored.name: restored.parent}, gt, [case])
    scores = score_all(pairing, settings)
    row = scores.rows[0]
    for m in settings.metrics:
        if m.reads == "set" and not row.error:
            row.values[m.name] = math.nan
            row.problems[m.name] = "it compares two sets of pictures; see facewright evaluate"
    row.notes += scores.notes
    return row


def _score_case(
    case: Case,
    pairing: Pairing,
    settings: Settings,
    reader: FaceReader | None,
    sets: "_Sets",
) -> list[Row]:
    rows = [Row(case.name, method) for method in pairing.methods if method in case.versions]
    gt = gt_reading = None
    gt_features: dict[str, Tensor | Exception] = {}
    if case.gt is not None:
        try:
            gt, notes = load(case.gt)
        except Exception as error:  # noqa: BLE001 (the other cases still get their turn)
            for row in rows:
                row.error = f"its original: {_reason(error)}"
            return rows
        for row in rows:
            row.notes += [f"original: {note}" for note in notes]
        if reader is not None:
            gt_reading = reader.read(gt)
        gt_features = sets.of(gt, gt_reading)
    for row in rows:
        try:
            restored, notes = load(case.versions[row.method])
            if gt is not None and restored.shape != gt.shape:
                raise FacewrightError(_sizes(case, row.method, restored, gt))
        except Exception as error:  # noqa: BLE001
            row.error = _reason(error)
            continue
        row.notes += notes
        reading = None
        if reader is not None:
            reading = reader.read(restored, like=gt_reading)
        for m in settings.metrics:
            if m.reads == "set":
                continue
            try:
                row.values[m.name] = _value(m, restored, gt, reading, gt_reading)
            except Exception as error:  # noqa: BLE001
                row.values[m.name] = math.nan
                row.problems[m.name] = _reason(error)
        if sets.metrics:
            sets.add(row, sets.of(restored, reading), gt_features)
    return rows


def _value(
    m: Metric,
    restored: Tensor,
    gt: Tensor | None,
    reading: Reading | None,
    gt_reading: Reading | None,
) -> float:
    if m.reads == "pixels":
        inputs = (restored[None],) if m.needs == "nothing" else (restored[None], gt[None])
    else:
        inputs = (reading.get(m.reads), gt_reading.get(m.reads))
    with torch.no_grad():
        value = float(m(*inputs)[0])
    if math.isnan(value):
        raise FacewrightError("it is undefined for this picture")
    return value


class _Sets:
    """Features of every picture for the metrics of whole sets, gathered per method."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = [m for m in settings.metrics if m.reads == "set"]
        self.statistics: dict[tuple[str, str], tuple[FrechetStatistics, FrechetStatistics]] = {}
        """Both registered ones are Fréchet's; statistics stay small however many pictures come."""

    def of(self, picture: Tensor, reading: Reading | None) -> dict[str, Tensor | Exception]:
        """Metric -> (1, d) features of one picture, or why there are none."""
        found: dict[str, Tensor | Exception] = {}
        for m in self.metrics:
            try:
                if m.extract is not None:
                    found[m.name] = m.extract(picture[None])
                else:
                    found[m.name] = reading.get("features")
            except Exception as error:  # noqa: BLE001 (the other metrics still count)
                found[m.name] = error
        return found

    def add(self, row: Row, restored: dict, gt: dict) -> None:
        for name, mine in restored.items():
            error = next((x for x in (mine, gt[name]) if isinstance(x, Exception)), None)
            if error is not None:
                row.problems[name] = f"not in the set: {_reason(error)}"
            else:
                key = row.method, name
                both = self.statistics.setdefault(key, (FrechetStatistics(), FrechetStatistics()))
                for statistics, features in zip(both, (mine, gt[name]), strict=True):
                    statistics.update(features)

    def measure(self, scores: Scores) -> None:
        for method in scores.pairing.methods if self.metrics else ():
            values, problems, counts = {}, {}, {}
            for m in self.metrics:
                empty = FrechetStatistics(), FrechetStatistics()
                restored, gt = self.statistics.get((method, m.name), empty)
                counts[m.name] = restored.count
                try:
                    values[m.name] = float(restored.distance(gt))
                except Exception as error:  # noqa: BLE001
                    values[m.name], problems[m.name] = math.nan, _reason(error)
            scores.sets[method], scores.set_problems[method] = values, problems
            scores.set_counts[method] = counts
        if self.metrics:
            labels = " and ".join(m.label for m in self.metrics)
            scores.notes.append(
                f"{labels}: one number for all pictures of a method, too high where they are few. "
                "Compare it only between methods over the same pictures."
            )


def load(path: Path) -> tuple[Tensor, list[str]]:
    """(3, h, w) in [0, 1] and what was changed to get there."""
    picture = read_picture(path)
    notes = list(picture.notes)
    if len(picture.pixels) == 4:
        notes.append("its transparency was ignored")
    return picture.pixels[:3], notes


def _sizes(case: Case, method: str, restored: Tensor, gt: Tensor) -> str:
    (h, w), (gh, gw) = restored.shape[-2:], gt.shape[-2:]
    return (
        f"{case.versions[method]} has {w} x {h} pixels and its original {gw} x {gh}. Pictures are "
        "compared pixel by pixel: write both at one size, or crop them alike."
    )


def _reason(error: Exception) -> str:
    known = isinstance(error, (FacewrightError, OSError))
    return str(error) if known else f"{type(error).__name__}: {error}"
