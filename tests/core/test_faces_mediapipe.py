"""The analyzer mediapipe: over stand-ins that know the truth, and against official answers."""

import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import dense_landmarker, load_analyzer
from facewright.core.faces.detection_grid import FULL, SHORT
from facewright.core.faces.mediapipe import MediapipeAnalyzer
from facewright.core.faces.mediapipe_networks import MediapipeNetworks
from facewright.core.faces.mesh import IBUG_OF_MESH, mesh_to_5, mesh_to_68
from facewright.core.faces.views import sample, view
from facewright.core.files.known import MEDIAPIPE
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.warp import transform
from PIL import Image

from .mediapipe_world import PATTERN, Truth, world
from .tflite_files import Writer


def mesh_of(face):
    return face.at(PATTERN)[None].float()


def check_found(face, truth, tolerance=0.01):
    """A `Face` against what the world says, in shares of the face."""
    allowed = tolerance * truth.size
    torch.testing.assert_close(face.landmarks, mesh_to_68(mesh_of(truth))[0], atol=allowed, rtol=0)
    torch.testing.assert_close(face.points5, mesh_to_5(mesh_of(truth))[0], atol=allowed, rtol=0)
    assert abs((face.angle - truth.roll + math.pi) % math.tau - math.pi) < 0.02
    assert face.center == pytest.approx((truth.x, truth.y), abs=2 * allowed)
    assert face.size == pytest.approx(truth.size, rel=0.03)


# --- the search


@pytest.mark.parametrize("full", [True, False])
def test_both_ranges_find_one_face_once(full):
    truth = Truth(260, 180, 120, 0.2)
    analyzer, image = world([truth], 400, 500, full=full)
    (face,) = analyzer.detect(image)
    check_found(face, truth)
    assert face.score == pytest.approx(0.95 - 0.2 / 5, abs=0.01)
    for far in (False, True)[: 1 + full]:
        boxes, scores, points = analyzer.detections(image, far=far)
        assert boxes.shape == (1, 4) and scores.shape == (1,) and points.shape == (1, 6, 2)
    assert analyzer.note == ("" if full else "It is missing.")
    if not full:
        with pytest.raises(CheckpointError, match=r"The full range .* It is missing"):
            analyzer.detections(image, far=True)


def test_each_range_finds_what_the_other_misses():
    faces = [Truth(80, 80, 60, ranges=(FULL,)), Truth(300, 200, 110, ranges=(SHORT,))]
    analyzer, image = world(faces, 400, 500)
    found = sorted(analyzer.detect(image), key=lambda face: face.size)
    assert len(found) == 2
    for face, truth in zip(found, faces, strict=True):
        check_found(face, truth)


def test_small_faces_of_large_pictures_are_found_in_tiles():
    faces = [Truth(300 + 700 * i, 250 + 400 * i, 110, 0.1 * i) for i in range(4)]
    # One across the borders of tiles, one too large for any, which lies in several.
    faces += [Truth(2000, 700, 130), Truth(600, 1300, 900)]
    analyzer, image = world(faces, 2000, 3000)
    found = analyzer.detect(image)
    assert len(found) == len(faces)
    for truth in faces:
        face = min(found, key=lambda face: math.dist(face.center, (truth.x, truth.y)))
        check_found(face, truth)


def test_what_shows_in_a_tile_alone_counts_where_the_short_range_sees_it_from_near_by():
    faces = [Truth(700, 650, 110), Truth(1500, 1250, 110, ranges=(FULL,))]
    analyzer, image = world(faces, 2000, 3000)
    (face,) = analyzer.detect(image)
    check_found(face, faces[0])


def turned(analyzer_options, angles):
    found = []
    for degrees in angles:
        truth = Truth(250, 250, 180, math.radians(degrees))
        analyzer, image = world([truth], 500, 500, **analyzer_options)
        faces = analyzer.detect(image)
        assert len(faces) <= 1
        ok = bool(faces) and torch.allclose(faces[0].points5, mesh_to_5(mesh_of(truth))[0], atol=4)
        found.append(ok)
    return found


def test_rotations_find_a_face_at_every_angle():
    assert all(turned({"rotations": True}, range(0, 360, 55)))


