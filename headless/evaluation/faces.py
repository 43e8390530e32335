"""What the scores of faces read from a picture: landmarks, embeddings, features."""

import math
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...core.devices import compute_device, widened
from ...core.errors import FacewrightError
from ...core.faces import ANALYZERS as KNOWN
from ...core.faces import NEEDS, ROOM, Face, dense_landmarker, detect_faces, load_analyzer
from ...core.faces.certainty import certainty_of
from ...core.geometry.align import align_faces
from ...core.metrics import Metric

ANALYZERS = tuple(n for n in KNOWN if n not in NEEDS or NEEDS[n].dense)
"""Analyzers with landmarks; "auto" takes the first that has dense ones."""
_DENSE = ("ald_eyes", "ald_mouth")
_LANDMARKS = ("ald", *_DENSE, "lmd")


@dataclass
class Reading:
    """The face of one picture. What is missing is kept as the reason."""

    face: Face | None = None
    found: dict[str, Tensor] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def get(self, what: str) -> Tensor:
        """(1, k, 2) "landmarks", (1, d) "embeddings" or "features".

        Raises:
            FacewrightError: it is missing; the message says why.
        """
        if what not in self.found:
            raise FacewrightError(self.missing[what])
        return self.found[what]


class FaceReader:
    """Finds the face of every picture and reads what the metrics ask for.

    The original's largest face counts, and in a restored picture the face nearest to it. Identity
    is read from both pictures cut out by the original's five points (FFHQ template), so that a face
    that moved counts as changed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.analyzer = load_analyzer(name)
        self.points = 5
        with suppress(FacewrightError):
            self.points = dense_landmarker(self.analyzer).points
        self.encoder = None
        if name == "nano":
            from ...core.weights.nano import load_identity

            self.encoder = load_identity("metric").to(compute_device())

    @staticmethod
    def metrics(faces: str | None) -> tuple[str, ...]:
        """Names of the metrics that an analyzer allows."""
        if faces is None:
            return ()
        return (*_LANDMARKS, "deg", "frechet") if faces == "nano" else ("ald", "lmd")

    @classmethod
    def check(cls, m: Metric, faces: str | None) -> None:
        """Raise FacewrightError unless this analyzer gives what the metric reads."""
        if faces is None:
            raise FacewrightError(
                f"{m.label} reads faces. Name what finds them with --faces: {', '.join(ANALYZERS)}."
            )
        if m.name in _DENSE:
            try:
                dense_landmarker(load_analyzer(faces))
            except FacewrightError as error:
                raise FacewrightError(f"{m.label} reads dense landmarks. {error}") from error
        elif m.name not in cls.metrics(faces):
            raise FacewrightError(
                f"{m.label} cannot be measured with --faces {faces}: it gives no embedding that "
                f"tells people apart. Leave {m.name} out, or use --faces nano for rendered faces."
            )

    def note(self) -> str:
        """What the reader of a report has to know."""
        return " ".join([self._note(), *([certainty_of(self.name).told] * (self.points != 5))])

    def _note(self) -> str:
        if self.name == "nano":
            return (
                "Faces, their 68 landmarks and their identity were read by the bundled nano "
                "networks, which know computer-drawn faces only: on photographs these numbers mean "
                "nothing, and they must not be compared with published ones."
            )
        if self.points == 5:
            return (
                f"Faces were found by {self.name} without its dense landmarks, which gives five "
                "points: landmark distances are over these five. Eyes and mouth alone and identity "
                "(Deg.) are not measured, and the numbers must not be compared with those over 68 "
                "or 98 points."
            )
        return (
            f"Faces and their {self.points} landmarks were found by {self.name}. Landmark "
            "distances grow with the picture and depend on the landmarker: compare them among "
            "pictures of one size only. Identity (Deg.) is not measured."
        )

    @torch.no_grad()
    def read(self, picture: Tensor, like: Reading | None = None) -> Reading:
        """Read a (3, h, w) picture; `like` is the reading of its original."""
        try:
            face = self._face(picture, like)
            anchor = face if like is None else like.face
            if face is None or anchor is None:
                where = "its original" if like is not None and like.face is None else "this picture"
                raise FacewrightError(f"no face was found in {where}")
            reading = Reading(face)
            points = face.points5 if face.landmarks is None else face.landmarks
            if points is None:
                raise FacewrightError(f"{self.name} gave no landmarks of its face")
            reading.found["landmarks"] = points[None].cpu().double()
            if self.encoder is not None:
                crop = align_faces(picture[None], [[anchor]], 2 * self.encoder.config.input_size)
                maps = self.encoder.features(crop.pixels.to(compute_device()))
                reading.found["embeddings"] = widened(self.encoder.embed(maps[-1]))
                reading.found["features"] = widened(maps[-1].mean((2, 3)))
        except Exception as error:  # noqa: BLE001 (the metrics that read pixels still count)
            reason = str(error) if isinstance(error, FacewrightError) else repr(error)
            return Reading(missing=dict.fromkeys(("landmarks", "embeddings", "features"), reason))
        return reading

    def _face(self, picture: Tensor, like: Reading | None) -> Face | None:
        wanted = None if like is None else like.face
        if like is not None and wanted is None:
            return None
        for padding in (0.0, ROOM):
            faces = detect_faces(self.analyzer, picture, padding=padding)
            if wanted is None:
                if faces:
                    return max(faces, key=lambda face: face.size)
                continue
            near = [f for f in faces if _distance(f, wanted) < wanted.size / 2]
            if near:
                return min(near, key=lambda face: _distance(face, wanted))
        return None


def _distance(a: Face, b: Face) -> float:
    return math.dist(a.center, b.center)
