"""Scores of restored pictures: what the Image Score node shows and hands on.

scores = score_images(restored, named_metrics("psnr, ssim"), gt=gt, lq=lq)
scores.report()      for people, a line per picture
scores.to_json()     for programs
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..devices import widened
from ..errors import FacewrightError, check_counts, check_image, listed, not_finite
from ..faces import FaceAnalyzer, detect_faces
from ..metrics import METRICS, Metric, metric
from ..metrics.statistics import mean_interval

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
            raise FacewrightError(
                f"`{one.name}` does not score single pictures: it reads "
                f"{'whole sets of pictures' if one.reads == 'set' else one.reads}. Choose among "
                f"{', '.join(scoring_pictures())}, or use `facewright evaluate` on two folders."
            )
        problem = one.available()
        if problem:
            raise FacewrightError(problem)
    return chosen


def scoring_pictures() -> list[str]:
    """Names of the metrics that score single pictures, in display order."""
    return [name for name, one in METRICS.items() if one.reads in _MISSING]


@dataclass(frozen=True)
class Scores:
    """Metric name -> one value per picture; NaN where there was nothing to score."""

    metrics: Sequence[Metric]
    restored: dict[str, list[float]]
    lq: dict[str, list[float]] = field(default_factory=dict)
    """Of the baseline; empty where there is none."""

    def mean(self, name: str) -> float:
        """Over the pictures with a finite value; infinite where every score is, NaN without any."""
        return _mean(self.restored[name])

    def gains(self, name: str) -> list[float]:
        """How much better `restored` is than `lq`, positive whichever way the metric runs."""
        one = next(m for m in self.metrics if m.name == name)
        return [
            _goodness(one, a) - _goodness(one, b) if a != b else 0.0
            for a, b in zip(self.restored[name], self.lq[name], strict=True)
        ]

    def report(self) -> str:
        """A line per metric of a single picture; of several, a line per picture and the means."""
        count = len(self.restored[self.metrics[0].name])
        lines = [self._words(lambda values, i=i: values[i]) for i in range(count)]
        if count == 1:
            return "\n".join(lines[0])
        lines = [f"picture {i}: {', '.join(words)}" for i, words in enumerate(lines)]
        return "\n".join([*lines, f"mean: {', '.join(self._words(_mean))}"] if lines else [])

    def _words(self, pick: Callable[[list[float]], float]) -> list[str]:
        return [self._metric_words(one, pick) for one in self.metrics]

    def _metric_words(self, one: Metric, pick: Callable[[list[float]], float]) -> str:
        value = pick(self.restored[one.name])
        if math.isnan(value):
            return f"{one.label} {_MISSING[one.reads]}"
        words = f"{one.label} {_number(value, one)}"
        if self.lq:
            before, gain = pick(self.lq[one.name]), pick(self.gains(one.name))
            if math.isnan(before):
                return f"{words} (lq: {_MISSING[one.reads]})"
            words += f" (lq {_number(before, one)}, gain {_number(gain, one, sign='+')})"
        return words

    def to_json(self) -> str:
        """{"images": [{metric: {"restored", "lq", "gain"}}], "mean": {the same}}, as strict JSON.

        A positive gain is an improvement. null stands for no face, and for the infinite PSNR of
        equal pictures, which no JSON can hold.
        """
        count = len(self.restored[self.metrics[0].name])
        content = {
            "images": [self._entry(lambda v, i=i: v[i]) for i in range(count)],
            "mean": self._entry(_mean),
        }
        return json.dumps(content, allow_nan=False, indent=1)

    def _entry(self, pick: Callable[[list[float]], float]) -> dict[str, dict[str, float | None]]:
        entry = {}
        for one in self.metrics:
            columns = {"restored": self.restored[one.name]}
            if self.lq:
                columns |= {"lq": self.lq[one.name], "gain": self.gains(one.name)}
            picked = {column: pick(values) for column, values in columns.items()}
            entry[one.name] = {k: v if math.isfinite(v) else None for k, v in picked.items()}
        return entry


def score_images(
    restored: Tensor,
    metrics: Sequence[Metric],
    *,
    gt: Tensor | None = None,
    lq: Tensor | None = None,
    analyzer: FaceAnalyzer | None = None,
    on_image: Callable[[int], None] = lambda images: None,
) -> Scores:
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
    scored = [name for name in ("restored", "lq") if name in given]
    values = {name: {one.name: [] for one in metrics} for name in scored}
    for i in range(len(restored)):
        # Some nodes leave values a little outside the range; saving a picture would clip them too.
        pictures = {k: x[i : i + 1] if len(x) > 1 else x for k, x in given.items()}
        pictures = {k: x.clamp(0, 1) for k, x in pictures.items()}
        faces = {k: _landmarks(analyzer, x) for k, x in pictures.items() if wants_faces}
        for name in scored:
            for one in metrics:
                if one.reads == "landmarks":
                    value = _score_faces(one, faces[name], faces["gt"])
                else:
                    value = float(one(pictures[name], pictures.get("gt")))
                values[name][one.name].append(value)
        on_image(1)
    return Scores(metrics, values["restored"], values.get("lq", {}))


def _landmarks(analyzer: FaceAnalyzer, image: Tensor) -> list[Tensor]:
    """(k, 2) of every face."""
    found = [face.landmarks for face in detect_faces(analyzer, image[0])]
    if any(points is None for points in found):
        raise FacewrightError(
            f"The face detector {analyzer.name!r} gives boxes or five points, and landmark metrics "
            "compare dense points. Use one that gives them: facexlib or insightface with their "
            "landmark weights, or nano for rendered faces. Or leave ald and lmd out of `metrics`."
        )
    return found


def _score_faces(one: Metric, faces: list[Tensor], truth: list[Tensor]) -> float:
    scores = []
    for points in truth:
        if not faces:
            break
        centre, reach = points.mean(0), 0.5 * float((points.amax(0) - points.amin(0)).max())
        distances = torch.stack([(f.mean(0) - centre).norm() for f in faces])
        nearest = int(distances.argmin())
        if distances[nearest] <= reach:
            scores.append(float(one(widened(faces[nearest][None]), widened(points[None]))))
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


def _goodness(one: Metric, value: float) -> float:
    """A number that is higher for what the metric calls better."""
    return {"higher": value, "lower": -value, "one": -abs(value - 1)}[one.better]


def _mean(values: list[float]) -> float:
    summary = mean_interval(values)
    return math.inf if summary.infinite and not summary.count else summary.mean


def _number(value: float, one: Metric, *, sign: str = "") -> str:
    if math.isinf(value):
        return "infinite"
    digits = 2 if one.unit else 4
    return f"{value:{sign}.{digits}f}{one.unit and ' ' + one.unit}"
