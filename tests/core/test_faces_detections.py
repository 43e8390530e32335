"""Faces of ComfyUI's landmarks, of any detector's boxes, and of masks."""

import math
import re

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.faces.detections import faces_from_detections
from facewright.core.faces.mesh import IBUG_OF_MESH
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.templates import template
from facewright.core.geometry.warp import transform

HEIGHT, WIDTH = 90, 120


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def mesh(center=(60.0, 45.0), side=40.0, roll=0.0):
    """(478, 2): a face whose five points lie exactly as the template has them, then rolled."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(478, 2, generator=generator, dtype=torch.float64) - 0.5
    five = (template(512) - 255.5) / 512
    spread = torch.tensor([[-1, 0], [-0.5, -1], [0.5, -1], [1, 0], [0.5, 1], [-0.5, 1]]) * 0.03
    sixty = points[list(IBUG_OF_MESH)]
    sixty[36:42], sixty[42:48] = five[0] + spread, five[1] + spread
    sixty[30], sixty[48], sixty[54] = five[2], five[3], five[4]
    points[list(IBUG_OF_MESH)] = sixty
    c, s = math.cos(roll), math.sin(roll)
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return (side * points @ turn.T + torch.tensor(center, dtype=torch.float64)).float().numpy()


def landmarks(*frames, size=(HEIGHT, WIDTH)):
    """FACE_LANDMARKS of meshes or dicts per picture."""

    def face(of):
        return of if isinstance(of, dict) else {"landmarks_xy": of, "score": 0.9, "presence": 3.0}

    return {
        "frames": [list(map(face, frame)) for frame in frames],
        "image_size": size,
        "connection_sets": {},
    }


def box(x=40, y=20, width=30, height=36, **more):
    return {"x": x, "y": y, "width": width, "height": height} | more


def found(pictures, **given):
    return faces_from_detections(pictures, 64, **given)


@pytest.mark.parametrize("roll", [0.0, 0.7, -2.5])
def test_landmarks_set_a_face_upright(pictures, roll):
    faces = found(pictures[:1], face_landmarks=landmarks([mesh(roll=roll)]))
    points = torch.from_numpy(mesh(roll=roll)).double()[list(IBUG_OF_MESH)]
    goal = (template(64) + 0.5) / 64
    eyes, goal_eyes = points[36:42].mean(0), goal[0] * 64 - 0.5
    for point, there in (
        (eyes, goal_eyes),
        (points[30], template(64)[2]),
        (points[54], template(64)[4]),
    ):
        torch.testing.assert_close(
            transform(faces.matrix[0], point[None])[0], there, atol=1e-3, rtol=0
        )
    assert torch.equal(
        faces.landmarks[0], points.float()
    ) and faces.scores.tolist() == pytest.approx([0.9])
    assert faces.report == ["picture 0: 1 face, aligned by five points"]


def test_a_box_and_a_mask_of_the_same_pixels_give_the_same_crop(pictures):
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[0, 20:56, 40:70] = 1
    by_box = found(pictures[:1], bounding_boxes=[[box(score=0.5)]])
    by_mask = found(pictures[:1], masks=mask)
    # Pixels 40 to 69: the face reaches half a pixel beyond their centres.
    told = align_faces(pictures[:1], [[Face((39.5, 19.5, 69.5, 55.5), 0.5)]], 64)
    for faces in (by_box, by_mask):
        assert torch.equal(faces.matrix, told.matrix) and torch.equal(faces.pixels, told.pixels)
        assert faces.report == ["picture 0: 1 face, aligned by box"]
    assert (by_box.scores.item(), by_mask.scores.item()) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("boxes", "where"),
    [
        (box(), [0, 1]),
        ([box()], [0, 1]),
        ([[box()]], [0, 1]),
        ([[box()], []], [0]),
        ([[], (box(), box(x=2))], [1, 1]),
        ([], []),
        ([[], []], []),
        ((box(),), [0, 1]),
        ([{k: np.float32(v) for k, v in box().items()}], [0, 1]),
        ([{k: torch.tensor(v) for k, v in box().items()}], [0, 1]),
    ],
)
def test_boxes_in_every_form(pictures, boxes, where):
    assert found(pictures, bounding_boxes=boxes).image_index.tolist() == where


def test_labels_choose_boxes_and_others_are_named(pictures):
    boxes = [box(label="Face"), box(x=2, label="person"), box(x=80), box(y=60, label="head")]
    faces = found(pictures[:1], bounding_boxes=boxes, label=" face, HEAD ,")
    assert len(faces) == 2
    assert faces.report[0].endswith("left out: box 1 is labelled 'person', box 2 has no label")
    assert len(found(pictures[:1], bounding_boxes=boxes)) == 4


def test_a_face_that_several_show_counts_once(pictures):
    mask = torch.zeros(2, HEIGHT, WIDTH)
    mask[0, 30:60, 45:75] = mask[0, 5:30, 5:25] = 1
    given = {
        "face_landmarks": landmarks([mesh()], []),
        "bounding_boxes": [[box(41, 26, 38, 38)], [box(), box(42, 21)]],
        "masks": mask,
    }
    faces = found(pictures, **given)
    assert faces.image_index.tolist() == [0, 0, 1]
    again = "is a face that is there already"
    first = f"box 0 {again}, mask part 1 {again}"
    assert faces.report == [
        f"picture 0: 2 faces, 1 of them aligned by box; left out: {first}",
        f"picture 1: 1 face, aligned by box; left out: box 1 {again}",
    ]
    # The landmarks' own place, not the box's.
    assert torch.equal(
        faces.matrix[1], found(pictures[:1], face_landmarks=landmarks([mesh()])).matrix[0]
    )


def test_masks_of_one_picture_are_a_face_each(pictures):
    masks = torch.zeros(4, HEIGHT, WIDTH)
    masks[0, 10:40, 10:40] = 1
    masks[0, 20:22] = 0  # hair over it
    masks[0, 80:82, 100:102] = 1  # a speck
    masks[1, 50:80, 60:90] = 0.6
    masks[3, 3:6, 3:60] = 1
    faces = found(pictures[:1], masks=masks)
    assert faces.boxes.tolist() == [[9.5, 9.5, 39.5, 39.5], [59.5, 49.5, 89.5, 79.5]]
    assert "left out: mask 2 is empty, mask 3 is 57 x 3 pixels, no face" in faces.report[0]


def test_parts_of_a_mask_per_picture_are_faces(pictures):
    masks = torch.zeros(2, HEIGHT, WIDTH)
    masks[0, 10:40, 10:40] = masks[0, 10:40, 60:90] = masks[1, 30:60, 10:40] = 1
    masks[1, 60:70, 40:50] = 1  # touches by a corner
    faces = found(pictures, masks=masks)
    assert faces.image_index.tolist() == [0, 0, 1]
    assert faces.boxes[2].tolist() == [9.5, 29.5, 49.5, 69.5]
    one = found(pictures, masks=masks[0])
    assert one.image_index.tolist() == [0, 0, 1, 1]
    assert len(found(pictures[:1], masks=masks[:1])) == 2
    assert len(found(pictures, masks=masks[:0])) == 0


def test_a_picture_without_a_face_says_why(pictures):
    boxes = [[box(label="cat"), box(x=-90)], []]
    faces = found(pictures, bounding_boxes=boxes, label="face")
    first, second = faces.report
    unchanged = "no face in the detections; it passes through unchanged."
    assert first == f"picture 0: {unchanged} Left out: box 0 is labelled 'cat', box 1 has no label."
    assert second.startswith(f"picture 1: {unchanged} Try a lower threshold of the detector")
    few = found(pictures[:1], bounding_boxes=[box(label="face")], min_size=500)
    assert few.none[0].why == "1 face found, smaller than 500 px (32 px)"


def test_faces_are_chosen_as_by_detect_faces(pictures):
    boxes = [box(80, 40, 20, 24, score=0.4), box(5, 5, 40, 44, score=0.9), box(50, 2, 12, 14)]

    def centers(**chosen):
        return [
            int(x) for x in found(pictures[:1], bounding_boxes=boxes, **chosen).boxes[:, 0] + 0.5
        ]

    assert centers() == [5, 50, 80]
    assert centers(order="size", pick="0, 1") == [5, 80]
    assert centers(min_size=15, min_score=0.5) == [5]
    assert centers(order="score", max_count=1) == [50]


GOOD = box(75, 45, 30, 36)
UNUSABLE = {
    "a word": ("face", "is a str and no box"),
    "nothing": (None, "is a NoneType and no box"),
    "a list": ([1, 2, 3, 4], "is a list of 4 and no box"),
    "no width": ({"x": 1, "y": 2, "height": 3}, "has no width"),
    "words": (box(x="12"), "has '12' for its x"),
    "NaN": (box(y=math.nan), "has nan for its y"),
    "infinite": (box(width=math.inf), "has inf for its width"),
    "a list of numbers": (box(width=[1, 2]), "has '[1, 2]' for its width"),
    "truth": (box(width=True), "has 'True' for its width"),
    "negative": (box(width=-20), "is -20 x 36 pixels"),
    "flat": (box(height=0), "is 30 x 0 pixels"),
    "a thousandth": (box(width=1e-3, height=1e-3), "lies where no face can be"),
    "far": (box(x=1e9), "lies where no face can be"),
    "huge": (box(-5e6, -5e6, 1e7, 1e7), "lies where no face can be"),
    "beside": (box(x=-60), "lies outside the picture"),
    "below": (box(y=100), "lies outside the picture"),
    "of NaN score": (box(score=math.nan), "has nan for its score"),
    "of a score in words": (box(score="sure"), "has 'sure' for its score"),
    "a long text": (box(score="x" * 10**6), "xxx...xxx"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_box_that_cannot_be_used_costs_only_itself(pictures, name):
    bad, reason = UNUSABLE[name]
    faces = found(pictures[:1], bounding_boxes=[[bad, GOOD] if name != "nothing" else [None, GOOD]])
    assert faces.boxes.tolist() == [[74.5, 44.5, 104.5, 80.5]]
    assert "left out: box 0 " in faces.report[0] and reason in faces.report[0]
    assert len(faces.report[0]) < 300


NO_FACE = {
    "a word": ("face", "is a str and no face"),
    "empty": ({}, "has no landmarks"),
    "words": ({"landmarks_xy": [["a", "b"]]}, "has landmarks that are no numbers"),
    "ragged": ({"landmarks_xy": [[1, 2], [3]]}, "has landmarks that are no numbers"),
    "106 points": ({"landmarks_xy": mesh()[:106]}, "has landmarks (106, 2) and not (478, 2)"),
    "depth": ({"landmarks_xy": np.ones((478, 3))}, "has landmarks (478, 3) and not (478, 2)"),
    "a number": ({"landmarks_xy": 3.0}, "has landmarks () and not (478, 2)"),
    "complex": ({"landmarks_xy": mesh() * 1j}, "has landmarks"),
    "NaN": ({"landmarks_xy": mesh() * np.nan}, "has landmarks that are NaN or infinite"),
    "in one place": ({"landmarks_xy": np.ones((478, 2))}, "lies where no face can be"),
    "far": ({"landmarks_xy": mesh() * 1e6}, "lies where no face can be"),
    "beside": ({"landmarks_xy": mesh(center=(-30, 40))}, "lies outside the picture"),
    "of no score": ({"landmarks_xy": mesh(), "score": None}, "has no score"),
    "of NaN presence": ({"landmarks_xy": mesh(), "presence": np.float32("nan")}, "has nan for its"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NO_FACE)
def test_landmarks_that_cannot_be_used_cost_only_themselves(pictures, name):
    bad, reason = NO_FACE[name]
    value = landmarks([mesh()])
    value["frames"][0].insert(0, bad)
    faces = found(pictures[:1], face_landmarks=value)
    assert len(faces) == 1 and "left out: face 0 " in faces.report[0] and reason in faces.report[0]


def test_a_mesh_without_a_face_under_it_only_says_where_to_look(pictures):
    doubtful = {"landmarks_xy": torch.from_numpy(mesh()), "score": 0.6, "presence": -0.1}
    faces = found(pictures[:1], face_landmarks=landmarks([doubtful]))
    assert faces.report == ["picture 0: 1 face, aligned by box"] and faces.landmarks is None
    low, high = mesh().min(0), mesh().max(0)
    np.testing.assert_allclose(faces.boxes[0], [*low, *high], rtol=1e-6)
    without_irises = landmarks([mesh()[:468]])
    assert found(pictures[:1], face_landmarks=without_irises).landmarks.shape == (1, 68, 2)


SHOWN = torch.zeros(2, HEIGHT, WIDTH)
WRONG = {
    "nothing": ({}, "connect `face_landmarks`, `bounding_boxes` or `masks`"),
    "a word for landmarks": ({"face_landmarks": "x"}, "for each picture.*, got a str"),
    "no frames": ({"face_landmarks": {"faces": []}}, "for each picture.*, got a dict"),
    "frames of no list": ({"face_landmarks": {"frames": [1, 2]}}, "for each picture"),
    "fewer frames": ({"face_landmarks": landmarks([])}, "of 1 picture, and `image` holds 2.*very"),
    "another size": (
        {"face_landmarks": landmarks([], [], size=(45, 60))}, "60 x 45 pixels.* 120 x 90.*very",
    ),
    "no size": ({"face_landmarks": landmarks([], [], size="big")}, "of no pixels"),
    "a word for boxes": ({"bounding_boxes": "x"}, "x, y, width and height.*got a str"),
    "a list of words": ({"bounding_boxes": ["x"]}, "got a list of 1"),
    "a tensor": ({"bounding_boxes": torch.zeros(3, 4)}, r"numbers of shape \(3, 4\)"),
    "lists and boxes": ({"bounding_boxes": [[box()], box()]}, "mixes 1 list .* with single boxes"),
    "three lists": ({"bounding_boxes": [[], [], []]}, "of 3 pictures, and `image` holds 2"),
    "a word for masks": ({"masks": "x"}, "should be a MASK.*got a str"),
    "an image": ({"masks": torch.zeros(1, 90, 120, 3)}, "should be a MASK"),
    "other size": ({"masks": SHOWN[:, :45, :60]}, "is 60 x 45 pixels, and `image` 120 x 90"),
    "three masks": ({"masks": SHOWN[[0, 0, 0]]}, "3 masks for 2 pictures"),
    "NaN": ({"masks": SHOWN * math.nan}, "`masks` holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_detection_of_these_pictures_is_refused(pictures, name):
    given, words = WRONG[name]
    with pytest.raises(FacewrightError) as error:
        found(pictures, **given)
    text = str(error.value)
    assert re.search(words, text) and text.endswith(".") and len(text) < 300


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (torch.zeros(1, 64, 64), "Load Image gives this black one where a picture has no mask"),
        (torch.ones(1, 64, 64), "bring them to the size of the picture first"),
        (torch.zeros(1, 50, 50), "bring them to the size of the picture first"),
    ],
)
def test_a_mask_of_another_size_names_what_to_do(mask, says):
    with pytest.raises(FacewrightError, match=says):
        faces_from_detections(torch.zeros(1, 3, 90, 120), 64, masks=mask)
