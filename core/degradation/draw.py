"""From a seed to the recipe of one image."""

from typing import Any

import numpy as np

from ..errors import FacewrightError
from .passes import Pass, Preset
from .real_esrgan import SecondOrderPass, draw_pass

Step = dict[str, Any]
_STREAM = 37

# GFPGAN v1's colour changes: degradations of train_gfpgan_v1.yml, in the order of its data set.
SHIFT_PROBABILITY, SHIFT = 0.3, 20 / 255
GREY_PROBABILITY = 0.01
JITTER_PROBABILITY = 0.3
JITTER = {"brightness": (0.5, 1.5), "contrast": (0.5, 1.5), "saturation": (0, 1.5),
          "hue": (-0.1, 0.1)}  # fmt: skip


def draw(preset: Preset, seed: int, height: int, width: int) -> dict[str, Any]:
    """The recipe {"seed", "size", "steps"}, each step a dict with its "op"."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise FacewrightError(f"Seeds should be integers from 0 up, got {seed!r}.")
    seed = int(seed)
    # Numbers, choices and colours have a stream each, so that a changed setting (an order, a list
    # of ways to reduce) leaves what else is drawn for a seed as it was.
    numbers = np.random.default_rng((_STREAM, seed))
    choices = np.random.default_rng((_STREAM, seed, 1))
    weights = np.array([weight for weight, _ in preset.ways])
    passes = preset.ways[numbers.choice(len(weights), p=weights / weights.sum())][1]
    steps: list[Step] = []
    now = whole = (height, width)
    for one in passes:
        if isinstance(one, SecondOrderPass):
            done, now = draw_pass(one, numbers, choices, whole, now, last=one is passes[-1])
            steps += done
        else:
            steps += _draw_pass(one, numbers, choices, height, width, preset.enlarge)
    if now != whole:
        steps.append({"op": "resize", "size": [height, width], "mode": preset.enlarge})
    if preset.color:
        steps += _draw_color(np.random.default_rng((_STREAM, seed, 2)))
    steps.append({"op": "round"})
    return {"seed": seed, "size": [height, width], "steps": steps}


def _draw_pass(
    one: Pass,
    numbers: np.random.Generator,
    choices: np.random.Generator,
    height: int,
    width: int,
    enlarge: str,
) -> list[Step]:
    """Every number is drawn whether used or not, so that recipes stay comparable."""
    scale = numbers.uniform(*one.scale)
    sigmas = numbers.uniform(*one.sigma, size=2) * (scale if one.sigma_per_scale else 1.0)
    angle = numbers.uniform(-np.pi, np.pi)
    round_ = numbers.random() >= one.anisotropic
    noise = numbers.uniform(*one.noise)
    quality = int(numbers.integers(one.quality[0], one.quality[1] + 1))
    noise_seed = int(numbers.integers(2**31))
    order = choices.permutation(4)
    which_mode, which_taps, swap = choices.random(3)

    if one.kernel_size:
        taps = one.kernel_size[int(which_taps * len(one.kernel_size))]
    else:
        taps = 2 * int(np.ceil(3 * sigmas[: 1 if round_ else 2].max())) + 1
    blur: Step = {"op": "blur", "sigma": float(sigmas[0]), "taps": taps}
    if not round_:
        blur |= {"sigma_y": float(sigmas[1]), "angle": float(angle)}
    mode = one.reduce[int(which_mode * len(one.reduce))]
    if mode == "area" and scale < 1:
        mode = "bilinear"  # a target pixel covers less than one source pixel: nothing to average
    size = [max(1, int(height / scale)), max(1, int(width / scale))]
    steps = [
        blur,
        {"op": "resize", "size": size, "mode": mode},
        {"op": "noise", "sigma": float(noise), "seed": noise_seed},
        {"op": "jpeg", "quality": quality},
    ]
    back = {"op": "resize", "size": [height, width], "mode": enlarge}
    if one.order == "shuffled":
        steps = [steps[i] for i in order]
    if one.order == "real-esrgan" and swap < 0.5:
        return [*steps[:3], back, steps[3]]
    return [*steps, back]


def _draw_color(rng: np.random.Generator) -> list[Step]:
    """GFPGAN's: a shift of each channel, then loss of colour, then jitter in random order."""
    shifted, grey, jittered = rng.random(3) < (
        SHIFT_PROBABILITY,
        GREY_PROBABILITY,
        JITTER_PROBABILITY,
    )
    shift = rng.uniform(-SHIFT, SHIFT, 3)
    amounts = {name: float(rng.uniform(*limits)) for name, limits in JITTER.items()}
    order = rng.permutation(len(JITTER))
    steps: list[Step] = []
    if shifted:
        steps.append({"op": "shift", "rgb": [float(s) for s in shift]})
    if grey:
        steps.append({"op": "grey"})
    if jittered:
        names = [list(JITTER)[i] for i in order]
        steps += [{"op": name, "amount": amounts[name]} for name in names]
    return steps
