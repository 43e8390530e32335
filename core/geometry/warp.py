"""Affine maps as (2, 3) float64 matrices, and area-correct resampling through them.

Pixel i has its centre at i: p' = matrix @ (x, y, 1).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError

Window = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends excluded."""


def fit_similarity(source: Tensor, target: Tensor) -> Tensor:
    """Least-squares similarity (rotation, one scale, shift; no mirror image) between point sets.

    In the plane, with points as complex numbers and means removed, the minimiser of
    sum |a s + b - t|^2 is a = sum(conj(s) t) / sum |s|^2 and b = mean(t) - a mean(s); this equals
    Umeyama's solution (IEEE TPAMI 13(4), 1991) with its reflection guard, without an SVD.

    Args:
        source: (n, k, 2) xy, k >= 2.
        target: (k, 2) or (n, k, 2) xy.

    Returns:
        (n, 2, 3) float64 on the CPU, source -> target.

    Raises:
        FacewrightError: points that coincide, or are not finite.
    """
    s, t = source.detach().cpu().double(), target.detach().cpu().double().expand(source.shape)
    if not (torch.isfinite(s).all() and torch.isfinite(t).all()):
        raise FacewrightError("Landmarks contain NaN or infinity, so the face cannot be aligned.")
    s_mean, t_mean = s.mean(1, keepdim=True), t.mean(1, keepdim=True)
    s, t = s - s_mean, t - t_mean
    power = s.square().sum((1, 2))
    if (power < 1e-12).any():
        raise FacewrightError(
            "All landmarks of a face lie in one point, so it cannot be aligned. "
            "Detect the faces again or use another face analyzer."
        )
    a = (s * t).sum((1, 2)) / power
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / power
    rotation = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], 1)
    shift = t_mean.squeeze(1) - torch.einsum("nij,nj->ni", rotation, s_mean.squeeze(1))
    return torch.cat([rotation, shift[..., None]], -1)


def invert(matrix: Tensor) -> Tensor:
    """Inverse affine maps, (..., 2, 3) -> (..., 2, 3)."""
    inverse = torch.linalg.inv(matrix[..., :2])
    return torch.cat([inverse, -inverse @ matrix[..., 2:]], -1)


