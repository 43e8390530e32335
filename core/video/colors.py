"""A frame's samples and its colours, with nothing left to what a version of PyAV takes for granted.

PyAV up to 16 converts every matrix as BT.601, later ones as the frame says, and all of them guess
the range. So PyAV only lays samples out here (4:2:0, 4:4:4, 8 bit); matrix and range are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import LUMA

# Of libavutil (pixfmt.h).
LIMITED, FULL = 1, 2
RGB, UNSPECIFIED, YCGCO, BT601 = 0, 2, 8, 6
# Shares of red and blue in luma; an unspecified matrix counts as BT.601, as in all of FFmpeg.
_LUMA = {
    1: (0.2126, 0.0722),
    2: (LUMA[0], LUMA[2]),
    4: (0.30, 0.11),
    5: (LUMA[0], LUMA[2]),
    6: (LUMA[0], LUMA[2]),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}

# By the width and height of chroma for 16 of luma.
_LAYOUTS = {(8, 8): "420", (8, 16): "422", (16, 16): "444", (4, 16): "411", (16, 8): "440"}

# Turned against the clock by 0, 90, 180 and 270 degrees.
_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


@dataclass(frozen=True)
class Coding:
    """How the numbers of a picture are to be understood."""

    matrix: int
    """As in pixfmt.h; 0 where the samples are red, green and blue."""
    full: bool
    """Whether black is 0 and white 255, not 16 and 235."""

    @classmethod
    def of(cls, frame: Any) -> Self:
        kind, tag = frame.format, int(frame.color_range)
        if kind.is_rgb or kind.has_palette or kind.is_bayer or kind.name.startswith("xyz"):
            return cls(RGB, True)
        full = kind.name.startswith("yuvj") or tag == FULL or (_is_grey(kind) and tag != LIMITED)
        # A frame of luma and chroma that says "RGB" is wrongly labelled.
        return cls(int(frame.colorspace) or UNSPECIFIED, full)

    @property
    def known(self) -> bool:
        return self.matrix in (RGB, YCGCO) or self.matrix in _LUMA

    def written(self) -> Self:
        """The coding of a file made of such frames: H.264's usual one for red, green and blue."""
        return type(self)(BT601, False) if self.matrix == RGB else self

    def to_rgb(self, planes: Sequence[Tensor]) -> Tensor:
        """(3, h, w) in [0, 1] of three planes of bytes."""
        luma, (height, width) = planes[0], planes[0].shape
        samples = torch.cat([luma[None].float(), _fit(planes[1:], (height, width))])
        if self.matrix == RGB:
            return samples.div_(255)
        backward = torch.linalg.inv(_forward(self.matrix)).float()
        low, luma, chroma = self._scales()
        samples[0].sub_(low).div_(luma)
        samples[1:].sub_(128).div_(chroma)
        return torch.tensordot(backward, samples, 1).clamp_(0, 1)

    def from_rgb(self, pixels: Tensor, half: bool) -> list[Tensor]:
        """Planes of bytes of (3, h, w) in [0, 1], the chroma `half` as wide and high."""
        if self.matrix == RGB:
            return list(pixels.detach().cpu().float().clamp(0, 1).mul(255).round().byte())
        forward = _forward(self.matrix).float()
        samples = torch.tensordot(forward, pixels.detach().cpu().float().clamp(0, 1), 1)
        low, luma, chroma = self._scales()
        samples[0].mul_(luma).add_(low)
        samples[1:].mul_(chroma).add_(128)
        colors = F.avg_pool2d(samples[1:], 2) if half else samples[1:]
        return [x.round().clamp(0, 255).byte() for x in (samples[0], *colors)]

    def _scales(self) -> tuple[int, int, int]:
        return (0, 255, 255) if self.full else (16, 219, 224)


@cache
def _forward(matrix: int) -> Tensor:
    """Red, green and blue in [0, 1] to luma in [0, 1] and chroma in [-0.5, 0.5]."""
    if matrix == YCGCO:
        rows = [[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]]
        return torch.tensor(rows, dtype=torch.float64)
    red, blue = _LUMA.get(matrix, _LUMA[UNSPECIFIED])
    luma = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
    unit = torch.eye(3, dtype=torch.float64)
    return torch.stack([luma, (unit[2] - luma) / (2 - 2 * blue), (unit[0] - luma) / (2 - 2 * red)])


def samples(frame: Any, size: tuple[int, int]) -> list[Tensor]:
    """Three planes of bytes as they were decoded, not turned; chroma as small as it is stored.

    Args:
        size: height and width to bring a frame to that has another one.
    """
    said = frame.colorspace, frame.color_range
    # Newer versions refuse labels that they do not know, though nothing is converted.
    if Coding.of(frame).matrix != RGB:
        frame.colorspace, frame.color_range = UNSPECIFIED, 0
    try:
        return _samples(frame, *size)
    finally:
        frame.colorspace, frame.color_range = said


