"""Restored faces put back, touching nothing outside a soft mask around each of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict, Unpack, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import MOMENT_MODES, change_color, color_change, match_color
from ..errors import FacewrightError, counted
from .align import FaceCrops
from .detail import lost_detail
from .regions import soft_region
from .smooth import smooth_over_tracks
from .warp import Ranges, Window, covered, invert, pixel_grid, transform, warp

_OWNERSHIP = 0.12
"""Width, in crop sizes, of the seam where two overlapping faces meet."""
_STRIP = 2**16
"""Pixels resampled at a time, so that a face of thousands of rows does not fill the memory."""
_TRACE = 1e-3
"""A mask below counts as 0: what resampling leaves of a zero beside other numbers."""


def soft_box(points: Tensor, size: int, feather: float) -> Tensor:
    """Coverage of a rounded square, rising over `feather` from 0 at the crop's border to 1 inside.

    smoothstep(d / (feather size)), d the distance from the border inwards of a rounded square with
    corner radius size / 4.

    Args:
        points: (..., 2) crop pixels.
        size: side of the crop in pixels.
        feather: share of the side, up to 0.5; 0 gives the whole square, its corners included.

    Returns:
        (...) in [0, 1], exactly 0 outside the crop.
    """
    if feather == 0:
        return ((points - (size - 1) / 2).abs().amax(-1) < size / 2).to(points)
    # The outermost half pixel of a crop has been interpolated with what lies beyond its border.
    half, radius = size / 2 - 0.5, size / 4
    offset = (points - (size - 1) / 2).abs() - (half - radius)
    outside = offset.clamp(min=0).square().sum(-1).sqrt()
    distance = radius - outside - offset.amax(-1).clamp(max=0)
    return soft_region(distance, 0.0, feather * size)


class _How(TypedDict, total=False):
    feather: float
    color: str
    strength: float | Tensor
    masks: Tensor | None
    detail: float


@overload
def paste_faces(
    images: Tensor, crops: FaceCrops, restored: Tensor, **how: Unpack[_How]
) -> tuple[Tensor, Tensor]: ...
@overload
def paste_faces(
    images: Sequence[Tensor], crops: FaceCrops, restored: Tensor, **how: Unpack[_How]
) -> tuple[list[Tensor], list[Tensor]]: ...
def paste_faces(
    images: Tensor | Sequence[Tensor],
    crops: FaceCrops,
    restored: Tensor,
    *,
    feather: float = 0.12,
    color: str = "none",
    strength: float | Tensor = 1.0,
    masks: Tensor | None = None,
    detail: float = 0.0,
) -> tuple[Tensor | list[Tensor], Tensor | list[Tensor]]:
    """Put restored faces back into their pictures.

    out = x + A sum_i s_i w_i (warp(restored_i) - x), with strengths s_i, masks m_i,
    A = 1 - prod(1 - m_i) and weights w_i that sum to 1 and prefer the face whose centre is nearer.
    Where faces overlap the result therefore depends neither on their order nor on how many there
    are. Pixels with A = 0 keep their bits; so do channels beyond the third (alpha).

    Where the crops have `tracks`, faces fade in and out with them, and the colour change of "adain"
    and "lab" is steadied over each track. Beside the results nothing grows with the pictures.

    Args:
        images: what `align_faces` got: (b, c, h, w), or b pictures (c, h, w); or these enlarged.
        crops: from `align_faces`.
        restored: (n, 3, s', s') in [0, 1], one per crop; s' may differ from the crops' size.
        feather: width of the soft border as a share of the crop, up to 0.5; 0 puts in all of the
            crop, to its corners.
        color: how the restored faces take over the colours of the crops, see `match_color`.
        strength: 0 leaves the pictures as they are, 1 puts the restored faces in fully; or (n,)
            of them, one per crop.
        masks: (n, h, w) in [0, 1], one per crop, covering it at any size: m_i is the soft box
            times the mask, resampled as the faces are. None: the soft box alone.
        detail: share, in [0, 1], of what shrinking took from faces larger than `restored` that is
            given back where it is no damage (`core.geometry.detail`); restored_i becomes that.

    Returns:
        The pictures in the form they came in, and the masks (b, h, w) or b masks (h, w): the weight
        with which restored pixels were used.

    Raises:
        FacewrightError: numbers out of range, or pictures, crops and restored faces that do not
            belong together.
    """
    pasting = Pasting(images, crops, restored, feather, color, masks, detail)
    pasting.put(strength)
    return pasting.pictures, pasting.weights


class Pasting:
    """What `paste_faces` does, for who has to look at the result and put faces in again, weaker.

    Only windows around the faces are written anew; no other copy of the pictures is made.
    """

    pictures: Tensor | list[Tensor]
    """In the form they came in; faces are in them once they are `put`."""
    weights: Tensor | list[Tensor]
    """(b, h, w) or b (h, w): the weight with which restored pixels were used."""

    def __init__(
        self,
        images: Tensor | Sequence[Tensor],
        crops: FaceCrops,
        restored: Tensor,
        feather: float = 0.12,
        color: str = "none",
        masks: Tensor | None = None,
        detail: float = 0.0,
    ) -> None:
        """Everything as for `paste_faces`."""
        self.crops = crops = crops.placed_in(images)
        """The faces where they lie in `images`."""
        _check(crops, restored, feather, detail)
        _check_masks(crops, masks)
        self._images, self._restored, self._feather = images, restored, feather
        self._face_masks, self._detail = masks, detail
        if isinstance(images, Tensor):
            self.pictures = images.clone()
            self.weights = _zeros(images, len(images), *images.shape[-2:])
        else:
            self.pictures = [picture.clone() for picture in images]
            self.weights = [_zeros(picture, *picture.shape[-2:]) for picture in images]
        self._color = _coloured(crops, restored, color)
        self._windows = windows_of(crops)
        self._beside = beside(self._windows, crops)
        self._ranges = Ranges(images)
        self._touched = False

    def put(self, strength: float | Tensor, faces: Iterable[int] | None = None) -> None:
        """Put the faces in, each at its strength; the result is as if done so at first.

        Args:
            strength: as for `paste_faces`.
            faces: whose strengths are others than before; None: of all.
        """
        count = len(self.crops)
        _check_strength(strength, count)
        shown = torch.as_tensor(strength, dtype=torch.float64).cpu().expand(count)
        if self.crops.tracks is not None:
            shown = shown * self.crops.tracks.weight
        again = range(count) if faces is None else self.meeting(faces)
        for i in again if self._touched else ():
            b, where = int(self.crops.image_index[i]), _slices(self._windows[i])
            self.pictures[b][:, *where] = self._images[b][:, *where]
            self.weights[b][where] = 0
        self._touched = True
        for i in again:
            if shown[i] > 0:
                self._put(i, shown[i])

    def meeting(self, faces: Iterable[int]) -> list[int]:
        """These and all that change some of the same pixels, directly or by way of others."""
        return meeting(self._beside, faces)

    def _put(self, i: int, shown: Tensor) -> None:
        crops, b = self.crops, int(self.crops.image_index[i])
        picture = self._images[b]
        to_face = _to_pixels_of(self._restored[i, 0], crops, i)
        x0, y0, x1, y1 = self._windows[i]
        face = self._color(i).to(picture)
        lost = None
        if self._detail > 0:
            lost = lost_detail(picture[:3], to_face, face, self._ranges.of(b))
        rows = max(1, _STRIP // max(1, x1 - x0))
        for top in range(y0, y1, rows):
            strip = (x0, top, x1, min(top + rows, y1))
            where = _slices(strip)
            before = picture[:3, *where]
            others = [j for j in self._beside[i] if _overlap(self._windows[j], strip)]
            weight = _weight(crops, self._face_masks, i, others, strip, self._feather)
            weight = (shown * weight).to(before)
            new = warp(face, invert(to_face), strip)
            if lost is not None:
                new = (new + self._detail * lost(strip)).clamp(0, 1).to(before)
            target = self.pictures[b][:3, *where]
            target.copy_(torch.where(weight > 0, target + weight * (new - before), target))
            self.weights[b][where] += weight


def windows_of(crops: FaceCrops) -> list[Window]:
    """Of the pictures that the crops lie in, the pixels that each of them covers."""
    size = crops.pixels.shape[-1]
    return [
        covered(invert(matrix), (0, 0, size, size), *crops.image_sizes[b])
        for matrix, b in zip(crops.matrix, crops.image_index.tolist(), strict=True)
    ]


def beside(windows: Sequence[Window], crops: FaceCrops) -> list[list[int]]:
    """For each face, in order, those of its picture whose windows overlap its own.

    Outside its window a face has no weight, so that only these have a say in its pixels.
    """
    pictures: dict[int, list[int]] = {}
    for i, b in enumerate(crops.image_index.tolist()):
        pictures.setdefault(b, []).append(i)
    found: list[list[int]] = [[] for _ in windows]
    for faces in pictures.values():
        x0, y0, x1, y1 = np.array([windows[i] for i in faces]).T
        order = np.argsort(y0, kind="stable")
        # Who begins higher up than the tallest window reaches, or below this one, is not asked.
        first = np.searchsorted(y0[order], y0 - (y1 - y0).max(), "right")
        last = np.searchsorted(y0[order], y1, "left")
        for i, face in enumerate(faces):
            near = order[first[i] : last[i]]
            meets = (x0[near] < x1[i]) & (x1[near] > x0[i]) & (y1[near] > y0[i]) & (near != i)
            found[face] = [faces[j] for j in sorted(near[meets].tolist())]
    return found


def meeting(beside: Sequence[Sequence[int]], faces: Iterable[int]) -> list[int]:
    """`faces` and all whose windows overlap theirs, directly or by way of others."""
    found, left = set(faces), list(faces)
    while left:
        new = set(beside[left.pop()]) - found
        found |= new
        left += new
    return sorted(found)


def _slices(window: Window) -> tuple[slice, slice]:
    x0, y0, x1, y1 = window
    return slice(y0, y1), slice(x0, x1)


def _overlap(a: Window, b: Window) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _zeros(like: Tensor, *shape: int) -> Tensor:
    """Zeros with dtype and device of `like`, which on the CPU take memory where written to only."""
    if like.device.type == "cpu" and like.dtype == torch.float32:
        return torch.from_numpy(np.zeros(shape, np.float32))
    return like.new_zeros(shape)


def _coloured(crops: FaceCrops, restored: Tensor, color: str) -> Callable[[int], Tensor]:
    """What gives restored face i (3, s, s) in its final colours."""

    def pair(i: int) -> tuple[Tensor, Tensor]:
        face = restored[i : i + 1]
        return face, _resized(crops.pixels[i : i + 1], face)

    if color not in MOMENT_MODES or crops.tracks is None:
        return lambda i: match_color(*pair(i), color)[0]
    changes = [color_change(*pair(i), color) for i in range(len(crops))]
    steady = smooth_over_tracks(torch.cat(changes), crops.tracks) if changes else torch.empty(0)
    return lambda i: change_color(restored[i : i + 1], steady[i : i + 1], color)[0]


def _weight(
    crops: FaceCrops,
    masks: Tensor | None,
    i: int,
    others: Sequence[int],
    window: Window,
    feather: float,
) -> Tensor:
    """A w_i on the pixels of `window`, (h, w) float64."""
    covering, own = _cover_and_share(crops, masks, i, others, window, feather)
    return covering * own


def ownership(
    crops: FaceCrops, i: int, others: Sequence[int], window: Window, feather: float = 0.12
) -> Tensor:
    """w_i of `paste_faces` on the pixels of `window`, (h, w) float64.

    1 in the part of crop i that no other reaches, 0 outside it.

    Args:
        others: those `beside` it.
    """
    return _cover_and_share(crops, None, i, others, window, feather)[1]


def _cover_and_share(
    crops: FaceCrops,
    masks: Tensor | None,
    i: int,
    others: Sequence[int],
    window: Window,
    feather: float,
) -> tuple[Tensor, Tensor]:
    """A and w_i, (h, w) float64 each."""
    matrix, size, grid = crops.matrix, crops.pixels.shape[-1], pixel_grid(window)

    def mask_and_nearness(j: int) -> tuple[Tensor, Tensor]:
        points = transform(matrix[j], grid.flatten(0, 1)).view(grid.shape)
        from_center = ((points - (size - 1) / 2) / size).square().sum(-1)
        mask = soft_box(points, size, feather)
        if masks is not None:
            own = masks[j : j + 1].detach().cpu().float()
            there = warp(own, invert(_to_pixels_of(own[0], crops, j)), window)[0]
            mask = mask * torch.where(there < _TRACE, 0, there)
        return mask, mask * torch.exp(-from_center / (2 * _OWNERSHIP**2))

    mask, near = mask_and_nearness(i)
    free, total = 1 - mask, near.clone()
    for j in others:
        other_mask, other_near = mask_and_nearness(j)
        free, total = free * (1 - other_mask), total + other_near
    return 1 - free, torch.where(near > 0, near / total.clamp(min=1e-300), 0)


def _to_pixels_of(picture: Tensor, crops: FaceCrops, i: int) -> Tensor:
    """Picture -> pixels of what shows all of crop i at another size, (h, w)."""
    height, width = picture.shape
    growth = torch.tensor([width, height], dtype=torch.float64) / crops.pixels.shape[-1]
    matrix = crops.matrix[i] * growth[:, None]
    matrix[:, 2] += growth / 2 - 0.5  # scaled about pixel edges
    return matrix


def _resized(x: Tensor, like: Tensor) -> Tensor:
    if x.shape == like.shape:
        return x.to(like)
    return F.interpolate(x.to(like), like.shape[-2:], mode="bilinear", antialias=True)


def _check(crops: FaceCrops, restored: Tensor, feather: float, detail: float) -> None:
    if restored.ndim != 4 or restored.shape[1] != 3 or restored.shape[-1] != restored.shape[-2]:
        raise FacewrightError(
            f"Restored faces should be square crops (n, 3, s, s), got {tuple(restored.shape)}. "
            "Restore the crops that were cut out, not the whole picture."
        )
    if len(restored) != len(crops):
        raise FacewrightError(
            f"The crops are of {counted(len(crops), 'face')}, but "
            f"{counted(len(restored), 'restored face')} came back; restore exactly the crops, in "
            "their order."
        )
    if not 0 <= feather <= 0.5:
        raise FacewrightError(f"`feather` is a share of the crop from 0 to 0.5, got {feather}.")
    if not 0 <= detail <= 1:
        raise FacewrightError(f"`detail` should lie in [0, 1], got {detail}.")


def _check_strength(strength: float | Tensor, faces: int) -> None:
    if isinstance(strength, Tensor) and strength.ndim:
        if strength.shape != (faces,):
            raise FacewrightError(
                f"The crops are of {counted(faces, 'face')}, but `strength` is of the shape "
                f"{tuple(strength.shape)}. Give one number, or one per crop, in their order."
            )
        wrong = [value for value in strength.tolist() if not 0 <= value <= 1]
    else:
        wrong = [] if 0 <= strength <= 1 else [float(strength)]
    if wrong:
        raise FacewrightError(f"`strength` should lie in [0, 1], got {wrong[0]}.")


def _check_masks(crops: FaceCrops, masks: Tensor | None) -> None:
    if masks is None:
        return
    if masks.ndim != 3 or 0 in masks.shape[1:] or not masks.is_floating_point():
        raise FacewrightError(
            "Masks of faces should be floating point (n, h, w), one per crop, got "
            f"{str(masks.dtype)[6:]} {tuple(masks.shape)}. Make them with Face Mask (face_masks) "
            "from the very faces that are pasted."
        )
    if len(masks) != len(crops):
        raise FacewrightError(
            f"The crops are of {counted(len(crops), 'face')}, but {counted(len(masks), 'mask')} "
            "came. Give one mask per crop, in their order."
        )
    if len(masks) and not (masks.amin() >= 0 and masks.amax() <= 1):  # NaN fails as well
        raise FacewrightError("Masks of faces should lie in [0, 1]; other numbers came.")