def transform(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply (..., 2, 3) maps to (..., k, 2) points."""
    return points @ matrix[..., :2].mT + matrix[..., 2].unsqueeze(-2)


def centered_map(x: float, y: float, angle: float, scale: float, side: int) -> Tensor:
    """Picture -> square of `side` pixels: (x, y) in its middle, `scale` times as large.

    What is rolled by `angle` radians, clockwise in the picture, stands upright there.
    """
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    linear = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
    middle = torch.full((2,), (side - 1) / 2, dtype=torch.float64)
    shift = middle - linear @ torch.tensor([x, y], dtype=torch.float64)
    return torch.cat([linear, shift[:, None]], 1)


def scale_of(matrix: Tensor) -> float:
    """Lengths in the target per length in the source: sqrt |det|."""
    return float(torch.linalg.det(matrix[:, :2]).abs().sqrt())


def corners(height: int, width: int) -> Tensor:
    """(4, 2) outer corners of a picture; its pixels reach half a pixel beyond their centres."""
    x, y = width - 0.5, height - 0.5
    return torch.tensor([[-0.5, -0.5], [x, -0.5], [x, y], [-0.5, y]], dtype=torch.float64)


def covered(matrix: Tensor, window: Window, height: int, width: int, margin: float = 0.0) -> Window:
    """The pixels of a picture that a window covers under a map to it; there may be none.

    Args:
        matrix: (2, 3), window -> picture.
        margin: pixels of the picture around them.
    """
    x0, y0, x1, y1 = window
    quad = transform(matrix, corners(y1 - y0, x1 - x0) + torch.tensor([x0, y0]))
    # Cut to the picture as they are: what lies very far out is no whole number of 64 bits.
    low, high = (quad.amin(0) - margin).floor(), (quad.amax(0) + margin).ceil() + 1
    left, right = (int(v.clamp(0, width)) for v in (low[0], high[0]))
    top, bottom = (int(v.clamp(0, height)) for v in (low[1], high[1]))
    return left, top, right, bottom


def pixel_grid(window: Window, oversample: int = 1) -> Tensor:
    """(h, w, 2) float64 xy of pixel centres in the window x0, y0, x1, y1 (ends excluded).

    With `oversample` k every pixel is split into k x k parts: (h k, w k, 2).
    """
    x0, y0, x1, y1 = window
    k = oversample
    x = (torch.arange((x1 - x0) * k, dtype=torch.float64) + 0.5) / k - 0.5 + x0
    y = (torch.arange((y1 - y0) * k, dtype=torch.float64) + 0.5) / k - 0.5 + y0
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


Range = tuple[Tensor, Tensor]
"""The least and the largest value."""


class Ranges:
    """Value ranges of the colors of pictures, each read through once however many faces it has."""

    def __init__(self, pictures: Tensor | Sequence[Tensor]) -> None:
        """(b, c, h, w), or b pictures (c, h, w)."""
        self._pictures = pictures
        self._known: dict[int, Range] = {}

    def of(self, b: int) -> Range:
        """Of the first three channels of picture `b`."""
        if b not in self._known:
            colors = self._pictures[b][:3]
            self._known[b] = colors.amin(), colors.amax()
        return self._known[b]


def warp(image: Tensor, matrix: Tensor, window: Window, within: Range | None = None) -> Tensor:
    """Resample `image` under `matrix` (image -> target) into a window of the target.

    Enlarging is bicubic (Keys, a = -3/4). Shrinking averages over the area of a target pixel: k x k
    bicubic samples, of block means where one target pixel covers more than 4 x 4. Outside the image
    its mirrored continuation is read. Bicubic overshoot is cut to the value range of the image.

    Args:
        image: (c, h, w) floating point.
        matrix: (2, 3) similarity, image -> target.
        window: x0, y0, x1, y1 in target pixels, ends excluded.
        within: what overshoot is cut to; None: the value range of the image.

    Returns:
        (c, y1 - y0, x1 - x0) with dtype and device of `image`.

    Raises:
        FacewrightError: a map without inverse, or to pixels larger than the image.
    """
    x0, y0, x1, y1 = window
    if x1 <= x0 or y1 <= y0:
        return image.new_zeros(len(image), max(0, y1 - y0), max(0, x1 - x0))
    matrix = matrix.detach().cpu().double()
    if not torch.isfinite(matrix).all() or not torch.linalg.det(matrix[:, :2]):
        raise FacewrightError(
            "A face lies nowhere: the map from the picture to its crop has no inverse. Detect the "
            "faces again or use another face analyzer."
        )
    inverse = invert(matrix)
    low, high = within or (image.amin(), image.amax())
    step = scale_of(inverse)  # source pixels per target pixel
    # Block means only where samples would get many: their blur adds to that of the samples.
    factor = 1 if step <= 4 else math.floor(step / 2 + 1e-6)
    _check_scale(image, factor)
    image, origin = _crop_to_source(image, inverse, window, factor)
    if factor > 1:
        h, w = image.shape[-2:]
        padding = (0, -w % factor, 0, -h % factor)
        image = F.avg_pool2d(F.pad(image[None], padding, "replicate"), factor)[0]
    oversample = max(1, math.ceil(step / factor - 1e-6))

    source = transform(inverse, pixel_grid(window, oversample).flatten(0, 1)) - origin
    source = (source + 0.5) / factor  # corner-based coordinates of the (reduced) image
    size = torch.tensor([image.shape[-1], image.shape[-2]], dtype=torch.float64)
    grid = (source / size * 2 - 1).view(1, (y1 - y0) * oversample, (x1 - x0) * oversample, 2)
    # Half precision would move the sampling positions by whole pixels.
    work = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    sampled = F.grid_sample(
        work[None], grid.to(work), mode="bicubic", padding_mode="reflection", align_corners=False
    )
    if oversample > 1:
        sampled = F.avg_pool2d(sampled, oversample)
    return sampled[0].clamp(low, high).to(image)


def shrunk(faces: Tensor, size: int) -> Tensor:
    """Square crops as they would have been cut out at a smaller size: (n, c, s, s) -> (n, c, t, t).

    By `warp`, as everything that was cut out; t = min(s, size). Other pictures are no crops and
    stay as they are.
    """
    side = faces.shape[-1]
    if side <= size or faces.shape[-2] != side or not len(faces):
        return faces
    scale = size / side
    # Pixel i reaches from i - 1/2 to i + 1/2 in both.
    matrix = torch.tensor([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5]]).double()
    return torch.stack([warp(face, matrix, (0, 0, size, size)) for face in faces])


_TAPS = 3
"""Half-width in target pixels of the Lanczos window."""


def warp_square(image: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Resample into a square as `warp` does, but shrink by Lanczos' windowed sinc (a = 3).

    The mean over a target pixel's area lets half of a pattern of 0.6 and a third of one of 0.75
    cycles per target pixel through, as false patterns, and a tenth of one of 0.3 is lost; here
    0.19 and 0.02 come through and nothing is lost. The picture is resampled to a grid about as
    fine as its own, at most 4 x 4 per target pixel, and that is reduced. Where one target pixel
    covers more than 4 x 4, the picture is first brought to 2 to 4 by a whole factor.

    Args:
        image: (c, h, w) floating point.
        matrix: (2, 3) similarity, image -> target.
        size: of the target in pixels.

    Returns:
        (c, size, size) with dtype and device of `image`.
    """
    fine = matrix.detach().cpu().double()
    step = 1 / scale_of(fine)  # source pixels per target pixel
    if step <= 1 + 1e-6:
        return warp(image, fine, (0, 0, size, size))
    source = image.float()
    first, last = -_TAPS, size + _TAPS
    bounds = (first, first, last, last)
    factor = math.floor(step / 2 + 1e-6) if step > 4 else 1
    _check_scale(source, factor)
    if factor > 1:
        source, origin = _crop_to_source(source, invert(fine), bounds, factor)
        h, w = source.shape[-2:]
        source = F.pad(source[None], (0, -w % factor, 0, -h % factor), "replicate")
        reduced = [side // factor for side in source.shape[-2:]]
        source = F.interpolate(source, reduced, mode="bicubic", antialias=True)[0]
        # Pixel i of it spans i f .. i f + f - 1 of the cut-out part.
        shift = fine[:, :2] @ (origin + (factor - 1) / 2) + fine[:, 2]
        fine = torch.cat([fine[:, :2] * factor, shift[:, None]], 1)
    k = math.ceil(step / factor - 1e-6)
    fine = fine * k
    fine[:, 2] += (k - 1) / 2
    sampled = warp(source, fine, (first * k, first * k, last * k, last * k)).cpu()
    # Weights for exactly the target's pixels, one row each.
    centres = (torch.arange(size, dtype=torch.float64) + _TAPS + 0.5) * k - 0.5
    at = (torch.arange(sampled.shape[-1], dtype=torch.float64) - centres[:, None]) / k
    weights = torch.sinc(at) * torch.sinc(at / _TAPS) * (at.abs() < _TAPS)
    weights = (weights / weights.sum(1, keepdim=True)).float()
    target = weights @ sampled @ weights.T
    return target.clamp(float(image.amin()), float(image.amax())).to(image)


def _check_scale(image: Tensor, factor: int) -> None:
    """Blocks larger than the image would be filled up to their size: with gigabytes of nothing."""
    height, width = image.shape[-2:]
    if factor > 1 and factor > min(height, width):
        raise FacewrightError(
            f"A face is so large that {width} x {height} pixels are less than one of its own. "
            "Detect the faces again or use another face analyzer."
        )


def _crop_to_source(
    image: Tensor, inverse: Tensor, window: Window, factor: int
) -> tuple[Tensor, Tensor]:
    """The part of `image` that `window` can read, mirrored borders included, and its origin.

    The origin is a multiple of `factor`, so that blocks do not depend on the window.
    """
    x0, y0, x1, y1 = window
    height, width = image.shape[-2:]
    quad = transform(inverse, corners(y1 - y0, x1 - x0) + torch.tensor([x0, y0]))
    margin = 4 + 2 * scale_of(inverse)
    spans = []
    for axis, extent in ((0, width), (1, height)):
        low = math.floor(float(quad[:, axis].min()) - margin)
        high = math.ceil(float(quad[:, axis].max()) + margin)
        if low < 0:
            high = max(high, -low)
        if high > extent:
            low = min(low, 2 * extent - high)
        low, high = max(0, min(low, extent - 1)), min(extent, max(high, 1))
        spans.append((low - low % factor, high))
    (left, right), (top, bottom) = spans
    return image[:, top:bottom, left:right], torch.tensor([left, top], dtype=torch.float64)
