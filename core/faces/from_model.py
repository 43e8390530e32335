"""Faces by a face detection model of ComfyUI (socket FACE_DETECTION_MODEL, since 0.33).

The model is whatever has `detect_batch(pictures, num_faces, score_thresh, variant)`: a list of
(h, w, 3) uint8 arrays comes back as a list of faces each, see `foreign.landmark_face`. ComfyUI's
holds MediaPipe's two detectors, "short" for faces that are large in the picture and "full" for
smaller ones, and the face mesh. Nothing of ComfyUI is imported.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, counted, listed
from ..geometry.face import Face, check_crops
from ..geometry.heatmaps import gaussian_heatmaps
from ..geometry.templates import template
from ..images import to_array
from .foreign import VARIANTS, UnusableError, is_list, kind, landmark_face
from .search import search

_LOG = logging.getLogger(__name__)
_CERTAIN = 0.8
"""Score of a detector that is believed where the mesh lies on no face."""
_AT_ONCE = 16
"""Crops per call of the model."""
_LOOKS = ((0.0, 0.5), (0.25, 0.5), (0.0, 0.05), (0.25, 0.05))
"""Room around an aligned face, as a share of its side, and the least score: what is tried in turn.
There is a face in each crop, so a doubtful one is taken where no other is."""
_NEAR = 0.15
"""Share of a crop's side that the five points may lie from the template's, on average."""
_PROPOSALS = 8
"""Faces that the model may propose in a crop."""


class ModelAnalyzer:
    """A face detection model as a `FaceAnalyzer`, and as a `DenseLandmarker` of 68 points."""

    name = "model"
    points = 68

    def __init__(
        self,
        model: Any,
        *,
        variant: str = "both",
        min_confidence: float = 0.5,
        rotations: bool = False,
    ) -> None:
        """
        Args:
            model: see the module.
            variant: one of `VARIANTS`. "both" merges what the two detectors find.
            min_confidence: least score of a face, in [0, 1].
            rotations: also look for faces that lie on their side or stand on their head.

        Raises:
            FacewrightError: another thing, an unknown variant, or no share.
        """
        if not callable(getattr(model, "detect_batch", None)):
            raise FacewrightError(
                f"`model` should be a face detection model, got {kind(model)}. Connect Load Face "
                "Detection Model (MediaPipe)."
            )
        if not _takes(model.detect_batch, num_faces=0, score_thresh=0.5, variant="short"):
            raise FacewrightError(
                f"`model` is {kind(model)} whose detect_batch does not take num_faces, "
                "score_thresh and variant, as ComfyUI 0.33's does. Update the pack, or use Faces "
                "from Detections."
            )
        if variant not in VARIANTS:
            raise FacewrightError(f"No detector '{variant}'; known: {', '.join(VARIANTS)}.")
        if not 0 <= min_confidence <= 1:
            raise FacewrightError(f"`min_confidence` lies in [0, 1], got {min_confidence}.")
        self._model, self._variants, self._least = model, VARIANTS[variant], min_confidence
        self.rotations = rotations

    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first, each once; 68 landmarks.

        Large pictures are looked at in tiles, too; see `search`. A face on which the mesh does not
        lie counts where its detector is certain, and has no points then.

        Raises:
            FacewrightError: the model answers in another form than ComfyUI's.
        """
        return search(image, self._look, rotations=self.rotations)

    def _look(self, image: Tensor) -> list[Face]:
        pictures = [to_array(image)]
        seen = [f for v in self._variants for f in self._ask(pictures, 0, self._least, v)[0]]
        return [face for face in seen if face.landmarks is not None or face.score >= _CERTAIN]

    def landmarks(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, 68, 2) in pixels of the crop.

        The model has to find the face first: looked for are the crop itself, the crop with some
        room around it, and both again for doubtful faces; of several the one nearest to the
        template is taken. NaN where there is none near it, and the log says so.

        Raises:
            FacewrightError: no aligned crops, or a model that answers in another form.
        """
        size = check_crops(crops)
        found = torch.full((len(crops), self.points, 2), torch.nan)
        missing = list(range(len(crops)))
        for room, least in _LOOKS:
            for variant in self._variants:
                for part in [missing[i : i + _AT_ONCE] for i in range(0, len(missing), _AT_ONCE)]:
                    seen = self._ask(_roomy(crops[part], room), _PROPOSALS, least, variant)
                    for i, faces in zip(part, seen, strict=True):
                        found[i] = _nearest(faces, size, round(room * size))
                missing = [i for i in missing if not found[i].isfinite().all()]
        if missing:
            _LOG.warning(
                "The face detection model sees no face in crops %s of %s: their landmarks are "
                "unknown.", listed(missing, 8), counted(len(crops), "face"),
            )  # fmt: skip
        return found.to(crops.device)

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Gaussians around `landmarks`, all of one width; 0 everywhere where those are unknown."""
        return gaussian_heatmaps(self.landmarks(crops), crops.shape[-1]).nan_to_num(0.0)

    @torch.no_grad()
    def _ask(
        self, pictures: list[np.ndarray], most: int, least: float, variant: str
    ) -> list[list[Face]]:
        """The faces of each picture, without those whose numbers are none."""
        if not pictures:
            return []
        answer = self._model.detect_batch(
            pictures, num_faces=most, score_thresh=least, variant=variant
        )
        if not is_list(answer) or len(answer) != len(pictures) or not all(map(is_list, answer)):
            raise FacewrightError(
                f"The face detection model was asked for the faces of "
                f"{counted(len(pictures), 'picture')} and answered with {kind(answer)}, not with a "
                "list for each. Use ComfyUI's own model, or Faces from Detections."
            )
        return [_readable(faces) for faces in answer]


def _takes(function: Callable[..., Any], **given: object) -> bool:
    """Whether a function can be called with pictures and these; unknown for compiled ones."""
    try:
        inspect.signature(function).bind([], **given)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def _readable(faces: Sequence[object]) -> list[Face]:
    """Those with usable numbers; where there is none at all, the model is of another kind."""
    good: list[Face] = []
    reasons: list[str] = []
    for value in faces:
        try:
            good.append(landmark_face(value))
        except UnusableError as reason:
            reasons.append(str(reason))
    if reasons and not good:
        raise FacewrightError(
            f"The face detection model gave {counted(len(faces), 'face')}, and none can be used: "
            f"the first {reasons[0]}. Use ComfyUI's own model, or Faces from Detections."
        )
    if reasons:
        _LOG.warning(
            "The face detection model gave %s that cannot be used: the first %s.",
            counted(len(reasons), "face"), reasons[0],
        )  # fmt: skip
    return good


def _nearest(faces: Sequence[Face], size: int, room: int) -> Tensor:
    """(68, 2) landmarks in a crop of `size` of the face nearest to the template, or NaN."""
    goal = template(size)
    best, landmarks = _NEAR * size, torch.full((ModelAnalyzer.points, 2), torch.nan)
    for face in faces:
        if face.points5 is None or face.landmarks is None:
            continue
        distance = float((face.points5.double() - room - goal).norm(dim=1).mean())
        if distance < best:
            best, landmarks = distance, face.landmarks - room
    return landmarks


def _roomy(crops: Tensor, room: float) -> list[np.ndarray]:
    """The crops with their borders repeated around them by a share of their side."""
    pixels = round(room * crops.shape[-1])
    padded = F.pad(crops.float(), (pixels,) * 4, "replicate") if pixels else crops
    return [to_array(crop) for crop in padded]
