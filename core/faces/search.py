"""Several looks at one picture by a detector of upright faces: turned copies, and tiles."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..geometry.face import Face
from ..geometry.warp import transform
from .merging import one_of_each

TILE = 1024
"""Side in pixels of the tiles in which small faces of large pictures are looked for."""
_OVERLAP = 256
"""Pixels that neighbouring tiles share at least: no face of half of that is cut by all of them."""


def search(
    image: Tensor,
    look: Callable[[Tensor], list[Face]],
    *,
    rotations: bool = False,
    tile: int = TILE,
) -> list[Face]:
    """Faces of a picture, each once, best first.

    The picture is looked at as a whole and, where it is larger than a tile and a half, in tiles of
    `tile` pixels; with `rotations` all of that again in the three other quarter turns. A face that
    shows only in a tile or turned counts where its landmarks were found: detectors see faces in
    more places, the more often they look.

    Args:
        image: (3, h, w) in [0, 1].
        look: the faces that are roughly upright in one (3, h', w') picture.
        tile: 0 for the whole picture only.
    """
    found: list[Face] = []
    for number, (view, back) in enumerate(_views(image, rotations, tile)):
        seen = look(view)
        found += [_moved(f, back) for f in seen if number == 0 or f.landmarks is not None]
    boxes = torch.tensor([face.box for face in found], dtype=torch.float64).view(-1, 4)
    scores = torch.tensor([face.score for face in found], dtype=torch.float64)
    return [found[i] for i in one_of_each(boxes, scores).tolist()]


def _views(image: Tensor, rotations: bool, tile: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of a picture, itself first, and the (2, 3) maps from their pixels back to its own."""
    for x, y, width, height in _windows(image.shape[-1], image.shape[-2], tile):
        part = image[:, y : y + height, x : x + width]
        right, down = x + width - 1, y + height - 1
        quarters = (
            [[1, 0, x], [0, 1, y]],
            [[0, -1, right], [1, 0, y]],
            [[-1, 0, right], [0, -1, down]],
            [[0, 1, x], [-1, 0, down]],
        )
        for k in range(4 if rotations else 1):
            yield torch.rot90(part, k, (1, 2)), torch.tensor(quarters[k], dtype=torch.float64)


def _windows(width: int, height: int, tile: int) -> Iterator[tuple[int, int, int, int]]:
    """x, y, width and height of the whole picture, then of its tiles."""
    yield 0, 0, width, height
    if tile and max(width, height) > 1.5 * tile:
        for y in _starts(height, tile):
            for x in _starts(width, tile):
                yield x, y, min(tile, width), min(tile, height)


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin so that they cover `length` evenly."""
    if length <= tile:
        return [0]
    steps = -(-(length - tile) // (tile - min(_OVERLAP, tile // 2)))
    return [round(i * (length - tile) / steps) for i in range(steps + 1)]


def _moved(face: Face, back: Tensor) -> Face:
    """A face of a view, in the picture."""
    ends = transform(back, torch.tensor(face.box, dtype=torch.float64).view(2, 2))
    low, high = ends.amin(0), ends.amax(0)

    def move(points: Tensor | None) -> Tensor | None:
        return None if points is None else transform(back.to(points), points)

    box = (*low.tolist(), *high.tolist())
    return Face(box, face.score, move(face.points5), move(face.landmarks), face.angle)
