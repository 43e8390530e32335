"""A face detection model of ComfyUI as an analyzer: told faces, foreign answers, aligned crops."""

import logging
import math
import re

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import dense_landmarker, detect_faces
from facewright.core.faces.from_model import ModelAnalyzer
from facewright.core.faces.mesh import IBUG_OF_MESH
from facewright.core.geometry.templates import template
from facewright.core.people.album import make_person
from facewright.core.people.guard import guard_faces
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano


def face(x, y, side, score=0.9, **more):
    """A face of the template's five points, with x, y in the middle of a crop of `side`."""
    points = np.random.default_rng(0).random((478, 2)) * 0.4 + 0.3
    five = (template(512).numpy() + 0.5) / 512
    sixty = points[list(IBUG_OF_MESH)]
    sixty[36:42], sixty[42:48] = five[0], five[1]
    sixty[30], sixty[48], sixty[54] = five[2:]
    points[list(IBUG_OF_MESH)] = sixty
    mesh = ((points - 0.5) * side + [x, y]).astype(np.float32)
    return {"landmarks_xy": mesh, "score": score, "presence": 2.0} | more


class Told:
    """Answers as told: a function of the picture and what it was asked."""

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    def detect_batch(self, images, num_faces, score_thresh, variant):
        for image in images:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            assert image.flags["C_CONTIGUOUS"]
        self.calls.append((len(images), num_faces, score_thresh, variant))
        return [self.answer(image, score_thresh, variant) for image in images]


class Older:
    """A model of another interface."""

    def detect_batch(self, images):
        raise AssertionError("is not asked")


IMAGE = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))


def test_what_both_detectors_find_counts_once():
    told = {
        "short": [face(20, 20, 30, 0.7), face(60, 40, 24, 0.6)],
        "full": [face(21, 20, 31, 0.8), face(20, 45, 16, 0.55)],
    }
    model = Told(lambda image, least, variant: told[variant])
    found = ModelAnalyzer(model, min_confidence=0.4).detect(IMAGE)
    assert [f.score for f in found] == [0.8, 0.6, 0.55]
    assert model.calls == [(1, 0, 0.4, "short"), (1, 0, 0.4, "full")]
    mesh = torch.from_numpy(told["full"][0]["landmarks_xy"])
    assert torch.equal(found[0].landmarks, mesh[list(IBUG_OF_MESH)])
    assert found[0].box == (*mesh.amin(0).tolist(), *mesh.amax(0).tolist())
    for variant, scores in (("short", [0.7, 0.6]), ("full", [0.8, 0.55])):
        one = ModelAnalyzer(model, variant=variant)
        assert [f.score for f in one.detect(IMAGE)] == scores


def test_the_model_sees_bytes_and_padding_is_taken_off_again():
    seen = []
    model = Told(lambda image, *_: seen.append(image) or [face(50, 40, 30)])
    detect_faces(ModelAnalyzer(model, variant="short"), IMAGE)
    assert np.array_equal(seen[0], (IMAGE * 255).round().byte().permute(1, 2, 0).numpy())
    (found,) = detect_faces(ModelAnalyzer(model, variant="short"), IMAGE, padding=0.25)
    assert seen[1].shape == (100, 120, 3)
    torch.testing.assert_close(
        found.points5.double(), (template(512) + 0.5) / 512 * 30 - 15 + torch.tensor([30.0, 20.0]),
        atol=1e-4, rtol=0,
    )  # fmt: skip


def goal(size):
    """The five points of a face in a crop of `size`, as `landmarks` gives them."""
    return template(size).float()


def five(points):
    return torch.stack([points[36:42].mean(0), points[42:48].mean(0), *points[[30, 48, 54]]])


def test_landmarks_of_crops_are_looked_for_with_room_and_then_with_doubt():
    """Crop by crop: seen at once, with room only, by the other detector only, doubtful, never."""
    size = 64
    crops = torch.arange(5).view(5, 1, 1, 1).expand(5, 3, size, size).float() * 10 / 255

    def answer(image, least, variant):
        which, side = image[0, 0, 0] // 10, image.shape[0]
        roomy = side > size
        sees = {
            0: not roomy,
            1: roomy and variant == "short",
            2: not roomy and variant == "full",
            3: roomy and least < 0.5,
        }.get(which, False)
        middle = side / 2 - 0.5
        there = face(middle, middle, size, 0.05)
        others = [face(middle + 2, middle, size, 0.1), face(middle + 25, middle, 20)]
        return [others[0], there, others[1]] if sees else []

    model = Told(answer)
    found = ModelAnalyzer(model).landmarks(crops)
    assert found.shape == (5, 68, 2) and found.dtype == torch.float32
    for points in found[:4]:
        torch.testing.assert_close(five(points), goal(size), atol=1e-3, rtol=0)
    assert found[4].isnan().all()
    asked = [(count, variant) for count, _, _, variant in model.calls]
    assert asked == [(5, "short"), (4, "full"), (3, "short"), (2, "full"),
                     (2, "short"), (2, "full"), (2, "short"), (1, "full")]  # fmt: skip


