"""Every step of every preset against a float64 re-creation that shares no code with it."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from facewright.core.degradation import Degradation
from PIL import Image
from scipy.ndimage import correlate
from scipy.signal import fftconvolve
from scipy.special import j1


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 7.0
    waves = [np.sin(y * a + x * b + c) for a, b, c in rng.normal(size=(3, 3))]
    noisy = 0.5 + 0.35 * np.stack(waves) + 0.1 * rng.normal(size=(3, height, width))
    return torch.from_numpy(noisy.clip(0, 1)).float()


# ---------------------------------------------------------------- the re-creation


def folded(index, size):
    while size > 1 and not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index if size > 1 else 0


def dense_kernel(step):
    """Density of the covariance R diag(sigma^2) R^T on the grid, cut to a square; or a low-pass."""
    reach = step["taps"] // 2
    if step["op"] == "sinc":
        dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
        r, w = np.hypot(dx, dy), step["cutoff"]
        kernel = np.array([[w * j1(w * v) / (2 * np.pi * v) if v else 0 for v in row] for row in r])
        kernel[reach, reach] = w**2 / (4 * np.pi)
        return kernel / kernel.sum()
    angle = step.get("angle", 0.0)
    spread = np.array([step["sigma"], step.get("sigma_y", step["sigma"])]).clip(1e-6)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = rotation @ np.diag(spread**-2) @ rotation.T
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    d = np.stack([dx, dy], -1)
    q = np.einsum("yxi,ij,yxj->yx", d, inverse, d)
    kernel = {
        None: lambda: np.exp(-0.5 * q),
        "generalized": lambda: np.exp(-0.5 * np.power(q, step["beta"])),
        "plateau": lambda: np.reciprocal(np.power(q, step["beta"]) + 1),
    }[step.get("shape")]()
    return kernel / kernel.sum()


def blurred(x, step):
    reach = step["taps"] // 2
    ys, xs = ([folded(i, n) for i in range(-reach, n + reach)] for n in x.shape[1:])
    padded = x[:, ys][:, :, xs]
    kernel = dense_kernel(step)[::-1, ::-1]
    return np.stack([fftconvolve(c, kernel, mode="valid") for c in padded])


def keys(d):
    d = abs(d)
    if d <= 1:
        return 1.25 * d**3 - 2.25 * d**2 + 1
    return -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3 if d < 2 else 0.0


def resize_weights(size, new, mode):
    matrix = np.zeros((new, size))
    for i in range(new):
        if mode == "area":
            left, right = i * size / new, (i + 1) * size / new
            for j in range(int(left), min(size, math.ceil(right))):
                matrix[i, j] = max(0.0, min(right, j + 1) - max(left, j)) * new / size
            continue
        centre = (i + 0.5) * size / new - 0.5
        first = math.floor(centre)
        for j in range(first - 1, first + 3):
            near = keys(centre - j) if mode == "bicubic" else max(0.0, 1 - abs(centre - j))
            matrix[i, min(max(j, 0), size - 1)] += near
    return matrix


def resized(x, step):
    rows, columns = (
        resize_weights(old, new, step["mode"])
        for old, new in zip(x.shape[1:], step["size"], strict=True)
    )
    return rows @ x @ columns.T


def through_jpeg(x, quality):
    """Levels of 255, as Pillow gives them."""
    levels = np.rint(x.clip(0, 1).astype(np.float32) * np.float32(255)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.transpose(1, 2, 0).copy()).save(
        buffer, "JPEG", quality=quality, subsampling=2
    )
    return np.asarray(Image.open(buffer)).transpose(2, 0, 1)


def with_poisson_noise(x, step):
    """As BasicSR's `add_poisson_noise`, from the float32 picture that the step was given."""
    y = grey(x)[None] if step.get("grey") else x
    y = (y.clamp(0, 1) * 255).round() / 255
    values = 2 ** math.ceil(math.log2(len(y.unique())))
    generator = torch.Generator().manual_seed(step["seed"])
    noise = torch.poisson(y * values, generator=generator) / values - y
    return (x + step["scale"] * noise).double().numpy().clip(0, 1)


