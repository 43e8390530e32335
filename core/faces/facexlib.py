"""facexlib's RetinaFace and FAN: boxes, five and 98 points, with the user's package and weights."""

from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import load_strict, read_tensors
from ..devices import compute_device
from ..errors import CheckpointError, FacewrightError
from ..files.known import FAN, RETINAFACE
from ..files.search import find_file
from ..geometry.face import Face
from ..geometry.templates import template
from ..geometry.warp import fit_similarity, invert, transform, warp
from . import fan
from .insightface import to_bgr8
from .needs import NEEDS, find_weights, roots_of

_MIN_SCORE = 0.8
_ALIGNED = 512


class FacexlibAnalyzer:
    """RetinaFace with a ResNet-50 (arXiv:1905.00641), and AWing FAN where its weights are there.

    Without FAN's weights faces carry five points, and `landmarks` and `heatmaps` say what to do.
    """

    name = "facexlib"
    points = fan.POINTS

    def __init__(
        self,
        model_dir: str | Path | None = None,
        *,
        device: torch.device | None = None,
    ) -> None:
        """Load the weights below `model_dir` (or below the usual folders).

        Args:
            device: None takes the one that `core.devices` chooses.

        Raises:
            CheckpointError: the file is missing or another one.
            FacewrightError: the package is not installed.
        """
        roots = roots_of("facexlib", model_dir)
        path = find_weights("facexlib", model_dir)
        self._searched = ", ".join(map(str, roots))
        if path is None:
            searched = self._searched or "the models folders"
            raise CheckpointError(
                f"The face analyzer 'facexlib' found no {RETINAFACE.names[0]} in {searched}. "
                f"{RETINAFACE.where}{NEEDS['facexlib'].package_too}"
            )
        try:
            from facexlib.detection.retinaface import RetinaFace
        except ImportError as error:
            raise FacewrightError(
                f"The face analyzer 'facexlib' found {path}, but its package cannot be imported "
                f"({error}). Install it with `pip install facexlib`."
            ) from error
        # facexlib knows these two kinds alone.
        device = device or compute_device()
        self._device = device if device.type == "cuda" else torch.device("cpu")
        self._net = RetinaFace(network_name="resnet50", device=self._device)
        tensors = {k.removeprefix("module."): v for k, v in read_tensors(path)[0].items()}
        load_strict(self._net, tensors, source=str(path))
        dense = find_file(roots, FAN.folders, FAN.names)
        self._fan = None if dense is None else fan.FanLandmarker(dense, self._device)

    @torch.no_grad()
    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first; 98 landmarks where FAN is there."""
        rows = torch.from_numpy(self._net.detect_faces(to_bgr8(image), _MIN_SCORE)).float()
        points = rows[:, 5:15].view(-1, 5, 2)
        dense = [None] * len(points)
        if self._fan is not None and len(points):
            dense = self._dense(self._fan, image, points)
        return [
            Face(tuple(row[:4].tolist()), float(row[4]), points5=five, landmarks=landmarks)
            for row, five, landmarks in zip(rows, points, dense, strict=True)
        ]

    def landmarks(self, crops: Tensor) -> Tensor:
        """See `DenseLandmarker`; CheckpointError where FAN's weights are not there."""
        return self._landmarker().landmarks(crops)

    def heatmaps(self, crops: Tensor) -> Tensor:
        """See `DenseLandmarker`; CheckpointError where FAN's weights are not there."""
        return self._landmarker().heatmaps(crops)

    def _landmarker(self) -> fan.FanLandmarker:
        if self._fan is None:
            raise CheckpointError(
                "The face analyzer 'facexlib' gives dense landmarks with the weights "
                f"{FAN.names[0]}, which are not in {self._searched}. {FAN.where}"
            )
        return self._fan

    @staticmethod
    def _dense(net: fan.FanLandmarker, image: Tensor, points: Tensor) -> Tensor:
        """(n, 98, 2) in picture pixels: FAN looks at every face aligned to the FFHQ template."""
        matrix = fit_similarity(points, template(_ALIGNED))
        window = (0, 0, _ALIGNED, _ALIGNED)
        crops = torch.stack([warp(image.float().clamp(0, 1), m, window) for m in matrix])
        found = net.landmarks(crops).cpu().double()
        return transform(invert(matrix), found).float()
