"""How far landmarks of restored faces lie from the true ones: what the Landmark Score node shows.

scores = score_landmarks(restored, gt, analyzer)
scores.mean("ald_eyes")   scores.report()   scores.to_json()
draw_scores(restored, scores)   (core/drawing/landmarks.py)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from ..errors import check_counts, check_image
from ..faces import ROOM, Face, FaceAnalyzer, dense_landmarker, detect_faces
from ..geometry.landmarks import (
    affine_landmark_distance,
    best_affine,
    landmark_distance,
    region_points,
)
from ..geometry.warp import fit_similarity, transform
from .scores import Scores

LABELS = {"ald_eyes": "A-LD eyes", "ald_mouth": "A-LD mouth", "ald_all": "A-LD all", "l2": "L2-LD"}
"""The scores, and their names for people."""


@dataclass(frozen=True)
class FaceScore:
    """One restored face beside the true one."""

    image: int
    """Which picture of the batch."""
    values: dict[str, float]
    """Pixels, by the keys of `LABELS`; L2-LD is NaN where the pictures are framed differently."""
    restored: Tensor
    """(k, 2) in pixels of the restored picture."""
    gt: Tensor
    """(k, 2), brought into the restored picture by a similarity where it is framed differently."""
    mapped: Tensor
    """(k, 2) the restored landmarks after the best affine map, in the place of `gt`."""
    same_frame: bool
    """The true face lies at the same place of a picture of the same size."""


@dataclass(frozen=True, kw_only=True)
class LandmarkScores(Scores):
    """The means of each picture's faces by the keys of `LABELS`; notes say why there are none."""

    faces: list[FaceScore]
    points: int

    def report(self) -> str:
        return (
            f"{super().report()}\nIn pixels of gt, over {self.points} landmarks. A-LD is blind to "
            "shear and stretch of the whole face; L2-LD is not."
        ).lstrip("\n")

    def _words(self, numbers: dict[str, float]) -> str:
        known = {name: number for name, number in numbers.items() if not math.isnan(number)}
        return ", ".join(f"{LABELS[name]} {number:.2f} px" for name, number in known.items())

    def _line(self, picture: int) -> str:
        mine = self._faces_of(picture)
        words = self.notes[picture] or self._words(self._of(picture))
        if len(mine) > 1:
            words += f" (mean of {len(mine)} faces)"
        if any(not face.same_frame for face in mine):
            words += "; framed differently, so L2-LD says nothing and is left out"
        return words

    def _last_lines(self) -> list[str]:
        return super()._last_lines() if self.faces else []

    def _about(self) -> dict[str, Any]:
        return {"points": self.points}

    def _entry(self, picture: int) -> dict[str, Any]:
        faces = [face.values for face in self._faces_of(picture)]
        return {"missing": self.notes[picture] or None, "faces": faces}

    def _faces_of(self, picture: int) -> list[FaceScore]:
        return [face for face in self.faces if face.image == picture]


def score_landmarks(
    restored: Tensor,
    gt: Tensor,
    analyzer: FaceAnalyzer,
    *,
    on_image: Callable[[int], None] = lambda images: None,
) -> LandmarkScores:
    """A-LD (HonestFace, Eq. 14) of eyes with brows, of mouth and of all points, and L2-LD.

    A picture with one face on either side compares these two. Otherwise a true face goes with the
    nearest restored one within half its size, in pictures of one size, or else the largest faces of
    the two pictures go together. A picture without a pair scores NaN and says why.

    Args:
        restored: (n, 3, h, w) in [0, 1], whole pictures or cut-out faces.
        gt: the same people, (n, 3, h', w') or one picture for all: the originals, or other
            photographs, of any size.
        analyzer: with dense landmarks.
        on_image: called with 1 after every picture; an exception that it raises ends the work.

    Raises:
        CheckpointError: the analyzer's landmark weights are missing.
        FacewrightError: an analyzer without dense landmarks, or batches of different lengths.
    """
    check_image(restored, name="restored")
    check_image(gt, name="gt")
    check_counts(restored, gt, names=("restored", "gt"))
    points = dense_landmarker(analyzer).points
    shared = None if len(gt) > 1 or not len(restored) else _find(analyzer, gt[0])
    faces: list[FaceScore] = []
    values: dict[str, list[float]] = {name: [] for name in LABELS}
    notes = []
    for i, picture in enumerate(restored):
        truth = gt[i % len(gt)]
        found = _find(analyzer, picture)
        true = shared if shared is not None else _find(analyzer, truth)
        pairs = _pairs(found, true, picture.shape == truth.shape)
        mine = [_compare(i, *pair) for pair in pairs]
        faces += mine
        for name, numbers in values.items():
            numbers.append(sum(f.values[name] for f in mine) / len(mine) if mine else math.nan)
        notes.append("" if pairs else _why(found, true))
        on_image(1)
    return LandmarkScores(values=values, notes=notes, faces=faces, points=points)


def _find(analyzer: FaceAnalyzer, picture: Tensor) -> list[Face]:
    picture = picture.float().clamp(0, 1)
    if not picture.isfinite().all():
        return []
    found = detect_faces(analyzer, picture) or detect_faces(analyzer, picture, padding=ROOM)
    return [face for face in found if face.landmarks is not None]


def _pairs(found: list[Face], true: list[Face], one_size: bool) -> list[tuple[Face, Face, bool]]:
    """Restored face, true face, and whether they are framed alike."""
    if not found or not true:
        return []
    pairs = []
    for face in true if one_size else ():
        nearest = nearest_face(found, face)
        if nearest is not None:
            pairs.append((nearest, face, True))
    if pairs:
        return pairs
    if one_size and (len(found) > 1 or len(true) > 1):
        return []
    a, b = (max(faces, key=lambda face: face.size) for faces in (found, true))
    return [(a, b, False)]


def dense(face: Face) -> Tensor:
    """Landmarks (k, 2) float64 on the CPU of a face that is known to have them."""
    return cast(Tensor, face.landmarks).detach().cpu().double()


def nearest_face(found: Sequence[Face], true: Face) -> Face | None:
    """The one whose landmarks lie closest to those of `true`, within half its size."""

    points = dense(true)

    def distance(face: Face) -> float:
        return float((dense(face).mean(0) - points.mean(0)).norm())

    reach = 0.5 * float((points.amax(0) - points.amin(0)).max())
    return min((f for f in found if distance(f) <= reach), key=distance, default=None)


def _compare(image: int, restored: Face, gt: Face, same_frame: bool) -> FaceScore:
    a, b = (dense(face)[None] for face in (restored, gt))
    values = {"ald_all": float(affine_landmark_distance(a, b))}
    for region in ("eyes", "mouth"):
        index = region_points(a.shape[1], region)
        values[f"ald_{region}"] = float(affine_landmark_distance(a[:, index], b[:, index]))
    values["l2"] = float(landmark_distance(a, b)) if same_frame else math.nan
    mapped = transform(best_affine(a, b), a)
    if not same_frame:
        back = fit_similarity(b, a)
        b, mapped = transform(back, b), transform(back, mapped)
    ordered = {name: values[name] for name in LABELS}
    return FaceScore(image, ordered, a[0], b[0], mapped[0], same_frame)


def _why(found: list[Face], true: list[Face]) -> str:
    if not found and not true:
        return "no face was found in either picture"
    if not found:
        return "no face was found in restored"
    if not true:
        return "no face was found in gt"
    return "no face of restored lies where one of gt is"
