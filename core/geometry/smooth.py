"""What moves, smoothed over the frames of a video."""

import math

import numpy as np
import torch
from torch import Tensor

from .align import Tracks

_FOLLOW = 0.1
"""Beyond this distance, in halves of the crop's side, the crop follows the face again."""


def smooth_path(
    path: np.ndarray, seen: np.ndarray, period: float, scale: np.ndarray | None = None
) -> np.ndarray:
    """Points without their jitter, and without a delay, those not seen filled in.

    The minimiser of sum_t w_t |x_t - y_t|^2 + lambda sum_t |x_{t-1} - 2 x_t + x_{t+1}|^2
    (Whittaker, 1923; Hodrick and Prescott, 1997). A steady movement, ends included, is kept as it
    is; one of period p is multiplied by 1 / (1 + lambda (2 - 2 cos(2 pi / p))^2), which is 1/2 at
    `period`.

    Args:
        path: (frames, d).
        seen: (frames,) bool; other rows of `path` are not read. First and last should be seen.
        period: in frames, >= 2.
        scale: (frames,) half the crops' sides, in the units of the first four columns of `path`,
            which are then held within about a tenth of it: a sudden movement is followed.

    Returns:
        (frames, d) float64.
    """
    from scipy.linalg import solveh_banded
    from scipy.sparse import eye

    count = len(path)
    if count < 3:
        return path.astype(np.float64)
    y = np.where(seen[:, None], path, 0.0)
    stiffness = (2 - 2 * math.cos(2 * math.pi / period)) ** -2
    # Diagonals of D'D, D the second differences.
    first, middle, last = (eye(count - 2, count, k) for k in range(3))
    difference = first - 2 * middle + last
    square = difference.T @ difference
    bands = np.stack([np.pad(square.diagonal(k), (k, 0)) for k in (2, 1, 0)])
    weight = seen.astype(np.float64)
    for _ in range(1 if scale is None else 8):
        system = stiffness * bands
        system[2] += weight
        x = solveh_banded(system, weight[:, None] * y)
        if scale is None:
            break
        off = np.abs(x[:, :4] - y[:, :4]).max(1) / (_FOLLOW * scale)
        if not (off[seen] > 1).any():
            break
        weight = np.where(seen & (off > 1), weight * off**2, weight)
    return x


def smooth_over_tracks(values: Tensor, tracks: Tracks) -> Tensor:
    """What belongs to faces, (n, ...), as steady over the frames of their tracks as their places.

    The faces should be those of `smooth_places`, in their order: a track has no gaps there. Rows of
    `values` that are NaN are not known, and are filled in.
    """
    if tracks.period == 0:
        return values
    out = values.cpu().double().flatten(1).numpy().copy()
    for number in tracks.number.unique().tolist():
        mine = (tracks.number == number).numpy()
        seen = np.isfinite(out[mine].sum(1))
        out[mine] = smooth_path(out[mine], seen, tracks.period)
    return torch.from_numpy(out).view(values.shape).to(values)
