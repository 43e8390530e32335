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
PEOPLE_LQ = _FOLDER / "nano_people_lq.png"
PEOPLE_GT = _FOLDER / "nano_people_gt.png"
ADA_LQ = _FOLDER / "nano_ada_lq.png"
ADA_GT = _FOLDER / "nano_ada_gt.png"
ADA_PHOTOS = _FOLDER / "nano_ada_photos.png"
BO_PHOTOS = _FOLDER / "nano_bo_photos.png"

_PAIRS = {
    "group": (GROUP_LQ, GROUP_GT),
    "face": (FACE_LQ, FACE_GT),
    "three people": (PEOPLE_LQ, PEOPLE_GT),
    "Ada": (ADA_LQ, ADA_GT),
}
_ALBUMS = {"photos of Ada": ADA_PHOTOS, "photos of Bo": BO_PHOTOS}
_MOVING = {"moving group": "group", "moving three people": "three people"}
_FRAMES, _VIEW = 16, 0.6
PICTURES = (*_PAIRS, *_ALBUMS, *_MOVING)
"""Names that `picture` knows."""


def picture(name: str) -> tuple[Tensor, Tensor]:
    """lq and gt of one of `PICTURES`, each (b, 3, h, w) float32 in [0, 1].

    b is 1, or the number of photographs for an album, whose photographs are good ones: lq is gt;
    or of frames, a view that moves over several people.
    """
    if name in _MOVING:
        lq, gt = (_moving_over(_read(picture)) for picture in _PAIRS[_MOVING[name]])
        return lq, gt
    if name in _ALBUMS:
        photos = album_photos(name)
        return photos, photos
    lq, gt = map(_read, _PAIRS[name])
    return lq, gt


def album_photos(name: str) -> Tensor:
    """(b, 3, s, s) float32 in [0, 1]: the photographs, which lie side by side in their file."""
    strip = _read(_ALBUMS[name])
    return torch.cat(strip.split(strip.shape[-2], dim=-1)).contiguous()


def _moving_over(wide: Tensor) -> Tensor:
    """(16, 3, h, w) views of (1, 3, h, w'), from left to right by whole pixels; even sizes."""
    height, width = wide.shape[-2:]
    view = int(width * _VIEW) // 2 * 2
    lefts = [round((width - view) * t / (_FRAMES - 1)) for t in range(_FRAMES)]
    return torch.cat([wide[..., : height // 2 * 2, left : left + view] for left in lefts])


def _read(path: Path) -> Tensor:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
