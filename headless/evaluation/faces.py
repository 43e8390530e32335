"""What the scores of faces read from a picture: landmarks, embeddings, features."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ...core.devices import compute_device, widened
from ...core.errors import FacewrightError
from ...core.faces import ANALYZERS as KNOWN
from ...core.faces import (
    NEEDS,
    ROOM,
    Face,
    FaceAnalyzer,
    dense_landmarker,
    detect_faces,
    load_analyzer,
)
from ...core.faces.certainty import certainty_of
from ...core.geometry.align import align_faces
from ...core.geometry.face import check_crops
from ...core.metrics import Metric
from ...core.modules.identity import IdentityEncoder
from ...core.people.recogniser import Recogniser
from ...core.scores.identity import embed_face, nearest_of
from ..make.people import find_recogniser

ANALYZERS = tuple(n for n in KNOWN if n not in NEEDS or NEEDS[n].dense)
"""Analyzers with landmarks; "auto" takes the first that has dense ones."""
_DENSE = ("ald_eyes", "ald_mouth", "ald_lips")
_LANDMARKS = ("ald", *_DENSE, "lmd")
_IDENTITY = ("deg", "cosine", "rank", "rank1")
_KINDS = ("landmarks", "embeddings", "features")


@dataclass(frozen=True)
class Looks:
    """How faces are read."""

    faces: str | None = None
    """Who finds faces and landmarks, of `ANALYZERS`; None: nobody."""
    recogniser: str | None = None
    """Who reads identity, as `find_recogniser` takes it; None: the nano networks, with them."""
    aligned: bool = False
    """Every picture is taken for an aligned face crop, in which no face is looked for."""

    @property
    def any(self) -> bool:
        """Whether faces are read at all."""
        return self.faces is not None or self.recogniser is not None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that can be measured so."""
        names: tuple[str, ...] = ()
        if self.faces is not None:
            names += _LANDMARKS if self.dense is None else ("ald", "lmd")
        if self.recogniser is not None:
            names += _IDENTITY
        elif self.faces == "nano":
            names += ("deg",)
        return (*names, "frechet") if self.faces == "nano" else names

    @cached_property
    def dense(self) -> str | None:
        """Why there are no dense landmarks; None where there are."""
        try:
            dense_landmarker(load_analyzer(self.faces or "auto"))
        except FacewrightError as error:
            return str(error)
        return None

    def check(self, m: Metric) -> None:
        """Raise FacewrightError unless faces read so give what the metric reads."""
        if m.name in _IDENTITY:
            self._check_identity(m)
        elif self.faces is None:
            raise FacewrightError(
                f"{m.label} reads faces. Name what finds them with --faces: {', '.join(ANALYZERS)}."
            )
        elif m.name in _DENSE and self.dense is not None:
            raise FacewrightError(f"{m.label} reads dense landmarks. {self.dense}")
        elif m.name == "frechet" and self.faces != "nano":
            raise FacewrightError(
                f"{m.label} cannot be measured with --faces {self.faces}: it reads features of the "
                f"nano networks. Leave {m.name} out, or use --faces nano for rendered faces."
            )

    def _check_identity(self, m: Metric) -> None:
        if self.recogniser is not None or self.faces == "nano":
            return
        what = "needs somebody who tells people apart by their faces"
        if self.faces is not None:
            what = (
                f"cannot be measured with --faces {self.faces} alone: it gives no embedding that "
                "tells people apart"
            )
        raise FacewrightError(
            f"{m.label} {what}. Name ArcFace's or AdaFace's weights with --recogniser FILE, or use "
            "--faces nano for rendered faces."
        )


NOBODY = Looks()
"""No faces are read."""


@dataclass
class Reading:
    """The face of one picture. What is missing is kept as the reason."""

    face: Face | None = None
    found: dict[str, Tensor] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def get(self, what: str) -> Tensor:
        """(1, k, 2) "landmarks", (1, d) "embeddings" or "features".

        Raises:
            FacewrightError: it is missing; the message says why.
        """
        if what not in self.found:
            raise FacewrightError(self.missing.get(what, f"nobody reads {what} of faces"))
        return self.found[what]