@pytest.mark.parametrize("name", ["mediapipe", "auto"])
def test_rotations_are_an_option_of_loading(name, tmp_path, monkeypatch):
    (tmp_path / "face_landmarker.task").write_bytes(b"")
    stand_ins = world([], 8, 8)[0]._nets
    monkeypatch.setattr(MediapipeNetworks, "from_folder", lambda *_: stand_ins)
    views = []
    nothing = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 6, 2)

    def detect(grid, image, looks):
        views.append(len(looks))
        return [nothing] * len(looks)

    monkeypatch.setattr(stand_ins, "detect", detect)
    for rotations in (False, True):
        load_analyzer(name, tmp_path, rotations=rotations).detect(torch.zeros(3, 8, 8))
        assert sum(views) == (8 if rotations else 2)  # of each range
        views.clear()


def test_small_faces_that_score_less_than_upside_down_are_set_upright():
    truth = Truth(250, 250, 100, math.radians(100), shy=True)
    analyzer, image = world([truth], 500, 500, rotations=True)
    (face,) = analyzer.detect(image)
    check_found(face, truth)


def test_the_mesh_is_shown_upright_faces_and_looks_again_where_they_are_not():
    for truth in (Truth(250, 250, 180, 0.6), Truth(250, 250, 180, 0.2, mistake=0.4)):
        analyzer, image = world([truth], 500, 500)
        (face,) = analyzer.detect(image)
        check_found(face, truth)


def test_where_the_mesh_sees_no_face_it_looks_from_nearer_by():
    truth, farther = Truth(250, 250, 180, near=0.75), Truth(250, 250, 180, near=0.85)
    analyzer, image = world([truth], 500, 500)
    (face,) = analyzer.detect(image)
    check_found(face, truth)
    analyzer, image = world([farther], 500, 500)
    assert [face.landmarks for face in analyzer.detect(image)] == [None]  # certain, and denied


def test_two_proposals_that_the_mesh_moves_onto_one_face_are_one():
    truth = Truth(200, 200, 100)
    analyzer, image = world([truth, Truth(290, 200, 100, score=0.75, moved=truth)], 400, 500)
    (face,) = analyzer.detect(image)
    check_found(face, truth)


def test_without_rotations_the_picture_is_looked_at_once():
    analyzer, image = world([Truth(250, 250, 180)], 500, 500)
    analyzer.detect(image)
    assert [net.seen for net in analyzer.stand_ins] == [1, 1, 1]  # each network, one view


def test_a_turned_face_is_cut_out_upright():
    truth = Truth(250, 250, 180, math.radians(200))
    analyzer, image = world([truth], 500, 500, rotations=True)
    faces = analyzer.detect(image)
    crops = align_faces(image[None], [faces], 256)
    eyes = transform(crops.matrix[0], truth.at(PATTERN[[33, 263]]))
    assert eyes[1, 0] > eyes[0, 0] + 50 and abs(eyes[1, 1] - eyes[0, 1]) < 40


def test_what_the_mesh_denies_counts_only_where_a_detector_is_certain():
    sure = Truth(120, 200, 120, present=False, score=0.9, ranges=(SHORT,))
    unsure = Truth(380, 200, 120, present=False, score=0.65, ranges=(SHORT,))
    analyzer, image = world([sure, unsure], 400, 500)
    (face,) = analyzer.detect(image)
    assert face.landmarks is None and face.center == pytest.approx((120, 200), abs=1)
    eyes = sure.at(torch.tensor([[-0.4, -0.2], [0.4, -0.2]], dtype=torch.float64)).float()
    torch.testing.assert_close(face.points5[:2], eyes, atol=1, rtol=0)
    mouth = face.points5[3:].double().mean(0)
    assert mouth.tolist() == pytest.approx([120, 200 + 0.45 * 60], abs=1)
    assert float(face.points5[4, 0] - face.points5[3, 0]) == pytest.approx(0.89 * 48, abs=1)
    assert len(align_faces(image[None], [[face]], 64)) == 1


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        (False, {"score": 0.65, "ranges": (SHORT,)}),
        (False, {"score": 0.65, "ranges": (FULL,)}),
        (True, {"score": 0.65}),  # both ranges see it
        (True, {"score": 0.72, "ranges": (SHORT,)}),  # and so does the closer look
    ],
)
def test_what_the_mesh_denies_counts_where_another_look_sees_it(counts, options):
    truth = Truth(250, 200, 120, present=False, **options)
    analyzer, image = world([truth], 400, 500)
    faces = analyzer.detect(image)
    assert len(faces) == counts
    for face in faces:
        assert face.landmarks is None and face.center == pytest.approx((250, 200), abs=1)


