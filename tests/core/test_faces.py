"""Selection, padding, the nano nets' plumbing, and what optional analyzers say when incomplete."""

import importlib.machinery
import math
import sys
import types

import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import ANALYZERS, ORDERS, Face, detect_faces, load_analyzer, select_faces
from facewright.core.faces.nano import (
    FACE,
    NanoAnalyzer,
    NanoFaces,
    crop_map,
    decode,
    face_square,
    pyramid,
    suppress,
    upright_map,
)
from facewright.core.faces.selection import parse_pick
from facewright.core.geometry.warp import transform


def faces():
    return [
        Face((50, 0, 70, 20), 0.5),
        Face((0, 40, 60, 100), 0.7),
        Face((20, 10, 30, 20), 0.9),
    ]


def centers(found):
    return [f.center for f in found]


def test_orders():
    assert centers(select_faces(faces())) == [(25, 15), (30, 70), (60, 10)]
    assert centers(select_faces(faces(), order="top to bottom")) == [(60, 10), (25, 15), (30, 70)]
    assert centers(select_faces(faces(), order="size")) == [(30, 70), (60, 10), (25, 15)]
    assert centers(select_faces(faces(), order="score")) == [(25, 15), (30, 70), (60, 10)]


@pytest.mark.parametrize("order", ORDERS)
def test_ties_have_a_defined_order(order):
    same = [Face((x, y, x + 10, y + 10), 1.0) for y in (30, 0) for x in (20, 0)]
    forwards = select_faces(same, order=order)
    assert centers(forwards) == centers(select_faces(same[::-1], order=order))


def test_pick_counts_in_the_order_after_filters():
    assert centers(select_faces(faces(), pick="0, 2")) == [(25, 15), (60, 10)]
    assert centers(select_faces(faces(), pick="1", min_size=15)) == [(60, 10)]
    assert select_faces(faces(), pick="7") == []
    assert centers(select_faces(faces(), pick="0, 2, 0")) == [(25, 15), (60, 10)]
    assert len(select_faces(faces(), max_count=2)) == 2
    assert len(select_faces(faces(), min_score=0.6)) == 2
    assert select_faces([], pick="0") == []


@pytest.mark.parametrize("text", ["a", "-1", "0;1", "1.5", "0 1"])
def test_unreadable_picks_are_refused(text):
    with pytest.raises(FacewrightError, match="picked by numbers"):
        parse_pick(text)


def test_unknown_order_is_refused():
    with pytest.raises(FacewrightError, match="left to right"):
        select_faces([], order="right to left")


class Spot:
    """Finds one "face" of 10 px around the brightest pixel, if that is not at the border."""

    name = "spot"

    def detect(self, image):
        self.seen = tuple(image.shape)
        y, x = divmod(int(image.sum(0).argmax()), image.shape[2])
        height, width = image.shape[-2:]
        if not (5 <= x < width - 5 and 5 <= y < height - 5):
            return []
        points = torch.tensor([[x + dx, y] for dx in (0, -2, -1, 1, 2)]).float()
        return [Face((x - 5, y - 5, x + 5, y + 5), 1.0, points5=points, landmarks=points)]


def test_padding_finds_a_face_at_the_border_and_maps_it_back():
    image = torch.zeros(3, 30, 40)
    image[:, 15, 39] = 1
    image[:, 15, 38] = 1
    assert detect_faces(Spot(), image) == []
    spot = Spot()
    found = detect_faces(spot, image, padding=0.25)
    assert spot.seen == (3, 50, 60)
    assert len(found) == 1
    assert found[0].center == (38, 15)
    assert found[0].points5[0].tolist() == [38, 15]
    assert found[0].landmarks[0].tolist() == [38, 15]


def test_faces_in_the_padding_are_dropped():
    class Corner:
        name = "corner"

        def detect(self, image):
            return [Face((0, 0, 4, 4), 1.0)]

    assert detect_faces(Corner(), torch.zeros(3, 20, 20), padding=0.5) == []


def test_detect_faces_refuses_other_shapes():
    for image in (torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), torch.zeros(3, 8, 8).byte()):
        with pytest.raises(FacewrightError, match="RGB"):
            detect_faces(Spot(), image)
    with pytest.raises(FacewrightError, match="padding"):
        detect_faces(Spot(), torch.zeros(3, 8, 8), padding=2)


# --- backends that are not complete


def test_unknown_analyzer_names_the_known_ones():
    with pytest.raises(FacewrightError, match="insightface"):
        load_analyzer("dlib")
    assert "skimage" in ANALYZERS


@pytest.mark.parametrize(
    ("name", "file"), [("insightface", "det_"), ("facexlib", "detection_Resnet50_Final.pth")]
)
def test_missing_weights_are_named_with_source_and_terms(name, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CheckpointError) as error:
        load_analyzer(name, tmp_path)
    for word in (file, str(tmp_path), "models/", "research", "nothing is downloaded"):
        assert word in str(error.value)
    assert f"not installed either: `pip install {name}" in str(error.value)
    package = types.ModuleType(name)
    package.__spec__ = importlib.machinery.ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, package)
    with pytest.raises(CheckpointError) as error:
        load_analyzer(name, tmp_path)
    assert "pip" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("insightface", "insightface/models/buffalo_l/det_10g.onnx"),
        ("facexlib", "facedetection/detection_Resnet50_Final.pth"),
    ],
)
def test_missing_package_is_named_once_weights_are_there(name, path, tmp_path, monkeypatch):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"not a model")
    for module in ("insightface", "insightface.app", "facexlib.detection.retinaface"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FacewrightError, match=f"pip install {name}"):
        load_analyzer(name, tmp_path)