def _samples(frame: Any, height: int, width: int) -> list[Tensor]:
    def plane(of: Any, number: int, columns: int, rows: int) -> Tensor:
        lines = np.frombuffer(of.planes[number], np.uint8)
        lines = lines.reshape(-1, of.planes[number].line_size)
        return torch.from_numpy(lines[:rows, :columns].copy())

    shape, kind = {"height": height, "width": width}, frame.format
    if Coding.of(frame).matrix == RGB:
        rgb = plane(frame.reformat(format="rgb24", **shape), 0, 3 * width, height)
        return list(rgb.view(height, width, 3).permute(2, 0, 1))
    if _is_grey(kind):
        luma = plane(frame.reformat(format="gray", **shape), 0, width, height)
        return [luma, *torch.full((2, height, width), 128, dtype=torch.uint8)]
    shares = kind.chroma_width(16), kind.chroma_height(16)
    # Between a "j" format and another one older versions change the range.
    j = "j" if kind.name.startswith("yuvj") else ""
    layout = _LAYOUTS[shares if shares in _LAYOUTS else (16, 16)]
    new = frame.reformat(format=f"yuv{j}{layout}p", **shape)
    few = new.format.chroma_width(width), new.format.chroma_height(height)
    return [plane(new, 0, width, height), *(plane(new, i, *few) for i in (1, 2))]


def fitted(planes: Sequence[Tensor], half: bool) -> list[Tensor]:
    """Planes with the chroma of 4:2:0 (`half`) or 4:4:4."""
    height, width = planes[0].shape
    size = (height // 2, width // 2) if half else (height, width)
    if planes[1].shape == size:
        return list(planes)
    return [planes[0], *_fit(planes[1:], size).round().byte()]


def _fit(colors: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Planes of chroma as one tensor of another size; by means or between neighbours.

    Not by PyAV, whose versions differ in it, also over interlaced frames.
    """
    given = torch.stack(list(colors)).float()
    factors = [-(-wide // narrow) for wide, narrow in zip(size, given.shape[1:], strict=True)]
    if max(factors) > 1:
        given = F.interpolate(given[None], scale_factor=factors, mode="bilinear")[0]
    rows, columns = (
        here // there * there if here >= 2 * there else there
        for here, there in zip(given.shape[1:], size, strict=True)
    )
    given = given[:, :rows, :columns]
    return given if given.shape[1:] == size else F.adaptive_avg_pool2d(given, size)


def frame_of(av: Any, planes: Sequence[Tensor], coding: Coding) -> Any:
    """A frame for the encoder: rgb24, yuv420p or yuv444p, by matrix and size of the chroma."""
    height, width = planes[0].shape
    if coding.matrix == RGB:
        array, layout = torch.stack(list(planes), -1).numpy(), "rgb24"
    elif planes[1].shape == planes[0].shape:
        array, layout = torch.stack(list(planes)).numpy(), "yuv444p"
    else:
        flat = torch.cat([p.flatten() for p in planes])
        array, layout = flat.view(height * 3 // 2, width).numpy(), "yuv420p"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=layout)
    frame.colorspace = coding.matrix
    frame.color_range = FULL if coding.full else LIMITED
    return frame


def display_matrix(frame: Any) -> tuple[int, ...]:
    """a, b, c, d of x' = a x + c y, y' = b x + d y: how the frame is to be shown, in 1/65536."""
    try:
        data = bytes(frame.side_data["DISPLAYMATRIX"])
    except KeyError:
        data = b""
    except ValueError:  # side data of a kind that this version of PyAV cannot name hides the rest
        turns = round(frame.rotation / 90) % 4
        return tuple(65536 * x for x in _TURNS[turns])
    values = [int(x) for x in np.frombuffer(data[: len(data) // 4 * 4], np.int32)]
    return (*values[:2], *values[3:5]) if len(values) == 9 else (65536, 0, 0, 65536)


def orientation(frame: Any) -> tuple[int, int, int, int]:
    """`display_matrix` as the nearest of the eight that keep pixels whole: each 0, 1 or -1."""
    a, b, c, d = display_matrix(frame)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def turned(plane: Tensor, how: tuple[int, int, int, int]) -> Tensor:
    """The last two dimensions as `orientation` says that they are shown."""
    a, b, c, d = how
    if not a:
        plane = plane.transpose(-2, -1)
        a, d = c, b
    sides = [side for side, sign in ((-1, a), (-2, d)) if sign < 0]
    return plane.flip(sides) if sides else plane


def merged(base: Sequence[Tensor], new: Sequence[Tensor], changed: Tensor) -> list[Tensor]:
    """`base` with the samples of `new` where `changed` (h, w) says so."""
    masks = [changed] * 3
    if base[1].shape != changed.shape:
        few = F.max_pool2d(changed[None, None].float(), 2)[0, 0] > 0
        masks = [changed, few, few]
    return [torch.where(m, n, b) for m, n, b in zip(masks, new, base, strict=True)]


def _is_grey(kind: Any) -> bool:
    return len(kind.components) - any(c.is_alpha for c in kind.components) == 1
