"""Values of other programs, checked: a face as ComfyUI's landmarker describes it, a number, points.

ComfyUI 0.33's landmarker (comfy_extras/mediapipe/face_landmarker.py) gives a face as a dict:
`landmarks_xy` (478, 2) in pixels, pixel i with its centre at i; `score` of the detector in [0, 1];
`presence`, a logit of whether the mesh lies on a face at all.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ..errors import shorten
from ..geometry.face import Face
from .mesh import POINTS, mesh_to_5, mesh_to_68

VARIANTS = {"both": ("short", "full"), "short": ("short",), "full": ("full",)}
"""Which detectors of ComfyUI's face detection model look."""


class UnusableError(Exception):
    """Why one thing of many cannot be used; a clause that follows its name. Others can."""


def landmark_face(value: object) -> Face:
    """A face with 68 landmarks, the five points, and the box around its mesh.

    Without a face under it (`presence` below 0: MediaPipe's own graphs ask for a probability of one
    half) the mesh only says where to look, and the face has no points.

    Raises:
        UnusableError: it is no such dict, or without its numbers.
    """
    if not isinstance(value, dict):
        raise UnusableError(f"is {kind(value)} and no face")
    mesh = _points(value.get("landmarks_xy"), "landmarks")
    if mesh.ndim != 2 or mesh.shape[0] not in (POINTS, POINTS - 10) or mesh.shape[1] != 2:
        raise UnusableError(f"has landmarks {tuple(mesh.shape)} and not ({POINTS}, 2)")
    score = number(value.get("score", 1.0), "score")
    box = (*mesh.amin(0).tolist(), *mesh.amax(0).tolist())
    if number(value.get("presence", 0.0), "presence") < 0:
        return Face(box, score)
    return Face(box, score, mesh_to_5(mesh[None])[0].float(), mesh_to_68(mesh[None])[0].float())


def number(value: object, name: str) -> float:
    """A finite number of any library.

    Raises:
        UnusableError: it is none, or not there.
    """
    if value is None:
        raise UnusableError(f"has no {name}")
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        found = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise UnusableError(f"has {shorten(value, 30)!r} for its {name}") from None
    if not math.isfinite(found):
        raise UnusableError(f"has {found} for its {name}")
    return found


def _points(value: object, name: str) -> Tensor:
    """An array of finite numbers of any library, float64 on the CPU.

    Raises:
        UnusableError: it is none, or not there.
    """
    if value is None:
        raise UnusableError(f"has no {name}")
    try:
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value.detach().float().cpu()  # numpy knows no bfloat16
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        raise UnusableError(f"has {name} that are no numbers") from None
    if not np.isfinite(array).all():
        raise UnusableError(f"has {name} that are NaN or infinite")
    return torch.from_numpy(array.astype(np.float64))


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is what programs hand several things over in."""
    return isinstance(value, list | tuple)


def kind(value: object) -> str:
    """What it is, in a few words."""
    if isinstance(value, Tensor | np.ndarray):
        return f"numbers of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"a {type(value).__name__}"