def grey(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def recolored(x, step):
    """Pixel by pixel."""
    pixels = x.reshape(3, -1).T
    mean = np.mean([grey(p) for p in pixels])
    out = []
    for p in pixels:
        match step["op"]:
            case "shift":
                p = p + step["rgb"]
            case "grey":
                p = np.full(3, grey(p))
            case "brightness":
                p = p * step["amount"]
            case "contrast":
                p = step["amount"] * p + (1 - step["amount"]) * mean
            case "saturation":
                p = step["amount"] * p + (1 - step["amount"]) * grey(p)
            case "hue":
                hue, saturation, value = colorsys.rgb_to_hsv(*p)
                p = np.array(colorsys.hsv_to_rgb((hue + step["amount"]) % 1, saturation, value))
        out.append(p)
    return np.array(out).T.reshape(x.shape).clip(0, 1)


def check_step_by_step(gt, recipe):
    """Carry out longer and longer starts of the recipe and compare after each step."""
    steps, expected = recipe["steps"], gt.double().numpy()
    for count, step in enumerate(steps, 1):
        start = {**recipe, "steps": steps[:count]}
        found = Degradation.replay(gt[None], [start])[0].numpy()
        message = f"step {count} of {steps}"
        match step["op"]:
            case "blur" | "sinc":
                expected = blurred(expected, step)
            case "resize":
                expected = resized(expected, step)
            case "noise":
                generator = torch.Generator().manual_seed(step["seed"])
                shape = (1, *expected.shape[1:]) if step.get("grey") else expected.shape
                noise = torch.randn(shape, generator=generator).double().numpy()
                expected = (expected + step["sigma"] * noise).clip(0, 1)
            case "poisson":
                before = Degradation.replay(gt[None], [{**recipe, "steps": steps[: count - 1]}])[0]
                expected = with_poisson_noise(before, step)
            case "jpeg":
                before = Degradation.replay(gt[None], [{**recipe, "steps": steps[: count - 1]}])
                levels = through_jpeg(before[0].numpy(), step["quality"])
                np.testing.assert_array_equal(np.rint(found * 255), levels, err_msg=message)
                expected = levels / 255.0
            case "round":
                levels = found.astype(float) * 255
                np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
                assert np.abs(expected.clip(0, 1) - found).max() <= 0.5 / 255 + 1e-5
                continue
            case _:
                expected = recolored(expected, step)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0, err_msg=message)
        # Errors do not add up over the run: each is 1e-5 of what went into its linear steps.
        if step["op"] not in ("blur", "sinc", "resize"):
            expected = found.astype(float)


@pytest.mark.parametrize("preset", Degradation.presets())
@pytest.mark.parametrize("size", [(1, 1), (2, 17), (61, 37), (130, 3)])
def test_presets_at_odd_sizes(preset, size):
    for seed in (0, 1, 2):
        recipe = Degradation.preset(preset).draw(seed, *size)
        check_step_by_step(picture(*size, seed), recipe)


@pytest.mark.parametrize(
    ("preset", "seed"), [("flipnet", 3), ("flipnet", 8), ("codeformer", 1), ("real-esrgan", 0)]
)
def test_presets_at_512(preset, seed):
    recipe = Degradation.preset(preset).draw(seed, 512, 512)
    check_step_by_step(picture(512, 512), recipe)


SHAPES = [
    {"op": "blur", "sigma": 2.0, "taps": 21, "shape": "plateau", "beta": 1.7},
    {"op": "blur", "sigma": 2.9, "taps": 21, "shape": "generalized", "beta": 3.5},
    {"op": "blur", "sigma": 3.0, "taps": 21, "sigma_y": 0.3, "angle": 0.7, "shape": "generalized",
     "beta": 0.5},
    {"op": "sinc", "cutoff": 0.7, "taps": 21},
    {"op": "sinc", "cutoff": 3.1, "taps": 7},
]  # fmt: skip


