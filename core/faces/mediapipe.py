"""MediaPipe's face landmarker (Google, Apache-2.0) on its own files, without its package.

Two BlazeFace detectors (arXiv:1907.05047) look at the whole picture and at tiles of large ones;
a mesh of 478 points (arXiv:1907.06724) looks at each face they propose, says whether it is one, and
gives its five and 68 points. What is done to the picture in between stands in MediaPipe's published
graphs (mediapipe/modules/face_detection and mediapipe/tasks/cc/vision/face_landmarker).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..devices import compute_device
from ..errors import CheckpointError
from ..geometry.face import Face, check_crops
from ..geometry.heatmaps import gaussian_heatmaps
from ..geometry.warp import transform
from .detection_grid import FULL, KEYPOINTS, SHORT, DetectionGrid
from .mediapipe_networks import Detected, MediapipeNetworks
from .merging import alike, one_of_each, same_face
from .mesh import mesh_to_5, mesh_to_68
from .views import tiles, view, whole

_ENLARGED, _CLOSER = 1.5, 1.25
"""What the mesh is shown, in sides of the detector's box, first and where it sees no face in that.
Official graphs leave it at the first; the second finds most of the faces that damage hid."""
_OUTER_CORNERS = (33, 263)
"""The mesh's outer corners of the eyes, which say how a face is rolled."""
_PRESENT = 0.5
"""Certainty of the mesh that there is a face."""
_CERTAIN = 0.8
"""Score of a detector that is believed where the mesh sees no face."""
_CERTAIN_AGAIN = 0.7
"""Score of a second look that is believed there, too."""
_NESTED_SCORE = 0.65
"""Least score of a face within another's box or around it."""
_MUCH = math.radians(15)
"""Difference between the detector's and the mesh's roll after which the mesh looks again."""
_BONUS = 0.1
"""What is added to a score to choose among several proposals of a face: for the short range, whose
boxes the mesh was made for, and for a second look."""
_SECOND_LOOK = 2.5
"""Side of the view of a second look, in sides of the box."""
_IN_TEMPLATE = (0.51, 0.61, 0.92)
"""x, y and side of the mesh's view of an FFHQ-aligned crop, in shares of its side: the mean of what
the short range's boxes would give."""
_MOUTH = 0.89
"""Width of a mouth in distances of the eyes, in FFHQ's template."""


@dataclass
class _Found:
    """Proposals in pixels of the picture; boxes are upright about a face of any roll."""

    boxes: Tensor
    scores: Tensor
    points: Tensor
    order: Tensor
    """Which of several proposals of a face is tried first: the largest."""
    plain: Tensor
    """Whether the picture was looked at whole and as it is."""

    def __getitem__(self, chosen: Tensor) -> "_Found":
        return _Found(*(t[chosen] for t in vars(self).values()))


