"""Scores kept one by one in the report's folder, so that an interrupted run goes on from them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from ...core.files import shapes
from ...core.files.json_text import strict
from ...core.files.own_version import own_version
from ...core.metrics import Metric
from ..jobs.manifest import Manifest, OwnRecord, Record
from ..jobs.recorded import file_mark
from ..make.people import recogniser_file
from .faces import Looks
from .pairing import Case, Pairing

SCORES = "scores.jsonl"


@dataclass(frozen=True)
class Known:
    """What is known of one version of one picture before it is opened."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value."""
    notes: tuple[str, ...] = ()


NOTHING = Known()


class _Line(OwnRecord):
    output: shapes.TEXT
    """Method and picture; no file is looked for under this name."""
    sha256: shapes.TEXT
    gt_sha256: shapes.TEXT | None = None
    measured: shapes.FIELDS
    packages: shapes.FIELDS
    values: shapes.FIELDS
    notes: list[str]

    @field_validator("values")
    @classmethod
    def _numbers(cls, given: dict[str, Any]) -> dict[str, Any]:
        if any(number_of(value) is None for value in given.values()):
            raise PydanticCustomError("kind", "numbers, or inf as text")
        return given


def number_of(value: Any) -> float | None:
    """A score as a file holds it, infinite ones as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return None if math.isnan(number) else number


class KeptScores:
    """The scores.jsonl of a report's folder: a line per picture and method, appended when measured.

    A value is taken over where both files have the content they had, and the metric is measured by
    the same version and in the same way as then. What failed is not kept, and tried again.
    """

    def __init__(self, folder: Path, settings: Any, *, anew: bool = False) -> None:
        """Read what is there, unless all is to be measured `anew`; writes nothing.

        Raises:
            FacewrightError: the file cannot be read, or a line of it holds no scores.
        """
        self.path = folder / SCORES
        self._manifest = Manifest(self.path, _Line, anew=anew)
        self._measured = _way(settings.looks)
        self._packages = {m.name: _package(m) for m in settings.metrics if m.package}
        self._started = False
        self.taken_over = 0
        """Pictures of a method whose scores, or some of them, were there."""

    def known(self, pairing: Pairing) -> dict[tuple[str, str], Known]:
        """(Case, method) -> what need not be measured again."""
        found = {}
        for case in pairing.cases:
            for method in case.versions:
                record = self._record(case, method)
                if record is not None:
                    values = {name: float(value) for name, value in record["values"].items()}
                    found[case.name, method] = Known(values, tuple(record["notes"]))
        self.taken_over = len(found)
        return found

    def add(self, case: Case, row: Any, measured: Iterable[Metric]) -> None:
        """Keep a row now, with its values of the metrics that were `measured`.

        Raises:
            FacewrightError: it could not be written, such as to a full disk.
        """
        values = {m.name: row.values.get(m.name, math.nan) for m in measured}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        if row.error or not values:
            return
        before = self._record(case, row.method) or {"values": {}, "packages": {}}
        packages = {name: self._packages[name] for name in values if name in self._packages}
        record = {
            "output": f"{row.method}/{case.name}",
            "input": None if case.gt is None else str(case.gt),
            **self._marks_of(case, row.method),
            "measured": self._measured,
            "packages": {**before["packages"], **packages},
            "values": strict({**before["values"], **values}, infinity=True),
            "notes": row.notes,
        }
        if not self._started:
            self._manifest.start()
            self._started = True
        self._manifest.add(record)

    def finish(self) -> None:
        """Order the lines: the same scores give the same file, whoever measured them when."""
        if self._started:
            self._manifest.finish()

    def _record(self, case: Case, method: str) -> Record | None:
        """What was kept of these very files, measured in this very way; values by the packages
        that are here."""
        record = self._manifest.get(f"{method}/{case.name}")
        if record is None or record["measured"] != self._measured:
            return None
        marks = self._marks_of(case, method)
        if marks["sha256"] is None or any(record.get(k) != mark for k, mark in marks.items()):
            return None
        packages = {k: v for k, v in record["packages"].items() if v == self._packages.get(k, v)}
        values = {
            k: v for k, v in record["values"].items() if k in packages or k not in self._packages
        }
        return {**record, "values": values, "packages": packages}

    def _marks_of(self, case: Case, method: str) -> dict[str, str | None]:
        original = None if case.gt is None else self._mark(case.gt)
        return {"sha256": self._mark(case.versions[method]), "gt_sha256": original}

    @cache  # noqa: B019 (lives as long as one command)
    def _mark(self, path: Path) -> str | None:
        try:
            return file_mark(path)
        except OSError:  # a fault of that picture, found when its turn comes
            return None


def _way(looks: Looks) -> Record:
    """What decides the numbers besides the pictures and the packages."""
    way = {"version": own_version(), **asdict(looks)}
    if looks.recogniser is not None and (file := recogniser_file(looks.recogniser)) is not None:
        way["recogniser_sha256"] = file_mark(file)
    return way


def _package(m: Metric) -> str:
    try:
        return f"{m.package} {metadata.version(m.package or '')}"
    except metadata.PackageNotFoundError:
        return f"{m.package}"
