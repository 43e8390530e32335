"""Dense landmarks: FAN's decoding against a loop, both optional packages as stand-ins."""

import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import dense_landmarker, load_analyzer
from facewright.core.faces.fan import FanLandmarker, peaks
from facewright.core.faces.insightface import IBUG_OF_106, template_box
from facewright.core.files.known import FAN
from facewright.core.geometry.templates import template
from torch import nn


def naive_peaks(maps):
    """As facexlib's calculate_points, one map at a time, with no shift at the border."""
    points = []
    for m in maps.flatten(0, 1).tolist():
        cells = [(v, -r, -c) for r, row in enumerate(m) for c, v in enumerate(row)]
        _, r, c = max(cells)
        r, c = -r, -c
        x, y = float(c), float(r)
        if 0 < c < len(m[0]) - 1:
            x += 0.25 * np.sign(m[r][c + 1] - m[r][c - 1])
        if 0 < r < len(m) - 1:
            y += 0.25 * np.sign(m[r + 1][c] - m[r - 1][c])
        points.append((x, y))
    return torch.tensor(points).float().view(*maps.shape[:2], 2)


def test_peaks_are_those_of_a_loop():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 40, 6, 5, generator=g)
    maps[0, 0] = 0.0  # all equal: the first cell
    maps[0, 1, 5, 4] = maps[0, 2, 0, 2] = maps[0, 3, 3, 0] = 9.0  # corner and borders
    maps[0, 4, 2, 2] = 9.0
    maps[0, 4, 2, 1] = maps[0, 4, 2, 3] = 1.0  # equal neighbours
    torch.testing.assert_close(peaks(maps), naive_peaks(maps))
    assert peaks(torch.zeros(0, 98, 64, 64)).shape == (0, 98, 2)


# --- facexlib

RED = torch.tensor([1.0, 0, 0])


class Fan(nn.Module):
    """Stands in for facexlib's FAN: every map of the last stack is the redness of the picture."""

    def __init__(self, num_modules, num_landmarks, device):
        super().__init__()
        self.stacks, self.count = num_modules, num_landmarks
        self.gain = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x):
        assert x.shape[1:] == (3, 256, 256) and x.min() > -1e-5 and x.max() < 1 + 1e-5
        red = F.avg_pool2d(x[:, :1] - x[:, 2:], 4) * self.gain[:, None, None]
        boundary = torch.full_like(red, 9.0)
        last = torch.cat([red.expand(-1, self.count, -1, -1), boundary], 1)
        return [torch.rand_like(last)] * (self.stacks - 1) + [last], []


class Detector(nn.Module):
    def __init__(self, network_name, device):
        super().__init__()

    def detect_faces(self, picture, threshold):
        # An upright face twice the size of the template at 128 px, at (20, 10).
        points = template(128).numpy() * 2 + [20, 10]
        return np.array([[40, 30, 240, 250, 0.9, *points.flatten()]])


@pytest.fixture
def facexlib(tmp_path, monkeypatch):
    """A models folder with the detector, and a function that adds FAN."""
    for name, attribute, value in (
        ("facexlib", None, None),
        ("facexlib.alignment", None, None),
        ("facexlib.alignment.awing_arch", "FAN", Fan),
        ("facexlib.detection", None, None),
        ("facexlib.detection.retinaface", "RetinaFace", Detector),
    ):
        module = types.ModuleType(name)
        if attribute:
            setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("facewright.core.faces.facexlib.load_strict", lambda *a, **k: None)
    monkeypatch.setattr("facewright.core.faces.facexlib.read_tensors", lambda path: ({}, {}))
    folder = tmp_path / "facedetection"
    folder.mkdir()
    (folder / "detection_Resnet50_Final.pth").touch()

    def add(**tensors):
        state = {"gain": torch.ones(1), "bn.weight": torch.ones(1), "bn.bias": torch.zeros(1)}
        state |= {"bn.running_mean": torch.zeros(1), "bn.running_var": torch.ones(1)}
        state = {f"module.{k}": v for k, v in (state | tensors).items()}
        torch.save({"state_dict": state}, folder / FAN.names[0])
        return folder / FAN.names[0]

    return tmp_path, add


def dotted(size, x, y):
    """A blue picture with a soft red dot."""
    at = torch.arange(float(size))
    dot = (-((at - x) ** 2)[None] / 30 - ((at - y) ** 2)[:, None] / 30).exp()
    return torch.stack([dot, torch.zeros_like(dot), 1 - dot])


def test_fan_finds_points_of_the_picture(facexlib):
    folder, add = facexlib
    add()
    (face,) = load_analyzer("facexlib", folder).detect(dotted(300, 140.0, 90.0))
    assert face.landmarks.shape == (98, 2) and face.points5.shape == (5, 2)
    # A cell is 4 px of the picture here, and a quarter of it is all the decoder resolves.
    assert (face.landmarks - torch.tensor([140.0, 90.0])).abs().max() < 2.01


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_fan_finds_points_of_a_crop(facexlib, size):
    folder, add = facexlib
    add()
    landmarker = dense_landmarker(load_analyzer("facexlib", folder))
    crops = F.interpolate(torch.stack([dotted(256, 97.5, 181.5), dotted(256, 33.5, 20.5)]), size)
    points = (landmarker.landmarks(crops) + 0.5) * (256 / size) - 0.5
    assert points.shape == (2, 98, 2) and landmarker.points == 98
    assert (points[0] - torch.tensor([97.5, 181.5])).abs().max() < 2.01
    assert (points[1] - torch.tensor([33.5, 20.5])).abs().max() < 2.01
    assert landmarker.heatmaps(crops).shape == (2, 98, 64, 64)
    assert landmarker.landmarks(crops[:0]).shape == (0, 98, 2)
    alone = landmarker.landmarks(crops[1:])
    torch.testing.assert_close(alone, landmarker.landmarks(crops.repeat(5, 1, 1, 1))[9:])


