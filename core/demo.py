"""The pictures the demos restore: degraded computer-drawn people, and the truth."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_FOLDER = Path(__file__).parents[1] / "workflows"
GROUP_LQ = _FOLDER / "nano_group_lq.png"
GROUP_GT = _FOLDER / "nano_group_gt.png"
FACE_LQ = _FOLDER / "nano_face_lq.png"
FACE_GT = _FOLDER / "nano_face_gt.png"
PICTURES = ("group", "face")
"""Names that `picture` knows."""


def picture(name: str) -> tuple[Tensor, Tensor]:
    """lq and gt of one of `PICTURES`, each (1, 3, h, w) float32 in [0, 1]."""
    return {"group": group_picture, "face": face_picture}[name]()


def group_picture() -> tuple[Tensor, Tensor]:
    """lq and gt, each (1, 3, h, w) float32 in [0, 1]."""
    return _read(GROUP_LQ), _read(GROUP_GT)


def face_picture() -> tuple[Tensor, Tensor]:
    """lq and gt of one face, each (1, 3, 512, 512) float32 in [0, 1]."""
    return _read(FACE_LQ), _read(FACE_GT)


def _read(path: Path) -> Tensor:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
