"""Recipes as data: what a step may hold, and how to say one in a line."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import FacewrightError, shorten
from .presets import MAX_TAPS, MODES
from .real_esrgan import SHAPES

MAX_SIDE = 16384
"""Pixels; a recipe that asks for more was not drawn here and would only exhaust the memory."""

Check = Callable[[object], bool]


def _between(lowest: float, highest: float, *, whole: bool = False, odd: bool = False) -> Check:
    def check(value: object) -> bool:
        if not isinstance(value, int if whole else int | float) or isinstance(value, bool):
            return False
        return lowest <= value <= highest and (value % 2 == 1 or not odd)

    return check


_integer = partial(_between, whole=True)


def _several(count: int, check: Check) -> Check:
    def checked(value: object) -> bool:
        return isinstance(value, list | tuple) and len(value) == count and all(map(check, value))

    return checked


_size = _several(2, _integer(1, MAX_SIDE))
# op -> key -> (check, what it should be)
_TRUE = (lambda v: v is True, "true, or left out")
_SEED = (_integer(0, 2**63 - 1), "an integer from 0 up")
_TAPS = (_integer(1, MAX_TAPS, odd=True), f"an odd number from 1 to {MAX_TAPS}")
_SIGMA = (_between(0, 1e4), "a number of pixels from 0 up")
_GAIN = (_between(0, 100), "a factor from 0 up")
_STEPS: dict[str, dict[str, tuple[Check, str]]] = {
    "blur": {
        "sigma": _SIGMA,
        "taps": _TAPS,
        "sigma_y": _SIGMA,
        "angle": (_between(-1e3, 1e3), "an angle in radians"),
        "shape": (lambda v: v in SHAPES, f"one of {', '.join(SHAPES)}"),
        "beta": (_between(0.01, 100), "an exponent from 0.01 to 100"),
    },
    "sinc": {"cutoff": (_between(0.01, math.pi), "radians per pixel up to pi"), "taps": _TAPS},
    "resize": {
        "size": (_size, f"[height, width], each from 1 to {MAX_SIDE}"),
        "mode": (lambda v: v in MODES, f"one of {', '.join(MODES)}"),
    },
    "noise": {
        "sigma": (_between(0, 10), "a standard deviation from 0 up, in units of [0, 1]"),
        "seed": _SEED,
        "grey": _TRUE,
    },
    "poisson": {
        "scale": (_between(0, 100), "a strength from 0 up"),
        "seed": _SEED,
        "grey": _TRUE,
    },
    "jpeg": {"quality": (_integer(1, 100), "an integer from 1 to 100")},
    "shift": {"rgb": (_several(3, _between(-1, 1)), "three numbers from -1 to 1")},
    "grey": {},
    "brightness": {"amount": _GAIN},
    "contrast": {"amount": _GAIN},
    "saturation": {"amount": _GAIN},
    "hue": {"amount": (_between(-0.5, 0.5), "a share of the colour circle from -0.5 to 0.5")},
    "round": {},
}
_OPTIONAL = {("blur", k) for k in ("sigma_y", "angle", "shape", "beta")}
_OPTIONAL |= {("noise", "grey"), ("poisson", "grey")}
_TOGETHER = (("sigma_y", "angle"), ("shape", "beta"))


def check_recipe(recipe: object) -> None:
    """Raise FacewrightError, naming the step, unless `recipe` is one that can be carried out."""
    if not isinstance(recipe, Mapping):
        raise FacewrightError(
            f"A recipe should be an object with `size` and `steps`, got {_short(recipe)}."
        )
    for key in ("size", "steps"):
        if key not in recipe:
            raise FacewrightError(f"This recipe has no `{key}`; was it cut short?")
    if not _size(recipe["size"]):
        raise FacewrightError(
            f"The `size` of a recipe should be {_STEPS['resize']['size'][1]}, "
            f"got {_short(recipe['size'])}."
        )
    if not isinstance(recipe["steps"], list | tuple):
        raise FacewrightError(
            f"The `steps` of a recipe should be a list, got {_short(recipe['steps'])}."
        )
    for number, step in enumerate(recipe["steps"], 1):
        _check_step(step, number)


def _check_step(step: object, number: int) -> None:
    if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
        raise FacewrightError(
            f"Step {number} of a recipe should be an object with its `op`, got {_short(step)}."
        )
    op = step["op"]
    if op not in _STEPS:
        raise FacewrightError(
            f"Step {number} of this recipe is {shorten(repr(op))}, which this version cannot carry "
            f"out; known are {', '.join(_STEPS)}."
        )
    known = _STEPS[op]
    for key in step.keys() - known.keys() - {"op"}:
        raise FacewrightError(
            f"Step {number} ({op}) of this recipe has {key!r}, which this version does not know."
        )
    for key, (check, expected) in known.items():
        if key not in step and (op, key) in _OPTIONAL:
            continue
        if key not in step:
            raise FacewrightError(f"Step {number} ({op}) of this recipe lacks `{key}`: {expected}.")
        if not check(step[key]):
            raise FacewrightError(
                f"Step {number} ({op}) of this recipe: `{key}` should be {expected}, "
                f"got {_short(step[key])}."
            )
    for one, other in _TOGETHER:
        if (one in step) != (other in step):
            raise FacewrightError(
                f"Step {number} (blur) of this recipe should have both `{one}` and `{other}` or "
                f"neither."
            )


def _short(value: object) -> str:
    return shorten(repr(value), 60)


def describe(recipe: Mapping[str, Any]) -> str:
    """One line for people, such as "blur 7.3 x 2.1 px at 40°, /12.4, noise 9/255, JPEG 52".

    Passes stand behind each other with a semicolon; the return to the original size and the final
    rounding are not named.

    Raises:
        FacewrightError: not a recipe.
    """
    check_recipe(recipe)
    original = list(recipe["size"])
    size, parts = original, [[]]
    for step in recipe["steps"]:
        if step["op"] == "resize":
            back = list(step["size"]) == original
            if not back:
                factor = max(size[0] / step["size"][0], size[1] / step["size"][1])
                parts[-1].append(f"/{factor:.1f}" if factor >= 1 else f"x{1 / factor:.2f}")
            elif parts[-1]:
                parts.append([])
            size = list(step["size"])
        elif step["op"] != "round":
            parts[-1].append(_say(step))
    return "; ".join(", ".join(one) for one in parts if one) or "nothing"


def _say(step: Mapping[str, Any]) -> str:
    match step["op"]:
        case "blur" if "angle" in step:
            angle = round(math.degrees(step["angle"])) % 180
            about = f"{step['sigma']:.1f} x {step['sigma_y']:.1f} px at {angle}°"
            return f"{_blur_name(step)} {about}"
        case "blur":
            return f"{_blur_name(step)} {step['sigma']:.1f} px"
        case "sinc":
            return f"ringing filter at {step['cutoff'] / math.pi:.2f} of the pixels' limit"
        case "noise":
            return f"{'grey ' * ('grey' in step)}noise {step['sigma'] * 255:.0f}/255"
        case "poisson":
            return f"{'grey ' * ('grey' in step)}Poisson noise x{step['scale']:.2f}"
        case "jpeg":
            return f"JPEG {step['quality']}"
        case "shift":
            return "shift " + "/".join(f"{255 * v:+.0f}" for v in step["rgb"])
        case "hue":
            return f"hue {360 * step['amount']:+.0f}°"
        case "grey":
            return "grey"
        case _:
            return f"{step['op']} x{step['amount']:.2f}"


def _blur_name(step: Mapping[str, Any]) -> str:
    return f"{step['shape']} blur" if "shape" in step else "blur"
