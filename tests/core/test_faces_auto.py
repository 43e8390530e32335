"""Which analyzer "auto" takes, what it says of that, and why a picture has no face to work on."""

import copy
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from facewright.core.drawing.faces import draw_faces
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import (
    ANALYZERS,
    Face,
    NoFace,
    choice_of,
    dense_landmarker,
    find_faces,
    load_analyzer,
    none_left,
)
from facewright.core.faces.auto import AutoAnalyzer, choose
from facewright.core.faces.mediapipe import MediapipeAnalyzer
from facewright.core.faces.needs import NEEDS, Needs, find_weights
from facewright.core.faces.selection import choose_faces
from facewright.core.geometry.align import align_faces
from facewright.core.methods import specs
from skimage import data

FILES = {
    "mediapipe": "detection/face_landmarker.task",
    "facexlib": "facedetection/detection_Resnet50_Final.pth",
    "insightface": "insightface/models/buffalo_l/det_10g.onnx",
}


class Boxes:
    """As skimage: no landmarks."""

    def __init__(self, name):
        self.name = name

    def detect(self, image):
        return [Face((0, 0, 9, 9), 1.0)]


class Points(Boxes):
    points = 68

    def landmarks(self, crops):
        return torch.zeros(len(crops), self.points, 2)

    heatmaps = landmarks


class Fan(Points):
    points = 98


class NoFan(Points):
    def landmarks(self, crops):
        raise CheckpointError("alignment_WFLW_4HG.pth is not there")


KINDS = {"mediapipe": Points, "facexlib": Fan, "insightface": Points, "skimage": Boxes}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """All packages are installed, all files are there."""
    monkeypatch.setattr(Needs, "packaged", property(lambda needs: True))
    for name in FILES.values():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def load(name):
    return KINDS[name](name)


def passed(analyzer):
    return [(p.name, p.broken) for p in analyzer.choice.passed]


def test_the_order_is_kept_as_files_go(models):
    assert tuple(NEEDS) == ("mediapipe", "facexlib", "insightface", "skimage")
    assert ANALYZERS[0] == "skimage" and ANALYZERS[-1] == "auto"
    order = []
    for name in NEEDS:
        analyzer = choose(load, models)
        order.append(analyzer.name)
        assert analyzer.choice.file == find_weights(name, models)
        assert [n for n, _ in passed(analyzer)] == order[:-1]
        if name in FILES:
            (models / FILES[name]).unlink()
    assert order == list(NEEDS)
    said, *warnings = choice_of(analyzer)
    assert "by skimage, because face_landmarker.task is not in" in said and not warnings
    assert str(models / "detection") in said and "fewer faces" in said


def test_the_best_is_named_with_its_file(models):
    file = f"{models.name}/detection/face_landmarker.task"
    assert choice_of(choose(load, models)) == [f"Faces are looked for by mediapipe ({file})."]
    assert choice_of(load("skimage")) == []


def test_a_package_that_is_missing_is_no_warning(models, monkeypatch):
    has = property(lambda needs: needs.package not in ("facexlib",))
    monkeypatch.setattr(Needs, "packaged", has)
    (models / FILES["mediapipe"]).unlink()
    analyzer = choose(load, models)
    assert analyzer.name == "insightface"
    assert "package facexlib is not installed" in analyzer.choice.passed[1].why
    assert len(choice_of(analyzer)) == 1


@pytest.mark.parametrize("error", [CheckpointError("cut off"), KeyError("layer")])
def test_a_broken_file_is_warned_of_and_the_next_is_taken(models, caplog, error):
    def breaks(name):
        if name == "mediapipe":
            raise error
        return load(name)

    with caplog.at_level(logging.WARNING):
        analyzer = choose(breaks, models)
    assert analyzer.name == "facexlib" and passed(analyzer) == [("mediapipe", True)]
    assert len(choice_of(analyzer)) == 2
    for text in (choice_of(analyzer)[1], caplog.messages[0]):
        assert "mediapipe was passed over, though its files are there" in text
        assert str(error).strip("'") in text


