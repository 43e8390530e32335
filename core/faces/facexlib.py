"""facexlib's RetinaFace: boxes and five points, with the user's own package and weights."""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import load_strict, read_tensors
from ..errors import CheckpointError, FacewrightError
from ._files import find_file, model_roots
from .face import Face
from .insightface import to_bgr8

_FILE = "detection_Resnet50_Final.pth"
_WHERE = (
    f"Put {_FILE} (release v0.1.0 of xinntao/facexlib on GitHub) into models/facedetection. "
    "It was trained on WIDER FACE, whose pictures are for research; nothing is downloaded here."
)


class FacexlibAnalyzer:
    """RetinaFace with a ResNet-50 (arXiv:1905.00641)."""

    name = "facexlib"

    def __init__(self, model_dir: str | Path | None = None, *, min_score: float = 0.8) -> None:
        """Load the weights below `model_dir` (or below the usual folders).

        Raises:
            CheckpointError: the file is missing or another one.
            FacewrightError: the package is not installed.
        """
        spec = importlib.util.find_spec("facexlib")
        own = [Path(p) / "weights" for p in (spec.submodule_search_locations or [])] if spec else []
        roots = model_roots(model_dir, own)
        path = find_file(roots, ("facexlib", "facedetection", "facewright"), (_FILE,))
        if path is None:
            searched = ", ".join(str(root) for root in roots) or "the models folders"
            raise CheckpointError(
                f"The face analyzer 'facexlib' found no {_FILE} in {searched}. " + _WHERE
            )
        try:
            from facexlib.detection.retinaface import RetinaFace
        except ImportError as error:
            raise FacewrightError(
                f"The face analyzer 'facexlib' found {path}, but its package cannot be imported "
                f"({error}). Install it with `pip install facexlib`."
            ) from error
        self._min_score = min_score
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._net = RetinaFace(network_name="resnet50", device=self._device)
        tensors = {k.removeprefix("module."): v for k, v in read_tensors(path)[0].items()}
        load_strict(self._net, tensors, source=str(path))

    @torch.no_grad()
    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first."""
        rows = torch.from_numpy(self._net.detect_faces(to_bgr8(image), self._min_score)).float()
        return [
            Face(tuple(row[:4].tolist()), float(row[4]), points5=row[5:15].view(5, 2))
            for row in rows
        ]