def test_crops_without_a_face_are_unknown_and_named(caplog):
    model = Told(lambda image, *_: [face(32, 32, 64)] if image[0, 0, 0] else [])
    crops = torch.zeros(40, 3, 64, 64)
    crops[3:] = 0.5
    analyzer = ModelAnalyzer(model, variant="short")
    with caplog.at_level(logging.WARNING):
        heatmaps = analyzer.heatmaps(crops)
    assert "no face in crops 0, 1, 2 of 40 faces" in caplog.text
    assert heatmaps.shape == (40, 68, 64, 64) and heatmaps.isfinite().all()
    assert not heatmaps[:3].any() and (heatmaps[3:].amax((2, 3)) > 0.5).all()
    assert max(count for count, *_ in model.calls) == 16
    assert dense_landmarker(analyzer) is analyzer
    assert analyzer.landmarks(crops[:0]).shape == (0, 68, 2)


def test_a_mesh_that_lies_on_no_face_gives_no_landmarks():
    model = Told(lambda image, *_: [face(32, 32, 64, presence=-0.5)])
    assert ModelAnalyzer(model).landmarks(torch.zeros(1, 3, 64, 64)).isnan().all()
    (found,) = ModelAnalyzer(model).detect(IMAGE)
    assert found.landmarks is None and found.points5 is None
    doubtful = Told(lambda image, *_: [face(32, 32, 64, 0.79, presence=-0.5)])
    assert ModelAnalyzer(doubtful).detect(IMAGE) == []


def test_unknown_landmarks_keep_a_photo_out_of_an_album_and_a_receipt_from_claiming():
    def answer(image, *_):
        middle = (np.array(image.shape[1::-1]) - 1) / 2
        return [face(*middle, 64)] if image.mean() > 60 or image.shape[0] > 100 else []

    analyzer, recogniser = ModelAnalyzer(Told(answer)), nano_recogniser(nano.load_identity("loss"))
    photos = [torch.full((3, 128, 128), 0.5), torch.full((3, 128, 128), 0.1)]
    photos = [(p + 0.01 * torch.rand(3, 128, 128)).clamp(0, 1) for p in photos]
    given = {"sources": ["a", "b"], "analyzer": analyzer, "recogniser": recogniser, "crop_size": 64}
    person, report = make_person(photos, name="Ada", **given)
    assert len(person) == 1 and person.sources == ("a",)
    assert "b: left out, its landmarks are unknown" in report
    with pytest.raises(FacewrightError, match=r"No photo of Ada.*landmarks are unknown"):
        make_person(photos[1:], name="Ada", **given | {"sources": ["b"]})
    crops = torch.stack([photo[:, :64, :64] for photo in photos])
    guarded = guard_faces(crops, crops, recogniser=recogniser, landmarker=analyzer)
    first, second = guarded.report.splitlines()
    assert "A-LD eyes 0.00" in first and "A-LD eyes unknown" in second
    assert '"px": null' in guarded.json


WRONG = {
    "nothing": (None, "a NoneType"),
    "a dict": ({}, "a dict"),
    "too many": ([[], []], "a list of 2"),
    "faces without a list": ([{}], "a list of 1"),
    "numbers": (np.zeros((1, 4)), r"numbers of shape \(1, 4\)"),
    "a word": ([["face"]], "1 face, and none can be used: the first is a str and no face"),
    "no landmarks": ([[{"score": 1.0}]], "the first has no landmarks"),
    "106 points": ([[{"landmarks_xy": np.zeros((106, 2))}]], r"has landmarks \(106, 2\)"),
    "NaN": ([[face(math.nan, 0, 5)]], "that are NaN"),
    "no score": ([[face(9, 9, 5, None)]], "the first has no score"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_foreign_answers_are_refused(name):
    answer, words = WRONG[name]

    class Strange:
        def detect_batch(self, *_, **__):
            return answer

    with pytest.raises(FacewrightError) as error:
        ModelAnalyzer(Strange()).detect(IMAGE)
    text = str(error.value)
    assert re.search(words, text) and text.endswith(".") and len(text) < 300


def test_one_bad_face_costs_only_itself(caplog):
    model = Told(lambda *_: [face(math.nan, 0, 5), face(40, 30, 30)])
    with caplog.at_level(logging.WARNING):
        assert len(ModelAnalyzer(model).detect(IMAGE)) == 1
    assert "1 face that cannot be used: the first has landmarks that are NaN" in caplog.text


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (None, {}, "got a NoneType"),
        (object(), {}, "got a object.*Load Face Detection Model"),
        (
            Older(),
            {},
            "a Older whose detect_batch does not take num_faces, score_thresh and variant",
        ),
        (Told(None), {"variant": "far"}, "No detector 'far'; known: both, short, full"),
        (Told(None), {"min_confidence": math.nan}, "lies in"),
    ],
)
def test_what_is_no_model_is_refused(model, given, words):
    with pytest.raises(FacewrightError, match=words):
        ModelAnalyzer(model, **given)
