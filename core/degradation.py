"""Low-quality faces from good ones, on the fly.

    lq, recipe = Degradation.preset("severe")(gt, seed=[3, 4, 5])
    lq_again = Degradation.replay(gt, recipe)

Each image has its own seed and goes its own way: what happens to it does not depend on the batch,
and its recipe (plain dicts, ready for JSON) brings it back exactly. The classic order is

    blur -> downsample -> Gaussian noise -> JPEG -> upsample to the original size

Runs of linear steps (blur, resize) are multiplied into one small matrix per axis before they touch
the image, so a blur before an eightfold reduction costs an eighth of its price; the result is the
same up to rounding. JPEG is libjpeg itself, through Pillow.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from .errors import FacewrightError, check_image

Range = tuple[float, float]
_STREAM = 37


@dataclass(frozen=True)
class Pass:
    """One run through blur, downsampling, noise and JPEG. Ranges are drawn uniformly.

    Attributes:
        scale: reduction of each side; below 1 enlarges.
        sigma: of the Gaussian blur, in pixels, or in pixels of the reduced image when
            `sigma_per_scale`.
        kernel_size: taps of the blur, odd; None takes 2 ceil(3 sigma) + 1. Published recipes
            truncate at 41 taps, which makes a nominal sigma of 15 an effective 10.
        anisotropic: share of images whose blur has two sigmas and an angle.
        noise: standard deviation, in units of the [0, 1] range.
        quality: of the JPEG, 1 to 100.
        shuffled: draw the order of the four steps.
        reduce: how to downsample, "area" or "bilinear" (without antialiasing, as OpenCV's).
    """

    scale: Range
    sigma: Range
    noise: Range
    quality: tuple[int, int]
    sigma_per_scale: bool = False
    kernel_size: int | None = None
    anisotropic: float = 0.0
    shuffled: bool = False
    reduce: str = "bilinear"


def _reduced(scale: Range, noise: Range, quality: tuple[int, int]) -> tuple[Pass, ...]:
    """One pass whose blur goes with the reduction, so that it means the same at every size."""
    return (Pass(scale, (0.10, 0.45), noise, quality, sigma_per_scale=True, reduce="area"),)


_MILD = _reduced((2, 3), (0.0, 0.015), (70, 95))
_MODERATE = _reduced((4, 6), (0.005, 0.03), (50, 90))
_SEVERE = _reduced((8, 8), (0.005, 0.055), (35, 85))
# GFPGAN v1 (Wang et al., CVPR 2021), train_gfpgan_v1.yml, without its colour jitter.
_GFPGAN = (Pass((0.8, 8), (0.1, 10), (0, 20 / 255), (60, 100), kernel_size=41, anisotropic=0.5),)
# FLIPNET: two passes, the second in shuffled order. Kernel size and anisotropy are not stated in
# the paper; they are GFPGAN's here.
_FLIPNET = tuple(
    Pass(
        (0.8, 32), (0.1, 15), (0, 20 / 255), (30, 95),
        kernel_size=41, anisotropic=0.5, shuffled=shuffled,
    )
    for shuffled in (False, True)
)  # fmt: skip

# name -> (ways to go with their weights, how to upsample at the end)
_PRESETS: dict[str, tuple[tuple[tuple[float, tuple[Pass, ...]], ...], str]] = {
    "mild": (((1.0, _MILD),), "bicubic"),
    "moderate": (((1.0, _MODERATE),), "bicubic"),
    "severe": (((1.0, _SEVERE),), "bicubic"),
    "train": (
        (
            (0.45, _SEVERE),
            (0.35, _reduced((4, 8), (0.005, 0.045), (40, 90))),
            (0.20, _reduced((2, 4), (0.0, 0.03), (55, 95))),
        ),
        "bicubic",
    ),
    "gfpgan": (((1.0, _GFPGAN),), "bilinear"),
    "flipnet": (((1.0, _FLIPNET),), "bilinear"),
}


class Degradation:
    """Draws a recipe per image and carries it out.

    Args:
        ways: (weight, passes) pairs; each image takes one way, drawn by weight.
        enlarge: how to return to the original size, "bicubic" or "bilinear".
    """

    def __init__(self, ways: tuple[tuple[float, tuple[Pass, ...]], ...], enlarge: str) -> None:
        self.ways = ways
        self.enlarge = enlarge

    @classmethod
    def preset(cls, name: str) -> "Degradation":
        """One of `presets()`.

        `mild`, `moderate` and `severe` reduce 2-3, 4-6 and 8 times with blur in proportion;
        `train` mixes 2 to 8 times, mostly the severe end; `gfpgan` and `flipnet` are the published
        recipes, meant for 512 px.
        """
        if name not in _PRESETS:
            raise FacewrightError(
                f"There is no degradation preset {name!r}; choose one of {', '.join(_PRESETS)}."
            )
        return cls(*_PRESETS[name])

    @staticmethod
    def presets() -> list[str]:
        """Names that `preset` knows."""
        return list(_PRESETS)

    def __call__(
        self, gt: torch.Tensor, seed: int | list[int]
    ) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Degrade a batch.

        Args:
            gt: (b, 3, h, w) in [0, 1].
            seed: one per image, from 0 up; an int s means s, s + 1, ...

        Returns:
            lq (b, 3, h, w) in [0, 1], a multiple of 1/255, and one recipe per image.

        Raises:
            FacewrightError: wrong shape or type, or not one seed per image.
        """
        check_image(gt, name="gt")
        seeds = list(range(seed, seed + len(gt))) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(gt):
            raise FacewrightError(f"Give one seed per image: {len(gt)} images, {len(seeds)} seeds.")
        recipe = [self.draw(int(s), *gt.shape[-2:]) for s in seeds]
        return self.replay(gt, recipe), recipe

    def draw(self, seed: int, height: int, width: int) -> dict[str, Any]:
        """The recipe of one image: {"seed", "size", "steps"}, each step a dict with its "op"."""
        if seed < 0:
            raise FacewrightError(f"Seeds should be integers from 0 up, got {seed}.")
        rng = np.random.default_rng((_STREAM, seed))
        weights = np.array([weight for weight, _ in self.ways])
        passes = self.ways[rng.choice(len(weights), p=weights / weights.sum())][1]
        steps: list[dict[str, Any]] = []
        for one in passes:
            steps += _draw_pass(one, rng, height, width)
            steps.append({"op": "resize", "size": [height, width], "mode": self.enlarge})
        return {"seed": seed, "size": [height, width], "steps": steps}

    @staticmethod
    def replay(gt: torch.Tensor, recipe: list[dict[str, Any]]) -> torch.Tensor:
        """Carry out recipes, one per image of gt (b, 3, h, w); returns lq of the same shape.

        Raises:
            FacewrightError: their number or the image size is not the one they were drawn for.
        """
        check_image(gt, name="gt")
        if len(recipe) != len(gt):
            raise FacewrightError(
                f"Give one recipe per image: {len(gt)} images, {len(recipe)} recipes."
            )
        size = list(gt.shape[-2:])
        for one in recipe:
            if list(one["size"]) != size:
                raise FacewrightError(
                    f"This recipe was drawn for {one['size']} (height, width) pixels and the image "
                    f"has {size}; resize the image first or draw a new recipe."
                )
        if not recipe:
            return gt.clone()
        source = gt.detach().to("cpu", torch.float32)
        return torch.stack(
            [_carry_out(x, one["steps"]) for x, one in zip(source, recipe, strict=True)]
        ).to(gt)


def _draw_pass(
    one: Pass, rng: np.random.Generator, height: int, width: int
) -> list[dict[str, Any]]:
    """Every number is drawn whether used or not, so that recipes stay comparable."""
    scale = rng.uniform(*one.scale)
    sigmas = rng.uniform(*one.sigma, size=2) * (scale if one.sigma_per_scale else 1.0)
    angle = rng.uniform(-np.pi, np.pi)
    round_ = rng.random() >= one.anisotropic
    noise = rng.uniform(*one.noise)
    quality = int(rng.integers(one.quality[0], one.quality[1] + 1))
    noise_seed = int(rng.integers(2**31))
    order = rng.permutation(4) if one.shuffled else np.arange(4)

    taps = one.kernel_size or 2 * int(np.ceil(3 * sigmas[: 1 if round_ else 2].max())) + 1
    blur: dict[str, Any] = {"op": "blur", "sigma": float(sigmas[0]), "taps": taps}
    if not round_:
        blur |= {"sigma_y": float(sigmas[1]), "angle": float(angle)}
    size = [max(1, int(height / scale)), max(1, int(width / scale))]
    steps = [
        blur,
        {"op": "resize", "size": size, "mode": one.reduce},
        {"op": "noise", "sigma": float(noise), "seed": noise_seed},
        {"op": "jpeg", "quality": quality},
    ]
    return [steps[i] for i in order]


def _carry_out(x: torch.Tensor, steps: list[dict[str, Any]]) -> torch.Tensor:
    """Apply steps to one image (3, h, w); linear ones wait until something else needs pixels."""
    rows: torch.Tensor | None = None
    columns: torch.Tensor | None = None

    def settled() -> torch.Tensor:
        nonlocal rows, columns
        done = x if rows is None else rows @ x @ columns.T
        rows = columns = None
        return done

    for step in steps:
        height, width = x.shape[-2:] if rows is None else (len(rows), len(columns))
        op = step["op"]
        if op == "blur" and "angle" not in step:
            rows = _then(rows, blur_matrix(height, step["sigma"], step["taps"]))
            columns = _then(columns, blur_matrix(width, step["sigma"], step["taps"]))
        elif op == "resize":
            rows = _then(rows, resize_matrix(height, step["size"][0], step["mode"]))
            columns = _then(columns, resize_matrix(width, step["size"][1], step["mode"]))
        elif op == "blur":
            x = _blur_rotated(settled(), step)
        elif op == "noise":
            x = settled()
            generator = torch.Generator().manual_seed(step["seed"])
            x = (x + step["sigma"] * torch.randn(x.shape, generator=generator)).clamp(0, 1)
        elif op == "jpeg":
            x = jpeg(settled(), step["quality"])
        else:
            raise FacewrightError(
                f"This recipe has a step {op!r}, which this version cannot carry out; known are "
                f"blur, resize, noise and jpeg."
            )
    return (settled().clamp(0, 1) * 255).round() / 255


def _then(first: torch.Tensor | None, second: torch.Tensor) -> torch.Tensor:
    return second if first is None else second @ first


def blur_matrix(size: int, sigma: float, taps: int) -> torch.Tensor:
    """Gaussian blur along one axis as a matrix (size, size).

    Weights exp(-d^2 / (2 sigma^2)) at |d| <= (taps - 1)/2, normalised; borders reflect without
    repeating the edge (OpenCV's reflect-101), again and again where the kernel is longer than the
    image, which is what fails in implementations that pad.
    """
    reach = taps // 2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    weights = (weights / weights.sum()).float()
    source = _reflect(torch.arange(size)[:, None] + offsets.long(), size)
    return torch.zeros(size, size).scatter_add_(1, source, weights.expand(size, -1))


def _reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    """Fold indices into 0 .. size - 1 by reflection about the first and last pixel's centre."""
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


@lru_cache(maxsize=512)
def resize_matrix(size: int, new: int, mode: str) -> torch.Tensor:
    """Resizing along one axis as a matrix (new, size).

    "area" averages the source interval that a target pixel covers; "bilinear" and "bicubic"
    (a = -0.75) interpolate at its centre without antialiasing, as OpenCV and torch do.
    """
    ratio = size / new
    matrix = torch.zeros(new, size, dtype=torch.float64)
    if mode == "area":
        left = torch.arange(new, dtype=torch.float64)[:, None] * ratio
        cell = torch.arange(size, dtype=torch.float64)[None]
        overlap = torch.minimum(left + ratio, cell + 1) - torch.maximum(left, cell)
        return (overlap.clamp(0) / ratio).float()
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * ratio - 0.5
    if mode == "bilinear":
        centre = centre.clamp(0, size - 1)
    start = centre.floor()
    for tap in (0, 1) if mode == "bilinear" else (-1, 0, 1, 2):
        distance = (centre - start - tap).abs()
        weight = 1 - distance if mode == "bilinear" else _cubic(distance)
        index = (start + tap).long().clamp(0, size - 1)
        matrix.scatter_add_(1, index[:, None], weight[:, None])
    return matrix.float()


def _cubic(d: torch.Tensor, a: float = -0.75) -> torch.Tensor:
    """Keys' cubic kernel (Keys 1981)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def _blur_rotated(x: torch.Tensor, step: dict[str, Any]) -> torch.Tensor:
    """Blur (3, h, w) by a Gaussian with two sigmas and an angle, reflected borders, by FFT."""
    reach = step["taps"] // 2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    cos, sin = np.cos(step["angle"]), np.sin(step["angle"])
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    sigma_x, sigma_y = max(step["sigma"], 1e-6), max(step["sigma_y"], 1e-6)
    kernel = torch.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    kernel = (kernel / kernel.sum()).float()
    height, width = x.shape[-2:]
    ys = _reflect(torch.arange(-reach, height + reach), height)
    xs = _reflect(torch.arange(-reach, width + reach), width)
    padded = x[:, ys][:, :, xs]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=padded.shape[-2:])
    blurred = torch.fft.irfft2(spectrum, s=padded.shape[-2:])
    return blurred[:, 2 * reach :, 2 * reach :]


def jpeg(x: torch.Tensor, quality: int) -> torch.Tensor:
    """Through a 4:2:0 JPEG and back; x (3, h, w), clipped to [0, 1] and rounded to 8 bits."""
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    decoded = np.array(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
