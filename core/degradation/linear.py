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

from ..devices import without_autocast
from . import bands
from .bands import Band
from .kernels import blur_kernel, is_round_gaussian, reflect, separable_terms

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
MAX_VALUES = 2**25
"""Most values of the bands of a turned blur and of what lies between its axes."""


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
        with without_autocast(device):
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
        taps: (rows, columns) of the blur's separable terms; None without a blur or such terms.
        rows_first: which axis to begin with.
        windows: about how many values of the input a value of the output looks at, per axis.
        seconds: estimated for the cheaper of two ways: through bands or `fourier`.
    """

    def __init__(self, steps: Sequence[Step], sizes: Sequence[Size], taps: Taps | None) -> None:
        self.steps, self.sizes, self.taps = steps, sizes, taps
        self.size, self.out = sizes[0], sizes[-1]
        self.terms = 1 if taps is None else len(taps[0])
        self.rows_first = self.out[0] <= self.size[0]
        self.windows = tuple(self._window(axis) for axis in (0, 1))
        self.seconds, self.fourier = self._band_seconds(), False
        if len(steps) == 1 and steps[0]["op"] != "resize" and not is_round_gaussian(steps[0]):
            reach = steps[0]["taps"] - 1
            values = 3 * (self.size[0] + reach) * (self.size[1] + reach)
            seconds = values * FFT_SECONDS + BUILD_SECONDS
            self.fourier = taps is None or seconds < self.seconds
            self.seconds = seconds if self.fourier else self.seconds

    def _window(self, axis: int) -> float:
        if sum(step["op"] == "resize" for step in self.steps) > 1:
            return self.size[axis]  # `bands.compose` does not keep it short
        wide = 1.0
        for i in range(len(self.steps) - 1, -1, -1):
            step = self.steps[i]
            if step["op"] != "resize":
                wide += step["taps"] - 1
            else:
                ratio = self.sizes[i][axis] / self.sizes[i + 1][axis]
                reach = {"area": ratio + 1, "bilinear": 2, "bicubic": 4}[step["mode"]]
                wide = (wide - 1) * ratio + reach
        return min(wide, self.size[axis])

    def _band_seconds(self) -> float:
        (height, width), (new_height, new_width) = self.size, self.out
        if self.rows_first:
            between, lanes, calls = new_height * width, (width, new_height), (1, self.terms)
        else:
            between, lanes, calls = height * new_width, (new_width, height), (1, 1)
        weights = self.windows[0] * new_height + self.windows[1] * new_width
        if self.terms > 1 and self.terms * (3 * between + weights) > MAX_VALUES:
            return float("inf")
        seconds = BUILD_SECONDS + self.terms * weights * FILL_SECONDS
        for axis in (0, 1):
            seconds += bands.best_block(
                self.out[axis],
                self.size[axis],
                self.windows[axis],
                self.terms,
                3 * lanes[axis],
                calls=calls[axis],
            )[0]
        return seconds

    def band(self, axis: int) -> Band:
        """The whole segment along one axis."""
        before: Band | None = None
        resizes: Band | None = None
        blurred: int | None = None
        for step, size, new in zip(self.steps, self.sizes, self.sizes[1:], strict=False):
            if step["op"] != "resize":
                before, resizes, blurred = resizes, None, size[axis]
                continue
            one = bands.resize_band(size[axis], new[axis], step["mode"])
            resizes = one if resizes is None else bands.compose(one, resizes)
        if blurred is not None and self.taps is not None:
            if resizes is None and before is not None:
                return bands.before_blur(before, self.taps[axis])
            after = bands.after_blur(self.taps[axis], blurred, resizes)
            return after if before is None else bands.compose(after, before)
        if resizes is None:
            raise ValueError("A segment holds a blur with separable terms or a resize, came none.")
        return resizes


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
    taps = [None if s["op"] == "resize" else separable_terms(s) for s in steps]
    best: list[tuple[float, list[_Segment]]] = [(0.0, [])]
    for last in range(1, len(steps) + 1):
        ways = []
        for first in range(max(0, last - LONGEST), last):
            blurs = [i for i in range(first, last) if steps[i]["op"] != "resize"]
            allowed = len(blurs) < 2 and (last - first == 1 or all(taps[i] for i in blurs))
            if not allowed:
                continue
            segment = _Segment(
                steps[first:last], sizes[first : last + 1], taps[blurs[0]] if blurs else None
            )
            ways.append((best[first][0] + segment.seconds, [*best[first][1], segment]))
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]


def _through_bands(x: Tensor, segment: _Segment) -> Tensor:
    """Rows come first where they get fewer, so that little is left to do, and otherwise last."""
    rows, columns = segment.band(0), segment.band(1)
    if segment.rows_first:
        return _columns_together(_rows_apart(x, rows), columns)
    return _rows_together(_columns_apart(x, columns), rows)


def _rows_apart(x: Tensor, rows: Band) -> Tensor:
    """x (h, 3, w) -> (m, r, 3, w)"""
    _, channels, width = x.shape
    half = bands.multiply(_blocked(rows, channels * width), x.view(len(x), -1))
    return half.view(*half.shape[:2], channels, width)


def _columns_together(half: Tensor, columns: Band) -> Tensor:
    """half (m, r, 3, w) -> (m, 3, n), summed over r"""
    height, terms, channels, width = half.shape
    columns = _blocked(columns, channels * height, calls=terms)
    weights = columns.weights.to(half.device)
    new, _, wide = weights.shape
    half = half.transpose(1, 2).reshape(-1, terms * width)
    out = half.new_empty(height, channels, new)
    flat = out.view(-1, new)
    for part, low in columns.blocks():
        for term in range(terms):
            start = term * width + low
            looked, weight = half[:, start : start + wide], weights[part, term].T
            if term == 0:
                torch.mm(looked, weight, out=flat[:, part])
            else:
                flat[:, part].addmm_(looked, weight)
    return out


def _columns_apart(x: Tensor, columns: Band) -> Tensor:
    """x (h, 3, w) -> (h, r, 3, n)"""
    height, channels, width = x.shape
    columns = _blocked(columns, channels * height)
    weights = columns.weights.to(x.device)
    new, terms, wide = weights.shape
    flat = x.view(-1, width)
    half = x.new_empty(height, terms, channels, new)
    for part, low in columns.blocks():
        done = torch.mm(flat[:, low : low + wide], weights[part].reshape(-1, wide).T)
        half[..., part] = done.view(height, channels, -1, terms).permute(0, 3, 1, 2)
    return half


def _rows_together(half: Tensor, rows: Band) -> Tensor:
    """half (h, r, 3, n) -> (m, 3, n), summed over r"""
    height, terms, channels, width = half.shape
    rows = _blocked(rows, channels * width)
    weights = rows.weights.transpose(1, 2).reshape(len(rows.weights), -1).to(half.device)
    out = half.new_empty(len(weights), channels, width)
    half = half.view(height * terms, -1)
    wide = weights.shape[1]
    for part, low in rows.blocks():
        looked = half[low * terms : low * terms + wide]
        torch.mm(weights[part], looked, out=out[part].view(-1, channels * width))
    return out


def _blocked(band: Band, lanes: int, *, calls: int = 1) -> Band:
    rows, terms, width = band.weights.shape
    return band.blocked(bands.best_block(rows, band.size, width, terms, lanes, calls=calls)[1])


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
    kernel = torch.from_numpy(blur_kernel(step)).float().to(x.device)
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
