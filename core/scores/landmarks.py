"""How far landmarks of restored faces lie from the true ones: what the Landmark Score node shows.

scores = score_landmarks(restored, gt, analyzer)
scores.mean("ald_eyes")   scores.report()   scores.to_json()
scores.can_tell("ald_eyes", 0, 1)   whether two pictures differ by more than the landmarker's error
draw_scores(restored, scores)   (core/drawing/landmarks.py)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import check_counts, check_image, listed
from ..faces import ROOM, Face, FaceAnalyzer, dense_landmarker, detect_faces
from ..faces.certainty import TURNED, Certainty, certainty_of
from ..geometry.eyes import eye_distance, yaw_of
from ..geometry.landmarks import (
    affine_landmark_distance,
    best_affine,
    landmark_distance,
    mirrored,
    region_points,
)
from ..geometry.warp import fit_similarity, transform
from .scores import Scores

LABELS = {"ald_eyes": "A-LD eyes", "ald_mouth": "A-LD mouth", "ald_all": "A-LD all", "l2": "L2-LD"}
"""The scores, and their names for people."""
_PART = {"ald_eyes": "eyes", "ald_mouth": "mouth", "ald_all": "all"}


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
    eye_distance: float = math.nan
    """Of the true face in its own pixels."""
    yaw: float = math.nan
    """Degrees that the face turned farther of the two is turned to a side, see `estimate_yaw`."""
    mirror: str = ""
    """Why the restored face seems to be a mirror image, which A-LD alone may not see; "": no."""
    errors: dict[str, float] = field(default_factory=dict)
    """By how much each score moves by itself, in eye distances; NaN where it is unknown."""

    def share(self, name: str) -> float:
        """A score in eye distances, which do not depend on the size of the picture."""
        return self.values[name] / self.eye_distance if self.eye_distance > 0 else math.nan

    @property
    def within_error(self) -> list[str]:
        """Scores that cannot be told from those of one face in two pictures."""
        return [name for name in self.values if self.share(name) < self.errors.get(name, math.nan)]

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        shares = {name: self.share(name) for name in self.values}
        return {
            **self.values,
            "eye_distance": self.eye_distance,
            "eye_distances": shares,
            "error_eye_distances": {name: self.errors.get(name) for name in self.values},
            "within_error": self.within_error,
            "yaw": self.yaw,
            "turned": self.yaw > TURNED,
            "mirrored": self.mirror or None,
        }


@dataclass(frozen=True, kw_only=True)
class LandmarkScores(Scores):
    """The means of each picture's faces by the keys of `LABELS`; notes say why there are none."""

    faces: list[FaceScore]
    points: int
    certainty: Certainty | None = None
    """What is known of the landmarker's own error."""
    one_gt: bool = False
    """All pictures were compared with the same one, so that they can be ranked."""

    def can_tell(self, name: str, first: int, second: int) -> bool | None:
        """Whether a score of two pictures differs by more than the larger of their errors.

        None where the error is unknown, or a picture has no score.
        """
        a, b = (self._mean_of(picture, name) for picture in (first, second))
        limit = max(a[1], b[1]) if a[1] == a[1] and b[1] == b[1] else math.nan
        return None if math.isnan(a[0] - b[0] + limit) else abs(a[0] - b[0]) >= limit

    def report(self) -> str:
        lines = [super().report(), *self._ranks()]
        lines.append(
            f"In pixels of gt, over {self.points} landmarks. A-LD is blind to shear and stretch of "
            "the whole face; L2-LD is not."
        )
        if self.certainty is not None:
            lines.append(self._about_errors(self.certainty))
        return "\n".join(lines).lstrip("\n")

    def _about_errors(self, certainty: Certainty) -> str:
        if not certainty.moves:
            return (
                f"{certainty.known} So nothing here says how small a difference can be told; give "
                "a figure of your own as landmark_error."
            )
        off = [
            f"{_PART[name]} {certainty.off_by(name):.3f}" for name in certainty.off if name in _PART
        ]
        where = (
            f" Its points lie off the truth by {', '.join(off)}, much the same in both pictures,"
        )
        return (
            f"+- is how far a score of {certainty.landmarker} moves by itself, in eye distances: a "
            "score below it cannot be told from that of the same face, and two that differ by less "
            f"cannot be ranked. {certainty.known}"
            + (f"{where} which hides part of what tells two people apart." if off else "")
        )

    def _ranks(self) -> list[str]:
        """Of several pictures held against one: which is the nearest, where that can be told."""
        lines = []
        for name in _PART if self.one_gt else ():
            known = [i for i in range(len(self)) if math.isfinite(self.values[name][i])]
            if len(known) < 2 or self.can_tell(name, known[0], known[1]) is None:
                continue
            best = min(known, key=lambda i: self._mean_of(i, name)[0])
            near = [i for i in known if i != best and not self.can_tell(name, best, i)]
            verdict = f"picture {best} is the nearest"
            if near:
                alike = listed(sorted([best, *near]), most=20)
                verdict = f"cannot tell which is nearest, pictures {alike} are alike"
            lines.append(f"{_PART[name]}: {verdict}")
        return lines

    def _mean_of(self, picture: int, name: str) -> tuple[float, float]:
        """A score and its error in eye distances, means over the faces of a picture."""
        mine = self._faces_of(picture)
        if not mine:
            return math.nan, math.nan
        shares = [face.share(name) for face in mine]
        errors = [face.errors.get(name, math.nan) for face in mine]
        return sum(shares) / len(mine), sum(errors) / len(mine)

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
        return "; ".join([words, *self._sureness(picture)])

    def _sureness(self, picture: int) -> list[str]:
        """Phrases about the scores of a picture."""
        parts, unclear = [], []
        for name, part in _PART.items():
            share, error = self._mean_of(picture, name)
            if math.isfinite(share):
                known = math.isfinite(error)
                parts.append(f"{part} {share:.3f}" + (f" +- {error:.3f}" if known else ""))
                unclear += [part] if share < error else []
        said = [f"in eye distances {', '.join(parts)}"] if parts else []
        if unclear:
            said.append(f"cannot tell {', '.join(unclear)} from the same face's")
        faces = self._faces_of(picture)
        yaw = max((face.yaw for face in faces), default=0.0)
        if yaw > TURNED:
            said.append(f"turned by about {yaw:.0f} degrees, so less sure{self._less(yaw)}")
        return said + sorted({face.mirror for face in faces} - {""})

    def _less(self, yaw: float) -> str:
        known = self.certainty
        if known is None or len(known.yaws) < 2:
            return ", by how much is not known"
        return f": points lie {known.off_by('l2', yaw) / known.off_by('l2'):.1f} times as far off"

    def _last_lines(self) -> list[str]:
        return super()._last_lines() if self.faces else []

    def _about(self) -> dict[str, Any]:
        known = self.certainty
        about: dict[str, Any] = {"points": self.points}
        if known is not None:
            about["landmarker"] = {
                "name": known.landmarker,
                "known": known.known,
                "error_eye_distances": {name: list(row) for name, row in known.moves.items()},
                "off_eye_distances": {name: list(row) for name, row in known.off.items()},
                "at_yaw": list(known.yaws),
            }
        if self.one_gt and len(self) > 1:
            about["ranks"] = self._ranks()
        return about

    def _entry(self, picture: int) -> dict[str, Any]:
        faces = [face.entry() for face in self._faces_of(picture)]
        return {"missing": self.notes[picture] or None, "faces": faces}

    def _faces_of(self, picture: int) -> list[FaceScore]:
        return [face for face in self.faces if face.image == picture]


