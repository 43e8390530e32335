"""insightface's detectors: boxes and five points, with the user's own package and weights."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, FacewrightError
from ._files import find_file, model_roots
from .face import Face

_WHERE = (
    "Put a model pack such as buffalo_l (unzipped, from the insightface project's model zoo) into "
    "models/insightface/models/buffalo_l. insightface's weights are for non-commercial research "
    "only; nothing is downloaded here."
)


class InsightFaceAnalyzer:
    """SCRFD or RetinaFace of a model pack, through onnxruntime."""

    name = "insightface"

    def __init__(self, model_dir: str | Path | None = None, *, min_score: float = 0.5) -> None:
        """Load the pack below `model_dir` (or below the usual folders).

        Raises:
            CheckpointError: no detector file is there.
            FacewrightError: the package is not installed.
        """
        roots = model_roots(model_dir, [Path.home() / ".insightface"])
        detector = find_file(roots, ("insightface", "models"), ("det_*.onnx", "scrfd*.onnx"))
        if detector is None:
            searched = ", ".join(str(root) for root in roots)
            raise CheckpointError(
                f"The face analyzer 'insightface' found no detector (det_*.onnx) in {searched}. "
                + _WHERE
            )
        try:
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise FacewrightError(
                f"The face analyzer 'insightface' found {detector}, but its package cannot be "
                f"imported ({error}). Install it with `pip install insightface onnxruntime`."
            ) from error
        # An absolute folder as the name makes insightface take it as it is, without a download.
        self._app = FaceAnalysis(str(detector.parent.resolve()), allowed_modules=["detection"])
        self._app.prepare(
            ctx_id=0 if torch.cuda.is_available() else -1,
            det_thresh=min_score,
            det_size=(640, 640),
        )

    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first."""
        found = self._app.get(to_bgr8(image))
        faces = [
            Face(
                tuple(float(v) for v in f.bbox[:4]),
                float(f.det_score),
                points5=None if f.kps is None else torch.from_numpy(np.asarray(f.kps)).float(),
            )
            for f in found
        ]
        return sorted(faces, key=lambda face: (-face.score, *face.center))


def to_bgr8(image: Tensor) -> np.ndarray:
    """(3, h, w) RGB in [0, 1] -> (h, w, 3) uint8 BGR, as OpenCV programs expect it."""
    pixels = image.detach().float().cpu().clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(pixels.flip(0).permute(1, 2, 0).numpy())