def test_missing_scikit_image_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(FacewrightError, match="pip install scikit-image"):
        load_analyzer("skimage")


def test_insightface_results_become_faces(tmp_path, monkeypatch):
    """With a stand-in of the package: the picture goes in as BGR bytes, faces come back sorted."""

    import numpy as np

    seen = {}

    class FaceAnalysis:
        def __init__(self, name, allowed_modules):
            seen["name"] = name
            self.models = {}

        def prepare(self, ctx_id, det_thresh, det_size):
            seen["prepared"] = True

        def get(self, picture):
            seen["picture"] = picture
            one = types.SimpleNamespace(
                bbox=np.array([1.0, 2, 3, 4]),
                det_score=0.6,
                kps=np.ones((5, 2)),
                landmark_2d_106=np.arange(212.0).reshape(106, 2),
            )
            two = types.SimpleNamespace(
                bbox=np.array([5.0, 6, 7, 8]), det_score=0.9, kps=None, landmark_2d_106=None
            )
            return [one, two]

    app = types.ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis
    monkeypatch.setitem(sys.modules, "insightface", types.ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    pack = tmp_path / "models" / "buffalo_l"
    pack.mkdir(parents=True)
    (pack / "det_10g.onnx").write_bytes(b"")
    analyzer = load_analyzer("insightface", tmp_path)
    image = torch.zeros(3, 4, 6)
    image[0] = 1.0
    found = analyzer.detect(image)
    assert seen["name"] == str(pack.resolve())
    assert seen["picture"].shape == (4, 6, 3) and seen["picture"][0, 0].tolist() == [0, 0, 255]
    assert [f.score for f in found] == [0.9, pytest.approx(0.6)]
    assert found[0].points5 is None and found[1].points5.shape == (5, 2)
    assert found[0].landmarks is None and found[1].landmarks.shape == (68, 2)
    assert found[1].landmarks[8].tolist() == [0, 1]  # the chin is their point 0


# --- nano nets, without weights


def test_pyramid_halves_and_knows_its_factors():
    levels = pyramid(torch.rand(3, 400, 1000))
    assert [tuple(x.shape[-2:]) for x, _ in levels][:3] == [(256, 640), (128, 320), (64, 160)]
    assert levels[0][1].tolist() == pytest.approx([1000 / 640, 400 / 256])
    assert len(pyramid(torch.rand(3, 1, 1))) == 1


def test_decode_inverts_the_targets():
    maps = torch.full((4, 6, 8), -9.0)
    maps[:, 2, 5] = torch.tensor([4.0, 0.25, -0.5, 1.0])
    maps[0, 2, 4] = 3.0  # not a local maximum
    (row,) = decode(maps, 0.5).tolist()
    assert row == pytest.approx([5.75 * 8 - 0.5, 2.0 * 8 - 0.5, 2 * FACE, 0.98201], abs=1e-4)


def test_suppress_keeps_the_best_of_close_squares():
    squares = torch.tensor([[10, 10, 40, 0.5], [14, 10, 30, 0.9], [60, 10, 40, 0.7]])
    assert suppress(squares)[:, 3].tolist() == pytest.approx([0.9, 0.7])
    assert suppress(torch.zeros(0, 4)).shape == (0, 4)


def test_crop_map_undoes_place_size_and_roll():
    matrix = crop_map(30.0, 20.0, 40.0, math.pi / 2, 64)
    got = transform(matrix, torch.tensor([[30.0, 20.0], [30.0, 50.0]]).double())
    assert got[0].tolist() == pytest.approx([31.5, 31.5])
    assert got[1].tolist() == pytest.approx([31.5 + 32, 31.5])  # 30 px down = half a crop right


def test_upright_map_levels_the_eyes():
    points = torch.rand(68, 2) * 30 + 20
    points[36:42] = torch.tensor([30.0, 30.0])
    points[42:48] = torch.tensor([50.0, 40.0])
    got = transform(upright_map(points, 64), points[[36, 42]].double())
    assert got[0, 1] == pytest.approx(float(got[1, 1]), abs=1e-4)
    assert got[1, 0] > got[0, 0]
    assert face_square(points)[2] > 0


def test_untrained_nets_save_and_load(tmp_path):
    torch.manual_seed(0)
    nets = NanoFaces()
    nets.save(tmp_path / "nano_faces.safetensors")
    assert (tmp_path / "nano_faces.safetensors").stat().st_size < 1.5e6
    again = NanoAnalyzer.from_folder(tmp_path)
    picture = torch.rand(1, 3, 64, 64)
    want = nets.eval().half().float().detector(picture)
    torch.testing.assert_close(again.nets.detector(picture), want, atol=1e-4, rtol=1e-3)
    with pytest.raises(CheckpointError):
        NanoAnalyzer.from_folder(tmp_path / "nothing")


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (40, 40)])
def test_tiny_pictures_do_not_crash(size):
    torch.manual_seed(0)
    analyzer = NanoAnalyzer(NanoFaces(), min_score=0.0)
    found = analyzer.detect(torch.rand(3, *size))
    assert all(f.landmarks.shape == (68, 2) for f in found)
