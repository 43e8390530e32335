"""Linear maps along one axis, whose rows look at a short stretch of the input only."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .kernels import reflect, resize_weights

MACS_PER_SECOND = 45e9
CALL_SECONDS = 10e-6
"""One processor core's; they only weigh one exact way against another."""
ROWS_OF_BLUR = 32


@dataclass(frozen=True)
class Band:
    """r maps from n to m values.

    Attributes:
        weights: (m, r, k) float32 on the CPU; all of k neighbouring inputs.
        low: (m / block,) index of the first of those k, the same for `block` rows, rising.
        block: rows.
        size: n.
    """

    weights: Tensor
    low: np.ndarray
    block: int
    size: int

    @property
    def low_of_rows(self) -> np.ndarray:
        """(m,)"""
        return np.repeat(self.low, self.block)[: len(self.weights)]

    def blocks(self) -> Iterator[tuple[slice, int]]:
        """Rows of each block and the first input that they look at."""
        starts = range(0, len(self.weights), self.block)
        for start, low in zip(starts, self.low.tolist(), strict=True):
            yield slice(start, min(start + self.block, len(self.weights))), low

    def blocked(self, block: int) -> "Band":
        """The same with more rows to a block, which then look at more than they need."""
        rows, terms, width = self.weights.shape
        if self.block > 1 or block == 1:
            return self
        first = np.arange(0, rows, block)
        last = (first + block - 1).clip(max=rows - 1)
        wide = min(self.size, int((self.low[last] - self.low[first]).max()) + width)
        low = self.low[first].clip(max=self.size - wide)
        offset = self.low - np.repeat(low, block)[:rows]
        index = torch.from_numpy(offset[:, None] + np.arange(width))
        weights = torch.zeros(rows, terms, wide, dtype=torch.float32, device="cpu")
        weights.scatter_(2, index[:, None].expand(-1, terms, -1), self.weights)
        return Band(weights, low, block, self.size)

    def dense(self) -> Tensor:
        """(m, r, n)"""
        rows, terms, width = self.weights.shape
        if width == self.size:
            return self.weights
        index = torch.from_numpy(self.low_of_rows[:, None] + np.arange(width))
        weights = torch.zeros(rows, terms, self.size, dtype=torch.float32, device="cpu")
        return weights.scatter_(2, index[:, None].expand(-1, terms, -1), self.weights)


def best_block(
    rows: int, size: int, window: float, terms: int, lanes: int, *, calls: int = 1
) -> tuple[float, int]:
    """Estimated seconds of a product with a band, and how many of its rows to take at a time.

    Few rows at a time look at little that they do not need; many make few calls.

    Args:
        rows: of the band.
        size: of its input.
        window: values that one row looks at.
        terms: r of the band.
        lanes: columns that are multiplied.
        calls: products per block.
    """
    step = size / rows
    seconds_per_value = terms * lanes / MACS_PER_SECOND
    block = math.ceil(math.sqrt(CALL_SECONDS * calls / (seconds_per_value * step)))
    block = min(rows, max(block, 4))
    if window + (block - 1) * step > 0.7 * size:
        block = rows
    blocks = math.ceil(rows / block)
    block = math.ceil(rows / blocks)
    wide = min(size, window + (block - 1) * step)
    thin = 1 + 24 / (block * terms) ** 1.2 + 6 / wide  # thin products do not reach full speed
    return rows * wide * seconds_per_value * thin + blocks * calls * CALL_SECONDS, block


def multiply(band: Band, x: Tensor) -> Tensor:
    """(n, lanes) -> (m, r, lanes)"""
    rows, terms, width = band.weights.shape
    weights = band.weights.to(x.device)
    out = x.new_empty(rows, terms, x.shape[1])
    for part, low in band.blocks():
        looked = x[low : low + width]
        torch.mm(weights[part].view(-1, width), looked, out=out[part].view(-1, x.shape[1]))
    return out


@functools.lru_cache(maxsize=128)
def resize_band(size: int, new: int, mode: str) -> Band:
    """With r = 1. The latest are kept: at most some 16 000 rows of a few weights each."""
    index, weight = resize_weights(size, new, mode)
    width = min(size, index.shape[1])
    low = index[:, 0].clip(max=size - width)
    weights = torch.zeros(new, width, dtype=torch.float64, device="cpu")
    weights.scatter_add_(1, torch.from_numpy(index - low[:, None]), torch.from_numpy(weight))
    return Band(weights.float().view(new, 1, width), low, 1, size)


def after_blur(taps: np.ndarray, size: int, then: Band | None) -> Band:
    """Blurs of `size` values by taps (r, t), followed by `then` (r = 1) where it is given."""
    terms, length = taps.shape
    reach = length // 2
    if then is None:
        low, looked = np.arange(size), np.ones((size, 1))
    else:
        low, looked = then.low_of_rows, then.weights[:, 0].double().numpy()
    rows, width = looked.shape
    longest = width + length - 1
    reached = looked @ _toeplitz(taps, width).reshape(width, -1)
    reached = torch.from_numpy(reached.reshape(rows, terms, longest)).float()
    wide = min(longest, size)
    start = (low - reach).clip(0, size - wide)
    index = reflect((low - reach)[:, None] + np.arange(longest), size) - start[:, None]
    weights = torch.zeros(rows, terms, wide, dtype=torch.float32, device="cpu")
    weights.scatter_add_(2, torch.from_numpy(index)[:, None].expand(-1, terms, -1), reached)
    return Band(weights, start, 1, size)


def before_blur(first: Band, taps: np.ndarray) -> Band:
    """`first` (r = 1), followed by blurs of its output by taps (r, t)."""
    rows, _, width = first.weights.shape
    terms, length = taps.shape
    reach = length // 2
    source = reflect(np.arange(-reach, rows + reach), rows)
    extended = first.dense()[torch.from_numpy(source), 0]
    block = min(rows, ROWS_OF_BLUR)
    toeplitz = torch.from_numpy(_toeplitz(taps, block).astype(np.float32))
    # An output looks at `reach` rows on either side, folded at the borders.
    starts = np.arange(0, rows, block)
    low = first.low_of_rows[(starts - reach).clip(0)]
    high = first.low_of_rows[(starts + block - 1 + reach).clip(max=rows - 1)] + width
    wide = min(first.size, int((high - low).max()))
    low = low.clip(max=first.size - wide)
    weights = torch.empty(rows, terms, wide, dtype=torch.float32, device="cpu")
    for start, left in zip(starts.tolist(), low.tolist(), strict=True):
        part = min(block, rows - start)
        stop = start + part + length - 1
        torch.mm(
            toeplitz[:part, :, : stop - start].reshape(part * terms, -1),
            extended[start:stop, left : left + wide],
            out=weights[start : start + part].view(part * terms, -1),
        )
    return Band(weights, low, block, first.size)


def _toeplitz(taps: np.ndarray, rows: int) -> np.ndarray:
    """(rows, r, rows + t - 1): row s holds the taps (r, t) moved s to the right."""
    terms, length = taps.shape
    padded = np.zeros((terms, length + 2 * (rows - 1)))
    padded[:, rows - 1 : rows - 1 + length] = taps
    line, item = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded[:, rows - 1 :], (rows, terms, rows + length - 1), (-item, line, item)
    )


def compose(second: Band, first: Band) -> Band:
    """`second` after `first` (r = 1 of first), as one block that looks at everything."""
    rows, terms, width = second.weights.shape
    _, block = best_block(rows, second.size, width, terms, first.size)
    weights = multiply(second.blocked(block), first.dense()[:, 0])
    return Band(weights, np.zeros(1, np.int64), rows, first.size)
