"""Finding faces: one protocol, several analyzers, and the choice of faces to work on."""

from pathlib import Path
from typing import TypeGuard

import torch

from ..errors import FacewrightError
from ..geometry.face import DenseLandmarker, Face, FaceAnalyzer
from .selection import ORDERS, ROOM, detect_faces, select_faces

ANALYZERS = ("skimage", "nano", "insightface", "facexlib")
"""Names `load_analyzer` knows."""

__all__ = [
    "ANALYZERS",
    "ORDERS",
    "ROOM",
    "DenseLandmarker",
    "Face",
    "FaceAnalyzer",
    "dense_landmarker",
    "detect_faces",
    "load_analyzer",
    "select_faces",
]


def load_analyzer(
    name: str, model_dir: str | Path | None = None, device: torch.device | None = None
) -> FaceAnalyzer:
    """An analyzer by name; only its own packages are imported, and nothing is downloaded.

    - "skimage": upright frontal faces, boxes and roll only, no weights (needs scikit-image).
    - "nano": rendered faces, 68 landmarks, weights shipped with this package.
    - "insightface", "facexlib": five points, with the user's own package and weights, and 68 or
      98 landmarks where their weights are there too.

    Args:
        name: one of `ANALYZERS`.
        model_dir: folder that holds the weights; None searches the models folders of this
            run. Not read by "skimage"; for "nano" it replaces `weights/nano`.
        device: of "insightface" and "facexlib", where it is CUDA: the others' networks are small,
            and compute on the CPU. None takes the one that `core.devices` chooses.

    Raises:
        CheckpointError: weights that are missing or wrong, with where to get them.
        FacewrightError: an unknown name or a package that is not installed.
    """
    if name == "skimage":
        from .skimage import SkimageAnalyzer

        return SkimageAnalyzer()
    if name == "nano":
        from .nano import NanoAnalyzer

        return NanoAnalyzer.from_folder(model_dir)
    if name == "insightface":
        from .insightface import InsightFaceAnalyzer

        return InsightFaceAnalyzer(model_dir, device=device)
    if name == "facexlib":
        from .facexlib import FacexlibAnalyzer

        return FacexlibAnalyzer(model_dir, device=device)
    raise FacewrightError(f"No face analyzer '{name}'; known: {', '.join(ANALYZERS)}.")


def dense_landmarker(analyzer: FaceAnalyzer) -> DenseLandmarker:
    """The analyzer itself, if it finds dense landmarks in aligned faces.

    Raises:
        CheckpointError: it would, but the weights for that are missing; says which, and where.
        FacewrightError: it never does; says which do.
    """
    if not _is_dense(analyzer):
        raise FacewrightError(
            f"The face analyzer '{analyzer.name}' gives no dense landmarks. Load one that does: "
            "facexlib (98 points) or insightface (68) with your own weights, or nano (68) for "
            "rendered faces."
        )
    analyzer.landmarks(torch.zeros(0, 3, 64, 64))  # of no face at all: raises what is missing
    return analyzer


def _is_dense(analyzer: object) -> TypeGuard[DenseLandmarker]:
    return callable(getattr(analyzer, "landmarks", None))
