"""Photographs of strangers looked at: every face, what it is like, and a small picture of it."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import FacewrightError
from ...core.faces import FaceAnalyzer, detect_faces
from ...core.geometry.align import align_faces, box_points
from ...core.images import Picture, read_picture, write_picture
from ...core.people.album import sharpness
from ...core.people.person import to_bytes
from ...core.people.recogniser import Recogniser
from .people_seen import Faces

_PADDING = 0.3
_LOOKED_AT = 128
_SMALL = 192


def small_picture(folder: Path, sha256: str, index: int) -> Path:
    """Where the small picture of a face lies."""
    return folder / "faces" / f"{sha256[:24]}_{index}.jpg"


def crop_size(recogniser: Recogniser) -> int:
    """Side of the faces that a recogniser is shown, in pixels."""
    return 128 if recogniser.name.startswith("nano-identity") else 512


def see(
    path: Path, sha256: str, folder: Path, analyzer: FaceAnalyzer, recogniser: Recogniser
) -> Faces:
    """The faces of a photograph, from left to right; their small pictures are written.

    Raises:
        FacewrightError: the photograph cannot be read, or numbers are not finite.
        OSError: the folder cannot be written.
    """
    pixels = read_picture(path).pixels[:3]
    if not pixels.isfinite().all():
        raise FacewrightError(f"{path} holds NaN or infinity. Save it again as PNG or JPEG.")
    found = detect_faces(analyzer, pixels) or detect_faces(analyzer, pixels, padding=_PADDING)
    found.sort(key=lambda face: face.center)
    crops = to_bytes(align_faces([pixels], [found], crop_size(recogniser)).pixels).float() / 255
    if not len(crops):
        empty = torch.zeros(0)
        return Faces(torch.zeros(0, recogniser.dim), empty.view(0, 4), empty.view(0, 5, 2), empty)
    embeddings = recogniser.embed(crops)
    if not embeddings.isfinite().all():
        raise FacewrightError(f"{path}: the recogniser gave NaN or infinity for a face.")
    for index, crop in enumerate(crops):
        _keep(small_picture(folder, sha256, index), crop)
    same = F.interpolate(crops, (_LOOKED_AT, _LOOKED_AT), mode="area")
    middle = slice(_LOOKED_AT // 4, -_LOOKED_AT // 4)
    points = [box_points(face) if face.points5 is None else face.points5.cpu() for face in found]
    return Faces(
        embeddings.float(),
        torch.tensor([face.box for face in found], dtype=torch.float32),
        torch.stack([p.float() for p in points]),
        sharpness(same[..., middle, middle]),
    )


def _keep(path: Path, crop: Tensor) -> None:
    small = F.interpolate(crop[None], (_SMALL, _SMALL), mode="bilinear", antialias=True)[0]
    write_picture(path, small, Picture(small), private=True)