@pytest.mark.parametrize("scores", [(0.9, 0.7), (0.7, 0.9), (0.62, 0.9), (0.9, 0.62)])
def test_a_face_before_a_larger_one_is_another_face(scores):
    # A child before a parent, a portrait on a shirt: wholly inside the other's box.
    faces = [Truth(250, 220, 300, score=scores[0]), Truth(330, 310, 110, score=scores[1])]
    analyzer, image = world(faces, 450, 500)
    found = sorted(analyzer.detect(image), key=lambda face: -face.size)
    faces = [face for face in faces if face.score >= 0.65]  # doubtful ones about a face are none
    assert len(found) == len(faces)
    for face, truth in zip(found, faces, strict=True):
        check_found(face, truth)


def test_what_the_mesh_denies_never_counts_turned():
    truth = Truth(250, 250, 180, 1.6, present=False, ranges=(FULL,))
    analyzer, image = world([truth], 500, 500, rotations=True)
    assert analyzer.detect(image) == []


def test_a_denied_proposal_hides_no_face_behind_it():
    # The short range takes something about the face for one, with a higher score.
    faces = [
        Truth(230, 200, 100, score=0.7, ranges=(FULL,)),
        Truth(275, 200, 130, score=0.78, ranges=(SHORT,), present=False),
    ]
    analyzer, image = world(faces, 400, 500)
    (face,) = analyzer.detect(image)
    check_found(face, faces[0])


def test_half_precision_and_empty_pictures():
    analyzer, image = world([Truth(5000, 5000, 10)], 400, 500)
    assert analyzer.detect(image.half()) == []
    assert analyzer.detect(image[:, :1, :1]) == []


# --- landmarks of crops


def test_landmarks_of_crops():
    truth = Truth(131, 160, 150, 0.1)
    analyzer, image = world([truth], 256, 256)
    found = dense_landmarker(analyzer).landmarks(image[None].repeat(3, 1, 1, 1))
    assert found.shape == (3, 68, 2)
    torch.testing.assert_close(found[2:], mesh_to_68(mesh_of(truth)), atol=1.0, rtol=0)
    maps = analyzer.heatmaps(image[None])
    assert maps.shape == (1, 68, 64, 64) and 0.8 < maps.amax() <= 1
    assert analyzer.landmarks(image[None][:0]).shape == (0, 68, 2)
    with pytest.raises(FacewrightError, match="square"):
        analyzer.landmarks(image[None, :, :100])


# --- files


