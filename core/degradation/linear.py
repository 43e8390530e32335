"""Runs of blurs and resizes on one image, exactly, by the cheapest way for their sizes.

A run is cut where the image is small. Between cuts a round blur and any resizes are one band matrix
per axis; a turned blur is a sum of r such pairs (`kernels.separable_terms`),

    y = sum_i R_i x C_i^T

and their rows touch only what they look at, so that a blur before an eightfold reduction costs an
eighth of its price. A turned blur that keeps a large image large goes through an FFT.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import bands
from .bands import Band
from .kernels import gaussian_kernel, reflect, separable_terms

Step = Mapping[str, Any]
Size = tuple[int, int]
Taps = tuple[np.ndarray, np.ndarray]

FFT_SECONDS = 10e-9
"""Per value, there and back."""
BUILD_SECONDS = 1.0e-4
FILL_SECONDS = 1.0e-9
"""To make the bands of a segment, and per weight in them."""
LONGEST = 4
"""Most steps of a segment."""
MAX_WEIGHTS = 2**25
CHUNK = 2**23
"""Most values of a band, and of what lies between the two axes."""


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """One thread and full float32 products, whatever the caller uses; its settings come back.

    How a matrix product is shared out among threads decides how its sums are rounded, and one
    rounding can turn a JPEG coefficient.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        if threads > 1:
            torch.set_num_threads(1)
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)


class _Segment:
    """Consecutive steps that are carried out at once; at most one is a blur.

    Attributes:
        size, out: (height, width) before and after.
        taps: (rows, columns) of the blur's separable terms, or None.
        windows: about how many values of the input a value of the output looks at, per axis.
        seconds: estimated for the cheaper of two ways: through bands or `fourier`.
    """

    def __init__(self, steps: Sequence[Step], sizes: Sequence[Size], taps: Taps | None) -> None:
        self.steps, self.sizes, self.taps = steps, sizes, taps
        self.size, self.out = sizes[0], sizes[-1]
        self.terms = 1 if taps is None else len(taps[0])
        self.windows = tuple(self._window(axis) for axis in (0, 1))
        self.seconds = self._band_seconds()
        self.fourier = False
        if taps is not None and len(steps) == 1:
            reach = steps[0]["taps"] - 1
            values = 3 * (self.size[0] + reach) * (self.size[1] + reach)
            seconds = values * FFT_SECONDS + BUILD_SECONDS
            self.fourier = seconds < self.seconds
            self.seconds = min(self.seconds, seconds)

    def _window(self, axis: int) -> float:
        wide = 1.0
        for i in range(len(self.steps) - 1, -1, -1):
            step = self.steps[i]
            if step["op"] == "blur":
                wide += step["taps"] - 1
            else:
                ratio = self.sizes[i][axis] / self.sizes[i + 1][axis]
                reach = {"area": ratio + 1, "bilinear": 2, "bicubic": 4}[step["mode"]]
                wide = (wide - 1) * ratio + reach
        return min(wide, self.size[axis])

    def _band_seconds(self) -> float:
        (height, width), (new_height, new_width) = self.size, self.out
        weights = self.terms * (height * new_height + width * new_width)
        if weights > MAX_WEIGHTS:
            return float("inf")
        rows, _ = bands.best_block(new_height, height, self.windows[0], self.terms, 3 * width)
        columns, _ = bands.best_block(
            new_width, width, self.windows[1], self.terms, 3 * new_height, calls=self.terms
        )
        return rows + columns + BUILD_SECONDS + weights * FILL_SECONDS

    def band(self, axis: int, device: torch.device) -> Band:
        """The whole segment along one axis."""
        before: Band | None = None
        resizes: Band | None = None
        blurred: int | None = None
        for step, size, new in zip(self.steps, self.sizes, self.sizes[1:], strict=False):
            if step["op"] == "blur":
                before, resizes, blurred = resizes, None, size[axis]
                continue
            one = bands.resize_band(size[axis], new[axis], step["mode"], device)
            resizes = one if resizes is None else bands.compose(one, resizes, self.windows[axis])
        if blurred is None:
            return resizes
        taps = self.taps[axis]
        if before is None:
            return bands.after_blur(taps, blurred, resizes, device)
        if resizes is None:
            return bands.before_blur(before, taps)
        after = bands.after_blur(taps, blurred, resizes, device)
        return bands.compose(after, before, self.windows[axis])