@pytest.mark.parametrize("step", SHAPES)
@pytest.mark.parametrize("size", [(1, 1), (97, 64), (320, 300)])
def test_kernels_that_are_no_gaussians(step, size):
    small = {"op": "resize", "size": [max(1, side // 3) for side in size], "mode": "bilinear"}
    for steps in ([step], [step, small], [small, step]):
        expected = picture(*size).double().numpy()
        for one in steps:
            expected = resized(expected, one) if one["op"] == "resize" else blurred(expected, one)
        found = Degradation.replay(picture(*size)[None], [{"size": list(size), "steps": steps}])[0]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=0)


def test_a_plateau_is_no_gaussian_and_a_low_pass_rings():
    kernels = [dense_kernel(one) for one in (SHAPES[0], {**SHAPES[0], "shape": "generalized"})]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
    assert dense_kernel(SHAPES[3]).min() < 0


@pytest.mark.parametrize("grey", [False, True])
def test_poisson_noise_counts(grey):
    """At strength 1 the variance of a level y is y / v, v a power of 2 from the levels in use."""
    x = torch.full((3, 64, 64), 0.25)
    x[:, :32] = 0.75
    step = {"op": "poisson", "scale": 1.0, "seed": 5, **({"grey": True} if grey else {})}
    check_step_by_step(x, {"size": [64, 64], "steps": [{**step, "scale": 0.05}]})
    small = {"size": [64, 64], "steps": [{**step, "scale": 0.05}]}
    noise = (Degradation.replay(x[None], [small])[0] - x) / 0.05
    assert grey == torch.allclose(noise[0], noise[1], atol=1e-4)
    for rows, y in ((noise[:, :32], 191 / 255), (noise[:, 32:], 64 / 255)):
        assert abs(rows.var() / (y / 2) - 1) < 0.1  # two levels occur


def test_a_reduction_below_one_enlarges():
    degradation = Degradation.preset("flipnet", scale=(0.8, 0.8))
    recipe = degradation.draw(0, 128, 96)
    assert recipe["steps"][1]["size"] == [160, 120]
    check_step_by_step(picture(128, 96), recipe)


# Alone, at the end, at the start and between resizes; small, large and longer than the image; a
# sharp slanted line is the least separable, and a large image that stays large goes another way.
ROUND = {"op": "blur", "sigma": 3.1, "taps": 41}
FLAT = {"op": "blur", "sigma": 9.0, "taps": 41, "sigma_y": 0.3, "angle": 0.7}
WIDE = {"op": "blur", "sigma": 15.0, "taps": 91, "sigma_y": 6.0, "angle": -2.0}
NONE = {"op": "blur", "sigma": 0.0, "taps": 41}


@pytest.mark.parametrize("blur", [ROUND, FLAT, WIDE, NONE], ids=["round", "flat", "wide", "none"])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (97, 64), (320, 300)])
@pytest.mark.parametrize(
    "places", ["b", "bd", "ub", "ubd", "dbu", "bdub", "bb", "dud"], ids=lambda places: places
)
def test_runs_of_linear_steps(blur, size, places):
    height, width = size
    sizes = {"d": [max(1, height // 7), max(1, width // 6)], "u": [height + 9, 2 * width]}
    modes = iter(["area", "bilinear", "bicubic"])
    steps, expected = [], picture(*size).double().numpy()
    for place in places:
        step = blur if place == "b" else {"op": "resize", "size": sizes[place], "mode": next(modes)}
        expected = blurred(expected, step) if place == "b" else resized(expected, step)
        steps.append(step)
    found = Degradation.replay(picture(*size)[None], [{"size": list(size), "steps": steps}])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=0)


def test_a_blur_that_few_separable_ones_do_not_make():
    line = {"op": "blur", "sigma": 60.0, "taps": 201, "sigma_y": 0.4, "angle": 0.75}
    resize = {"op": "resize", "size": [30, 44], "mode": "bicubic"}
    x = picture(41, 33)
    expected = resized(blurred(resized(x.double().numpy(), resize), line), resize)
    recipe = {"size": [41, 33], "steps": [resize, line, resize]}
    found = Degradation.replay(x[None], [recipe])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=0)


def test_the_border_is_scipys_mirror():
    x = picture(50, 44).double().numpy()
    expected = np.stack([correlate(c, dense_kernel(FLAT), mode="mirror") for c in x])
    recipe = {"size": [50, 44], "steps": [FLAT]}
    found = Degradation.replay(picture(50, 44)[None], [recipe])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("new", [(7, 5), (64, 90), (1, 1)])
def test_resizing_is_torchs(mode, new):
    x = picture(33, 21)[None]
    recipe = {"size": [33, 21], "steps": [{"op": "resize", "size": list(new), "mode": mode}]}
    expected = torch.nn.functional.interpolate(x, new, mode=mode)
    assert torch.allclose(Degradation.replay(x, [recipe]), expected, atol=1e-5)


@pytest.mark.parametrize(
    "steps",
    [
        [{"op": "shift", "rgb": [0.07, -0.05, 0.0]}],
        [{"op": "grey"}],
        [{"op": "hue", "amount": 0.1}, {"op": "hue", "amount": -0.5}],
        [{"op": "contrast", "amount": 1.5}, {"op": "saturation", "amount": 0.0}],
        [{"op": "brightness", "amount": 1.4}, {"op": "hue", "amount": -0.08},
         {"op": "saturation", "amount": 1.5}, {"op": "contrast", "amount": 0.5}],
    ],
)  # fmt: skip
def test_colors(steps):
    x = picture(9, 14)
    x[:, 0, :4] = torch.tensor([0.0, 1.0, 0.5, 0.5])  # black, white and grey have no hue
    check_step_by_step(x, {"size": [9, 14], "steps": steps})
