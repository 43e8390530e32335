"""Scores of restored pictures: what the Image Score node shows and hands on.

scores = score_images(restored, named_metrics("psnr, ssim"), gt=gt, lq=lq)
scores.report()      for people, a line per picture
scores.to_json()     for programs
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import FacewrightError, check_counts, check_image, listed, not_finite
from ..faces import DENSE, Face, FaceAnalyzer, dense_landmarker, detect_faces
from ..faces.certainty import certainty_of
from ..metrics import METRICS, Metric, metric, scoring_pictures
from .landmarks import dense, nearest_face
from .scores import Scores

_MISSING = {"pixels": "undefined", "landmarks": "no face"}
"""What a score reads, and what people are told where there is no number."""


def named_metrics(names: str) -> list[Metric]:
    """The metrics of a list such as "psnr, ssim", each once.

    Raises:
        FacewrightError: nothing named, a name that is unknown, a metric that does not score single
            pictures, or one whose package is not installed.
    """
    wanted = dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip())
    if not wanted:
        raise FacewrightError(f"Name at least one metric. Known: {', '.join(scoring_pictures())}.")
    chosen = [metric(name) for name in wanted]
    for one in chosen:
        if one.reads not in _MISSING:
            sets = one.reads in ("set", "gallery")
            raise FacewrightError(
                f"`{one.name}` does not score single pictures: it reads "
                f"{'whole sets of pictures' if sets else one.reads}. Choose among "
                f"{', '.join(scoring_pictures())}, or use `facewright evaluate` on two folders."
            )
        problem = one.missing()
        if problem:
            raise FacewrightError(problem)
    return chosen


@dataclass(frozen=True, kw_only=True)
class PictureScores(Scores):
    """By the metrics' names; with a baseline also "psnr lq" and "psnr gain".

    A positive gain is an improvement, whichever way the metric runs. In JSON null also stands for
    the infinite PSNR of equal pictures.
    """

    metrics: Sequence[Metric]
    about_faces: str = ""
    """How sure scores of landmarks are; "" where there are none."""

    def report(self) -> str:
        """A line per metric of a single picture; of several, a line per picture and the means."""
        lines = super().report()
        if len(self) == 1:
            lines = "\n".join(_metric_words(one, self._of(0)) for one in self.metrics)
        return "\n".join(filter(None, [lines, self.about_faces]))

    def _words(self, numbers: dict[str, float]) -> str:
        return ", ".join(_metric_words(one, numbers) for one in self.metrics)

    def _grouped(self, numbers: dict[str, float]) -> dict[str, dict[str, float]]:
        """{metric: {"restored", "lq", "gain"}}."""
        grouped: dict[str, dict[str, float]] = {}
        for name, number in numbers.items():
            one, _, column = name.partition(" ")
            grouped.setdefault(one, {})[column or "restored"] = number
        return grouped


def score_images(
    restored: Tensor,
    metrics: Sequence[Metric],
    *,
    gt: Tensor | None = None,
    lq: Tensor | None = None,
    analyzer: FaceAnalyzer | None = None,
    on_image: Callable[[int], None] = lambda images: None,
) -> PictureScores:
    """Score a batch picture by picture.

    Args:
        restored: (n, 3, h, w) in [0, 1].
        metrics: from `named_metrics`.
        gt: the originals, (n, 3, h, w), or one picture for all.
        lq: what was restored, in the shape of `gt`; scored for comparison.
        analyzer: finds the landmarks for metrics that read them. A face of `gt` is compared with
            the nearest one within half its size; a picture takes the mean of its faces, and is NaN
            where no face was found twice.
        on_image: called with 1 after every picture; an exception that it raises ends the work.

    Raises:
        FacewrightError: pictures that do not fit together, or a metric without what it needs.
    """
    given = {"restored": restored, "gt": gt, "lq": lq}
    given = {name: images for name, images in given.items() if images is not None}
    for name, images in given.items():
        check_image(images, name=name)
        _check_fits(restored, images, name)
        _check_finite(images, name)
    for one in metrics:
        _check_needs(one, gt, analyzer)
    wants_faces = any(one.reads == "landmarks" for one in metrics)
    columns = ("", " lq", " gain") if lq is not None else ("",)
    values = {f"{one.name}{column}": [] for one in metrics for column in columns}
    for i in range(len(restored)):
        # Some nodes leave values a little outside the range; saving a picture would clip them too.
        pictures = {k: x[i : i + 1] if len(x) > 1 else x for k, x in given.items()}
        pictures = {k: x.clamp(0, 1) for k, x in pictures.items()}
        faces = {k: _faces(analyzer, x) for k, x in pictures.items() if analyzer and wants_faces}
        for one in metrics:
            read = faces if one.reads == "landmarks" else pictures
            numbers = {one.name: _score(one, read, "restored")}
            if lq is not None:
                before = _score(one, read, "lq")
                gain = _gain(one, numbers[one.name], before)
                numbers |= {f"{one.name} lq": before, f"{one.name} gain": gain}
            for name, number in numbers.items():
                values[name].append(number)
        on_image(1)
    return PictureScores(
        values=values,
        notes=[""] * len(restored),
        metrics=metrics,
        about_faces=certainty_of(analyzer.name).told if analyzer and wants_faces else "",
    )


def _faces(analyzer: FaceAnalyzer, image: Tensor) -> list[Face]:
    found = detect_faces(analyzer, image[0])
    known = [face for face in found if face.landmarks is not None]
    if len(known) < len(found):
        try:
            dense_landmarker(analyzer)  # may have seen no landmarks in this one face
        except FacewrightError as error:
            raise FacewrightError(
                f"The face detector {analyzer.name!r} gives boxes or five points, and landmark "
                f"metrics compare dense points. Use one that gives them: {DENSE}. Or leave ald and "
                "lmd out of `metrics`."
            ) from error
    return known


def _score(one: Metric, read: dict[str, Any], name: str) -> float:
    """Of a picture by its pixels (1, 3, h, w), or by its list of faces."""
    if one.reads != "landmarks":
        return float(one(read[name], read.get("gt")))
    scores = []
    for true in read["gt"]:
        nearest = nearest_face(read[name], true)
        if nearest is not None:
            scores.append(float(one(dense(nearest)[None], dense(true)[None])))
    return sum(scores) / len(scores) if scores else math.nan


def _check_fits(restored: Tensor, other: Tensor, name: str) -> None:
    check_counts(restored, other, names=("restored", name))
    (h, w), (other_h, other_w) = restored.shape[-2:], other.shape[-2:]
    if (h, w) != (other_h, other_w):
        raise FacewrightError(
            f"`restored` is {w} x {h} pixels and `{name}` {other_w} x {other_h}. Pictures are "
            "compared pixel by pixel: bring one to the size of the other first, with Upscale Image."
        )


def _check_finite(images: Tensor, name: str) -> None:
    bad = not_finite(images)
    if bad:
        raise FacewrightError(
            f"`{name}` has NaN or infinity in picture {listed(bad)}: look at the node that made it."
        )


def _check_needs(one: Metric, gt: Tensor | None, analyzer: FaceAnalyzer | None) -> None:
    if one.needs == "gt" and gt is None:
        raise FacewrightError(
            f"`{one.name}` compares with the original: connect it to `gt`, or take metrics that "
            f"need none: {', '.join(m.name for m in METRICS.values() if m.needs == 'nothing')}."
        )
    if one.reads == "landmarks" and analyzer is None:
        raise FacewrightError(
            f"`{one.name}` compares landmarks: connect a face detector that gives them to "
            f"`analyzer`, or leave it out of `metrics`."
        )


def _gain(one: Metric, value: float, before: float) -> float:
    """By how much `value` is better."""
    if one.better == "one":
        value, before = abs(value - 1), abs(before - 1)
    if value == before:
        return 0.0
    return value - before if one.better == "higher" else before - value


def _metric_words(one: Metric, numbers: dict[str, float]) -> str:
    value = numbers[one.name]
    if math.isnan(value):
        return f"{one.label} {_MISSING[one.reads]}"
    words = f"{one.label} {number(value, one)}"
    before = numbers.get(f"{one.name} lq")
    if before is None:
        return words
    if math.isnan(before):
        return f"{words} (lq: {_MISSING[one.reads]})"
    gain = number(numbers[f"{one.name} gain"], one, sign="+")
    return f"{words} (lq {number(before, one)}, gain {gain})"


def number(value: float, one: Metric, *, sign: str = "") -> str:
    """A value of a metric for people, with its unit."""
    if math.isinf(value):
        return "infinite"
    digits = 2 if one.unit else 4
    return f"{value:{sign}.{digits}f}{one.unit and ' ' + one.unit}"
