"""The cascade backend on real photographs."""

import os

import pytest
import torch
from facewright.core.faces import detect_faces, load_analyzer
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.paste import paste_faces

data = pytest.importorskip("skimage.data")

GROUP = ((118, 331), (1176, 337), (515, 346), (787, 416), (311, 211), (942, 138))
"""Middles of the six faces in insightface's bundled t1.jpg."""


def group_photo():
    path = os.environ.get("FACEWRIGHT_GROUP_PHOTO")
    if not path:
        try:
            import insightface
        except ImportError:
            pytest.skip(
                "the group photo comes with insightface; install it, or name its t1.jpg in "
                "FACEWRIGHT_GROUP_PHOTO"
            )
        path = os.path.join(os.path.dirname(insightface.__file__), "data", "images", "t1.jpg")
    import numpy as np
    from PIL import Image

    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("skimage")


@pytest.fixture(scope="module")
def astronaut():
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255


def test_the_astronaut_has_one_face(analyzer, astronaut):
    (face,) = analyzer.detect(astronaut)
    assert abs(face.center[0] - 226) < 12 and abs(face.center[1] - 119) < 12
    assert 80 < face.size < 130
    assert abs(face.angle) < 0.2
    crops = align_faces(astronaut[None], [[face]], 512)
    assert "aligned by box" in crops.report[0]


def test_a_tilted_head_is_found_with_its_roll(analyzer, astronaut):
    from facewright.core.geometry.warp import warp

    turn = torch.tensor([[0.94, -0.342, 90], [0.342, 0.94, -20]], dtype=torch.float64)  # 20 degrees
    picture = warp(astronaut[:, :300, :420], turn, (0, 0, 420, 420))
    face = max(analyzer.detect(picture), key=lambda face: face.score)
    middle = turn[:, :2] @ torch.tensor([226.0, 119.0]).double() + turn[:, 2]
    assert (torch.tensor(face.center) - middle).norm() < 15
    assert face.angle == pytest.approx(0.35, abs=0.2)


def test_padding_finds_a_face_that_fills_the_picture(analyzer, astronaut):
    tight = astronaut[:, 66:172, 173:279]
    found = detect_faces(analyzer, tight, padding=0.4)
    assert len(found) == 1
    assert abs(found[0].center[0] - 53) < 12 and abs(found[0].center[1] - 53) < 12


def test_large_pictures_are_searched_small(analyzer, astronaut):
    big = torch.nn.functional.interpolate(astronaut[None], scale_factor=6, mode="bilinear")[0]
    (face,) = analyzer.detect(big)
    assert abs(face.center[0] - 226 * 6) < 60 and abs(face.center[1] - 119 * 6) < 60


@pytest.mark.parametrize("size", [(1, 1), (23, 300), (24, 24), (300, 5)])
def test_pictures_without_a_face(analyzer, size):
    assert analyzer.detect(torch.rand(3, *size)) == []


def test_grey_surface(analyzer):
    assert analyzer.detect(torch.full((3, 200, 200), 0.5)) == []


def test_the_group_has_six_faces_and_survives_the_round_trip(analyzer):
    picture = group_photo()
    faces = analyzer.detect(picture)
    assert len(faces) == 6
    for x, y in GROUP:
        near = [f for f in faces if abs(f.center[0] - x) < 30 and abs(f.center[1] - y) < 30]
        assert len(near) == 1
    crops = align_faces(picture[None], [faces], 512)
    out, mask = paste_faces(picture[None], crops, crops.pixels)
    inside = mask[0] > 0
    assert torch.equal(out[0][:, ~inside], picture[:, ~inside])
    assert (out[0] - picture).abs()[:, inside].mean() < 2 / 255
