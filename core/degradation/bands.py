"""Linear maps along one axis, whose rows look at a short stretch of the input only."""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .kernels import reflect, resize_weights

CACHE_BYTES = 32 * 2**20
MACS_PER_SECOND = 45e9
CALL_SECONDS = 10e-6
"""One processor core's; they only weigh one exact way against another."""


@dataclass(frozen=True)
class Band:
    """r maps from n to m values.

    Attributes:
        weights: (m, r, n) float32.
        low, high: (m,), rising; outside low ... high - 1 a row's weights are zero.
    """

    weights: Tensor
    low: np.ndarray
    high: np.ndarray

    def block(self, first: int, last: int) -> tuple[int, int]:
        """The stretch of the input that rows first ... last - 1 look at."""
        return int(self.low[first]), int(self.high[last - 1])


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


def multiply(band: Band, x: Tensor, window: float) -> Tensor:
    """(n, lanes) -> (m, r, lanes)."""
    rows, terms, size = band.weights.shape
    lanes = x.shape[1]
    out = x.new_empty(rows, terms, lanes)
    _, block = best_block(rows, size, window, terms, lanes)
    for first in range(0, rows, block):
        last = min(first + block, rows)
        low, high = band.block(first, last)
        torch.mm(
            band.weights[first:last].view(-1, size)[:, low:high],
            x[low:high],
            out=out[first:last].view(-1, lanes),
        )
    return out


class _Cache:
    """The latest resizing bands, bounded in bytes: sizes drawn at random come in the hundreds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bands: OrderedDict[tuple, Band] = OrderedDict()
        self.bytes = 0

    def __call__(self, size: int, new: int, mode: str, device: torch.device) -> Band:
        key = (size, new, mode, device)
        with self.lock:
            if key in self.bands:
                self.bands.move_to_end(key)
                return self.bands[key]
        band = _resize_band(size, new, mode, device)
        with self.lock:
            if key not in self.bands and band.weights.nbytes <= CACHE_BYTES // 8:
                self.bands[key] = band
                self.bytes += band.weights.nbytes
                while self.bytes > CACHE_BYTES:
                    self.bytes -= self.bands.popitem(last=False)[1].weights.nbytes
        return band


resize_band = _Cache()
"""(size, new, mode, device) -> Band with r = 1."""


def _resize_band(size: int, new: int, mode: str, device: torch.device) -> Band:
    index, weight = (torch.from_numpy(a) for a in resize_weights(size, new, mode))
    weights = torch.zeros(new, size, dtype=torch.float64, device="cpu")
    weights.scatter_add_(1, index, weight)
    return Band(
        weights.float().view(new, 1, size).to(device),
        index[:, 0].numpy(),
        index[:, -1].numpy() + 1,
    )


def after_blur(taps: np.ndarray, size: int, then: Band | None, device: torch.device) -> Band:
    """Blurs of `size` values by taps (r, t), followed by `then` (r = 1) where it is given."""
    terms, length = taps.shape
    reach = length // 2
    if then is None:
        low = np.arange(size)
        high, width = low + 1, 1
        looked = np.ones((size, 1))
    else:
        low, high = then.low, then.high
        width = int((high - low).max())
        column = low[:, None] + np.arange(width)
        looked = then.weights[:, 0].cpu().numpy()
        looked = np.take_along_axis(looked, column.clip(max=size - 1), 1) * (column < high[:, None])
    reached = looked @ _toeplitz(taps, width).reshape(width, -1)
    reached = reached.reshape(len(low), terms, -1).astype(np.float32)
    index = reflect(low[:, None] - reach + np.arange(width + length - 1), size)
    weights = torch.zeros(len(low), terms, size, dtype=torch.float32, device="cpu")
    weights.scatter_add_(
        2,
        torch.from_numpy(index)[:, None].expand(-1, terms, -1),
        torch.from_numpy(reached),
    )
    return Band(weights.to(device), (low - reach).clip(0), (high + reach).clip(max=size))


def before_blur(first: Band, taps: np.ndarray) -> Band:
    """`first` (r = 1), followed by blurs of its output by taps (r, t)."""
    size, _, inputs = first.weights.shape
    terms, length = taps.shape
    reach = length // 2
    device = first.weights.device
    source = reflect(np.arange(-reach, size + reach), size)
    extended = first.weights[torch.from_numpy(source).to(device), 0]
    block = min(size, 32)
    toeplitz = torch.from_numpy(_toeplitz(taps, block).astype(np.float32)).to(device)
    low, high = first.low[source], first.high[source]
    weights = torch.zeros(size, terms, inputs, dtype=torch.float32, device=device)
    for start in range(0, size, block):
        rows = min(block, size - start)
        stop = start + rows + length - 1
        left, right = int(low[start:stop].min()), int(high[start:stop].max())
        weights[start : start + rows, :, left:right] = (
            toeplitz[:rows, :, : stop - start].reshape(rows * terms, -1)
            @ extended[start:stop, left:right]
        ).view(rows, terms, -1)
    # An output looks at `reach` values on either side, folded at the borders.
    here = np.arange(size)
    low = first.low[(here - reach).clip(0)]
    return Band(weights, low, first.high[(here + reach).clip(max=size - 1)])


def _toeplitz(taps: np.ndarray, rows: int) -> np.ndarray:
    """(rows, r, rows + t - 1): row s holds the taps (r, t) moved s to the right."""
    terms, length = taps.shape
    padded = np.zeros((terms, length + 2 * (rows - 1)))
    padded[:, rows - 1 : rows - 1 + length] = taps
    line, item = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded[:, rows - 1 :], (rows, terms, rows + length - 1), (-item, line, item)
    )


def compose(second: Band, first: Band, window: float) -> Band:
    """`second` after `first` (r = 1 of first); the rows of `first` look further and further on."""
    weights = multiply(second, first.weights[:, 0], window)
    return Band(weights, first.low[second.low], first.high[second.high - 1])
