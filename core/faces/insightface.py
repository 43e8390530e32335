"""insightface's detectors: boxes, five and 68 points, with the user's own package and weights."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..devices import compute_device
from ..errors import CheckpointError, FacewrightError
from ..files.known import INSIGHTFACE
from ..geometry.align import BOX_POINTS
from ..geometry.face import Face, check_crops
from ..geometry.heatmaps import gaussian_heatmaps
from ..geometry.templates import template
from ..images import to_array
from .needs import NEEDS, find_weights, roots_of

_DENSE = "landmark_2d_106"
_WHERE_DENSE = (
    "Put the whole pack there; 2d106det.onnx is part of buffalo_l, buffalo_s and antelopev2. "
    "insightface's weights are for non-commercial research only; nothing is downloaded here."
)

# fmt: off
IBUG_OF_106 = (
    1, 10, 12, 14, 16, 3, 5, 7, 0, 23, 21, 19, 32, 30, 28, 26, 17,  # jaw
    43, 48, 49, 51, 50,  102, 103, 104, 105, 101,  # brows
    72, 73, 74, 86,  78, 79, 80, 85, 84,  # nose
    35, 41, 42, 39, 37, 36,  89, 95, 96, 93, 91, 90,  # eyes
    52, 64, 63, 71, 67, 68, 61, 58, 59, 53, 56, 55,  65, 66, 62, 70, 69, 57, 60, 54,  # mouth
)
# fmt: on
"""Which of insightface's 106 points stands for each of iBUG's 68.

The layout is drawn in insightface's alignment/coordinate_reg (2d106markup.jpg; Liu et al., "Grand
Challenge of 106-Point Facial Landmark Localization", arXiv:1905.03469), and users of the model have
published this selection many times (DMDNet's test script is one). The mouth's 20 points and the
jaw's, every other one of 33, are the same places. The others are the nearest there is: brows are
their upper edge, the lids' points lie at a quarter and three quarters of an eye instead of thirds,
the nose's at its own spacing. So distances are comparable among faces of this landmarker only.
"""


class InsightFaceAnalyzer:
    """SCRFD or RetinaFace of a model pack, and its 106 points where the pack has them.

    The 106 points are handed on as iBUG's 68, see `IBUG_OF_106`. Without them faces carry five
    points, and `landmarks` and `heatmaps` say what to do.
    """

    name = "insightface"
    points = 68

    def __init__(
        self,
        model_dir: str | Path | None = None,
        *,
        device: torch.device | None = None,
    ) -> None:
        """Load the pack below `model_dir` (or below the usual folders).

        Args:
            device: None takes the one that `core.devices` chooses.

        Raises:
            CheckpointError: no detector file is there.
            FacewrightError: the package is not installed.
        """
        detector = find_weights("insightface", model_dir)
        if detector is None:
            searched = ", ".join(map(str, roots_of("insightface", model_dir)))
            raise CheckpointError(
                f"The face analyzer 'insightface' found no detector (det_*.onnx) in {searched}. "
                f"{INSIGHTFACE.where}{NEEDS['insightface'].package_too}"
            )
        try:
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise FacewrightError(
                f"The face analyzer 'insightface' found {detector}, but its package cannot be "
                f"imported ({error}). Install it with `pip install insightface onnxruntime`."
            ) from error
        # An absolute folder as the name makes insightface take it as it is, without a download.
        self._pack = detector.parent.resolve()
        self._app = FaceAnalysis(str(self._pack), allowed_modules=["detection", _DENSE])
        device = device or compute_device()
        self._app.prepare(
            ctx_id=(device.index or 0) if device.type == "cuda" else -1,
            det_thresh=0.5,
            det_size=(640, 640),
        )

    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first; 68 landmarks if the pack has them."""
        found = self._app.get(to_bgr8(image))
        faces = [
            Face(
                tuple(f.bbox[:4].tolist()),
                float(f.det_score),
                points5=None if f.kps is None else torch.from_numpy(np.asarray(f.kps)).float(),
                landmarks=None if f.landmark_2d_106 is None else _ibug(f.landmark_2d_106),
            )
            for f in found
        ]
        return sorted(faces, key=lambda face: (-face.score, *face.center))

    def landmarks(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, 68, 2) in pixels of the crop.

        The model is told the box in which a detector would have found the template's face.

        Raises:
            CheckpointError: the pack has no model of 106 points.
        """
        size = check_crops(crops)
        model = self._app.models.get(_DENSE)
        if model is None:
            raise CheckpointError(
                "The face analyzer 'insightface' gives dense landmarks with the model "
                f"2d106det.onnx, which is not in {self._pack}. {_WHERE_DENSE}"
            )
        box = template_box(size)
        found = [_ibug(model.get(to_bgr8(crop), _Boxed(box))) for crop in crops]
        empty = torch.zeros(0, self.points, 2)
        return (torch.stack(found) if found else empty).to(crops.device)

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Gaussians around `landmarks`, all of one width: the model gives points."""
        return gaussian_heatmaps(self.landmarks(crops), crops.shape[-1])


class _Boxed(dict):
    """As much of insightface's Face as its landmark model reads and writes."""

    def __init__(self, bbox: np.ndarray) -> None:
        super().__init__()
        self.bbox = bbox


def template_box(size: int) -> np.ndarray:
    """(4,) x0, y0, x1, y1 of the template's face in an FFHQ-aligned crop of `size` px.

    The box whose `BOX_POINTS` lie closest to the template's five points.
    """
    goal = template(size).numpy()
    corners = []
    for axis in (0, 1):
        shares = np.array(BOX_POINTS)[:, axis]
        low, extent = np.linalg.lstsq(np.stack([np.ones(5), shares], 1), goal[:, axis], rcond=None)[
            0
        ]
        corners.append((low, low + extent))
    (x0, x1), (y0, y1) = corners
    return np.array([x0, y0, x1, y1])


def _ibug(points: np.ndarray) -> Tensor:
    """(106, 2) of insightface -> (68, 2) float32 in iBUG order."""
    return torch.from_numpy(np.asarray(points)[list(IBUG_OF_106)]).float()


def to_bgr8(image: Tensor) -> np.ndarray:
    """(3, h, w) RGB in [0, 1] -> (h, w, 3) uint8 BGR, as OpenCV programs expect it."""
    return to_array(image.flip(0))