def score_landmarks(
    restored: Tensor,
    gt: Tensor,
    analyzer: FaceAnalyzer,
    *,
    error: float = 0.0,
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
        error: how far a score of its landmarks moves by itself, in eye distances; 0 takes what is
            known of it (`core.faces.certainty`).
        on_image: called with 1 after every picture; an exception that it raises ends the work.

    Raises:
        CheckpointError: the analyzer's landmark weights are missing.
        FacewrightError: an analyzer without dense landmarks, or batches of different lengths.
    """
    check_image(restored, name="restored")
    check_image(gt, name="gt")
    check_counts(restored, gt, names=("restored", "gt"))
    points = dense_landmarker(analyzer).points
    certainty = certainty_of(analyzer.name, error)
    shared = None if len(gt) > 1 or not len(restored) else _find(analyzer, gt[0])
    faces: list[FaceScore] = []
    values: dict[str, list[float]] = {name: [] for name in LABELS}
    notes = []
    for i, picture in enumerate(restored):
        truth = gt[i % len(gt)]
        found = _find(analyzer, picture)
        true = shared if shared is not None else _find(analyzer, truth)
        pairs = _pairs(found, true, picture.shape == truth.shape)
        mine = [_compare(i, *pair, certainty) for pair in pairs]
        faces += mine
        for name, numbers in values.items():
            numbers.append(sum(f.values[name] for f in mine) / len(mine) if mine else math.nan)
        notes.append("" if pairs else _why(found, true))
        on_image(1)
    return LandmarkScores(
        values=values,
        notes=notes,
        faces=faces,
        points=points,
        certainty=certainty,
        one_gt=len(gt) == 1,
    )


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


def _compare(
    image: int, restored: Face, gt: Face, same_frame: bool, certainty: Certainty
) -> FaceScore:
    a, b = (dense(face)[None] for face in (restored, gt))
    values = {"ald_all": float(affine_landmark_distance(a, b))}
    for region in ("eyes", "mouth"):
        index = region_points(a.shape[1], region)
        values[f"ald_{region}"] = float(affine_landmark_distance(a[:, index], b[:, index]))
    values["l2"] = float(landmark_distance(a, b)) if same_frame else math.nan
    eyes = float(eye_distance(b))
    yaw = max(yaw_of(points[0], certainty.nose) for points in (a, b))
    errors = {name: certainty.error(name, yaw) for name in LABELS}
    matrix = best_affine(a, b)
    mirror = _mirror(a, b, matrix, values["ald_all"], errors["ald_all"] * eyes)
    mapped = transform(matrix, a)
    if not same_frame:
        back = fit_similarity(b, a)
        b, mapped = transform(back, b), transform(back, mapped)
    ordered = {name: values[name] for name in LABELS}
    return FaceScore(image, ordered, a[0], b[0], mapped[0], same_frame, eyes, yaw, mirror, errors)


def _mirror(a: Tensor, b: Tensor, matrix: Tensor, ald: float, error: float) -> str:
    """Why landmarks (1, k, 2) seem to be those of a mirror image of the others; "": they do not.

    A-LD leaves every affine map free, reflections among them. A landmarker, however, names left and
    right as it sees them, so that in a mirrored picture it finds the mirror image's own landmarks:
    then those of `b`, mirrored, are the better fit. Faces from the front hardly differ from theirs.
    """
    if float(torch.linalg.det(matrix[0, :, :2])) < 0:
        return "mirrored: left and right are exchanged, which A-LD does not see"
    if float(affine_landmark_distance(a, mirrored(b))) < ald - error:
        return "more like the mirror image of gt than like gt"
    return ""


def _why(found: list[Face], true: list[Face]) -> str:
    if not found and not true:
        return "no face was found in either picture"
    if not found:
        return "no face was found in restored"
    if not true:
        return "no face was found in gt"
    return "no face of restored lies where one of gt is"
