"""Masks of faces that keep what lies over them."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import FacewrightError
from ..faces.parsing import FaceParser
from ..geometry.align import FaceCrops
from ..geometry.oval import depth_in, outlines_of
from ..geometry.regions import depth_of, soft_region
from .options import MaskOptions


def face_masks(
    faces: FaceCrops,
    options: MaskOptions,
    parser: Callable[[], FaceParser],
    *,
    crops: Tensor | None = None,
    outlines: Tensor | None = None,
) -> Tensor:
    """What of each crop is to be restored, as `paste_faces` takes it.

    A mask is exactly 0 on covered pixels where `grow` is not positive: feathering goes inwards.

    Args:
        faces: from `align_faces`.
        parser: gives the network, placed on the device where it is to compute; called for the mode
            "parsing" only.
        crops: (n, 3, s', s') in [0, 1], what is parsed in place of the faces' own pixels.
        outlines: (n, DIRECTIONS), as `outlines_of` gives them, in place of those of `faces`.

    Returns:
        (n, s, s) float32 on the CPU in [0, 1], s the side of the faces' crops or of `crops`.

    Raises:
        FacewrightError: faces that lie nowhere, crops that are not as many, or as `parser` does.
    """
    faces.check()
    size = faces.pixels.shape[-1]
    if not len(faces):
        return torch.empty(0, size, size)
    if options.mode == "oval":
        if outlines is None:
            outlines = outlines_of(faces.landmarks, faces.matrix, size)
        masks = torch.empty(len(faces), size, size)
        for mask, outline in zip(masks, outlines, strict=True):
            mask.copy_(soft_region(depth_in(outline, size), options.grow, options.feather))
        return masks
    shown = faces.pixels if crops is None else crops
    if len(shown) != len(faces):
        raise FacewrightError(
            f"Masks are wanted of {len(faces)} faces, but {len(shown)} crops came to be parsed. "
            "Give exactly the crops of these faces, in their order."
        )
    found = parser().shows(shown, options.part_names)
    size = found.shape[-1]
    masks = torch.empty(found.shape)
    grow, feather = options.grow * size, options.feather * size
    for mask, region in zip(masks, found, strict=True):
        mask.copy_(soft_region(depth_of(region, abs(grow) + feather), grow, feather))
    return masks


def mask_report(faces: FaceCrops, masks: Tensor, options: MaskOptions) -> list[str]:
    """A line per face: what its mask was made of, and how much of the crop it takes."""
    if options.mode == "parsing":
        how = f"parsing ({', '.join(options.part_names) or 'no part'})"
    else:
        points = 0 if faces.landmarks is None else faces.landmarks.shape[1]
        how = f"oval by {points} landmarks" if points > 5 else "oval of the mean face"
    lines = []
    for i, share in enumerate(masks.mean((1, 2)).tolist() if len(masks) else ()):
        what = f"{share:.0%} of the crop" if share > 0 else "nothing of it is restored"
        lines.append(f"mask of face {i}: {how}, {what}")
    return lines
