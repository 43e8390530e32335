"""Which metrics are measured, and what they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError
from ...core.metrics import METRICS, Metric, metric
from .faces import NOBODY, Looks
from .reference import check_reference, usual_metric

DEFAULT_METRICS = ("psnr", "ssim", "edges", "msswd")


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    metrics: tuple[Metric, ...]
    looks: Looks = NOBODY
    """Of the metrics that read faces."""
    reference: Path | None = None
    """Folder or file of the set that metrics which need one compare with."""

    @property
    def faces(self) -> str | None:
        """Face analyzer for the metrics that read faces."""
        return self.looks.faces

    @property
    def single(self) -> list[Metric]:
        """Those with a value per picture that no other picture changes, measured here."""
        alone = ("pixels", "landmarks", "embeddings")
        return [m for m in self.metrics if m.reads in alone and m.name in METRICS]

    @property
    def together(self) -> list[Metric]:
        """Those that need all pictures, of which each gives features."""
        return [m for m in self.metrics if m.name in METRICS and m not in self.single]

    def __reduce__(self) -> tuple[Any, ...]:
        # Metrics hold functions, which do not travel to other processes; their names do.
        names = tuple(m.name for m in self.metrics if m.name in METRICS)
        return _settings, (names, self.looks, self.reference)


def _settings(names: tuple[str, ...], looks: Looks, reference: Path | None) -> Settings:
    return Settings(tuple(map(metric, names)), looks, reference)


def choose_metrics(
    names: Sequence[str] | None,
    faces: Looks | str | None,
    has_gt: bool,
    *,
    sets: bool = True,
    given: Sequence[Metric] = (),
    reference: Path | None = None,
) -> Settings:
    """The metrics to measure; without names the usual ones that the inputs allow.

    Args:
        names: of `METRICS`, or None.
        faces: how faces are read, or the name of an analyzer, or None.
        has_gt: there are originals.
        sets: whole sets of pictures are measured; without, metrics of sets are not the usual ones.
        given: metrics whose values are there already, which join the others.
        reference: folder or file of a reference set; a metric that reads it is added where none of
            `names` does.

    Raises:
        FacewrightError: an unknown name, a package that is not installed, or a metric that needs
            originals or faces that are not there.
    """
    looks = faces if isinstance(faces, Looks) else Looks(faces)
    if names is None:
        chosen = [metric(name) for name in DEFAULT_METRICS if has_gt]
        chosen += [metric(name) for name in looks.metrics if has_gt]
        chosen = [m for m in chosen if sets or m.reads not in ("gallery", "set")]
        if not chosen and not given and reference is None:
            free = ", ".join(name for name, m in METRICS.items() if m.needs == "nothing")
            raise FacewrightError(
                "Without an original only metrics that need none can be measured. Give it "
                f"(evaluate: --gt DIR; score: a second file), or --metrics with some of: {free}."
            )
    else:
        known = {m.name: m for m in given}
        chosen = [known.get(name) or metric(name) for name in dict.fromkeys(names)]
    if reference is not None:
        if not any(m.needs == "set" for m in chosen):
            chosen.append(metric(usual_metric(reference, looks)))
        check_reference(reference, chosen, looks)
    chosen += [m for m in given if m not in chosen]
    for m in chosen:
        if m in given:
            continue
        if m.needs == "set" and reference is None:
            raise FacewrightError(
                f"{m.label} compares with a reference set. Give it (evaluate: --reference-set DIR "
                f"or a file of `facewright stats`), or leave {m.name} out."
            )
        if m.needs == "gt" and not has_gt:
            raise FacewrightError(
                f"{m.label} compares with an original. Give it (evaluate: --gt DIR; score: a "
                f"second file), or leave {m.name} out."
            )
        if m.reads in ("landmarks", "embeddings", "gallery") or m.convention == "nano":
            looks.check(m)
        if missing := m.missing():
            raise FacewrightError(missing)
    return Settings(tuple(chosen), looks, reference)
