"""Before and after in one picture."""

import torch
from torch import Tensor

from ..errors import FacewrightError, check_image
from .sheet import GAP, resized, write_label

MODES = ("side by side", "split")


def compare(
    before: Tensor,
    after: Tensor,
    mode: str = "side by side",
    *,
    labels: tuple[str, str] = ("before", "after"),
) -> Tensor:
    """Join two batches picture by picture, `before` resized to the size of `after`.

    Args:
        before: (b, 3, h, w) in [0, 1], or one picture for all.
        after: (b, 3, h', w') in [0, 1], or one picture for all.
        mode: "side by side", or "split": the left half of one and the right half of the other.
        labels: written into the lower corners; empty strings write nothing.

    Returns:
        (b, 3, h', 2 w' + 4) or (b, 3, h', w') in [0, 1], float32 on the CPU.

    Raises:
        FacewrightError: an unknown mode, or batches of different length.
    """
    check_image(before, name="before")
    check_image(after, name="after")
    if mode not in MODES:
        raise FacewrightError(f"No comparison {mode!r}; known: {', '.join(MODES)}.")
    n = max(len(before), len(after)) if len(before) and len(after) else 0
    if n and not {len(before), len(after)} <= {1, n}:
        raise FacewrightError(
            f"`before` holds {len(before)} pictures and `after` {len(after)}. Connect as many "
            "of each, or a single one."
        )
    h, w = after.shape[-2:]
    split = mode == "split"
    # In the layout of ComfyUI's pictures, for which a video would otherwise be copied once more.
    out = torch.ones(n, h, w if split else 2 * w + GAP, 3).permute(0, 3, 1, 2)
    middle = w // 2
    for i in range(n):
        left, right = resized(before[i % len(before)], h, w), after[i % len(after)].float().cpu()
        if split:
            out[i, ..., :middle], out[i, ..., middle:] = left[..., :middle], right[..., middle:]
            out[i, ..., max(0, middle - 1) : middle + 1] = 1
        else:
            out[i, ..., :w], out[i, ..., w + GAP :] = left, right
        size = max(9, min(h, w) // 24)
        for text, at_right in zip(labels, (False, True), strict=True):
            write_label(out[i], text, right=at_right, size=size)
    return out
