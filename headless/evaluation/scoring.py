"""Scores picture by picture: one picture is in memory at a time, one that fails stops no other."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ...core.devices import compute_device
from ...core.errors import FacewrightError
from ...core.images import read_picture
from ...core.metrics import Metric
from ..jobs.batch import carried_out
from ..jobs.workers import Team, WorkerLostError
from .faces import FaceReader, Reading
from .gallery import Gallery
from .given import Matched
from .kept import NOTHING, KeptScores, Known
from .pairing import Case, Pairing, Unmatched
from .reference import Reference, features_of, read_reference
from .sets import Sets, reason_of
from .settings import DEFAULT_METRICS, Settings, choose_metrics

__all__ = [
    "DEFAULT_METRICS",
    "Row",
    "Scores",
    "Settings",
    "choose_metrics",
    "load",
    "score_all",
    "score_files",
]


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


def score_all(
    pairing: Pairing,
    settings: Settings,
    on_case: Callable[[int, str], None] = lambda done, name: None,
    *,
    workers: int | Team = 1,
    kept: KeptScores | None = None,
    given: Matched | None = None,
    reference: Reference | None = None,
) -> Scores:
    """Measure every version of every case; the numbers do not depend on who does it.

    Args:
        pairing: what belongs together.
        settings: from `choose_metrics`.
        on_case: told how many cases are done, and the name of the last one.
        workers: as for `run_jobs`.
        kept: where scores are written as they come, and from which an earlier run's are taken.
        given: scores that need not be measured.
        reference: what `read_reference` gave, for who tells of its progress.

    Raises:
        FacewrightError: the face analyzer or its weights are missing, the worker processes cannot
            start, scores cannot be written, or the reference set cannot be used.
    """
    scorer = _Scorer(settings, tuple(pairing.methods))
    scores = Scores(pairing, settings)
    if reference is None and settings.reference is not None:
        reference = read_reference(
            settings.reference, settings.metrics, settings.looks, workers=workers
        )
    sets, gallery = Sets(settings, reference), Gallery(settings.metrics)
    if reference is not None:
        scores.notes += reference.said
        missed = reference.left_out.items()
        lost = [Unmatched(file, f"of the reference set: {why}") for file, why in missed]
        scores.pairing = replace(pairing, unmatched=[*pairing.unmatched, *lost])
    if scorer.reader is not None:  # its weights are missed here, not by each picture
        scores.notes.append(scorer.reader.note())
    if workers != 1:
        scorer = _Scorer(settings, tuple(pairing.methods))  # each worker loads its own
    jobs = _jobs(pairing, kept, given)
    early: dict[int, tuple[Case, list[_Scored]]] = {}
    following = 0
    with closing(carried_out(scorer, jobs, workers)) as results:
        for done, ((index, case, known), scored) in enumerate(results, 1):
            if isinstance(scored, WorkerLostError):
                rows = scorer.rows(case)
                for row in rows:
                    row.error = scored.sentence
                scored = [(row, {}, {}) for row in rows]
            if kept is not None:
                _keep(kept, case, scored, settings, known)
            early[index] = case, scored
            # Sums over all pictures are made in the order of the cases, whoever comes first.
            while following in early:
                ready, found = early.pop(following)
                for row, restored, gt in found:
                    scores.rows.append(row)
                    sets.add(row, restored, gt)
                    gallery.add(row, ready.gt, restored, gt)
                following += 1
            on_case(done, case.name)
    notes, scores.notes = scores.notes, []
    gallery.measure()
    sets.measure(scores)
    scores.notes += notes
    if kept is not None:
        kept.finish()
    if given is not None:
        given.fill(scores)
    for row in scores.rows:
        row.notes = list(dict.fromkeys(row.notes))  # what was read again says some of them again
        names = [m.name for m in settings.metrics if m.name in row.values]
        row.values = {name: row.values[name] for name in names}
    return scores


def _keep(
    kept: KeptScores,
    case: Case,
    scored: list["_Scored"],
    settings: Settings,
    known: dict[str, Known],
) -> None:
    for row, _, _ in scored:
        before = known.get(row.method, NOTHING).values
        kept.add(case, row, [m for m in settings.single if m.name not in before])


_Job = tuple[int, Case, dict[str, Known]]
"""Which case, the case, and what is known of its versions."""


def _jobs(pairing: Pairing, kept: KeptScores | None, given: Matched | None) -> list[_Job]:
    there = {} if kept is None else kept.known(pairing)
    for key, values in {} if given is None else given.values.items():
        before = there.get(key, NOTHING)
        there[key] = Known({**before.values, **values}, before.notes)
    return [
        (index, case, {m: there[case.name, m] for m in case.versions if (case.name, m) in there})
        for index, case in enumerate(pairing.cases)
    ]


def score_files(restored: Path, gt: Path | None, settings: Settings) -> Row:
    """Measure one picture, against its original if there is one."""
    case = Case(restored.name, gt, {restored.name: restored})
    pairing = Pairing({restored.name: restored.parent}, gt, [case])
    scores = score_all(pairing, settings)
    row = scores.rows[0]
    for m in settings.metrics:
        if m.reads in ("gallery", "set") and not row.error:
            row.values[m.name] = math.nan
            row.problems[m.name] = "it compares two sets of pictures; see facewright evaluate"
    row.notes += scores.notes
    return row


_Features = dict[str, Tensor | str]
"""Metric of sets -> (1, d) features of one picture, or why there are none."""
_Scored = tuple[Row, _Features, _Features]
"""A row, and for the sets what its picture and its original give."""


@dataclass(frozen=True)
class _Scorer:
    """Measures all versions of one case; goes to worker processes, where it loads its models."""

    settings: Settings
    methods: tuple[str, ...]

    @cached_property
    def reader(self) -> FaceReader | None:
        return FaceReader(self.settings.looks) if self.settings.looks.any else None

    def rows(self, case: Case) -> list[Row]:
        return [Row(case.name, method) for method in self.methods if method in case.versions]

    def __call__(self, job: _Job) -> list[_Scored]:
        _, case, known = job
        rows = self.rows(case)
        for row in rows:
            there = known.get(row.method, NOTHING)
            row.values, row.notes = dict(there.values), list(there.notes)
        todo = [row for row in rows if self._todo(row)]
        measured = {found[0].method: found for found in self._measured(case, todo)} if todo else {}
        return [measured.get(row.method, (row, {}, {})) for row in rows]

    def _todo(self, row: Row) -> list[Metric]:
        """What the picture has to be opened for."""
        missing = [m for m in self.settings.single if m.name not in row.values]
        return missing + self.settings.together

    def _measured(self, case: Case, rows: list[Row]) -> list[_Scored]:
        faces = any(_of_faces(m) for row in rows for m in self._todo(row))
        reader = self.reader if faces else None
        gt = gt_reading = None
        gt_features: _Features = {}
        if case.gt is not None:
            try:
                gt, notes = load(case.gt)
            except Exception as error:  # noqa: BLE001 (the other cases still get their turn)
                for row in rows:
                    row.error, row.values = f"its original: {reason_of(error)}", {}
                return [(row, {}, {}) for row in rows]
            for row in rows:
                row.notes += [f"original: {note}" for note in notes]
            if reader is not None:
                gt_reading = reader.read(gt)
                for row in rows:
                    row.notes += [f"original: {note}" for note in gt_reading.notes]
            gt_features = self._features(gt, gt_reading, original=True)
        return [(row, self._score(row, case, gt, gt_reading), gt_features) for row in rows]

    def _score(
        self, row: Row, case: Case, gt: Tensor | None, gt_reading: Reading | None
    ) -> _Features:
        """Fill the row, and give what its picture adds to the sets."""
        try:
            restored, notes = load(case.versions[row.method])
            if gt is not None and restored.shape != gt.shape:
                raise FacewrightError(_sizes(case, row.method, restored, gt))
        except Exception as error:  # noqa: BLE001
            row.error, row.values = reason_of(error), {}
            return {}
        row.notes += notes
        reading = None
        if self.reader is not None and any(map(_of_faces, self._todo(row))):
            reading = self.reader.read(restored, like=gt_reading)
            row.notes += reading.notes
        for m in self.settings.single:
            if m.name in row.values:
                continue
            try:
                row.values[m.name] = _value(m, restored, gt, reading, gt_reading)
            except Exception as error:  # noqa: BLE001
                row.values[m.name] = math.nan
                row.problems[m.name] = reason_of(error)
        return self._features(restored, reading)

    def _features(
        self, picture: Tensor, reading: Reading | None, *, original: bool = False
    ) -> _Features:
        found: _Features = {}
        once: dict[str, Tensor | str] = {}  # several metrics read the same
        for m in self.settings.together:
            if original and m.needs == "set":
                continue
            name = m.convention or m.reads
            if name not in once:
                try:
                    once[name] = features_of(m, picture, reading)
                except Exception as error:  # noqa: BLE001 (the other metrics still count)
                    once[name] = reason_of(error)
            found[m.name] = once[name]
        return found


def _of_faces(m: Metric) -> bool:
    return m.reads != "pixels" and m.extract is None


def _read(reading: Reading | None, what: str) -> Tensor:
    if reading is None:
        raise FacewrightError("no face was looked for; choose who finds faces with --faces")
    return reading.get(what)


def _value(
    m: Metric,
    restored: Tensor,
    gt: Tensor | None,
    reading: Reading | None,
    gt_reading: Reading | None,
) -> float:
    if m.reads == "pixels":
        pictures = (restored,) if m.needs == "nothing" or gt is None else (restored, gt)
        inputs = (picture[None].to(compute_device()) for picture in pictures)
    else:
        inputs = (_read(reading, m.reads), _read(gt_reading, m.reads))
    with torch.no_grad():
        value = float(m(*inputs)[0])
    if math.isnan(value):
        raise FacewrightError("it is undefined for this picture")
    return value


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