def test_where_landmarks_are_needed_one_that_gives_them_is_taken(models, monkeypatch):
    monkeypatch.setitem(KINDS, "facexlib", NoFan)
    (models / FILES["mediapipe"]).unlink()
    assert choose(load, models).name == "facexlib"
    dense = choose(load, models, check=dense_landmarker)
    assert dense.name == "insightface" and dense.points == 68
    assert passed(dense) == [("mediapipe", False), ("facexlib", False)]
    (models / FILES["insightface"]).unlink()
    with pytest.raises(CheckpointError) as error:
        choose(load, models, check=dense_landmarker)
    for words in ("face_landmarker.task", "alignment_WFLW_4HG.pth", "skimage: it gives no dense"):
        assert words in str(error.value)
    with pytest.raises(FacewrightError, match="by skimage, because"):
        (models / FILES["facexlib"]).unlink()
        dense_landmarker(choose(load, models))


def test_albums_decide_by_their_landmarks(models, monkeypatch):
    from facewright.core import faces

    own = faces.load_analyzer

    def some(name, *args, **needs):
        return own(name, *args, **needs) if name == "auto" else load(name)

    monkeypatch.setattr(faces, "load_analyzer", some)
    assert load_analyzer("auto", models).name == "mediapipe"
    assert own("auto", models, points=68).name == "mediapipe"
    assert own("auto", models, points=98).name == "facexlib"
    with pytest.raises(CheckpointError, match="gives 98 landmarks, and 5 are needed"):
        own("auto", models, points=5)


def test_the_chosen_one_does_the_work():
    auto = AutoAnalyzer(Fan("facexlib"), None)
    assert auto.detect(torch.zeros(3, 9, 9))[0].box == (0, 0, 9, 9)
    assert dense_landmarker(auto) is auto and auto.points == 98
    assert auto.heatmaps(torch.zeros(2, 3, 8, 8)).shape == (2, 98, 2)
    assert copy.copy(auto).name == "facexlib"
    with pytest.raises(AttributeError):
        auto.nothing  # noqa: B018


def test_methods_for_photographs_take_it():
    named = {spec.name: spec.analyzer for spec in specs().values()}
    assert set(named.values()) == {"auto", "nano"}
    assert all((analyzer == "nano") == name.startswith("nano") for name, analyzer in named.items())


# --- why no face is left

OF = "faces found"
FOUND = [Face((0, 0, 20, 20), 0.5), Face((40, 0, 100, 60), 0.7), Face((70, 0, 80, 10), 0.9)]


@pytest.mark.parametrize(
    ("faces", "options", "why", "advice"),
    [
        ([], {}, "no face found", ""),
        (FOUND, {"pick": "5"}, f"3 {OF}, none numbered 5 (numbers start at 0)", "pick"),
        (FOUND, {"min_size": 64}, f"3 {OF}, all smaller than 64 px (the largest 60 px)", "size"),
        (FOUND[:1], {"min_size": 64}, "1 face found, smaller than 64 px (20 px)", "min_size"),
        (FOUND, {"min_score": 0.95}, f"3 {OF}, all less sure than 0.95 (the surest 0.90)", "score"),
        (
            FOUND,
            {"min_size": 15, "pick": "2,3"},
            f"3 {OF}, 1 smaller than 15 px (10 px), none numbered 2 or 3 (numbers start at 0)",
            "min_size and other numbers",
        ),
    ],
)  # fmt: skip
def test_why_no_face_is_left(faces, options, why, advice):
    selected = choose_faces(faces, **options)
    assert selected.faces == [] and selected.none is not None
    assert selected.none.why == why and advice in selected.none.advice


def test_a_face_that_is_left_needs_no_reason():
    assert choose_faces(FOUND, pick="1", min_size=15).none is None


class Finds(Boxes):
    found = ()

    def detect(self, image):
        return list(self.found)


def test_rotations_are_advised_where_they_are_to_be_had_and_off():
    told = []
    for rotations in (None, True, False):
        blind = Finds("model")
        if rotations is not None:
            blind.rotations = rotations
        find_faces(blind, torch.zeros(3, 9, 9), on_none=told.append)
    assert ["rotations" in none.advice for none in told] == [False, False, True]
    assert MediapipeAnalyzer(networks=object()).rotations is False


def test_rotations_that_are_asked_of_another_analyzer_are_not_left_out_in_silence(caplog):
    load_analyzer("nano")
    assert not caplog.records
    load_analyzer("nano", rotations=True)
    assert "'nano' has no search over rotations" in caplog.text


