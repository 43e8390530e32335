"""Draws recipes and carries them out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ..errors import FacewrightError, check_image
from . import draw as drawing
from .linear import apply_linear, repeatable
from .passes import Preset
from .presets import PRESETS, overridden
from .recipe import check_recipe
from .steps import apply_step

Recipe = dict[str, Any]
_LINEAR = ("blur", "sinc", "resize")


class Degradation:
    """Draws a recipe per image and carries it out.

    Args:
        settings: what to draw from; mostly through `Degradation.preset`.
    """

    def __init__(self, settings: Preset) -> None:
        self.settings = settings

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "Degradation":
        """One of `presets()`, with other values in every pass where `overrides` gives them.

        Args:
            name: `PRESETS` holds each one's source and a line on what it does.
            **overrides: scale=(low, high), sigma=(low, high), noise=(low, high) in [0, 1] units,
                quality=(low, high), anisotropic, kernel_size, reduce, order, passes, enlarge and
                color, as `presets.overridden` describes them.

        Raises:
            FacewrightError: an unknown name or setting, or a value out of its range.
        """
        if name not in PRESETS:
            raise FacewrightError(
                f"There is no degradation preset {name!r}; choose one of {', '.join(PRESETS)}."
            )
        return cls(overridden(PRESETS[name], **overrides))

    @staticmethod
    def presets() -> list[str]:
        """Names that `preset` knows, the own ones first; new ones go to the end."""
        return list(PRESETS)

    def __call__(
        self,
        gt: Tensor,
        seed: int | Sequence[int],
        *,
        on_image: Callable[[int], None] = lambda images: None,
    ) -> tuple[Tensor, list[Recipe]]:
        """Degrade a batch.

        Args:
            gt: (b, 3, h, w) in [0, 1], on any device.
            seed: one per image, from 0 up; an int s means s, s + 1, ...
            on_image: called after each image with their number so far; what it raises ends this.

        Returns:
            lq (b, 3, h, w) in [0, 1], a multiple of 1/255, like gt in type and device, and one
            recipe per image.

        Raises:
            FacewrightError: wrong shape or type, values that are not finite, or not one seed per
                image.
        """
        check_image(gt, name="gt")
        if isinstance(seed, Integral):
            seeds = list(range(int(seed), int(seed) + len(gt)))
        elif isinstance(seed, Iterable):
            seeds = list(seed)
        else:
            raise FacewrightError(f"Seeds should be integers from 0 up, got {seed!r}.")
        if len(seeds) != len(gt):
            raise FacewrightError(f"Give one seed per image: {len(gt)} images, {len(seeds)} seeds.")
        recipes = [self.draw(s, *gt.shape[-2:]) for s in seeds]
        return self.replay(gt, recipes, on_image=on_image), recipes

    def draw(self, seed: int, height: int, width: int) -> Recipe:
        """The recipe of one image: {"seed", "size", "steps"}, ready for JSON.

        Raises:
            FacewrightError: the seed is not an integer from 0 up.
        """
        return drawing.draw(self.settings, seed, height, width)

    @staticmethod
    @torch.no_grad()
    def replay(
        gt: Tensor,
        recipes: Sequence[Mapping[str, Any]],
        *,
        on_image: Callable[[int], None] = lambda images: None,
    ) -> Tensor:
        """Carry out recipes, one per image of gt (b, 3, h, w); returns lq of the same shape.

        Linear steps run on gt's device, noise is drawn and JPEG done on the CPU. A recipe whose
        last steps were taken away gives the values between steps, neither clipped nor rounded.

        Raises:
            FacewrightError: their number or the image size is not the one they were drawn for, a
                step cannot be carried out, or gt holds values that are not finite.
        """
        check_image(gt, name="gt")
        if isinstance(recipes, Mapping) or len(recipes) != len(gt):
            count = 1 if isinstance(recipes, Mapping) else len(recipes)
            raise FacewrightError(
                f"Give a list with one recipe per image: {len(gt)} images, {count} recipes."
            )
        size = list(gt.shape[-2:])
        for one in recipes:
            check_recipe(one)
            if list(one["size"]) != size:
                raise FacewrightError(
                    f"This recipe was drawn for {list(one['size'])} (height, width) pixels and the "
                    f"image has {size}; resize the image first or draw a new recipe."
                )
        if not recipes:
            return gt.clone()
        _check_finite(gt)
        with repeatable(gt.device):
            done = []
            for x, one in zip(gt.detach(), recipes, strict=True):
                done.append(_carry_out(x, one["steps"]))
                on_image(len(done))
        if len({x.shape for x in done}) > 1:
            raise FacewrightError(
                "These recipes end at different sizes; carry them out one image at a time."
            )
        return torch.stack(done).to(gt.dtype)


def _check_finite(gt: Tensor) -> None:
    # One sum tells of any NaN or infinity; only where it does is every value looked at.
    if torch.isfinite(gt.float().sum()):
        return
    for index, x in enumerate(gt):
        if not torch.isfinite(x).all():
            raise FacewrightError(
                f"Image {index} (counted from 0) of gt holds values that are NaN or infinite; "
                f"give pixels in [0, 1]."
            )


def _carry_out(x: Tensor, steps: Sequence[Mapping[str, Any]]) -> Tensor:
    """One image (3, h, w) through its steps; linear ones wait for each other."""
    # (h, 3, w) makes plain matrix products of both axes; a copy, since steps write over it.
    x = x.to(torch.float32).transpose(0, 1).clone(memory_format=torch.contiguous_format)
    waiting: list[Mapping[str, Any]] = []
    for step in steps:
        if step["op"] in _LINEAR:
            waiting.append(step)
            continue
        x = apply_step(apply_linear(x, waiting), step)
        waiting = []
    return apply_linear(x, waiting).transpose(0, 1)