class FaceReader:
    """Finds the face of every picture and reads what the metrics ask for.

    The original's largest face counts, and in a restored picture the face nearest to it. A
    recogniser is fed as Identity Score feeds it: with each face cut out by its own five points, or
    with aligned crops as they are. The nano networks, where they read identity, see both pictures
    cut out by the original's points, so that a face that moved counts as changed.

    Raises:
        FacewrightError: the analyzer, the recogniser or their weights are missing.
    """

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
        self.analyzer = None if looks.faces is None else load_analyzer(looks.faces)
        self.points = 5
        if self.analyzer is not None:
            with suppress(FacewrightError):
                self.points = dense_landmarker(self.analyzer).points
            if looks.aligned:  # nothing but dense landmarks can be had without looking for a face
                dense_landmarker(self.analyzer)
        self.recogniser: Recogniser | None = None
        if looks.recogniser is not None:
            self.recogniser = find_recogniser(looks.recogniser, calibrated=False)

    @cached_property
    def _encoder(self) -> IdentityEncoder:
        from ...core.weights.nano import load_identity

        return load_identity("metric").to(compute_device())

    def note(self) -> str:
        """What the reader of a report has to know."""
        dense = self.analyzer is not None and self.points != 5
        lines = [self._on_landmarks(), self._on_identity()]
        lines += [certainty_of(self.analyzer.name).told] if self.analyzer and dense else []
        return " ".join(filter(None, lines))

    def _on_landmarks(self) -> str:
        name = self.looks.faces
        if name is None:
            return ""
        if name == "nano":
            read = "their 68 landmarks"
            read += "" if self.recogniser else " and their identity"
            return (
                f"Faces, {read} were read by the bundled nano "
                "networks, which know computer-drawn faces only: on photographs these numbers mean "
                "nothing, and they must not be compared with published ones."
            )
        if self.points == 5:
            return (
                f"Faces were found by {name} without its dense landmarks, which gives five "
                "points: landmark distances are over these five. Eyes and mouth alone are not "
                "measured, and the numbers must not be compared with those over 68 or 98 points."
            )
        who = f"Faces and their {self.points} landmarks were found by {name}."
        if self.looks.aligned:
            who = f"{self.points} landmarks were read by {name} from every picture as it is."
        return (
            f"{who} Landmark distances grow with the picture and depend on the landmarker: compare "
            "them among pictures of one size only."
        )

    def _on_identity(self) -> str:
        if self.recogniser is None:
            return "" if self.looks.faces == "nano" else "Identity (Deg.) is not measured."
        fed = "each face cut out by its own five points (FFHQ template)"
        if self.looks.aligned:
            fed = "every picture as it is, taken for an aligned face (FFHQ template)"
        return (
            f"Identity was read by {self.recogniser.id} from {fed}. Deg. and cosine depend on the "
            "recogniser and on how it is fed: compare them only with numbers made in the same way."
        )

    @torch.no_grad()
    def read(self, picture: Tensor, like: Reading | None = None) -> Reading:
        """Read a (3, h, w) picture; `like` is the reading of its original."""
        reading = Reading()
        try:
            if self.looks.aligned:
                check_crops(picture[None])
            if self.analyzer is not None:
                self._look(self.analyzer, picture, like, reading)
        except Exception as error:  # noqa: BLE001 (the metrics that read pixels still count)
            reading.missing |= dict.fromkeys(_KINDS, _why(error))
            return reading
        try:
            if self.recogniser is not None:
                self._recognize(self.recogniser, picture, like, reading)
        except Exception as error:  # noqa: BLE001
            reading.missing["embeddings"] = _why(error)
        return reading

    def _look(
        self, analyzer: FaceAnalyzer, picture: Tensor, like: Reading | None, reading: Reading
    ) -> None:
        """Read landmarks, and what the nano networks tell of identity."""
        if self.looks.aligned:
            points = dense_landmarker(analyzer).landmarks(picture[None])[0]
            if not points.isfinite().all():
                raise FacewrightError(f"{self.looks.faces} saw no face in this crop")
        else:
            face = self._face(analyzer, picture, like)
            anchor = face if like is None else like.face
            if face is None or anchor is None:
                where = "its original" if like is not None and like.face is None else "this picture"
                raise FacewrightError(f"no face was found in {where}")
            reading.face = face
            points = face.points5 if face.landmarks is None else face.landmarks
            if points is None:
                raise FacewrightError(f"{self.looks.faces} gave no landmarks of its face")
        reading.found["landmarks"] = points[None].cpu().double()
        if self.looks.faces == "nano":
            crop = picture[None]
            if not self.looks.aligned:
                crop = align_faces(crop, [[anchor]], 2 * self._encoder.config.input_size).pixels
            maps = self._encoder.features(crop.to(compute_device()))
            reading.found["embeddings"] = widened(self._encoder.embed(maps[-1]))
            reading.found["features"] = widened(maps[-1].mean((2, 3)))

    def _recognize(
        self, recogniser: Recogniser, picture: Tensor, like: Reading | None, reading: Reading
    ) -> None:
        reading.found.pop("embeddings", None)  # of nano
        analyzer = None if self.looks.aligned else self.analyzer
        near = None if like is None else like.face
        moved = picture.to(compute_device())
        embedding, note = embed_face(moved, recogniser, analyzer, near)
        if embedding is None:
            raise FacewrightError(note)
        reading.found["embeddings"] = embedding[None]
        reading.notes += [note] if note else []

    def _face(self, analyzer: FaceAnalyzer, picture: Tensor, like: Reading | None) -> Face | None:
        wanted = None if like is None else like.face
        if like is not None and wanted is None:
            return None
        for padding in (0.0, ROOM):
            faces = detect_faces(analyzer, picture, padding=padding)
            if wanted is not None:
                face = nearest_of(faces, wanted)
            else:
                face = max(faces, key=lambda face: face.size, default=None)
            if face is not None:
                return face
        return None


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, FacewrightError) else repr(error)
