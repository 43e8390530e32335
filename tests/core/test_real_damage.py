"""The rendered world's real damage against its formulas, step by step in float64 numpy."""

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.training.data import real_damage as module
from facewright.training.data.real_damage import DAMAGES, real_damage
from scipy import ndimage


def faces(n=4, size=32):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


def test_each_picture_is_a_function_of_itself_and_its_seed():
    gt = faces()
    lq, names = real_damage(gt, [5, 6, 7, 8])
    for i in range(4):
        alone, (name,) = real_damage(gt[i : i + 1], [5 + i])
        assert torch.equal(alone[0], lq[i]) and name == names[i]
    assert lq.shape == gt.shape and lq.min() >= 0 and lq.max() <= 1
    torch.testing.assert_close(lq * 255, (lq * 255).round())
    other, _ = real_damage(gt, [15, 16, 17, 18])
    assert (other - lq).abs().mean() > 0.02


def test_every_damage_comes_alone_and_in_company():
    _, names = real_damage(torch.rand(1, 3, 8, 8).expand(300, 3, 8, 8), list(range(300)))
    assert {len(n) for n in names} == {1, 2}
    for damage in DAMAGES:
        assert sum(damage in n for n in names) > 60 and (damage,) in names
    assert all(list(n) == sorted(n, key=DAMAGES.index) for n in names)


def test_haze_pulls_towards_one_colour_more_where_it_is_deeper():
    light = faces(1)[0].double()
    hazy = module._haze(light, np.random.default_rng(1))
    flat = module._haze(torch.full_like(light, 0.2), np.random.default_rng(1))
    black = module._haze(torch.zeros_like(light), np.random.default_rng(1))
    # I = J T + A (1 - T): black shows A (1 - T), a constant 0.2 adds 0.2 T.
    through = (flat - black) / 0.2
    torch.testing.assert_close(hazy, light * through + black)
    air = black / (1 - through)
    assert air.std((1, 2)).max() < 1e-6 and through.std() > 0.02
    assert through.min() > 0.05 and through.max() <= 1


def test_motion_is_a_convolution_with_a_thin_stroke():
    light = faces(1)[0].double()
    moved = module._motion(light, np.random.default_rng(3))
    kernel = module._path(np.random.default_rng(3), 32 / 128)
    expected = np.stack([ndimage.correlate(c, kernel, mode="nearest") for c in light.numpy()])
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-12)
    for seed in range(50):
        kernel = module._path(np.random.default_rng(seed), 1.0)
        assert kernel.shape == (15, 15) and kernel.sum() == pytest.approx(1) and kernel.min() >= 0
        y, x = np.mgrid[:15, :15]
        mean = np.array([(kernel * x).sum(), (kernel * y).sum()])
        points = np.stack([x - mean[0], y - mean[1]]).reshape(2, -1)
        spread = np.linalg.eigvalsh((points * kernel.ravel()) @ points.T)
        assert spread[1] > 4 * spread[0], "a stroke, not a blob"


def test_sensor_noise_grows_with_the_light():
    rng = np.random.default_rng(0)
    levels = torch.tensor([0.0, 0.25, 0.5]).double()[:, None, None].expand(3, 200, 200)
    noisy = module._sensor_noise(levels, rng)
    variance = (noisy - levels).var((1, 2))
    slope = (variance[2] - variance[0]) / 0.5
    assert variance[1] - variance[0] == pytest.approx(float(slope) / 4, rel=0.05)
    assert 0.0035 < slope < 0.04 and variance[0] < 3e-4


def test_low_light_is_darker_and_keeps_the_order_of_tones():
    light = torch.linspace(0, 1, 50).double().expand(3, 1, 50)
    for seed in range(20):
        dark = module._low_light(light, np.random.default_rng(seed))
        assert (dark[..., 1:] > dark[..., :-1]).all() and dark.max() < 0.7


def test_wrong_calls_are_told():
    with pytest.raises(FacewrightError, match="one seed per image"):
        real_damage(faces(2), [1])
    with pytest.raises(FacewrightError):
        real_damage(torch.rand(3, 8, 8), [1])
