"""What a face analyzer finds, and the protocol every analyzer follows."""

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..errors import FacewrightError, check_image


@dataclass
class Face:
    """One face of a picture. Coordinates are pixels; pixel i has its centre at i."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 of the upright face from brows to chin."""
    score: float
    """Confidence from 0 to 1, comparable only between faces of one analyzer."""
    points5: Tensor | None = None
    """(5, 2) eye, eye, nose tip, mouth corner, mouth corner, from the left of the picture."""
    landmarks: Tensor | None = None
    """(k, 2) dense points, 68 in iBUG order for `nano`."""
    angle: float = 0.0
    """Roll in radians, clockwise in the picture; read only where there are no points."""

    @property
    def size(self) -> float:
        """Side in pixels of the square with the box's area."""
        x0, y0, x1, y1 = self.box
        return math.sqrt(max(0.0, x1 - x0) * max(0.0, y1 - y0))

    @property
    def center(self) -> tuple[float, float]:
        """x, y of the middle of the box."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    def shifted(self, dx: float, dy: float) -> "Face":
        """The same face in a picture whose origin lies at (-dx, -dy)."""
        x0, y0, x1, y1 = self.box

        def move(points: Tensor | None) -> Tensor | None:
            return None if points is None else points + points.new_tensor([dx, dy])

        box = (x0 + dx, y0 + dy, x1 + dx, y1 + dy)
        return Face(box, self.score, move(self.points5), move(self.landmarks), self.angle)


@dataclass(frozen=True)
class NoFace:
    """Why a picture has no face to work on, in plain words."""

    why: str
    """No sentence yet: "3 faces found by nano, none numbered 5"."""
    advice: str = ""
    """What to try next, a whole sentence."""

    @property
    def short(self) -> str:
        """Why, as a sentence."""
        return f"{self.why[:1].upper()}{self.why[1:]}."

    @property
    def sentences(self) -> str:
        """Both, for people who look at the picture."""
        return f"{self.short} {self.advice}".rstrip()


def check_crops(crops: Tensor) -> int:
    """The side s of FFHQ-aligned faces (n, 3, s, s).

    Raises:
        FacewrightError: another shape, integers, or crops that are not square.
    """
    check_image(crops, name="crops")
    height, width = crops.shape[-2:]
    if height != width or not width:
        raise FacewrightError(
            f"Aligned faces are square; these crops are {width} x {height} pixels. Cut them out "
            "with Detect Faces (align_faces) first."
        )
    return width


class FaceAnalyzer(Protocol):
    """Finds faces in one picture."""

    name: str

    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first; an empty list where there is none."""
        ...


class DenseLandmarker(FaceAnalyzer, Protocol):
    """A face analyzer that also finds dense landmarks in faces that are cut out already."""

    points: int
    """How many landmarks: 68 in iBUG order or 98 in WFLW order."""

    def landmarks(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, points, 2) in pixels of the crop.

        Every crop is taken for a face; NaN where one's landmarks stay unknown, which a landmarker
        may do that has to find the face first. n may be 0.
        """
        ...

    def heatmaps(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, points, h, w), 0 to about 1.

        How likely each landmark lies where; h and w are the landmarker's own.
        """
        ...
