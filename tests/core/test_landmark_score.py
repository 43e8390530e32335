"""Landmark scores of pictures: pairing, pictures without faces, numbers and drawing."""

import json
import math

import pytest
import torch
from facewright.core.drawing.landmarks import COLOURS, draw_scores
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry.landmarks import (
    affine_landmark_distance,
    landmark_distance,
    region_points,
)
from facewright.core.scores.landmarks import LABELS, score_landmarks


def shape(seed, x=100.0, y=80.0, size=60.0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(68, 2, generator=g) * size + torch.tensor([x, y])


def face(points):
    (x0, y0), (x1, y1) = points.amin(0).tolist(), points.amax(0).tolist()
    return Face((x0, y0, x1, y1), 0.9, landmarks=points)


class Told:
    """Finds the faces it was told of, by the red of a picture's middle."""

    name, points = "told", 68

    def __init__(self, *faces):
        self.faces = faces
        self.looks = 0

    def detect(self, image):
        self.looks += 1
        h, w = image.shape[-2:]
        code = round(float(image[0, h // 2, w // 2]) * 255)
        return [face(points) for points in self.faces[code]]

    def landmarks(self, crops):
        return torch.zeros(len(crops), 68, 2)


def pictures(*codes, size=(200, 240)):
    return torch.stack([torch.full((3, *size), code / 255) for code in codes])


def test_values_are_those_of_the_landmarks():
    a, b = shape(1), shape(2)
    scores = score_landmarks(pictures(0), pictures(1), Told([a], [b]))
    eyes, mouth = region_points(68, "eyes"), region_points(68, "mouth")
    expected = {
        "ald_eyes": affine_landmark_distance(a[None, eyes], b[None, eyes]),
        "ald_mouth": affine_landmark_distance(a[None, mouth], b[None, mouth]),
        "ald_all": affine_landmark_distance(a[None], b[None]),
        "l2": landmark_distance(a[None], b[None]),
    }
    assert list(expected) == list(LABELS)
    for name, value in expected.items():
        assert scores.mean(name) == pytest.approx(float(value), rel=1e-12)
    (one,) = scores.faces
    residual = (one.mapped - one.gt).square().sum().sqrt()
    assert float(residual) == pytest.approx(scores.mean("ald_all"))


def test_an_affine_copy_scores_nothing():
    a = shape(1)
    b = a @ torch.tensor([[1.1, 0.2], [-0.1, 0.9]]) + torch.tensor([5.0, 3.0])
    scores = score_landmarks(pictures(0), pictures(1), Told([a], [b]))
    assert scores.mean("ald_all") < 1e-4 < scores.mean("l2")


def test_faces_are_paired_by_place():
    left, right = shape(1, 20, 40), shape(2, 150, 40)
    moved = [right + 3, left - 2]  # in another order
    scores = score_landmarks(pictures(0), pictures(1), Told(moved, [left, right]))
    assert [f.gt[0].tolist() for f in scores.faces] == [left[0].tolist(), right[0].tolist()]
    assert scores.mean("ald_all") < 1e-4
    assert scores.mean("l2") == pytest.approx((8**0.5 + 18**0.5) / 2, rel=1e-5)
    assert "mean of 2 faces" in scores.report()


def test_another_photograph_is_compared_without_its_place():
    a = shape(1)
    b = 2 * a + 30  # another size of picture
    scores = score_landmarks(
        pictures(0), pictures(1, size=(400, 480)), Told([a], [b, shape(3, 0, 0, 9)])
    )
    (one,) = scores.faces
    assert not one.same_frame and math.isnan(scores.mean("l2"))
    assert scores.mean("ald_all") < 1e-4
    torch.testing.assert_close(one.gt, a.double(), atol=1e-4, rtol=0)
    assert "framed differently" in scores.report() and "L2-LD nan" not in scores.report()
    # Of one size, but elsewhere.
    scores = score_landmarks(pictures(0), pictures(1), Told([a], [a - 90]))
    assert not scores.faces[0].same_frame and scores.mean("ald_eyes") < 1e-4


def test_pictures_without_faces_stop_nothing():
    a, b = shape(1), shape(2)
    far = [shape(3, 0, 0, 20), shape(4, 210, 170, 20)]
    analyzer = Told([], [a], [b], far)
    scores = score_landmarks(pictures(0, 1, 0, 3, 1), pictures(2, 0, 0, 2, 2), analyzer)
    assert [bool(why) for why in scores.notes] == [True, True, True, True, False]
    for i, words in enumerate(["in restored", "in gt", "in either", "where one of gt is"]):
        assert words in scores.notes[i] and words in scores.report().splitlines()[i]
    assert scores.mean("ald_all") == scores.values["ald_all"][4] > 0
    content = json.loads(scores.to_json(), parse_constant=pytest.fail)
    assert [len(image["faces"]) for image in content["images"]] == [0, 0, 0, 0, 1]
    assert [image["missing"] for image in content["images"]] == [*scores.notes[:4], None]
    assert content["mean"]["ald_all"] == pytest.approx(scores.mean("ald_all"))
    nothing = score_landmarks(pictures(0), pictures(0), analyzer)
    assert math.isnan(nothing.mean("l2"))
    assert json.loads(nothing.to_json())["mean"]["l2"] is None
    broken = pictures(1)
    broken[0, 0, 0, 0] = math.nan
    assert score_landmarks(broken, pictures(2), analyzer).notes[0]


def test_faces_that_fill_the_picture_are_looked_for_with_room():
    class Shy(Told):
        def detect(self, image):
            room = (image.shape[-1] - 240) // 2
            return [f.shifted(room, room) for f in super().detect(image)] if room else []

    a = shape(1)
    scores = score_landmarks(pictures(0), pictures(0), Shy([a]))
    torch.testing.assert_close(scores.faces[0].restored, a.double(), atol=1e-4, rtol=0)


def test_one_original_serves_all_and_is_read_once():
    analyzer = Told([shape(1)], [shape(2)])
    told = []
    scores = score_landmarks(pictures(0, 0, 0), pictures(1), analyzer, on_image=told.append)
    assert len(scores.faces) == 3 and analyzer.looks == 4 and told == [1, 1, 1]
    with pytest.raises(FacewrightError, match=r"3 pictures and `gt` 2"):
        score_landmarks(pictures(0, 0, 0), pictures(1, 1), analyzer)
    none = score_landmarks(pictures(0)[:0], pictures(1), analyzer)
    assert none.faces == [] and draw_scores(pictures(0)[:0], none).shape[0] == 0


def test_an_analyzer_without_dense_landmarks_is_refused():
    class Boxes:
        name = "boxes"

        def detect(self, image):
            return []

    with pytest.raises(FacewrightError, match="'boxes' gives no dense landmarks"):
        score_landmarks(pictures(0), pictures(0), Boxes())


def test_the_drawing_shows_three_colours_where_the_points_are():
    a = shape(1, 200, 200, 250)
    b = a + torch.tensor([40.0, 0.0])
    b[0] += torch.tensor([0.0, 60.0])  # no affine map explains this one
    grey = pictures(0, size=(640, 720)) + 0.2 / 255
    scores = score_landmarks(grey, pictures(1, size=(640, 720)), Told([a], [b]))
    (out,) = draw_scores(grey, scores)
    assert out.shape[-1] == 720 and out.shape[-2] > 640
    for points, (name, colour) in zip((a, b, scores.faces[0].mapped), COLOURS.items(), strict=True):
        x, y = points[0].round().int().tolist()
        near = out[:, y - 6 : y + 7, x - 6 : x + 7].flatten(1).T * 255
        assert ((near - torch.tensor(colour)).abs().amax(1) < 12).any(), name
    untouched = (out[:, :640] - grey[0]).abs().amax(0) == 0
    assert untouched.float().mean() > 0.9
    assert (
        ((out[:, 640:] * 255 - torch.tensor(COLOURS["gt"])[:, None, None]).abs() < 2).all(0).any()
    )


@pytest.mark.parametrize("size", [(64, 64), (40, 200), (512, 512)])
def test_small_pictures_are_enlarged(size):
    a = shape(1, 5, 5, 30)
    small = pictures(0, size=size)
    out = draw_scores(small, score_landmarks(small, small, Told([a])))
    factor = -(-512 // min(size))
    assert out.shape[-1] == factor * size[1] and out.shape[-2] > factor * size[0]
    assert out.isfinite().all()


def test_points_beyond_the_border_are_no_problem():
    a = shape(1, -50, -50, 80)
    out = draw_scores(
        pictures(0, size=(512, 512)),
        score_landmarks(
            pictures(0, size=(512, 512)), pictures(0, size=(512, 512)), Told([a - 2000])
        ),
    )
    assert out.isfinite().all()
