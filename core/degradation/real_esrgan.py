"""Real-ESRGAN's second-order degradation (Wang et al., 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .passes import Pass, Preset, Range

Step = dict[str, Any]
Size = tuple[int, int]
SHAPES = ("generalized", "plateau")
"""Of blurs that are no Gaussians; `kernels.blur_kernel` has the equations."""


@dataclass(frozen=True, kw_only=True)
class SecondOrderPass(Pass):
    """One of Real-ESRGAN's two passes; all but the last leave the picture at its new size.

    Attributes:
        shapes: (weight, shape, turned) of the blur's kernel; shape "" is a Gaussian.
        betas: ranges of the exponent of `SHAPES`; one half is drawn below 1, the other above.
        sinc: share of images whose kernel is a low-pass filter with ringing instead.
        blurred: share of images that are blurred at all.
        base: the picture is first taken to be so many times smaller.
        factors: range of the size drawn on top; empty draws `scale` instead.
        factor_odds: of a factor above 1, one below 1, and 1 itself.
        poisson: share of images with Poisson noise in place of Gaussian noise.
        poisson_scale: range of its strength; 1 is the noise of a counting sensor.
        grey: share of images whose noise is the same in all channels.
        last_sinc: share of images that are low-pass filtered after the last resize.
    """

    shapes: tuple[tuple[float, str, bool], ...] = ()
    betas: tuple[Range, Range] = ((0.5, 4), (1, 2))
    sinc: float = 0.1
    blurred: float = 1.0
    base: int = 1
    factors: tuple[float, ...] = ()
    factor_odds: tuple[float, float, float] = (0, 1, 0)
    poisson: float = 0.5
    poisson_scale: Range = (0.05, 3)
    grey: float = 0.4
    last_sinc: float = 0.8

    gives_way: ClassVar[dict[str, dict[str, Any]]] = {
        "scale": {"factors": (), "base": 1},
        "noise": {"poisson": 0.0},
        "anisotropic": {"shapes": ()},
    }


def draw_pass(
    one: SecondOrderPass,
    numbers: np.random.Generator,
    choices: np.random.Generator,
    whole: Size,
    now: Size,
    *,
    last: bool,
) -> tuple[list[Step], Size]:
    """The steps of one pass; every number is drawn whether used or not.

    Args:
        numbers, choices: generators of numbers, and of choices among a few.
        whole: (height, width) of the good picture, which sizes refer to.
        now: of the picture as the pass finds it.
        last: whether the pass brings the picture to `whole` divided by `base`.

    Returns:
        The steps, and the size that they end with.
    """
    blur = _draw_blur(one, numbers, choices)
    resize = _draw_resize(one, numbers, choices, whole, now)
    noise = _draw_noise(one, numbers, choices)
    jpeg = {"op": "jpeg", "quality": int(numbers.integers(one.quality[0], one.quality[1] + 1))}
    order = choices.permutation(4)
    back_mode, swap, filtered = (float(v) for v in choices.random(3))
    taps, cutoff = _draw_taps(one, choices), float(numbers.uniform(math.pi / 3, math.pi))
    small = (max(1, whole[0] // one.base), max(1, whole[1] // one.base))
    parts = [blur, [resize], [noise], [jpeg]]
    if not last:
        return [*blur, resize, noise, jpeg], tuple(resize["size"])
    if one.order == "shuffled":
        parts = [parts[i] for i in order]
    mode = one.reduce[int(back_mode * len(one.reduce))]
    back = [_resize(mode, resize["size"], small)]
    if filtered < one.last_sinc:
        back.append({"op": "sinc", "cutoff": cutoff, "taps": taps})
    swapped = one.order == "real-esrgan" and swap < 0.5
    parts = [*parts[:3], back, parts[3]] if swapped else [*parts, back]
    return [step for part in parts for step in part], small


def _draw_blur(
    one: SecondOrderPass, numbers: np.random.Generator, choices: np.random.Generator
) -> list[Step]:
    sigmas = [float(v) for v in numbers.uniform(*one.sigma, size=2)]
    angle = float(numbers.uniform(-math.pi, math.pi))
    ringing, blurred, side, share = (float(v) for v in choices.random(4))
    taps = _draw_taps(one, choices)
    # A short filter has no room for the waves of a low cutoff.
    cutoff = float(numbers.uniform(math.pi / (3 if taps < 13 else 5), math.pi))
    shapes = one.shapes or ((1 - one.anisotropic, "", False), (one.anisotropic, "", True))
    weights = np.array([weight for weight, _, _ in shapes])
    _, shape, turned = shapes[choices.choice(len(shapes), p=weights / weights.sum())]
    if blurred >= one.blurred:
        return []
    if ringing < one.sinc:
        return [{"op": "sinc", "cutoff": cutoff, "taps": taps}]
    step: Step = {"op": "blur", "sigma": sigmas[0], "taps": taps}
    if turned:
        step |= {"sigma_y": sigmas[1], "angle": angle}
    if shape:
        low, high = one.betas[SHAPES.index(shape)]
        low, high = (low, 1.0) if side < 0.5 else (1.0, high)
        step |= {"shape": shape, "beta": low + share * (high - low)}
    return [step]


def _draw_taps(one: SecondOrderPass, choices: np.random.Generator) -> int:
    sizes = one.kernel_size or (2 * math.ceil(3 * one.sigma[1]) + 1,)
    return sizes[int(choices.random() * len(sizes))]


def _draw_resize(
    one: SecondOrderPass,
    numbers: np.random.Generator,
    choices: np.random.Generator,
    whole: Size,
    now: Size,
) -> Step:
    up, down, scale = (float(v) for v in numbers.random(3))
    which, mode = (float(v) for v in choices.random(2))
    if one.factors:
        low, high = one.factors
        odds = np.cumsum(one.factor_odds) / sum(one.factor_odds)
        kind = int(np.searchsorted(odds, which, side="right"))
        factor = (1 + up * (high - 1), low + down * (1 - low), 1.0)[min(kind, 2)]
    else:
        factor = 1 / (one.scale[0] + scale * (one.scale[1] - one.scale[0]))
    size = (int(whole[0] / one.base * factor), int(whole[1] / one.base * factor))
    return _resize(one.reduce[int(mode * len(one.reduce))], now, size)


def _resize(mode: str, now: Sequence[int], size: Size) -> Step:
    """Not by "area" where the picture grows: a target pixel then averages nothing."""
    if mode == "area" and size[0] > now[0]:
        mode = "bilinear"
    return {"op": "resize", "size": [max(1, side) for side in size], "mode": mode}


def _draw_noise(
    one: SecondOrderPass, numbers: np.random.Generator, choices: np.random.Generator
) -> Step:
    sigma = float(numbers.uniform(*one.noise))
    scale = float(numbers.uniform(*one.poisson_scale))
    seed = int(numbers.integers(2**31))
    kind, grey = (float(v) for v in choices.random(2))
    step: Step = {"op": "noise", "sigma": sigma, "seed": seed}
    if kind < one.poisson:
        step = {"op": "poisson", "scale": scale, "seed": seed}
    return step | {"grey": True} if grey < one.grey else step


_SHAPES = (
    (0.45, "", False),
    (0.25, "", True),
    (0.12, "generalized", False),
    (0.03, "generalized", True),
    (0.12, "plateau", False),
    (0.03, "plateau", True),
)
_FIRST = SecondOrderPass(
    scale=(1 / 1.5, 1 / 0.15),
    sigma=(0.2, 3),
    noise=(1 / 255, 30 / 255),
    quality=(30, 95),
    kernel_size=tuple(range(7, 22, 2)),
    reduce=("area", "bilinear", "bicubic"),
    shapes=_SHAPES,
    factors=(0.15, 1.5),
    factor_odds=(0.2, 0.7, 0.1),
)
_SECOND = SecondOrderPass(
    scale=(4 / 1.2, 4 / 0.3),
    sigma=(0.2, 1.5),
    noise=(1 / 255, 25 / 255),
    quality=(30, 95),
    kernel_size=_FIRST.kernel_size,
    reduce=_FIRST.reduce,
    order="real-esrgan",
    shapes=_SHAPES,
    blurred=0.8,
    base=4,
    factors=(0.3, 1.2),
    factor_odds=(0.3, 0.4, 0.3),
    poisson_scale=(0.05, 2.5),
)

REAL_ESRGAN = Preset(
    ((1.0, (_FIRST, _SECOND)),),
    "Real-ESRGAN (Wang et al., ICCVW 2021), train_realesrgan_x4plus.yml: it ends four times "
    "smaller and is enlarged here. It sharpens good pictures first, which is left out here, and "
    "imitates JPEG, which is libjpeg's here",
    "code",
    "two passes of Gaussian, flat or ringing blurs, Gaussian or Poisson noise, JPEG 30-95; 4 times "
    "smaller, often with a last ringing filter",
    enlarge="bicubic",
)
