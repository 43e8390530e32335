"""Scores of single pictures that were measured elsewhere, read from files and put into a report."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.errors import FacewrightError, counted, listed, shorten
from ...core.files.json_text import JsonError, as_fields, as_list, parse_json
from ...core.files.shapes import shown
from ...core.metrics import METRICS, Metric
from ...core.metrics.statistics import BETTER
from .kept import number_of
from .pairing import Pairing

_KINDS = (".csv", ".json", ".jsonl")
_ASIDE = ("file", "original", "problems", "notes", "copy_of")
"""Columns of results.csv that hold no scores."""


@dataclass(frozen=True)
class Given:
    """What the files hold."""

    metrics: tuple[Metric, ...] = ()
    files: tuple[Path, ...] = ()
    lines: tuple[tuple[str, str | None, Mapping[str, float]], ...] = ()
    """(Picture, method or None for the only one, metric -> value)."""

    def matched(self, pairing: Pairing) -> "Matched":
        """Their values by (case, method).

        A picture is named as in the report, or with its suffix.

        Raises:
            FacewrightError: scores without a method where there are several, of a method or
                pictures that are not here at all, or two values for one picture.
        """
        cases = {case.name: case for case in pairing.cases}
        values: dict[tuple[str, str], dict[str, float]] = {}
        strangers = []
        for name, method, scores in self.lines:
            if method is None and len(pairing.methods) > 1:
                raise FacewrightError(
                    f"The scores of {shorten(name)} do not say of which method they are, and there "
                    f"are {', '.join(pairing.methods)}. Add a column or entry `method`."
                )
            method = method or pairing.restored[0]
            case = cases.get(name) or cases.get(_without_suffix(name))
            if case is None or method not in case.versions:
                strangers.append(f"{shorten(name)} ({shorten(method)})")
                continue
            mine = values.setdefault((case.name, method), {})
            if twice := [key for key, value in scores.items() if mine.get(key, value) != value]:
                raise FacewrightError(
                    f"The given scores hold two values of {twice[0]} for {case.name} ({method}). "
                    "Keep one of them."
                )
            mine.update(scores)
        if self.lines and not values:
            here = [f"{case.name} ({m})" for case in pairing.cases for m in case.versions]
            raise FacewrightError(
                f"No score of {_names(self.files)} belongs to a picture here.\n"
                f"Scores of: {listed(strangers, 10)}\n"
                f"Pictures: {listed(here, 10)}"
            )
        return Matched(self, values, strangers)


@dataclass(frozen=True)
class Matched:
    """Given scores and whose they are."""

    given: Given = field(default_factory=Given)
    values: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    strangers: Sequence[str] = ()

    def fill(self, scores: Any) -> None:
        """Put the values into the rows of `Scores`, and say so among its notes."""
        for row in scores.rows if self.given.metrics else ():
            mine = self.values.get((row.case, row.method), {})
            for m in () if row.error else self.given.metrics:
                if m.name in mine:
                    row.values[m.name] = mine[m.name]
                    row.problems.pop(m.name, None)
                elif m.name not in METRICS:
                    row.values[m.name] = float("nan")
                    row.problems[m.name] = f"{_names(self.given.files)} holds no value of it"
        for m in self.given.metrics:
            count = sum(m.name in mine for mine in self.values.values())
            scores.notes.append(
                f"{m.label}: {counted(count, 'value')} taken as given in "
                f"{_names(self.given.files)}, not measured here."
            )
        if self.strangers:
            n, one = counted(len(self.strangers), "score line"), len(self.strangers) == 1
            scores.notes.append(
                f"{n} of {_names(self.given.files)} {'belongs' if one else 'belong'} to no picture "
                f"here: {listed(self.strangers, 5)}."
            )


def read_given(files: Sequence[Path]) -> Given:
    """Read scores of single pictures from .csv, .json or .jsonl files.

    CSV: a column `picture`, one `method` where there are several, and one per metric: a name of
    `METRICS`, or any other with what is good behind it, such as `topiq:higher` (or `:lower`,
    `:one`). An empty cell is no score. JSON lines: objects with `picture`, `method` and `values`;
    JSON: a list `pictures` of such, as in results.json.

    Raises:
        FacewrightError: a file that cannot be read or holds something else.
    """
    metrics: dict[str, Metric] = {}
    lines = []
    for file in files:
        for where, (picture, method, values) in _entries(file):
            if not isinstance(picture, str) or not picture:
                raise FacewrightError(f"{where} names no `picture`, but {shown(picture)}.")
            if not isinstance(method, str | None):
                raise FacewrightError(f"{where} has {shown(method)} as `method`, not its name.")
            found = {}
            for column, value in values.items():
                m = _metric(column, where)
                known = metrics.setdefault(m.name, m)
                if known.better != m.better:
                    raise FacewrightError(
                        f"{where} says that {m.better} is good for {m.name}, and elsewhere it is "
                        f"{known.better}."
                    )
                if value is None or value == "":
                    continue
                number = number_of(value)
                if number is None:
                    raise FacewrightError(
                        f"{where} has {shown(value)} as {shorten(column)}, not a number. Leave a "
                        "missing score empty; an infinite one is inf."
                    )
                found[m.name] = number
            lines.append((picture, method or None, found))
    return Given(tuple(metrics.values()), tuple(files), tuple(lines))


_Entry = tuple[Any, Any, Mapping[str, Any]]


def _entries(file: Path) -> list[tuple[str, _Entry]]:
    """(Where it stands, (picture, method, column -> value)) of everything in a file."""
    kind = file.suffix.lower()
    if kind not in _KINDS:
        raise FacewrightError(
            f"{file} should be a .csv, .json or .jsonl file with scores of single pictures."
        )
    try:
        data = file.read_bytes()
        if kind == ".csv":
            return _from_csv(file, data.decode("utf-8-sig"))
        if kind == ".json":
            return _from_json(file, parse_json(data, file_names=True))
        lines = [(n, line) for n, line in enumerate(data.splitlines(), 1) if line.strip()]
        parsed = [(f"Line {n} of {file}", parse_json(x, file_names=True)) for n, x in lines]
    except (OSError, UnicodeDecodeError, JsonError, csv.Error) as error:
        raise FacewrightError(f"{file} cannot be read as {kind[1:].upper()} ({error}).") from error
    return [(where, _entry(where, value)) for where, value in parsed]


def _from_csv(file: Path, text: str) -> list[tuple[str, _Entry]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    header = [name.strip() for name in next(reader, [])]
    if "picture" not in header or len(set(header)) < len(header):
        raise FacewrightError(
            f"The first line of {file} should name its columns, each once, and one of them "
            f"`picture`; it holds {listed([shorten(name) for name in header], 10) or 'nothing'}."
        )
    found = []
    for cells in reader:
        where = f"Line {reader.line_num} of {file}"
        if not cells:
            continue
        if len(cells) != len(header):
            raise FacewrightError(
                f"{where} has {len(cells)} cells, and there are {len(header)} columns."
            )
        values = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        picture, method = values.pop("picture"), values.pop("method", None)
        scores = {k: v for k, v in values.items() if k not in _ASIDE}
        found.append((where, (picture, method, scores)))
    return found


def _from_json(file: Path, value: Any) -> list[tuple[str, _Entry]]:
    pictures = value if isinstance(value, list) else as_list(as_fields(value).get("pictures"))
    if not pictures:
        raise FacewrightError(
            f"{file} holds no list `pictures` of objects with `picture`, `method` and `values`."
        )
    described = as_fields(as_fields(value).get("metrics"))
    found = []
    for number, one in enumerate(pictures, 1):
        where = f"Entry {number} of {file}"
        picture, method, values = _entry(where, one)
        named = {_with_direction(k, described): v for k, v in values.items()}
        found.append((where, (picture, method, named)))
    return found


def _with_direction(name: str, described: Mapping[str, Any]) -> str:
    better = as_fields(described.get(name)).get("better")
    return name if name in METRICS or better not in BETTER else f"{name}:{better}"


def _entry(where: str, value: Any) -> _Entry:
    about = as_fields(value)
    values = about.get("values")
    if not isinstance(values, dict) or "picture" not in about:
        raise FacewrightError(
            f"{where} should be an object with `picture`, `method` and `values`, but is "
            f"{shown(value)}."
        )
    return about["picture"], about.get("method"), values


def _metric(column: str, where: str) -> Metric:
    name, colon, better = column.rpartition(":")
    if not colon:
        name = better
    if name in METRICS and (not colon or better == METRICS[name].better):
        if METRICS[name].reads == "set":
            raise FacewrightError(
                f"{where} gives {name} for single pictures, which is one number for all of them. "
                "Remove it."
            )
        return METRICS[name]
    if name in METRICS:
        raise FacewrightError(
            f"{where} says {shorten(column)}, but of {name} {METRICS[name].better} is good. Write "
            f"{name} alone."
        )
    if not colon or better not in BETTER or not name.strip():
        raise FacewrightError(
            f"{where} has a score {shorten(column)!r}, which is no metric known here. Known: "
            f"{', '.join(METRICS)}. Of any other say which values are good, as in "
            "topiq:higher (or :lower, or :one)."
        )
    name = shorten(name.strip(), 60)
    return Metric(
        name=name, label=name, better=better, compute=_not_here, summary="Given, not measured here."
    )  # fmt: skip


def _not_here(*inputs: Tensor) -> Tensor:
    raise FacewrightError("It was given as numbers and cannot be measured here.")


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and "/" not in suffix else name


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)
