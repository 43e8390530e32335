"""How much two pictures show the same person, by any recogniser."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, check_counts, check_image
from ..faces import Face, FaceAnalyzer, detect_faces
from ..geometry.align import align_faces
from ..metrics.identity import identity_degrees
from ..people.recogniser import Recogniser
from .scores import Scores

_PADDING = 0.3
"""Room around a picture in which faces are looked for: one may fill it."""
_SIDE = 512
"""Of the faces cut out for a recogniser, in pixels."""


@dataclass(frozen=True, kw_only=True)
class IdentityScores(Scores):
    """ "cosine" and "degrees" of pairs of pictures; NaN where one shows no face."""

    recogniser: str
    """`Recogniser.id`: numbers of another one say nothing about these."""

    _entries = "pictures"
    _digits = 6

    def _words(self, numbers: dict[str, float]) -> str:
        if math.isnan(numbers["cosine"]):
            return "cannot be compared"
        return f"cosine {numbers['cosine']:.3f}, {numbers['degrees']:.1f} degrees"

    def _last_lines(self) -> list[str]:
        seen = sum(map(math.isfinite, self.values["cosine"]))
        return [f"mean of {seen}: {self._words(self._means())}" if seen else "mean: no face in any"]

    def _about(self) -> dict[str, Any]:
        return {"recogniser": self.recogniser}

    def _entry(self, picture: int) -> dict[str, Any]:
        return {**self._of(picture), "note": self.notes[picture]}


def score_identity(
    images: Tensor,
    others: Tensor,
    recogniser: Recogniser,
    *,
    analyzer: FaceAnalyzer | None = None,
    on_image: Callable[[int], None] = lambda images: None,
) -> IdentityScores:
    """Compare pictures pair by pair.

    Args:
        images: (n, 3, h, w) in [0, 1].
        others: (n, 3, h', w'), or one for all.
        recogniser: on the device where it is to run.
        analyzer: finds and aligns the largest face of each picture; None takes every picture for an
            FFHQ-aligned face, such as Detect Faces cuts out.
        on_image: called with 1 after every pair; an exception that it raises ends the work.

    Raises:
        FacewrightError: another number of pictures, or crops that are not square.
    """
    for name, x in (("image", images), ("other", others)):
        check_image(x, name=name)
        if analyzer is None and x.shape[-1] != x.shape[-2]:
            raise FacewrightError(
                f"`{name}` is {x.shape[-1]} x {x.shape[-2]} pixels and no aligned face crop, which "
                "is square. Connect a face detector to `analyzer`, or the crops of Detect Faces."
            )
    if len(images):
        check_counts(images, others, names=("image", "other"))
    known: dict[int, tuple[Tensor | None, str]] = {}
    values: dict[str, list[float]] = {"cosine": [], "degrees": []}
    notes = []
    for i, picture in enumerate(images):
        j = 0 if len(others) == 1 else i
        if j not in known:
            known = {j: embed_face(others[j], recogniser, analyzer)}
        (a, note), (b, other_note) = embed_face(picture, recogniser, analyzer), known[j]
        said = [note, f"other: {other_note}" if other_note else ""]
        if a is None or b is None:
            cosine = degree = math.nan
        else:
            cosine, degree = float(a @ b), float(identity_degrees(a[None], b[None]))
        values["cosine"].append(cosine)
        values["degrees"].append(degree)
        notes.append("; ".join(filter(None, said)))
        on_image(1)
    return IdentityScores(values=values, notes=notes, recogniser=recogniser.id)


def embed_face(
    picture: Tensor, recogniser: Recogniser, analyzer: FaceAnalyzer | None, near: Face | None = None
) -> tuple[Tensor | None, str]:
    """The embedding (d,) float64 of a face of a picture (3, h, w), and a note about it.

    The largest face counts, or with `near` the one whose middle is nearest to that face's, within
    half its size. Without an analyzer the picture itself is the face. None where there is no face,
    or where the picture has no direction, being NaN or infinite.
    """
    note = ""
    if analyzer is not None:
        faces = detect_faces(analyzer, picture, padding=_PADDING)
        face = max(faces, key=lambda f: f.size, default=None)
        if near is not None:
            face = nearest_of(faces, near)
        if face is None:
            return None, "no face found"
        if len(faces) > 1:
            which = "largest" if near is None else "nearest"
            note = f"{len(faces)} faces, the {which} was taken"
        picture = align_faces([picture], [[face]], _SIDE).pixels[0]
    with torch.no_grad():
        embedding = recogniser(picture[None])[0].cpu().double()
    if not embedding.isfinite().all() or not embedding.any():
        return None, "the picture has NaN or infinity"
    return F.normalize(embedding, dim=0), note


def nearest_of(faces: Sequence[Face], wanted: Face) -> Face | None:
    """The face whose middle is nearest to that of `wanted`; None beyond half the size of it."""

    def distance(face: Face) -> float:
        return math.dist(face.center, wanted.center)

    near = [face for face in faces if distance(face) < wanted.size / 2]
    return min(near, key=distance, default=None)


def reference_template(
    pictures: Tensor | None, recogniser: Recogniser, analyzer: FaceAnalyzer
) -> tuple[Tensor | None, list[str]]:
    """The mean direction (d,) of the largest faces of pictures (n, 3, h, w) of one person.

    Returns:
        None where there are no pictures or none shows a face, and a line for every picture worth a
        word.
    """
    found, report = [], []
    for i, picture in enumerate(() if pictures is None else pictures):
        embedding, note = embed_face(picture, recogniser, analyzer)
        if note:
            report.append(f"reference {i}: {note}")
        if embedding is not None:
            found.append(embedding)
    if pictures is not None and not found:
        report.append("no face in any reference: faces are compared with their input")
    return (F.normalize(torch.stack(found).mean(0), dim=0) if found else None), report
