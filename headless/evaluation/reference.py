"""Reference sets: what metrics of whole sets compare with where pictures have no originals."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ...core.devices import compute_device
from ...core.errors import FacewrightError, counted
from ...core.files.scan import LeftAside, pictures_in
from ...core.images import read_picture
from ...core.metrics import FrechetStatistics, Metric, metric
from ...core.metrics.moments import load_moments
from ..jobs.batch import carried_out
from ..jobs.workers import Team, WorkerLostError
from .faces import FaceReader, Looks, Reading

USUAL = {"clean-fid": "fid_set", "basicsr": "fid_basicsr_set", "nano": "frechet_set"}
"""Features -> the metric that compares them with a reference set."""


@dataclass
class Reference:
    """Statistics of a reference set."""

    path: Path
    of: dict[str, FrechetStatistics] = field(default_factory=dict)
    """By the features, see `features_name`."""
    left_out: dict[Path, str] = field(default_factory=dict)
    """Pictures of it that could not be read, and why."""
    said: list[str] = field(default_factory=list)
    """What the reader of a report has to know."""


def features_name(m: Metric, looks: Looks) -> str:
    """Which features a metric of sets reads: its convention, and how faces are read for it."""
    return f"{m.convention}-aligned" if m.extract is None and looks.aligned else m.convention


def features_of(m: Metric, picture: Tensor, reading: Reading | None) -> Tensor:
    """(1, d): what a picture (3, h, w) adds to a set or a gallery.

    Raises:
        FacewrightError: there is no face, or the network is missing.
    """
    if m.extract is not None:
        return m.extract(picture[None].to(compute_device()))
    if reading is None:
        raise FacewrightError("no face was looked for; choose who finds faces with --faces")
    return reading.get("embeddings" if m.reads == "gallery" else "features")


def usual_metric(path: Path, looks: Looks) -> str:
    """The metric for a reference set where none is named.

    Raises:
        FacewrightError: neither a folder nor a file of statistics, or one of unknown features.
    """
    if path.is_dir():
        return USUAL["nano" if looks.faces == "nano" else "clean-fid"]
    known = load_moments(path).convention or "clean-fid"
    name = USUAL.get(known.removesuffix("-aligned"))
    if name is None:
        raise FacewrightError(
            f"{path} holds statistics of features called {known!r}; known are {', '.join(USUAL)}. "
            "Make the file anew with `facewright stats`."
        )
    return name


def check_reference(path: Path, metrics: Sequence[Metric], looks: Looks) -> None:
    """Raise FacewrightError unless a reference set can be what these metrics compare with."""
    if path.is_dir():
        return
    said = load_moments(path).convention
    for m in metrics:
        name = features_name(m, looks)
        if m.needs == "set" and said not in (None, name):
            raise FacewrightError(
                f"{path} holds statistics of the features {said!r}, and {m.name} reads {name!r}. "
                f"{_instead(said)}"
            )


def _instead(said: str | None) -> str:
    name = USUAL.get(f"{said}".removesuffix("-aligned"))
    if name is None:
        return "Make the file anew with `facewright stats`."
    way = " with --aligned" if f"{said}".endswith("-aligned") else ""
    return f"Measure {name}{way}, or make the file anew with `facewright stats`."


def read_reference(
    path: Path,
    metrics: Sequence[Metric],
    looks: Looks,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
    *,
    workers: int | Team = 1,
) -> Reference:
    """Statistics of a folder's pictures, or of a file, for the metrics that need a reference set.

    Args:
        path: a folder, or a file as `facewright stats` and clean-fid write it.
        metrics: those that need no reference set are left alone.
        looks: how faces are read.
        on_picture: told how many pictures of a folder are done, and of how many.
        workers: as for `run_jobs`.

    Raises:
        FacewrightError: no pictures, none that can be read, or a file that does not fit.
    """
    wanted = [m for m in metrics if m.needs == "set"]
    if path.is_dir():
        found = set_statistics(path, wanted, looks, on_picture, workers=workers)
        counts = {statistics.count for statistics in found.of.values()}
        found.said.append(f"Reference set: {path}, {counted(max(counts, default=0), 'picture')}.")
        return found
    check_reference(path, wanted, looks)
    known = load_moments(path)
    names = {features_name(m, looks) for m in wanted}
    count = "an unknown number of pictures"
    if known.count is not None:
        count = counted(known.count, "picture")
    line = f"Reference set: {path}, statistics of {count}."
    if known.convention is None:
        line += (
            f" The file does not say of which features; they are taken for {' and '.join(names)}."
        )
    return Reference(path, dict.fromkeys(names, known.statistics), said=[line])


def set_statistics(
    folder: Path,
    metrics: Sequence[Metric],
    looks: Looks,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
    *,
    workers: int | Team = 1,
    limit: int | None = None,
) -> Reference:
    """Mean and covariance of the features of a folder's pictures, subfolders included.

    Args:
        folder: of pictures, in the order of their names.
        metrics: whose features are taken.
        looks: how faces are read.
        on_picture: told how many are done, and of how many.
        workers: as for `run_jobs`; any number gives the same digits.
        limit: take the first so many pictures.

    Raises:
        FacewrightError: no pictures, or not two whose features can be taken.
    """
    files = pictures_in(folder, LeftAside())[:limit]
    if not files:
        raise FacewrightError(f"There are no pictures in {folder}.")
    names = {m.name: features_name(m, looks) for m in metrics}
    found = Reference(folder, {name: FrechetStatistics() for name in names.values()})
    reader = _SetReader(tuple(dict(zip(names.values(), names, strict=True)).values()), looks)
    if workers == 1:
        reader.ready()
    early: dict[int, dict[str, Tensor | str]] = {}
    following = 0
    with closing(carried_out(reader, list(enumerate(files)), workers)) as results:
        for done, ((index, _), features) in enumerate(results, 1):
            if isinstance(features, WorkerLostError):
                early[index] = dict.fromkeys(reader.names, features.sentence)
            else:
                early[index] = features
            while following in early:  # sums are made in the order of the pictures
                for name, row in early.pop(following).items():
                    if isinstance(row, str):
                        found.left_out[files[following]] = row
                    else:
                        found.of[names[name]].update(row)
                following += 1
            on_picture(done, len(files))
    for name, statistics in found.of.items():
        if statistics.count < 2:
            why = next(iter(found.left_out.values()), "there is only one")
            raise FacewrightError(
                f"Of {counted(len(files), 'picture')} in {folder}, {statistics.count} gave the "
                f"features {name}, and statistics need 2 or more: {why}"
            )
    return found


@dataclass(frozen=True)
class _SetReader:
    """Takes the features of one picture; goes to worker processes, where it loads its networks."""

    names: tuple[str, ...]
    looks: Looks

    @cached_property
    def reader(self) -> FaceReader | None:
        faces = any(metric(name).extract is None for name in self.names)
        return FaceReader(self.looks) if faces else None

    def ready(self) -> None:
        """Miss weights here, not by each picture."""
        _ = self.reader

    def __call__(self, numbered: tuple[int, Path]) -> dict[str, Tensor | str]:
        try:
            picture = read_picture(numbered[1]).pixels[:3]
            with torch.no_grad():
                reading = None if self.reader is None else self.reader.read(picture)
                return {name: features_of(metric(name), picture, reading) for name in self.names}
        except Exception as error:  # noqa: BLE001 (the other pictures still count)
            known = isinstance(error, (FacewrightError, OSError))
            return dict.fromkeys(
                self.names, str(error) if known else f"{type(error).__name__}: {error}"
            )