@pytest.mark.parametrize(
    ("name", "padding", "tips"),
    [
        ("skimage", 0.0, ("skimage sees upright frontal faces only", "padding of 0.3")),
        ("mediapipe", 0.0, ("padding of 0.3", "another face detector")),
        ("mediapipe", 0.3, ("Try another face detector.",)),
        ("nano", 0.0, ("computer-drawn faces only",)),
    ],
)
def test_who_looked_and_what_to_try(name, padding, tips):
    told = []
    assert find_faces(Finds(name), torch.zeros(3, 9, 9), padding=padding, on_none=told.append) == []
    assert told[0].why == f"no face found by {name}"
    assert all(tip in told[0].advice for tip in tips)
    assert "padding" not in told[0].advice or padding < 0.25
    seeing = Finds(name)
    seeing.found = FOUND
    assert find_faces(seeing, torch.zeros(3, 99, 99), min_size=64, on_none=told.append) == []
    assert told[1].sentences == (
        f"3 faces found by {name}, all smaller than 64 px (the largest 60 px). Try a smaller "
        "min_size."
    )
    find_faces(seeing, torch.zeros(3, 99, 99), on_none=told.append)
    assert len(told) == 2


def test_a_summary_counts_what_is_the_same():
    none, small = (
        NoFace("no face found by x", "Try y."),
        NoFace("1 face found by x, small", "Try z."),
    )
    assert none_left([], 3) == ""
    assert none_left([none], 1) == "No face to work on: no face found by x. Try y."
    assert none_left([small, none, none], 4, "frame") == (
        "No face to work on in 3 of 4 frames: no face found by x (2 frames); 1 face found by x, "
        "small (1 frame). Try y. Try z."
    )


# --- and the picture says it


def test_the_preview_says_why_and_the_crops_do_not():
    images = torch.rand(2, 3, 96, 128)
    none = NoFace("no face found by skimage", "Try another face detector.")
    crops = align_faces(images, [[], [Face((30, 20, 80, 70), 1.0)]], 32, {0: none})
    assert crops.report[0] == (
        "picture 0: no face found by skimage; it passes through unchanged. Try another face "
        "detector."
    )
    out = draw_faces(images, crops)
    changed = (out[0] != images[0]).any(0)
    rows = changed.any(1).nonzero()[:, 0]
    assert changed.sum() > 0 and rows.min() > 96 // 2 and rows.max() == 95
    assert torch.equal(out[0, :, : rows.min()], images[0, :, : rows.min()])
    band = out[0, :, rows.min() :]
    assert band.amax() > 0.95 and band.mean() < 0.4, "light letters on a dark ground"
    crops.image_index = torch.tensor([0])  # filled in by smoothing: nothing is missing
    filled_in = draw_faces(images, crops)
    crops.none = {}
    assert torch.equal(filled_in, draw_faces(images, crops))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (40, 900), (900, 40), (64, 64)])
def test_the_band_fits_any_picture(size):
    images = torch.rand(1, 3, *size)
    none = NoFace("3 faces found by mediapipe, all smaller than 64 px", "Try a smaller min_size.")
    out = draw_faces(images, align_faces(images, [[]], 32, {0: none}))
    assert out.shape == images.shape and not torch.equal(out, images)


def test_on_the_official_files(tmp_path):
    """Read from the folder that FACEWRIGHT_MEDIAPIPE names, where there is one."""
    folder = os.environ.get("FACEWRIGHT_MEDIAPIPE")
    if not folder:
        pytest.skip("name the folder of MediaPipe's files and answers in FACEWRIGHT_MEDIAPIPE")
    models = tmp_path / "models"
    (models / "detection").mkdir(parents=True)
    task = models / "detection" / "face_landmarker.task"
    shutil.copy(Path(folder) / task.name, task)
    auto = load_analyzer("auto", models, torch.device("cpu"), dense=True, points=68)
    (said,) = choice_of(auto)
    assert "by mediapipe (models/detection/face_landmarker.task). Without face_detection" in said
    (face,) = auto.detect(torch.from_numpy(data.astronaut()).movedim(-1, 0) / 255)
    assert face.points5.shape == (5, 2) and face.landmarks.shape == (68, 2)
    task.write_bytes(task.read_bytes()[:-99])  # as an interrupted download leaves it
    said, warning = choice_of(load_analyzer("auto", models))
    assert "by skimage, because face_landmarker.task" in said
    assert warning.startswith("The face analyzer mediapipe was passed over")
