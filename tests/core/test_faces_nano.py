"""The shipped nano detector on rendered groups it has not seen."""

import pytest
import torch
from facewright.core.degradation import Degradation
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.geometry.align import align_faces
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


@pytest.fixture(scope="module")
def scene():
    return group_scene(777_002, 3, width=420, height=240)


@pytest.mark.parametrize(("damage", "limit"), [(None, 0.05), ("moderate", 0.07), ("severe", 0.14)])
def test_every_person_is_found_with_landmarks(analyzer, scene, damage, limit):
    picture = scene.pixels
    if damage:
        picture = Degradation.preset(damage)(picture[None], 5)[0][0]
    faces = sorted(analyzer.detect(picture), key=lambda face: face.center[0])
    assert len(faces) == len(scene.landmarks)
    for face, truth in zip(faces, scene.landmarks, strict=True):
        eyes = (truth[45] - truth[36]).norm()
        assert (face.landmarks - truth).norm(dim=1).mean() / eyes < limit
        assert face.points5.shape == (5, 2) and 0.6 <= face.score <= 1


def test_crops_are_aligned_like_those_of_the_training(analyzer, scene):
    from facewright.core.geometry.landmarks import five_points
    from facewright.core.geometry.templates import template
    from facewright.core.geometry.warp import transform

    crops = align_faces(scene.pixels[None], [analyzer.detect(scene.pixels)], 128)
    assert "five points" in crops.report[0]
    assert crops.landmarks.shape == (3, 68, 2)
    truth = five_points(scene.landmarks).double()
    for matrix in crops.matrix:
        errors = (transform(matrix, truth) - template(128)).norm(dim=-1).mean(1)
        assert errors.min() < 6  # of 128 pixels; heads turn, the template does not


def test_an_empty_wall_has_no_face(analyzer):
    wall = torch.linspace(0.2, 0.7, 300).expand(3, 200, 300)
    assert analyzer.detect(wall) == []


def test_larger_and_smaller_copies_give_the_same_faces(analyzer, scene):
    faces = analyzer.detect(scene.pixels)
    big = torch.nn.functional.interpolate(scene.pixels[None], scale_factor=3, mode="bilinear")[0]
    again = analyzer.detect(big)
    assert len(again) == len(faces)
    for one, other in zip(
        sorted(faces, key=lambda f: f.center), sorted(again, key=lambda f: f.center), strict=True
    ):
        moved = (one.landmarks + 0.5) * 3 - 0.5
        assert (moved - other.landmarks).norm(dim=1).mean() < 0.05 * other.size


@pytest.mark.parametrize("size", [96, 128, 300, 512])
def test_landmarks_of_aligned_crops(analyzer, size):
    faces = photos([901, 902, 903], [1, 2, 3], size, jitter=1.0)
    got = analyzer.landmarks(faces.pixels)
    eyes = (faces.landmarks[:, 45] - faces.landmarks[:, 36]).norm(dim=1)
    errors = (got - faces.landmarks).norm(dim=2).mean(1) / eyes
    assert got.shape == (3, analyzer.points, 2)
    assert errors.max() < 0.06
    # The other people of a batch do not matter.
    assert (analyzer.landmarks(faces.pixels[1:2]) - got[1:2]).abs().max() < 1e-3 * size / 128


def test_landmarks_of_damaged_crops(analyzer):
    faces = photos([904, 905, 906, 907], [0, 1, 2, 3], 128, jitter=1.0)
    lq, _ = Degradation.preset("severe")(faces.pixels, 3)
    eyes = (faces.landmarks[:, 45] - faces.landmarks[:, 36]).norm(dim=1)
    errors = (analyzer.landmarks(lq) - faces.landmarks).norm(dim=2).mean(1) / eyes
    assert errors.mean() < 0.12


def test_heatmaps_peak_where_the_landmarks_are(analyzer):
    pixels = photos(908, [0, 1], 128).pixels
    maps, points = analyzer.heatmaps(pixels), analyzer.landmarks(pixels)
    assert maps.shape == (2, 68, 64, 64)
    peak = maps.flatten(2).argmax(2)
    cells = torch.stack([peak % 64, peak // 64], 2)
    assert ((2 * cells + 0.5) - points).abs().max() <= 1 + 1e-3


def test_no_crops_and_other_shapes(analyzer):
    assert analyzer.landmarks(torch.zeros(0, 3, 128, 128)).shape == (0, 68, 2)
    assert analyzer.heatmaps(torch.zeros(0, 3, 128, 128)).shape == (0, 68, 64, 64)
    with pytest.raises(FacewrightError, match="square"):
        analyzer.landmarks(torch.zeros(1, 3, 128, 96))
    with pytest.raises(FacewrightError, match="IMAGE"):
        analyzer.landmarks(torch.zeros(1, 128, 128, 3))
