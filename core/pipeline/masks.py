"""Masks of faces that keep what lies over them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import FacewrightError
from ..faces import Face
from ..faces.parsing import FaceParser
from ..geometry.align import FaceCrops, place_faces
from ..geometry.oval import DIRECTIONS, depth_in, mean_outline, outlines_of
from ..geometry.regions import depth_of, soft_region
from .options import MaskOptions


def outlines_in(found: Sequence[Face], size: int) -> Tensor:
    """(n, DIRECTIONS): `outlines_of` each face alone, so that one without landmarks leaves the
    others theirs."""
    places = [place_faces([[face]], size) for face in found]
    own = [outlines_of(place.landmarks, place.matrix, size) for place in places]
    return torch.cat([torch.empty(0, DIRECTIONS, dtype=torch.float64), *own])


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


def mask_report(
    faces: FaceCrops, masks: Tensor, options: MaskOptions, outlines: Tensor | None = None
) -> list[str]:
    """A line per face: what its mask was made of, and how much of the crop it takes."""
    if outlines is None:
        outlines = outlines_of(faces.landmarks, faces.matrix, faces.pixels.shape[-1])
    lines, mean = [], mean_outline()
    for i, (mask, outline) in enumerate(zip(masks, outlines, strict=True)):
        how, share = f"parsing ({', '.join(options.part_names) or 'no part'})", float(mask.mean())
        if options.mode == "oval":
            how = f"oval {'of the mean face' if torch.equal(outline, mean) else 'by landmarks'}"
        what = f"{share:.0%} of the crop" if share > 0 else "nothing of it is restored"
        lines.append(f"mask of face {i}: {how}, {what}")
    return lines