def test_without_fan_faces_have_five_points(facexlib):
    folder, _ = facexlib
    analyzer = load_analyzer("facexlib", folder)
    (face,) = analyzer.detect(torch.zeros(3, 300, 300))
    assert face.landmarks is None and face.points5.shape == (5, 2)
    for ask in (analyzer.landmarks, analyzer.heatmaps):
        with pytest.raises(CheckpointError) as error:
            ask(torch.zeros(1, 3, 128, 128))
        for word in (
            FAN.names[0],
            str(folder),
            "models/facedetection",
            "xinntao",
            "WFLW",
            "research",
        ):
            assert word in str(error.value)
    with pytest.raises(CheckpointError, match=FAN.names[0]):
        dense_landmarker(analyzer)


def test_fan_weights_load_key_by_key(facexlib, monkeypatch):
    _, add = facexlib
    with pytest.raises(CheckpointError, match="surplus"):
        FanLandmarker(add(surplus=torch.ones(1)))
    path = add()
    path.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="neither"):
        FanLandmarker(path)
    monkeypatch.setitem(sys.modules, "facexlib.alignment.awing_arch", None)
    with pytest.raises(FacewrightError, match="pip install facexlib"):
        FanLandmarker(path)


# --- insightface


def test_every_point_stands_for_one_of_theirs():
    assert len(IBUG_OF_106) == len(set(IBUG_OF_106)) == 68
    assert set(IBUG_OF_106) <= set(range(106))
    # By their markup: contour 0-32, an eye and a brow, mouth, nose, the other eye and brow.
    parts = {(0, 17): (0, 33), (17, 22): (43, 52), (22, 27): (97, 106), (27, 36): (72, 87)}
    parts |= {(36, 42): (33, 43), (42, 48): (87, 97), (48, 68): (52, 72)}
    for (first, last), (low, high) in parts.items():
        assert all(low <= i < high for i in IBUG_OF_106[first:last])


def test_the_box_of_the_template():
    x0, y0, x1, y1 = template_box(512)
    goal = template(512).numpy()
    assert x0 < goal[:, 0].min() and goal[:, 0].max() < x1
    assert y0 < goal[:, 1].min() and goal[:, 1].max() < y1
    assert 0.9 < (x1 - x0) / (y1 - y0) < 1.1
    np.testing.assert_allclose((template_box(128) + 0.5) * 4 - 0.5, [x0, y0, x1, y1])


class Points106:
    """Their model: it reads the box, wants BGR bytes, and notes the result in the face."""

    def get(self, picture, face):
        assert picture.dtype == np.uint8
        x0, _, x1, y1 = face.bbox
        points = np.zeros((106, 2))
        points[:, 0] = x0 + (x1 - x0) * np.arange(106) / 106
        points[:, 1] = y1 + picture[0, 0, 2]  # red
        face["landmark_2d_106"] = points
        return points


@pytest.fixture
def insightface(tmp_path, monkeypatch):
    class FaceAnalysis:
        def __init__(self, name, allowed_modules):
            assert allowed_modules == ["detection", "landmark_2d_106"]
            self.models = {"landmark_2d_106": Points106()}

        def prepare(self, **settings): ...

    app = types.ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis
    monkeypatch.setitem(sys.modules, "insightface", types.ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    (tmp_path / "insightface").mkdir()
    (tmp_path / "insightface" / "det_10g.onnx").touch()
    return load_analyzer("insightface", tmp_path)


def test_insightface_looks_at_the_template_s_box(insightface):
    crops = torch.zeros(2, 3, 256, 256)
    crops[1, 0] = 1.0
    points = dense_landmarker(insightface).landmarks(crops)
    x0, _, x1, y1 = template_box(256)
    want = x0 + (x1 - x0) * np.array(IBUG_OF_106) / 106
    np.testing.assert_allclose(points[0, :, 0], want, rtol=1e-6)
    np.testing.assert_allclose(points[:, 0, 1], [y1, y1 + 255], rtol=1e-6)
    assert insightface.heatmaps(crops).shape == (2, 68, 64, 64)
    assert insightface.landmarks(crops[:0]).shape == (0, 68, 2)


def test_a_pack_without_the_106_points(insightface):
    insightface._app.models.clear()
    with pytest.raises(CheckpointError) as error:
        dense_landmarker(insightface)
    for word in ("2d106det.onnx", "insightface", "non-commercial", "buffalo_l"):
        assert word in str(error.value)


# --- who has any


def test_who_gives_dense_landmarks():
    assert dense_landmarker(load_analyzer("nano")).points == 68
    pytest.importorskip("skimage")
    with pytest.raises(FacewrightError, match=r"facexlib.*insightface.*nano"):
        dense_landmarker(load_analyzer("skimage"))