class MediapipeAnalyzer:
    """Faces of any size with 68 landmarks, for any use; see the module.

    A proposal counts where the mesh is sure of it and, of tiles and turned pictures, the short
    range sees it from near by. A face that the mesh denies (of masks and hands before a face it
    knows less than the detectors) is kept with the detector's own eyes, nose and mouth, and without
    landmarks, where it shows in the whole picture as it is and a detector is certain of it (0.8),
    both ranges see it, or a look from near by with its eyes level scores 0.7.
    """

    name = "mediapipe"
    points = 68

    def __init__(
        self,
        model_dir: str | Path | None = None,
        *,
        device: torch.device | None = None,
        rotations: bool = False,
        networks: MediapipeNetworks | None = None,
    ) -> None:
        """Load the files below `model_dir` (or below the usual folders).

        Args:
            device: None takes the one that `core.devices` chooses.
            rotations: look at the picture turned by 90, 180 and 270 degrees, too. Without, faces
                up to 45 degrees from upright are found, most up to 75, and others now and then,
                often taken for upright.
            networks: to use instead of files.

        Raises:
            CheckpointError: face_landmarker.task is missing, or a file is another one.
        """
        device = device or compute_device()
        self._nets = networks or MediapipeNetworks.from_folder(model_dir, device)
        self.rotations = rotations
        self._turns = [math.pi / 2 * k for k in (1, 2, 3)] if rotations else []

    @property
    def note(self) -> str:
        """A sentence on a file that is not there and what is missed without; else empty."""
        return self._nets.missing

    def detections(self, image: Tensor, far: bool = False) -> Detected:
        """What one official detection graph finds in a (3, h, w) picture, in pixels.

        Args:
            far: full range (2304 anchors) instead of short range (896).

        Returns:
            Boxes (n, 4), scores (n,) and keypoints (n, 6, 2), best first.

        Raises:
            CheckpointError: the file of the full range is not there.
        """
        if far and self.note:
            raise CheckpointError(f"The full range cannot be asked. {self.note}")
        height, width = image.shape[1:]
        found = self._search(image, whole(height, width), FULL if far else SHORT)
        return found.boxes, found.scores, found.points

    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first, 68 landmarks each (see the class).

        Boxes are the detector's: squares from above the brows to the chin, upright for a face of
        any roll.
        """
        height, width = image.shape[1:]
        grids = list(self._nets.detectors)
        looks = [self._search(image, whole(height, width), grid, plain=True) for grid in grids]
        if self._turns:
            turned = whole(height, width, self._turns)
            looks += [self._search(image, turned, grid) for grid in grids]
            # Turned by the roll of its eyes a face scores clearly higher than when it is taken for
            # one upside down.
            looks.append(self._search(image, _set_upright(_together(looks)), SHORT, bonus=_BONUS))
        # The last is the full range, if it is there.
        looks.append(self._search(image, tiles(height, width), grids[-1]))
        faces = self._confirm(image, _together(looks))
        return sorted(faces, key=lambda face: (-face.score, *face.center))

    def landmarks(self, crops: Tensor) -> Tensor:
        """See `DenseLandmarker`: the mesh looks where the template has a face, then where it is."""
        size = check_crops(crops)
        x, y, side = (share * size for share in _IN_TEMPLATE)
        place = view(torch.tensor([[x, y]]), torch.tensor([[side, side]]), torch.zeros(1))
        first, _ = self._nets.mesh(crops, place.expand(len(crops), 2, 3))
        mesh, _ = self._nets.mesh(crops, _around(first))
        return mesh_to_68(mesh).float().to(crops.device)

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Gaussians around `landmarks`, all of one width: the mesh gives points."""
        return gaussian_heatmaps(self.landmarks(crops), crops.shape[-1])

    def _search(
        self,
        image: Tensor,
        views: Tensor,
        grid: DetectionGrid,
        *,
        plain: bool = False,
        bonus: float = 0.0,
    ) -> _Found:
        bonus += _BONUS if grid is SHORT else 0.0
        parts = [_nothing()]
        found = self._nets.detect(grid, image, views)
        for to_picture, (boxes, scores, points) in zip(views, found, strict=True):
            low, high = boxes.double().chunk(2, 1)
            half = (high - low) / 2 * to_picture[:, 0].norm()
            middle = transform(to_picture, (low + high) / 2)
            box = torch.cat([middle - half, middle + half], 1).float()
            at = transform(to_picture, points.double()).float()
            certain = torch.full(scores.shape, plain)
            parts.append(_Found(box, scores, at, scores + bonus, certain))
        return _together(parts)

    def _confirm(self, image: Tensor, found: _Found) -> list[Face]:
        """The proposals that are faces, each once."""
        sure, meshes, denied = [_nothing()], [], [_nothing()]
        left = found
        while len(left.scores):
            tried = one_of_each(left.boxes, left.order, nested=True)
            chosen = left[tried]
            mesh, present = self._meshes(image, chosen)
            sure.append(chosen[present])
            meshes += mesh[present]
            denied.append(chosen[~present])
            # What a proposal kept back that was none itself gets its turn.
            others = torch.ones(len(left.scores), dtype=torch.bool)
            others[tried] = False
            others &= ~same_face(left.boxes, chosen.boxes[present], nested=True).any(1)
            left = left[others]
        faces = _together(sure)
        # The more views there are, the more is taken for a face somewhere.
        kept = faces.plain.clone()
        kept[~kept] = self._seen_again(image, faces[~kept])
        faces = faces[kept]
        meshes = [mesh for mesh, keep in zip(meshes, kept, strict=True) if keep]
        doubted = _together(denied)
        doubted = doubted[doubted.plain]
        doubted = doubted[~same_face(doubted.boxes, faces.boxes).any(1)]
        doubted = doubted[self._certain(image, doubted)]
        doubted = doubted[one_of_each(doubted.boxes, doubted.order)]
        return [*_with_mesh(faces, meshes), *map(_by_keypoints, *list(vars(doubted).values())[:3])]

    def _certain(self, image: Tensor, found: _Found) -> Tensor:
        """Which proposals of the whole picture are faces whatever the mesh says, (n,) bool."""
        # Those of one range overlap less: a second one is the other range's.
        twice = alike(found.boxes, found.boxes).sum(1) > 1
        again = self._seen_again(image, found, _CERTAIN_AGAIN)
        return (found.scores >= _CERTAIN) | twice | again

    def _seen_again(self, image: Tensor, found: _Found, least: float = 0.0) -> Tensor:
        """Where the short range sees a face, too, with its eyes level and near by, (n,) bool."""
        closer = self._search(image, _set_upright(found), SHORT)
        return (alike(found.boxes, closer.boxes) & (closer.scores >= least)).any(1)

    def _meshes(self, image: Tensor, found: _Found) -> tuple[Tensor, Tensor]:
        """The mesh of each proposal, (n, 478, 2), and whether it is a face, (n,) bool."""
        low, high = found.boxes.double().chunk(2, 1)
        middle, size, roll = (low + high) / 2, high - low, _roll(found.points)
        mesh, sure = self._nets.mesh(image[None], view(middle, size * _ENLARGED, roll))
        self._look_again(image, mesh, sure, sure < _PRESENT, view(middle, size * _CLOSER, roll))
        off = (_roll(mesh[:, _OUTER_CORNERS]) - roll + math.pi) % math.tau - math.pi
        rolled = (sure >= _PRESENT) & (off.abs() > _MUCH)
        self._look_again(image, mesh, sure, rolled, _around(mesh))
        return mesh, sure >= _PRESENT

    def _look_again(
        self, image: Tensor, mesh: Tensor, sure: Tensor, which: Tensor, views: Tensor
    ) -> None:
        """Put in place of the meshes `which` what other views show, where that is a face."""
        again = torch.nonzero(which)[:, 0]
        better, certain = self._nets.mesh(image[None], views[again])
        seen = certain >= _PRESENT
        mesh[again[seen]], sure[again[seen]] = better[seen], certain[seen]


