"""How much two pictures show the same person, by any recogniser."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, check_counts, check_image
from ..faces import FaceAnalyzer, detect_faces
from ..geometry.align import align_faces
from ..metrics.identity import identity_degrees
from ..people.recogniser import Recogniser

_PADDING = 0.3
"""Room around a picture in which faces are looked for: one may fill it."""
_SIDE = 512
"""Of the faces cut out for a recogniser, in pixels."""


@dataclass(frozen=True)
class IdentityScores:
    """Cosines and angles of n pairs of pictures; NaN where one shows no face."""

    cosine: list[float]
    degrees: list[float]
    notes: list[str]
    """Per pair what is worth knowing, "" for nothing."""
    recogniser: str
    """`Recogniser.id`: numbers of another one say nothing about these."""

    @property
    def mean_cosine(self) -> float:
        """Over the pairs with faces; NaN without any."""
        return _mean(self.cosine)

    @property
    def mean_degrees(self) -> float:
        return _mean(self.degrees)

    def report(self) -> str:
        """A line per pair, and of several the mean."""
        lines = [
            f"picture {i}: {_words(c, d)}{f' ({note})' if note else ''}"
            for i, (c, d, note) in enumerate(
                zip(self.cosine, self.degrees, self.notes, strict=True)
            )
        ]
        if len(lines) > 1:
            seen = sum(math.isfinite(c) for c in self.cosine)
            mean = _words(self.mean_cosine, self.mean_degrees)
            lines.append(f"mean of {seen}: {mean}" if seen else "mean: no face in any")
        return "\n".join(lines)

    def to_json(self) -> str:
        """{"recogniser", "pictures": [{"cosine", "degrees", "note"}], "mean": {...}}; strict JSON.

        null stands for a picture without a face.
        """
        pictures = [
            {"cosine": _null(c), "degrees": _null(d), "note": note}
            for c, d, note in zip(self.cosine, self.degrees, self.notes, strict=True)
        ]
        mean = {"cosine": _null(self.mean_cosine), "degrees": _null(self.mean_degrees)}
        content = {"recogniser": self.recogniser, "pictures": pictures, "mean": mean}
        return json.dumps(content, allow_nan=False, indent=1)


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
    cosines, degrees, notes = [], [], []
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
        cosines.append(cosine)
        degrees.append(degree)
        notes.append("; ".join(filter(None, said)))
        on_image(1)
    return IdentityScores(cosines, degrees, notes, recogniser.id)


def embed_face(
    picture: Tensor, recogniser: Recogniser, analyzer: FaceAnalyzer | None
) -> tuple[Tensor | None, str]:
    """The embedding (d,) float64 of the largest face of a picture (3, h, w), and a note about it.

    Without an analyzer the picture itself is the face. None where there is no face, or where the
    picture has no direction, being NaN or infinite.
    """
    note = ""
    if analyzer is not None:
        faces = detect_faces(analyzer, picture, padding=_PADDING)
        if not faces:
            return None, "no face found"
        if len(faces) > 1:
            note = f"{len(faces)} faces, the largest was taken"
        picture = align_faces([picture], [[max(faces, key=lambda f: f.size)]], _SIDE).pixels[0]
    with torch.no_grad():
        embedding = recogniser(picture[None])[0].cpu().double()
    if not embedding.isfinite().all() or not embedding.any():
        return None, "the picture has NaN or infinity"
    return F.normalize(embedding, dim=0), note


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


def _mean(values: list[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan


def _null(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _words(cosine: float, degrees: float) -> str:
    if math.isnan(cosine):
        return "cannot be compared"
    return f"cosine {cosine:.3f}, {degrees:.1f} degrees"
