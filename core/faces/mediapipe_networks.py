"""The networks of MediaPipe's face landmarker, read from Google's own files and run by torch."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..devices import without_autocast
from ..errors import CheckpointError
from ..files.known import MEDIAPIPE, MEDIAPIPE_FULL_RANGE
from ..files.search import find_file, model_roots
from ..tflite import TfliteGraph, load_tflite, read_task, read_tflite
from .detection_grid import FULL, SHORT, DetectionGrid, decode
from .mesh import POINTS
from .views import sample

Detected = tuple[Tensor, Tensor, Tensor]
"""Boxes (n, 4), scores (n,) and keypoints (n, 6, 2), in shares of a view's sides, best first."""
_MESH_SIDE = 256
_AT_ONCE = 16
"""Views per pass of a network: a mesh holds about 20 MB for each."""


class MediapipeNetworks:
    """Two detectors and a mesh; `detectors` lacks the full range where its file is not there."""

    def __init__(
        self,
        detectors: dict[DetectionGrid, nn.Module],
        mesh: nn.Module,
        device: torch.device,
        missing: str = "",
    ) -> None:
        """
        Args:
            detectors: (n, side, side, 3) in [-1, 1] -> what `decode` takes.
            mesh: (n, 256, 256, 3) in [0, 1] -> n * 1434 coordinates, n logits, perhaps more.
            missing: a sentence about a file that could be there and is not.
        """
        self.detectors = {grid: _ready(net, device) for grid, net in detectors.items()}
        self._mesh = _ready(mesh, device)
        self._device, self.missing = device, missing

    @classmethod
    def from_folder(cls, model_dir: str | Path | None, device: torch.device) -> "MediapipeNetworks":
        """Read the files below `model_dir`, or below the models folders of this run.

        Raises:
            CheckpointError: face_landmarker.task is missing, or a file is another or damaged.
        """
        roots = model_roots(model_dir)
        searched = ", ".join(map(str, roots)) or "the models folders"
        task = find_file(roots, MEDIAPIPE.folders, MEDIAPIPE.names)
        if task is None:
            raise CheckpointError(
                f"The face analyzer 'mediapipe' found no {MEDIAPIPE.names[0]} in {searched}. "
                + MEDIAPIPE.where
            )
        members = read_task(task)

        def read(name: str) -> TfliteGraph:
            if name not in members:
                raise CheckpointError(
                    f"{task} holds no {name}, so it is no face landmarker of MediaPipe. "
                    + MEDIAPIPE.where
                )
            return load_tflite(members[name], source=f"{name} in {task}")

        detectors = {SHORT: read("face_detector.tflite")}
        mesh = read("face_landmarks_detector.tflite")
        far, missing = find_file(roots, MEDIAPIPE.folders, MEDIAPIPE_FULL_RANGE.names), ""
        if far is not None:
            detectors[FULL] = load_tflite(read_tflite(far), source=str(far))
        else:
            missing = (
                f"Without {MEDIAPIPE_FULL_RANGE.names[0]} (not in {searched}) small and distant "
                f"faces may be missed. {MEDIAPIPE_FULL_RANGE.where}"
            )
        for grid, net in detectors.items():
            told = str(task if grid is SHORT else far)
            _check(net, grid.side, [(grid.count, 16), (grid.count, 1)], told)
        _check(mesh, _MESH_SIDE, [(POINTS * 3,), (1,)], str(task))
        return cls({**detectors}, mesh, device, missing)

    def detect(self, grid: DetectionGrid, image: Tensor, views: Tensor) -> list[Detected]:
        """What one detector finds in each view of a picture (3, h, w) in [0, 1]."""
        found: list[Detected] = []
        for part in views.split(_AT_ONCE) if len(views) else ():
            pixels = sample(image[None], part, grid.side, border="zeros") * 2 - 1
            found += decode(grid, *self._run(self.detectors[grid], pixels)[:2])
        return found

    def mesh(self, images: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """The faces that fill two thirds of each view.

        Args:
            images: (1, 3, h, w) or (n, 3, h, w), one per view.
            views: (n, 2, 3).

        Returns:
            Points (n, 478, 2) in pixels of the picture, float64, and how certain there is a face
            at all (n,), in [0, 1].
        """
        meshes = [torch.zeros(0, POINTS, 2, dtype=torch.float64)]
        sure = [torch.zeros(0)]
        one = len(images) == 1
        for i in range(0, len(views), _AT_ONCE):
            part = views[i : i + _AT_ONCE]
            pixels = sample(images if one else images[i : i + _AT_ONCE], part, _MESH_SIDE)
            points, logits = self._run(self._mesh, pixels)[:2]
            shares = points.cpu().double().view(-1, POINTS, 3)[..., :2] / _MESH_SIDE
            meshes.append(shares @ part[..., :2].mT + part[..., None, :, 2])
            sure.append(logits.float().cpu().flatten().sigmoid())
        return torch.cat(meshes), torch.cat(sure)

    @torch.no_grad()
    def _run(self, net: Callable[[Tensor], list[Tensor]], pixels: Tensor) -> list[Tensor]:
        with without_autocast(self._device):
            return net(pixels.to(self._device))


def _ready(net: nn.Module, device: torch.device) -> nn.Module:
    return net.eval().requires_grad_(False).to(device)


def _check(net: TfliteGraph, side: int, rows: list[tuple[int, ...]], told: str) -> None:
    """Another network under a known name is refused before it computes anything."""
    takes = [tuple(info.shape[1:]) for info in net.inputs]
    gives = [tuple(n for n in info.shape[1:] if n != 1) or (1,) for info in net.outputs]
    wanted = [tuple(n for n in row if n != 1) or (1,) for row in rows]
    if takes != [(side, side, 3)] or gives[: len(rows)] != wanted:
        raise CheckpointError(
            f"{told} holds a network that takes {takes} and gives {gives}; that of MediaPipe's "
            f"face landmarker takes {[(side, side, 3)]} and gives {wanted}. Check that it is the "
            "right file."
        )
