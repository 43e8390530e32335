"""Finding faces: one protocol, several analyzers, and the choice of faces to work on."""

import logging
from functools import partial
from pathlib import Path
from typing import TypeGuard

import torch

from ..errors import FacewrightError
from ..geometry.face import DenseLandmarker, Face, FaceAnalyzer, NoFace
from .auto import AutoAnalyzer, Choice, choose, note_of
from .needs import DENSE, NEEDS, find_weights
from .selection import ORDERS, ROOM, detect_faces, find_faces, none_left, select_faces, warn_of_none

ANALYZERS = ("skimage", "nano", "insightface", "facexlib", "mediapipe", "auto")
"""Names `load_analyzer` knows."""
_LOG = logging.getLogger(__name__)

__all__ = [
    "ANALYZERS",
    "DENSE",
    "NEEDS",
    "ORDERS",
    "ROOM",
    "AutoAnalyzer",
    "Choice",
    "DenseLandmarker",
    "Face",
    "FaceAnalyzer",
    "NoFace",
    "choice_of",
    "dense_landmarker",
    "detect_faces",
    "find_faces",
    "find_weights",
    "load_analyzer",
    "none_left",
    "select_faces",
    "warn_of_none",
]


def load_analyzer(
    name: str,
    model_dir: str | Path | None = None,
    device: torch.device | None = None,
    *,
    dense: bool = False,
    points: int | None = None,
    rotations: bool = False,
) -> FaceAnalyzer:
    """An analyzer by name; only its own packages are imported, and nothing is downloaded.

    - "skimage": upright frontal faces, boxes and roll only, no weights (needs scikit-image).
    - "nano": rendered faces, 68 landmarks, weights shipped with this package.
    - "mediapipe": 68 landmarks and faces of any size, on Google's own files, free for any use.
    - "insightface", "facexlib": five points, with the user's own package and weights, and 68 or
      98 landmarks where their weights are there too.
    - "auto": an `AutoAnalyzer`, the first of mediapipe, facexlib, insightface and skimage that is
      ready; it says which that is, and why.

    Args:
        name: one of `ANALYZERS`.
        model_dir: folder that holds the weights; None searches the models folders of this
            run. Not read by "skimage"; for "nano" it replaces `weights/nano`.
        device: of "insightface" and "facexlib", where it is CUDA, and of "mediapipe", where it is
            any: the others' networks are small, and compute on the CPU. None takes the one that
            `core.devices` chooses.
        dense: "auto" takes one with dense landmarks. Whatever else is named is taken as it is.
        points: "auto" takes one with so many dense landmarks, such as albums hold.
        rotations: "mediapipe" (also as the choice of "auto") looks for faces on their side and
            upside down, too, which takes up to five times as long. The others have no such search;
            the log says so.

    Raises:
        CheckpointError: weights that are missing or wrong, with where to get them.
        FacewrightError: an unknown name or a package that is not installed.
    """
    if rotations and name in ANALYZERS and name not in ("mediapipe", "auto"):
        _LOG.warning(
            "The face analyzer '%s' has no search over rotations and looks at pictures as they "
            "are. mediapipe has one.", name,
        )  # fmt: skip
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
    if name == "mediapipe":
        from .mediapipe import MediapipeAnalyzer

        return MediapipeAnalyzer(model_dir, device=device, rotations=rotations)
    if name == "auto":
        load = partial(load_analyzer, model_dir=model_dir, device=device, rotations=rotations)
        check = partial(_check_points, points=points) if dense or points else None
        return choose(load, model_dir, check=check)
    raise FacewrightError(f"No face analyzer '{name}'; known: {', '.join(ANALYZERS)}.")


def choice_of(analyzer: FaceAnalyzer) -> list[str]:
    """Sentences for reports: what "auto" chose and why, then what is broken.

    Of an analyzer that people chose only what it misses for want of a file.
    """
    if isinstance(analyzer, AutoAnalyzer):
        return [analyzer.choice.looked, *analyzer.choice.warnings]
    return [note] if (note := note_of(analyzer)) else []


def dense_landmarker(analyzer: FaceAnalyzer) -> DenseLandmarker:
    """The analyzer itself, if it finds dense landmarks in aligned faces.

    Raises:
        CheckpointError: it would, but the weights for that are missing; says which, and where.
        FacewrightError: it never does; says which do.
    """
    if not _is_dense(analyzer):
        raise FacewrightError(
            f"The face analyzer '{analyzer.name}' gives no dense landmarks. Load one that does: "
            f"{DENSE}."
            f"{''.join(f' {line}' for line in choice_of(analyzer))}"
        )
    analyzer.landmarks(torch.zeros(0, 3, 64, 64))  # of no face at all: raises what is missing
    return analyzer


def _check_points(analyzer: FaceAnalyzer, points: int | None) -> None:
    """Raise FacewrightError unless an analyzer gives dense landmarks, and so many."""
    found = dense_landmarker(analyzer).points
    if points not in (None, found):
        raise FacewrightError(f"it gives {found} landmarks, and {points} are needed")


def _is_dense(analyzer: object) -> TypeGuard[DenseLandmarker]:
    return callable(getattr(analyzer, "landmarks", None))
