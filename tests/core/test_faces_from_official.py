"""A model that answers with MediaPipe's own networks, on photographs.

Set FACEWRIGHT_MEDIAPIPE to the folder of the official files and FACEWRIGHT_PHOTOS to photographs.
"""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from facewright.core.faces.from_model import ModelAnalyzer
from facewright.core.faces.mediapipe import MediapipeAnalyzer
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.warp import centered_map, transform, warp
from facewright.core.images import read_picture

FOLDERS = [os.environ.get(f"FACEWRIGHT_{name}", "") for name in ("MEDIAPIPE", "PHOTOS")]
pytestmark = pytest.mark.skipif(
    not all(FOLDERS), reason="set FACEWRIGHT_MEDIAPIPE and FACEWRIGHT_PHOTOS to folders"
)


class Official:
    """MediaPipe's detectors and mesh as ComfyUI's model puts them together."""

    def __init__(self, analyzer):
        self.analyzer = analyzer

    def detect_batch(self, images, num_faces, score_thresh, variant):
        return [self._faces(image, num_faces, score_thresh, variant) for image in images]

    def _faces(self, pixels, most, least, variant):
        image = torch.from_numpy(pixels).movedim(-1, 0).float() / 255
        boxes, scores, points = self.analyzer.detections(image, far=variant == "full")
        kept = (scores >= least).nonzero()[:, 0][: most or None]
        faces = []
        for i in kept.tolist():
            found = type("Found", (), {"boxes": boxes[i : i + 1], "points": points[i : i + 1]})
            mesh, present = self.analyzer._meshes(image, found)
            faces.append({"landmarks_xy": mesh[0].numpy(), "score": float(scores[i]),
                          "presence": 1.0 if present[0] else -1.0})  # fmt: skip
        return faces


@pytest.fixture(scope="module")
def official():
    return MediapipeAnalyzer(FOLDERS[0], device=torch.device("cpu"))


def photographs():
    return sorted(p for p in Path(FOLDERS[1] or ".").glob("*.*g")) if all(FOLDERS) else []


@pytest.mark.parametrize("path", photographs(), ids=lambda p: p.stem)
def test_the_same_faces_as_by_our_own_analyzer(official, path):
    image = read_picture(path).pixels[:3]
    analyzer = ModelAnalyzer(Official(official))
    mine, own = (sorted(a.detect(image), key=lambda f: f.center) for a in (analyzer, official))
    assert len(mine) == len(own) > 0
    for face, other in zip(mine, own, strict=True):
        apart = (face.points5 - other.points5).norm(dim=1).max()
        assert apart < 0.08 * (other.points5[0] - other.points5[1]).norm()
    # Each crop is looked at again, and shows the same face.
    crops = align_faces([image], [mine], 512)
    seen = analyzer.landmarks(crops.pixels)
    there = transform(crops.matrix, crops.landmarks.double())
    eyes = 126  # pixels between the template's
    assert ((seen - there).norm(dim=2).mean(1) < 0.1 * eyes).all()


def test_a_face_of_any_roll_is_set_upright(official):
    image = read_picture(Path(FOLDERS[1]) / "crop_0143.png").pixels[:3]
    around = F.pad(image, (256,) * 4, value=0.5)
    analyzer = ModelAnalyzer(Official(official), rotations=True)
    upright = analyzer.detect(image)[0].points5.double() + 256
    for roll in torch.arange(8) * math.pi / 4 + math.pi / 12:
        matrix = centered_map(511.5, 511.5, -float(roll), 0.8, 640)
        (face,) = analyzer.detect(warp(around, matrix, (0, 0, 640, 640)))
        goal = transform(matrix, upright)
        apart = (face.points5 - goal).norm(dim=1).mean()
        assert apart < 0.12 * (goal[0] - goal[1]).norm()
