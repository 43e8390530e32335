"""Faces cut out upright, at the size and in the position a restorer expects."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import FacewrightError
from ..faces.face import Face
from .templates import template
from .warp import fit_similarity, warp

BOX_POINTS = (
    (0.295, 0.37),
    (0.705, 0.37),
    (0.5, 0.61),
    (0.33, 0.79),
    (0.67, 0.79),
)
"""Where the five points lie in a detector's box, as shares of its width and height."""


@dataclass
class FaceCrops:
    """n aligned faces of a batch of pictures, and what is needed to put them back."""

    pixels: Tensor
    """(n, 3, s, s) in [0, 1]."""
    matrix: Tensor
    """(n, 2, 3) float64 on the CPU, picture -> crop; pixel i has its centre at i in both."""
    image_index: Tensor
    """(n,) int64: which picture of the batch."""
    landmarks: Tensor | None
    """(n, k, 2) in picture pixels: dense where every face has them, else the five points."""
    boxes: Tensor
    """(n, 4) x0, y0, x1, y1 in picture pixels."""
    scores: Tensor
    """(n,)"""
    image_sizes: list[tuple[int, int]]
    """(height, width) of every picture of the batch, faces or not."""
    report: list[str]
    """One line per picture."""

    def __len__(self) -> int:
        return len(self.pixels)


def box_points(face: Face) -> Tensor:
    """Five points guessed from a box and its roll: the mean face, (5, 2) float64.

    Good to about a tenth of the box for upright frontal faces, and blind to yaw and pitch.
    """
    x0, y0, x1, y1 = face.box
    shares = torch.tensor(BOX_POINTS, dtype=torch.float64) - 0.5
    offset = shares * torch.tensor([x1 - x0, y1 - y0], dtype=torch.float64)
    c, s = math.cos(face.angle), math.sin(face.angle)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return offset @ rotation.T + torch.tensor(face.center, dtype=torch.float64)


def align_faces(
    images: Tensor | Sequence[Tensor],
    faces: Sequence[Sequence[Face]],
    size: int = 512,
    *,
    name: str = "ffhq",
) -> FaceCrops:
    """Cut faces out by the best similarity between their five points and a template.

    A face without points is aligned by its box and roll, and the report says so.

    Args:
        images: (b, c, h, w), or b pictures (c, h, w) of different sizes; c >= 3, the first three
            channels RGB in [0, 1].
        faces: per picture, 0 or more.
        size: side of the crops in pixels.
        name: template, "ffhq" for restorers.

    Raises:
        FacewrightError: pictures and face lists that do not match, fewer than three channels,
            integer pixels, or landmarks that cannot be aligned.
    """
    pictures = list(images)
    if len(pictures) != len(faces):
        raise FacewrightError(
            f"There are {len(pictures)} pictures but face lists for {len(faces)}; "
            "detect the faces in the same batch that is aligned."
        )
    for picture in pictures:
        check_picture(picture)
    goal = template(name, size)
    found = [(i, face) for i, of_picture in enumerate(faces) for face in of_picture]
    points = [box_points(f) if f.points5 is None else f.points5.cpu().double() for _, f in found]
    matrix = torch.empty(0, 2, 3, dtype=torch.float64)
    if found:
        matrix = fit_similarity(torch.stack(points), goal)
    window = (0, 0, size, size)
    crops = [warp(pictures[i][:3], m, window) for (i, _), m in zip(found, matrix, strict=True)]
    like = pictures[0] if pictures else torch.empty(0)
    pixels = torch.stack(crops).clamp(0, 1) if crops else like.new_empty(0, 3, size, size)
    return FaceCrops(
        pixels=pixels,
        matrix=matrix,
        image_index=torch.tensor([i for i, _ in found], dtype=torch.int64),
        landmarks=_landmarks([face for _, face in found]),
        boxes=torch.tensor([face.box for _, face in found], dtype=torch.float32).view(-1, 4),
        scores=torch.tensor([face.score for _, face in found], dtype=torch.float32),
        image_sizes=[(p.shape[-2], p.shape[-1]) for p in pictures],
        report=[_line(i, of_picture) for i, of_picture in enumerate(faces)],
    )


def check_picture(picture: Tensor) -> None:
    """Raise FacewrightError unless `picture` is (c >= 3, h, w), floating point and not empty."""
    if picture.ndim != 3 or picture.shape[0] < 3 or 0 in picture.shape:
        raise FacewrightError(
            "A picture should be (c, h, w) with RGB in its first three channels, "
            f"got {tuple(picture.shape)}. Convert greyscale to RGB first."
        )
    if not picture.is_floating_point():
        raise FacewrightError(f"A picture should be floating point in [0, 1], got {picture.dtype}.")


def _landmarks(faces: list[Face]) -> Tensor | None:
    if faces and all(face.landmarks is not None for face in faces):
        return torch.stack([face.landmarks.cpu().float() for face in faces])
    if faces and all(face.points5 is not None for face in faces):
        return torch.stack([face.points5.cpu().float() for face in faces])
    return None


def _line(index: int, faces: Sequence[Face]) -> str:
    if not faces:
        return f"picture {index}: no face found, it passes through unchanged"
    by_box = sum(face.points5 is None for face in faces)
    how = "aligned by five points" if by_box == 0 else "aligned by box"
    if 0 < by_box < len(faces):
        how = f"{by_box} of them aligned by box"
    count = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    return f"picture {index}: {count}, {how}"
