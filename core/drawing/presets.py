"""One picture under every degradation preset, for choosing by eye."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..degradation import PRESETS, Degradation, describe
from ..errors import FacewrightError, check_image
from .sheet import contact_sheet, within

LARGEST_CELL = 512
"""Longer side of a picture on the sheet; larger ones are shown reduced."""


def preset_sheet(
    gt: Tensor,
    seed: int,
    presets: Sequence[str] = (),
    *,
    on_picture: Callable[[int], None] = lambda pictures: None,
) -> tuple[Tensor, str]:
    """One picture under several degradation presets, itself first, for choosing by eye.

    Args:
        gt: (1, 3, h, w) in [0, 1].
        seed: the same for every preset, from 0 up.
        presets: names that `Degradation.preset` knows; none means all.
        on_picture: called with 1 after every preset; an exception that it raises ends the work.

    Returns:
        The sheet (1, 3, H, W), pictures beyond `LARGEST_CELL` reduced, and a line per preset on
        what it is for and what was drawn here, with a remark where the picture is far from the
        size that presets presume.

    Raises:
        FacewrightError: not one picture, or an unknown preset.
    """
    check_image(gt, name="gt")
    if len(gt) != 1:
        raise FacewrightError(f"The sheet is of one picture, got {len(gt)}.")
    names = list(presets) or Degradation.presets()
    degradations = [Degradation.preset(name) for name in names]  # unknown ones before any work
    pictures, labels, lines = [_for_the_sheet(gt)], ["original"], []
    for name, degradation in zip(names, degradations, strict=True):
        lq, recipes = degradation(gt, seed)
        pictures.append(_for_the_sheet(lq))
        twin = _twin(name)
        labels.append(f"{name} (as {twin})" if twin else name)
        lines.append(f"{name}: {PRESETS[name].summary}. Here: {describe(recipes[0])}")
        on_picture(1)
    remarks = [PRESETS[name].remark(*gt.shape[-2:]) for name in names]
    lines += dict.fromkeys(remark for remark in remarks if remark)
    return contact_sheet(pictures, labels)[None], "\n".join(lines)


def _twin(name: str) -> str | None:
    """An earlier preset with the same numbers, whose picture is bound to be the same."""

    def numbers(preset: str) -> tuple:
        one = PRESETS[preset]
        return one.ways, one.enlarge, one.color

    earlier = list(PRESETS)[: list(PRESETS).index(name)]
    return next((other for other in earlier if numbers(other) == numbers(name)), None)


def _for_the_sheet(x: Tensor) -> Tensor:
    """(1, 3, h, w) -> (3, h', w') of at most `LARGEST_CELL`."""
    return within(x[0], min(LARGEST_CELL, max(x.shape[-2:])))