def _nothing() -> _Found:
    none = torch.zeros(0)
    return _Found(torch.zeros(0, 4), none, torch.zeros(0, KEYPOINTS, 2), none, none.bool())


def _together(parts: list[_Found]) -> _Found:
    return _Found(*(torch.cat(t) for t in zip(*(vars(p).values() for p in parts), strict=True)))


def _roll(points: Tensor) -> Tensor:
    """Of the line from the first to the second point, (n, k, 2) -> (n,) in radians, clockwise."""
    x, y = (points[:, 1] - points[:, 0]).double().T
    return torch.atan2(y, x)


def _around(mesh: Tensor) -> Tensor:
    """Views of faces whose mesh is known, as the official graph follows a face: upright squares."""
    roll = _roll(mesh[:, _OUTER_CORNERS])
    c, s = roll.cos(), roll.sin()
    upright = torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)
    points = mesh @ upright.mT
    low, high = points.amin(1), points.amax(1)
    middle = ((low + high)[:, None] / 2 @ upright)[:, 0]
    side = (high - low).amax(1, keepdim=True) * _ENLARGED
    return view(middle, side.expand(-1, 2), roll)


def _set_upright(found: _Found) -> Tensor:
    """Views about the proposals, turned so that their eyes are level."""
    low, high = found.boxes.double().chunk(2, 1)
    side = (high - low).amax(1, keepdim=True) * _SECOND_LOOK
    return view((low + high) / 2, side.expand(-1, 2), _roll(found.points))


def _with_mesh(found: _Found, meshes: list[Tensor]) -> list[Face]:
    """Faces of proposals and their meshes; two that the mesh moved onto one face are one."""
    if not meshes:
        return []
    mesh = torch.stack(meshes).float()
    spans = torch.cat([mesh.amin(1), mesh.amax(1)], 1)
    kept = one_of_each(spans, found.order, nested=True)
    alone = torch.isin(kept, one_of_each(spans, found.order))
    kept = kept[alone | (found.scores[kept] >= _NESTED_SCORE)]
    rows = (found.boxes[kept].tolist(), found.scores[kept].tolist(), mesh_to_5(mesh)[kept])
    rolls = _roll(mesh[kept][:, _OUTER_CORNERS]).tolist()
    return [
        Face(tuple(box), score, points5=five, landmarks=points, angle=roll)
        for box, score, five, points, roll in zip(*rows, mesh_to_68(mesh)[kept], rolls, strict=True)
    ]


def _by_keypoints(box: Tensor, score: Tensor, points: Tensor) -> Face:
    """A face whose mesh was not found; the mouth's corners are as far apart as the template's."""
    eye, other_eye, nose, mouth = points[:4]
    to_corner = (other_eye - eye) * (_MOUTH / 2)
    five = torch.stack([eye, other_eye, nose, mouth - to_corner, mouth + to_corner])
    angle = float(_roll(points[None]))
    return Face(tuple(box.tolist()), float(score), points5=five, angle=angle)
