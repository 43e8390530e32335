"""Several looks at one picture by a detector of upright faces: turned copies, and tiles."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..geometry.face import Face
from ..geometry.warp import transform
from .merging import one_of_each
from .views import tiles


def search(
    image: Tensor,
    look: Callable[[Tensor], list[Face]],
    *,
    rotations: bool = False,
) -> list[Face]:
    """Faces of a picture, each once, best first.

    The picture is looked at as a whole and, where it is large, in `views.tiles`; with `rotations`
    all of that again in the three other quarter turns. A face that shows only in a tile or turned
    counts where its landmarks were found: the more often a detector looks, the more it takes for a
    face.

    Args:
        image: (3, h, w) in [0, 1].
        look: the faces that are roughly upright in one (3, h', w') picture.
    """
    found: list[Face] = []
    for number, (view, back) in enumerate(_views(image, rotations)):
        seen = look(view)
        found += [_moved(f, back) for f in seen if number == 0 or f.landmarks is not None]
    boxes = torch.tensor([face.box for face in found], dtype=torch.float64).view(-1, 4)
    scores = torch.tensor([face.score for face in found], dtype=torch.float64)
    return [found[i] for i in one_of_each(boxes, scores).tolist()]


def _views(image: Tensor, rotations: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of a picture, itself first, and the (2, 3) maps from their pixels back to its own."""
    height, width = image.shape[-2:]
    windows = [(0, 0, width, height)]
    for (side, _, x), (_, _, y) in tiles(height, width).tolist():
        ends = min(width, math.ceil(x + side)), min(height, math.ceil(y + side))
        windows.append((max(0, int(x)), max(0, int(y)), *ends))
    for x, y, right, down in windows:
        part = image[:, y:down, x:right]
        right, down = right - 1, down - 1
        quarters = (
            [[1, 0, x], [0, 1, y]],
            [[0, -1, right], [1, 0, y]],
            [[-1, 0, right], [0, -1, down]],
            [[0, 1, x], [-1, 0, down]],
        )
        for k in range(4 if rotations else 1):
            yield torch.rot90(part, k, (1, 2)), torch.tensor(quarters[k], dtype=torch.float64)


def _moved(face: Face, back: Tensor) -> Face:
    """A face of a view, in the picture."""
    ends = transform(back, torch.tensor(face.box, dtype=torch.float64).view(2, 2))
    low, high = ends.amin(0), ends.amax(0)

    def move(points: Tensor | None) -> Tensor | None:
        return None if points is None else transform(back.to(points), points)

    box = (*low.tolist(), *high.tolist())
    return Face(box, face.score, move(face.points5), move(face.landmarks), face.angle)