def test_missing_files_are_named_with_their_source(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_analyzer("mediapipe", tmp_path)
    told = str(caught.value)
    assert all(word in told for word in ("face_landmarker.task", "models/detection", str(tmp_path)))
    assert "storage.googleapis.com/mediapipe-models" in told and "Apache-2.0" in told


def test_other_archives_and_networks_are_refused(tmp_path):
    import zipfile

    path = tmp_path / "detection" / "face_landmarker.task"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hand_detector.tflite", b"")
    with pytest.raises(CheckpointError, match=r"holds no face_detector\.tflite"):
        load_analyzer("mediapipe", tmp_path)
    file = Writer()
    small = file.bytes(file.add("RELU", [file.input(1, 4, 4, 2)], 1, 4, 4, 2))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("face_detector.tflite", "face_landmarks_detector.tflite"):
            archive.writestr(name, small)
    with pytest.raises(CheckpointError, match=r"takes .*4, 4, 2.* gives .*that of MediaPipe's"):
        load_analyzer("mediapipe", tmp_path)


# --- official answers


def folder(variable, what):
    if not os.environ.get(variable):
        pytest.skip(f"name the folder of {what} in {variable}")
    return Path(os.environ[variable])


@pytest.fixture(scope="module")
def official():
    return MediapipeAnalyzer(folder("FACEWRIGHT_MEDIAPIPE", "MediaPipe's files and answers"))


def test_the_hash_that_is_known_is_that_of_the_file():
    place = folder("FACEWRIGHT_MEDIAPIPE", "MediaPipe's files and answers")
    data = (place / MEDIAPIPE.names[0]).read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith(MEDIAPIPE.sha256) and MEDIAPIPE.sha256


@pytest.fixture(scope="module")
def photographs():
    """Name -> picture and what the official graphs answer."""
    place = folder("FACEWRIGHT_PHOTOS", "photographs")
    answers = folder("FACEWRIGHT_MEDIAPIPE", "MediaPipe's files and answers") / "photos.json"
    found = {}
    for name, answer in json.loads(answers.read_text(encoding="utf-8")).items():
        pixels = np.array(Image.open(place / name).convert("RGB"))
        found[name] = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, answer
    return found


def shared(a, b):
    from facewright.core.faces.merging import overlaps

    return overlaps(a, b)[0]


@pytest.mark.parametrize("name", ["short", "full"])
def test_detections_are_those_of_the_official_graphs(official, photographs, name):
    for image, answer in photographs.values():
        boxes, scores, points = official.detections(image, far=name == "full")
        assert len(boxes) == len(answer[name])
        for wanted in answer[name]:
            overlap, k = shared(boxes, torch.tensor([wanted["box"]]))[:, 0].max(0)
            assert overlap > 0.98
            side = float(boxes[k, 2] - boxes[k, 0])
            apart = (points[k] - torch.tensor(wanted["keypoints"])).norm(dim=1).max()
            assert apart < 0.01 * side and abs(float(scores[k]) - wanted["score"]) < 0.005


def test_every_photograph_has_its_faces_once_with_the_official_mesh(official, photographs):
    for image, answer in photographs.values():
        faces = official.detect(image)
        # The mesh denies no face that either range found; 0.6 in one photograph is none.
        boxes = torch.tensor([f["box"] for f in answer["short"] + answer["full"]])
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert len(faces) == max(len(answer["short"]), len(answer["full"]))
        for i, face in enumerate(faces):
            assert face.landmarks is not None
            assert ((middles - torch.tensor(face.center)).norm(dim=1) < 0.2 * face.size).any()
            others = torch.tensor([f.center for f in faces[:i]]).view(-1, 2)
            assert ((others - torch.tensor(face.center)).norm(dim=1) > 0.5 * face.size).all()
        for mesh in torch.tensor(answer["mesh"]):
            wanted, five = mesh[list(IBUG_OF_MESH)], mesh_to_5(mesh[None])[0]
            face = min(faces, key=lambda f: float((f.landmarks - wanted).norm()))
            apart = (face.landmarks - wanted).norm(dim=1) / face.size
            assert apart.mean() < 0.003 and apart.max() < 0.01
            eyes = (face.points5[:2] - five[:2]).norm(dim=1) / (five[1] - five[0]).norm()
            assert eyes.max() < 0.01


def test_landmarks_of_crops_are_those_of_the_official_mesh(official, photographs):
    chosen = [pair for name, pair in photographs.items() if name.startswith("crop_0")]
    crops = torch.stack([image for image, _ in chosen])
    wanted = mesh_to_68(torch.tensor([answer["mesh"][0] for _, answer in chosen]))
    apart = (official.landmarks(crops) - wanted).norm(dim=2)
    assert apart.mean(1).max() < 0.012 * 512


@pytest.mark.slow
def test_a_photographed_face_is_set_upright_at_any_roll(official, photographs):
    searching = MediapipeAnalyzer(os.environ["FACEWRIGHT_MEDIAPIPE"], rotations=True)
    for name in ("04.jpg", "crop_0729.png", "crop_covered_00169.png"):
        image, _ = photographs[name]
        _, height, width = image.shape
        (known,) = official.detect(image)
        side = math.ceil(math.hypot(height, width))
        found = 0
        for degrees in range(0, 360, 15):
            angle = torch.tensor([-math.radians(degrees)], dtype=torch.float64)
            extent = torch.tensor([[width, height]], dtype=torch.float64)
            shown = view(extent / 2, torch.full_like(extent, side), angle)
            picture = sample(image[None], shown, side, border="zeros")[0].permute(2, 0, 1)
            linear = torch.linalg.inv(shown[0, :, :2]) * side
            eyes = (known.points5[:2].double() - shown[0, :, 2]) @ linear.T
            faces = [f for f in searching.detect(picture)
                     if ((f.points5[:2] - eyes).norm(dim=1) < 0.1 * known.size).all()]  # fmt: skip
            found += len(faces) == 1
        assert found >= 22
