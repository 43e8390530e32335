"""Numbers of the device against the CPU's: noise, schedules, samplers, metrics, drawings."""

import pytest
import torch
from facewright.core import sampling, schedule
from facewright.core.degradation import PRESETS, Degradation
from facewright.core.devices import narrowed, widened, without_autocast
from facewright.core.faces import Face
from facewright.core.faces.parsing import FaceParser
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.landmarks import affine_landmark_distance, landmark_distance
from facewright.core.geometry.paste import paste_faces
from facewright.core.metrics import METRICS, metric
from facewright.core.pipeline.masks import face_masks
from facewright.core.pipeline.options import MaskOptions


def both(function, device, *tensors, **options):
    """The result on the CPU, and on the device brought to the CPU."""
    there = function(*(t.to(device) for t in tensors), **options)
    return function(*tensors, **options), there.cpu()


def test_widening_and_back(device):
    x = torch.rand(3, 4, device=device, requires_grad=True)
    wide = widened(x)
    assert wide.dtype == torch.float64
    back = narrowed(wide * 2, x)
    assert (back.dtype, back.device) == (x.dtype, x.device)
    back.sum().backward()
    assert torch.equal(x.grad.cpu(), torch.full((3, 4), 2.0))


def test_autocast_is_left_where_there_is_any(device):
    with without_autocast(device):
        x = torch.ones(2, 2, device=device)
        assert (x @ x).dtype == torch.float32


def test_schedule(device):
    z, eps = torch.randn(2, 2, 4, 8, 8).unbind()
    a = schedule.alpha_bar()[[3, 999]]
    for function in (schedule.eps_to_x0, schedule.add_noise):
        cpu, there = both(lambda x, y, f=function: f(x, y, a), device, z, eps)
        assert torch.allclose(cpu, there, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samplers_draw_the_same_noise(device, eta):
    x = torch.randn(1, 4, 8, 8)

    def steps(x, method):
        generator = torch.Generator().manual_seed(7)
        options = {"eta": eta, "generator": generator}
        if method == "ddim":
            return sampling.ddim(lambda z, t: z * 0.1, x, steps=3, **options)
        levels = sampling.sigmas("simple", 3, 1.0)
        return sampling.euler(lambda z, t: z * 0.1, x, levels, **options)

    for method in ("euler", "ddim"):
        cpu, there = both(lambda x, m=method: steps(x, m), device, x)
        assert torch.allclose(cpu, there, rtol=1e-6, atol=1e-6)


def test_landmark_distances(device):
    points, others = torch.rand(2, 3, 68, 2).mul(100).unbind()
    weights = torch.rand(68)
    cpu = affine_landmark_distance(points, others, weights)
    there = affine_landmark_distance(*(x.to(device) for x in (points, others, weights)))
    assert torch.equal(cpu, there.cpu())
    cpu, there = both(landmark_distance, device, points, others)
    assert torch.equal(cpu, there)


@pytest.mark.parametrize("name", list(METRICS))
def test_metric(device, name):
    one = metric(name)
    if one.missing():
        pytest.skip(one.missing())
    shape = {"pixels": (2, 3, 64, 64), "landmarks": (2, 68, 2)}.get(one.reads, (64, 8))
    torch.manual_seed(1)
    inputs = [torch.rand(shape) for _ in range(1 if one.needs == "nothing" else 2)]
    if one.extract is not None:
        inputs = [one.extract(torch.rand(3, 3, 64, 64).to(device)) for _ in range(2)]
    cpu, there = one(*inputs), one(*(x.to(device) for x in inputs))
    assert there.device.type == "cpu" and there.dtype == torch.float64
    assert torch.allclose(cpu, there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["adain", "wavelet", "lab"])
def test_colors(device, mode):
    from facewright.core.color import match_color

    x, ref = torch.rand(2, 2, 3, 32, 32).unbind()
    cpu, there = both(lambda a, b: match_color(a, b, mode), device, x, ref)
    assert torch.allclose(cpu, there, atol=1e-5)


@pytest.mark.parametrize("preset", [*PRESETS])
def test_degrading_draws_the_same(device, preset):
    degradation = Degradation.preset(preset)
    pictures = torch.rand(2, 3, 64, 64)
    cpu, recipes = degradation(pictures, [3, 4])
    there, same = degradation(pictures.to(device), [3, 4])
    assert recipes == same
    # One rounding can turn a coefficient of JPEG.
    assert float((cpu - there.cpu()).abs().mean()) < 1e-3


def test_fitting_albums_and_curation(device):
    from facewright.core.people.album import sharpness
    from facewright.core.people.curation import estimate_yaw, perceptual_hash

    pictures = torch.rand(2, 3, 64, 64)
    cpu, there = both(sharpness, device, pictures)
    assert torch.equal(cpu, there)
    assert perceptual_hash(pictures[0]) == perceptual_hash(pictures[0].to(device))
    points = torch.rand(5, 2)
    assert estimate_yaw(points) == estimate_yaw(points.to(device))


@torch.no_grad()
def test_tensorflow_lite_graphs(device):
    from facewright.core.tflite import load_tflite
    from facewright.tests.core.test_tflite import CASES, written

    for name in CASES:
        data, _, x = written(name)
        graph, x = load_tflite(data, source=name), torch.from_numpy(x)
        cpu = graph(x)
        for here, there in zip(cpu, graph.to(device)(x.to(device)), strict=True):
            assert torch.allclose(here, there.cpu(), atol=1e-4, rtol=1e-4), name


def test_parsed_faces_and_pastes_through_masks(device):
    class Reddish(torch.nn.Module):
        classes, mean, std = ("background", "skin"), (0.5,) * 3, (0.5,) * 3

        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.gain * torch.stack([x[:, 2], x[:, 0]], 1)

    torch.manual_seed(0)
    pictures, restored = torch.rand(1, 3, 60, 60), torch.rand(1, 3, 32, 32)
    face = Face((15, 15, 45, 45), 1.0)

    def run(pictures, restored):
        crops = align_faces(pictures, [[face]], 32)
        parser = FaceParser(Reddish().to(pictures.device), "by hand")
        masks = face_masks(crops, MaskOptions(mode="parsing"), lambda: parser)
        return paste_faces(pictures, crops, restored, masks=masks)[0]

    cpu, there = both(run, device, pictures, restored)
    assert torch.allclose(cpu, there, atol=1e-4) and not torch.equal(cpu, pictures)


def test_faces_and_landmarks_of_mediapipe(device):
    from facewright.tests.core import mediapipe_world as made

    faces = [made.Truth(120, 160, 100, 0.3), made.Truth(330, 170, 110, 3.0)]
    analyzer, image = made.world(faces, 300, 480, device=device, rotations=True)
    here, there = analyzer.detect(image), analyzer.detect(image.to(device))
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(one.landmarks, other.landmarks, atol=1e-2)
    crops = image[None, :, :, :300]
    found = analyzer.landmarks(crops.to(device))
    assert found.device.type == device.type
    assert torch.allclose(found.cpu(), analyzer.landmarks(crops), atol=1e-2)
