"""Published and own degradations as data, and the ranges a person may put in their place."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import FacewrightError
from .passes import Pass, Preset, Range
from .real_esrgan import REAL_ESRGAN

MODES = ("area", "bilinear", "bicubic")
ORDERS = ("fixed", "shuffled", "real-esrgan")
MAX_SIGMA = 200.0
MAX_TAPS = 1201
T = TypeVar("T")

MIN_SCALE = 0.1
FACE_SIDE = 512
"""Pixels of the aligned faces that papers degrade."""


def _own(summary: str, *ways: tuple[float, Range, Range, tuple[int, int]]) -> Preset:
    """Own presets blur in proportion to the reduction, so that they mean the same at every size."""
    how = {"sigma": (0.10, 0.45), "sigma_per_scale": True, "reduce": ("area",)}
    return Preset(
        tuple((w, (Pass(scale=s, noise=n, quality=q, **how),)) for w, s, n, q in ways),
        source="facewright; blur goes with the reduction, so any image size will do",
        evidence="own",
        summary=summary,
        enlarge="bicubic",
    )


def _face(
    scale: Range, sigma: Range, quality: tuple[int, int], taps: tuple[int, ...] = (41,)
) -> Pass:
    """What the GFPGAN family shares: half the kernels rotated, noise up to 20/255."""
    return Pass(scale, sigma, (0, 20 / 255), quality, kernel_size=taps, anisotropic=0.5)


def _published(
    one: Pass, source: str, evidence: str, summary: str, *further: Pass, color: bool = False
) -> Preset:
    return Preset(((1.0, (one, *further)),), source, evidence, summary, color=color, side=FACE_SIDE)


# GFPGAN, VQFR and DAEFR hand OpenCV a quality with a fraction. Versions before 4.5.4 rounded it,
# later ones refuse it; whole numbers with even odds differ from that in their two ends alone, which
# come as often as the others and not half as often.


def _truncated(low: int, high: int) -> tuple[int, int]:
    """Qualities of codes that cut a number drawn from low to high off with int(): never `high`."""
    return low, high - 1


_VQFR = _face((0.8, 8), (0.1, 10), (60, 100))
_CODEFORMER = _face((4, 30), (1, 15), _truncated(30, 80))
_CODEFORMER_SMALL = replace(_face((1, 12), (0.1, 10), _truncated(60, 100)), noise=(0, 15 / 255))
_DIFFBIR_2 = replace(_face((1, 12), (0.1, 12), _truncated(30, 100)), noise=(0, 15 / 255))
_FLIPNET = replace(_face((0.8, 32), (0.1, 15), (30, 95)), reduce=MODES)
_FLIPNET_2 = replace(_FLIPNET, order="shuffled")
_SEVERE = (1.0, (8, 8), (0.005, 0.055), (35, 85))

PRESETS: dict[str, Preset] = {
    "mild": _own(
        "2 to 3 times smaller, light blur, little noise, JPEG 70-95",
        (1.0, (2, 3), (0.0, 0.015), (70, 95)),
    ),
    "moderate": _own(
        "4 to 6 times smaller, light blur, noise up to 8/255, JPEG 50-90",
        (1.0, (4, 6), (0.005, 0.03), (50, 90)),
    ),
    "severe": _own("8 times smaller, light blur, noise up to 14/255, JPEG 35-85", _SEVERE),
    "train": _own(
        "a mixture from 2 to 8 times smaller, mostly the severe end",
        (0.45, *_SEVERE[1:]),
        (0.35, (4, 8), (0.005, 0.045), (40, 90)),
        (0.20, (2, 4), (0.0, 0.03), (55, 95)),
    ),
    "gfpgan": _published(
        _VQFR,
        "GFPGAN v1 (Wang et al., CVPR 2021), train_gfpgan_v1.yml",
        "code",
        "up to 8 times smaller, blur up to 10 px, JPEG 60-100, on some images other colours",
        color=True,
    ),
    "vqfr": _published(
        _VQFR,
        "VQFR v1 (Gu et al., ECCV 2022), training configuration",
        "code",
        "up to 8 times smaller, blur up to 10 px, noise up to 20/255, JPEG 60-100",
    ),
    "vqfr2": _published(
        _face((1, 30), (1, 15), (30, 90)),
        "VQFR v2 (Gu et al.), train_vqfr_v2_B16_200K.yml; its data set could leave a share of "
        "images undamaged, which that configuration does not ask for",
        "code",
        "up to 30 times smaller, blur 1 to 15 px, noise up to 20/255, JPEG 30-90",
    ),
    "codeformer": _published(
        _CODEFORMER,
        "CodeFormer (Zhou et al., NeurIPS 2022), CodeFormer_stage2.yml; qualities drawn from 30 to "
        "80 lose their fraction, so that 80 never occurs",
        "code",
        "4 to 30 times smaller, blur 1 to 15 px, noise up to 20/255, JPEG 30-79",
    ),
    "daefr": _published(
        _face((0.8, 30), (0.1, 15), (30, 100), taps=(39, 41)),
        "DAEFR (Tsai et al., ICLR 2024), training configuration",
        "code",
        "up to 30 times smaller, blur up to 15 px, noise up to 20/255, JPEG 30-100",
    ),
    "flipnet": _published(
        _FLIPNET,
        "FLIPNET, its text (Eq. 9); 41 taps and the share of rotated kernels are not stated and "
        "are GFPGAN's",
        "paper",
        "two passes, each up to 32 times smaller, blur up to 15 px, JPEG 30-95; second shuffled",
        _FLIPNET_2,
    ),
    "osdface": _published(
        _FLIPNET,
        "OSDFace (CVPR 2025) follows WaveFace in two passes and releases no numbers; these are "
        "FLIPNET's, whose first author is WaveFace's",
        "inferred",
        "two passes like flipnet's; OSDFace's own numbers are not published",
        _FLIPNET_2,
    ),
    "honestface": _published(
        _VQFR,
        "HonestFace: 'the same as VQFR'; v1 or v2 is not said, these are v1's (v2's: vqfr2)",
        "inferred",
        "like vqfr; whether VQFR's first or second version is meant is not published",
    ),
    "codeformer3": Preset(
        ((0.5, (_CODEFORMER_SMALL,)), (0.5, (_CODEFORMER,))),
        "CodeFormer (Zhou et al., NeurIPS 2022), CodeFormer_stage3.yml: there every image is "
        "damaged both ways, here each with even odds",
        "code",
        "half of the images as codeformer, half up to 12 times smaller with noise up to 15/255 and "
        "JPEG 60-99",
        side=FACE_SIDE,
    ),
    "diffbir": _published(
        _face((0.8, 8), (0.1, 10), _truncated(60, 100)),
        "DiffBIR (Lin et al., ECCV 2024), configuration for faces of its first release, "
        "face_train.yaml; qualities lose their fraction",
        "code",
        "up to 8 times smaller, blur up to 10 px, noise up to 20/255, JPEG 60-99",
    ),
    "diffbir2": _published(
        _DIFFBIR_2,
        "DiffBIR (Lin et al., ECCV 2024), configuration of its later releases for any picture, "
        "train_stage1.yaml; qualities lose their fraction",
        "code",
        "up to 12 times smaller, blur up to 12 px, noise up to 15/255, JPEG 30-99",
    ),
    "real-esrgan": REAL_ESRGAN,
}


def overridden(preset: Preset, **changes: Any) -> Preset:
    """`preset` with other values in every pass.

    Keyword Args:
        scale: (low, high), reduction of each side, 0.1 or more.
        sigma: (low, high) in pixels of the image as it is when blurred, 0 (no blur) to 200.
        noise: (low, high), standard deviation in units of the [0, 1] range.
        quality: (low, high), whole numbers from 1 to 100.
        anisotropic: share in [0, 1] of images whose blur has two sigmas and an angle.
        kernel_size: taps of the blur, an odd number, several to draw from, or None for as many as
            sigma needs.
        reduce: "area", "bilinear", "bicubic" or several to draw from.
        order: of the last pass: "fixed", "shuffled" or "real-esrgan".
        passes: 1 or 2; a second pass repeats the first where the preset has one only.
        enlarge: "bilinear" or "bicubic".
        color: whether to apply GFPGAN's colour shift, jitter and loss of colour.

    Raises:
        FacewrightError: an unknown name or a value out of its range.
    """
    for name in changes:
        if name not in _CHECKS:
            raise FacewrightError(
                f"A degradation has no setting {name!r}; choose from {', '.join(_CHECKS)}."
            )
    values = {name: _CHECKS[name](name, value) for name, value in changes.items()}
    whole = {k: values.pop(k) for k in ("enlarge", "color") if k in values}
    order, passes = values.pop("order", None), values.pop("passes", None)

    def change(way: tuple[Pass, ...]) -> tuple[Pass, ...]:
        way = tuple(_changed(one, values) for one in way)
        if passes is not None:
            way = (*way, way[-1])[:passes]
        return way if order is None else (*way[:-1], replace(way[-1], order=order))

    return replace(preset, ways=tuple((w, change(way)) for w, way in preset.ways), **whole)


def _changed(one: Pass, values: dict[str, Any]) -> Pass:
    further = {k: v for name in values for k, v in one.gives_way.get(name, {}).items()}
    return replace(one, **further, **values)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise FacewrightError(f"`{name}` should be made of numbers, got {value!r}.")
    return value


def _range(lowest: float, highest: float, unit: str) -> Callable[[str, object], Range]:
    def check(name: str, value: object) -> Range:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
            raise FacewrightError(
                f"`{name}` should be two numbers, lowest and highest, got {value!r}."
            )
        low, high = (_number(name, v) for v in value)
        if not lowest <= low <= high <= highest:
            raise FacewrightError(
                f"`{name}` should be a lowest and a highest {unit} from {lowest:g} to "
                f"{highest:g}, in this order, got {low:g} and {high:g}."
            )
        return low, high

    return check


def _noise(name: str, value: object) -> Range:
    if isinstance(value, list | tuple) and len(value) == 2 and _number(name, value[1]) > 1:
        low, high = (_number(name, v) for v in value)
        if 0 <= low <= high <= 255:
            raise FacewrightError(
                f"`{name}` should be from 0 to 1, in units of the [0, 1] range, got {low:g} and "
                f"{high:g}. If these are levels of 255, as on the command line, give "
                f"{low / 255:.6g} and {high / 255:.6g}."
            )
    return _range(0, 1, "standard deviation")(name, value)


def _quality(name: str, value: object) -> tuple[int, int]:
    low, high = _range(1, 100, "JPEG quality")(name, value)
    if low != int(low) or high != int(high):
        raise FacewrightError(f"`{name}` should be whole numbers, got {low:g} and {high:g}.")
    return int(low), int(high)


def _share(name: str, value: object) -> float:
    share = _number(name, value)
    if not 0 <= share <= 1:
        raise FacewrightError(f"`{name}` should be a share from 0 to 1, got {value!r}.")
    return share


def _several(value: object) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _taps(name: str, value: object) -> tuple[int, ...]:
    choices = () if value is None else _several(value)
    for one in choices:
        whole = isinstance(one, int) and not isinstance(one, bool)
        if not whole or one % 2 == 0 or not 1 <= one <= MAX_TAPS:
            raise FacewrightError(
                f"`{name}` should be an odd number of pixels from 1 to {MAX_TAPS}, several of "
                f"them, or nothing for as many as sigma needs, got {value!r}."
            )
    if value is not None and not choices:
        raise FacewrightError(f"`{name}` should name at least one size, got {value!r}.")
    return choices


def _one_of(*choices: T) -> Callable[[str, object], T]:
    def check(name: str, value: object) -> T:
        for choice in choices:
            if value is choice or (isinstance(choice, str) and value == choice):
                return choice
        known = ", ".join(map(str, choices))
        raise FacewrightError(f"`{name}` should be one of {known}; got {value!r}.")

    return check


def _modes(name: str, value: object) -> tuple[str, ...]:
    choices = _several(value)
    if not choices:
        raise FacewrightError(f"`{name}` should name at least one way, got {value!r}.")
    return tuple(_one_of(*MODES)(name, one) for one in choices)


def _passes(name: str, value: object) -> int:
    if isinstance(value, bool) or value not in (1, 2):
        raise FacewrightError(f"`{name}` should be 1 or 2, got {value!r}.")
    return int(value)


_CHECKS = {
    "scale": _range(MIN_SCALE, 4096, "reduction"),
    "sigma": _range(0, MAX_SIGMA, "blur in pixels"),
    "noise": _noise,
    "quality": _quality,
    "anisotropic": _share,
    "kernel_size": _taps,
    "reduce": _modes,
    "order": _one_of(*ORDERS),
    "passes": _passes,
    "enlarge": _one_of("bilinear", "bicubic"),
    "color": _one_of(True, False),
}