def apply_linear(x: Tensor, steps: Sequence[Step]) -> Tensor:
    """x (h, 3, w), float32, through blurs and resizes; borders reflect about the edge pixels."""
    height, _, width = x.shape
    for segment in plan(steps, (height, width)):
        if segment.fourier:
            x = _through_fft(x, segment.steps[0])
        else:
            x = _through_bands(x, segment)
    return x


def plan(steps: Sequence[Step], size: Size) -> list[_Segment]:
    """The cheapest way to cut `steps` into segments, by estimated seconds."""
    sizes = [size]
    for step in steps:
        sizes.append(tuple(step["size"]) if step["op"] == "resize" else sizes[-1])
    taps = [separable_terms(s) if s["op"] == "blur" else None for s in steps]
    best: list[tuple[float, list[_Segment]]] = [(0.0, [])]
    for last in range(1, len(steps) + 1):
        ways = []
        for first in range(max(0, last - LONGEST), last):
            blurs = [t for t in taps[first:last] if t is not None]
            if len(blurs) > 1:
                continue
            segment = _Segment(
                steps[first:last], sizes[first : last + 1], blurs[0] if blurs else None
            )
            ways.append((best[first][0] + segment.seconds, [*best[first][1], segment]))
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]


def _through_bands(x: Tensor, segment: _Segment) -> Tensor:
    rows, columns = (segment.band(axis, x.device) for axis in (0, 1))
    height, _, width = x.shape
    new_height, new_width = segment.out
    terms = segment.terms
    out = x.new_empty(new_height, 3, new_width)
    chunk = max(1, CHUNK // (terms * 3 * width))
    for first in range(0, new_height, chunk):
        part = Band(*(a[first : first + chunk] for a in (rows.weights, rows.low, rows.high)))
        half = bands.multiply(part, x.view(height, -1), segment.windows[0])
        half = half.view(-1, terms, 3, width).transpose(1, 2).reshape(-1, terms * width)
        _times_columns(half, columns, segment.windows[1], out[first : first + chunk])
    return out


def _times_columns(half: Tensor, columns: Band, window: float, out: Tensor) -> None:
    """half (3 m, r w) times the transpose of columns (n, r, w), into out (m, 3, n)."""
    new, terms, width = columns.weights.shape
    flat = out.view(-1, new)
    _, block = bands.best_block(new, width, window, terms, len(half), calls=terms)
    if block == new and terms > 1:
        torch.mm(half, columns.weights.view(new, -1).T, out=flat)
        return
    for first in range(0, new, block):
        last = min(first + block, new)
        low, high = columns.block(first, last)
        for term in range(terms):
            weights = columns.weights[first:last, term, low:high].T
            looked = half[:, term * width + low : term * width + high]
            if term == 0:
                torch.mm(looked, weights, out=flat[:, first:last])
            else:
                flat[:, first:last].addmm_(looked, weights)


def _through_fft(x: Tensor, step: Step) -> Tensor:
    reach = step["taps"] // 2
    height, _, width = x.shape
    ys, xs = (
        torch.from_numpy(reflect(np.arange(-reach, size + reach), size)).to(x.device)
        for size in (height, width)
    )
    size = [_good(height + 2 * reach), _good(width + 2 * reach)]
    padded = x.new_zeros(3, *size)
    padded[:, : len(ys), : len(xs)] = x.transpose(0, 1)[:, ys][:, :, xs]
    kernel = torch.from_numpy(gaussian_kernel(step)).float().to(x.device)
    # A correlation with a kernel that is the same turned by half a circle is a convolution.
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
    blurred = torch.fft.irfft2(spectrum, s=size)
    first = 2 * reach
    return blurred[:, first : first + height, first : first + width].transpose(0, 1).contiguous()


@functools.cache
def _good(size: int) -> int:
    """The next size that has no prime factor above 7."""
    for good in itertools.count(size):
        rest = good
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return good
    raise AssertionError("unreachable")
