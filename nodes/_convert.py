"""The border between host tensors and core tensors. Nothing else in the package permutes."""

import torch
from einops import rearrange
from torch import Tensor

from ..core.errors import FacewrightError


def to_nchw(image: Tensor) -> Tensor:
    """IMAGE (b, h, w, c) in [0, 1] -> (b, 3, h, w); alpha is dropped, grey becomes RGB."""
    return rgb_view(image).contiguous()


def rgb_view(image: Tensor) -> Tensor:
    """`to_nchw` in the IMAGE's own memory: a video's frames are copied one by one where needed."""
    colour = image.expand(*image.shape[:3], 3) if image.shape[-1] == 1 else image[..., :3]
    return alpha_view(colour)


def one_batch(images: list[Tensor], name: str) -> Tensor:
    """The IMAGEs of an input list as one batch (b, 3, h, w).

    Raises:
        FacewrightError: they differ in size.
    """
    batches = [to_nchw(image) for image in images]
    sizes = sorted({tuple(b.shape[-2:]) for b in batches})
    if len(sizes) > 1:
        shown = " and ".join(f"{w} x {h}" for h, w in sizes[:2])
        raise FacewrightError(
            f"`{name}` holds pictures of {shown} pixels. Connect the crops of one Detect Faces, "
            "which are all of one size."
        )
    return torch.cat(batches)


def alpha_view(image: Tensor) -> Tensor:
    """IMAGE (b, h, w, c) in [0, 1] -> (b, c, h, w), alpha included, in the same memory.

    Results that core makes in the layout of such a view are an IMAGE again without another copy.
    """
    return rearrange(image, "b h w c -> b c h w")


def alpha_of(image: Tensor) -> Tensor:
    """The alpha channel of an IMAGE as (b, h, w, 1), float32 on the CPU; (b, h, w, 0) without."""
    return image[..., 3:4].float().cpu()


def to_image(x: Tensor) -> Tensor:
    """(b, c, h, w) in [0, 1] -> IMAGE, float32 on the CPU."""
    return rearrange(x, "b c h w -> b h w c").float().cpu().contiguous()


def to_conditioning(cond: Tensor) -> list:
    """(b, n, d) -> CONDITIONING."""
    return [[cond.float().cpu(), {}]]


def from_conditioning(conditioning: list) -> Tensor:
    """CONDITIONING with a single entry -> (b, n, d).

    Raises:
        FacewrightError: several entries, as Conditioning (Combine) makes them.
    """
    if len(conditioning) != 1:
        raise FacewrightError(
            f"`conditioning` has {len(conditioning)} entries; a single one was expected. "
            "Leave out nodes that combine conditionings."
        )
    return conditioning[0][0]
