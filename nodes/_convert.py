"""The border between host tensors and core tensors. Nothing else in the package permutes."""

from math import isfinite

import torch
from einops import rearrange
from torch import Tensor

from ..core.errors import FacewrightError

_LARGEST = 65504.0
"""Of half precision, in which models may compute. Pictures of high range stay far below."""


def to_nchw(image: object, name: str = "image") -> Tensor:
    """IMAGE (b, h, w, c) in [0, 1] -> (b, 3, h, w); alpha is dropped, grey becomes RGB.

    Raises:
        FacewrightError: as `checked`.
    """
    return rgb_view(image, name).contiguous()


def rgb_view(image: object, name: str = "image") -> Tensor:
    """`to_nchw` in the IMAGE's own memory: a video's frames are copied one by one where needed.

    Raises:
        FacewrightError: as `checked`.
    """
    return alpha_view(image, name)[:, :3]


def checked(image: object, name: str = "image") -> Tensor:
    """The IMAGE in single precision, in the same memory where it is; its batch may be empty.

    Every IMAGE passes here before anything is computed from it.

    Args:
        name: of the input, for the sentence.

    Raises:
        FacewrightError: no tensor (b, h, w, c) of 1, 3 or 4 channels, no floating point, no pixels,
            or numbers that are not finite or far out of any picture's range.
    """
    if not isinstance(image, Tensor):
        raise FacewrightError(f"`{name}` should be an IMAGE, got {type(image).__name__}.")
    shape = tuple(image.shape)
    if image.ndim != 4 or shape[3] not in (1, 3, 4):
        hint = " It looks like a MASK: put Mask to Image before it." if image.ndim == 3 else ""
        raise FacewrightError(
            f"`{name}` should be an IMAGE (pictures, height, width, 1, 3 or 4 channels), got "
            f"{shape}.{hint}"
        )
    if 0 in shape[1:]:
        raise FacewrightError(f"`{name}` holds pictures of {shape[2]} x {shape[1]} pixels.")
    if not image.is_floating_point():
        raise FacewrightError(
            f"`{name}` should be floating point in [0, 1], got {str(image.dtype)[6:]}. The node "
            "before it makes no ComfyUI IMAGE: divide by 255 there."
        )
    for i, picture in enumerate(image.detach()):
        low, high = (float(v) for v in picture.float().aminmax())
        if not (low >= -_LARGEST and high <= _LARGEST):  # NaN fails as well
            what = "NaN or infinite numbers"
            if isfinite(low) and isfinite(high):
                what = f"numbers from {low:.3g} to {high:.3g}"
            raise FacewrightError(
                f"`{name}` holds {what} in picture {i}; pixels lie in [0, 1]. Something before "
                "this node went wrong, often a VAE in half precision."
            )
    return image.detach().float()


def channels_first(image: Tensor) -> Tensor:
    """(b, h, w, c) -> (b, c, h, w) in the same memory, whatever the pixels are."""
    return rearrange(image, "b h w c -> b c h w")


def one_batch(images: list[Tensor], name: str) -> Tensor:
    """The IMAGEs of an input list as one batch (b, 3, h, w).

    Raises:
        FacewrightError: they differ in size.
    """
    batches = [to_nchw(image, name) for image in images]
    sizes = sorted({tuple(b.shape[-2:]) for b in batches})
    if len(sizes) > 1:
        shown = " and ".join(f"{w} x {h}" for h, w in sizes[:2])
        raise FacewrightError(
            f"`{name}` holds pictures of {shown} pixels. Connect the crops of one Detect Faces, "
            "which are all of one size."
        )
    return torch.cat(batches)


def alpha_view(image: object, name: str = "image") -> Tensor:
    """IMAGE (b, h, w, c) in [0, 1] -> (b, 3 or 4, h, w), alpha included, in the same memory.

    Results that core makes in the layout of such a view are an IMAGE again without another copy.

    Raises:
        FacewrightError: as `checked`.
    """
    image = checked(image, name)
    return channels_first(image.expand(*image.shape[:3], 3) if image.shape[-1] == 1 else image)


def crop_masks(masks: object) -> Tensor:
    """MASK (n, h, w), one per crop of a face, as it is.

    Raises:
        FacewrightError: it is no MASK, or not square as crops are, but one of a picture.
    """
    if not isinstance(masks, Tensor) or masks.ndim != 3:
        raise FacewrightError(
            f"`masks` should be a MASK (faces, height, width), got {_kind(masks)}. Connect Face "
            "Mask."
        )
    height, width = masks.shape[1:]
    if height != width:
        raise FacewrightError(
            f"`masks` holds masks of {width} x {height} pixels, but crops of faces are square: "
            "these seem to be masks of whole pictures. Connect Face Mask, which makes one per crop."
        )
    return masks


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
        FacewrightError: several entries, as Conditioning (Combine) makes them, or what is no
            conditioning of finite numbers.
    """
    if not isinstance(conditioning, list | tuple) or len(conditioning) != 1:
        raise FacewrightError(
            f"`conditioning` has {_count(conditioning)} entries; a single one was expected. "
            "Leave out nodes that combine conditionings."
        )
    tokens = conditioning[0][0]
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or not tokens.is_floating_point():
        raise FacewrightError(
            "`conditioning` should hold floating point numbers (faces, tokens, channels), got "
            f"{_kind(tokens)}. Connect VRE Encode or IDE Encode."
        )
    if not tokens.isfinite().all():
        raise FacewrightError(
            "`conditioning` holds NaN or infinite numbers. Something before this node went wrong."
        )
    return tokens


def from_latent(latent: object, name: str) -> Tensor | None:
    """The numbers of a LATENT; None where it holds none, as of no picture at all.

    Raises:
        FacewrightError: it is no LATENT.
    """
    samples = latent.get("samples", latent) if isinstance(latent, dict) else latent
    if samples is None or (isinstance(samples, Tensor) and samples.ndim and not len(samples)):
        return None
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or samples is latent:
        raise FacewrightError(
            f"`{name}` should be a LATENT, got {_kind(samples)}. Connect VAE Encode."
        )
    return samples


def _count(value: object) -> object:
    return len(value) if isinstance(value, list | tuple) else "no"


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype)[6:]} {tuple(value.shape)}"
    return type(value).__name__
