"""Perceptual colour difference without learned weights."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import rgb_to_lab
from ..devices import widened
from ..errors import FacewrightError
from .similarity import check_pair

_SCALES = 5
_FILTERS = 128
_SIDE = 11
_LARGEST = 256
_CHUNK = 16
"""Filters applied at once: 2 x 16 maps of 256 x 256 are 8 MB."""


def ms_swd(a: Tensor, b: Tensor) -> Tensor:
    """Multiscale sliced Wasserstein distance (He et al., ECCV 2024, arXiv:2407.10181).

    A Gaussian pyramid in sRGB; at each scale, in CIELAB, 128 random 11x11x3 filters of length 1;
    the two sets of responses are sorted and compared: mean |difference| over filters and pixels,
    mean over scales. It sees which colours and local patterns there are, not quite where.

    This is the authors' variant without learning, with the filters drawn once from a fixed seed
    instead of anew at every call; filters drawn otherwise change the value by some percent. Their
    learned one is the metric `msswd_learned`. As they do, pictures whose shorter side exceeds 256
    are reduced to it first. Pictures too small for 5 scales get as many as leave 6 pixels, so
    compare only pictures of one size.

    Args:
        a, b: (n, 3, h, w) sRGB in [0, 1], h and w at least 11.

    Returns:
        (n,) float64 >= 0 in units of CIELAB, without gradient; exactly 0 for equal pictures,
        symmetric.

    Raises:
        FacewrightError: shapes that differ, or pictures smaller than the filters.
    """
    check_pair(a, b)
    if min(a.shape[-2:]) < _SIDE:
        raise FacewrightError(
            f"MS-SWD needs pictures of at least {_SIDE} x {_SIDE} pixels, got {tuple(a.shape[-2:])}"
            "; enlarge both."
        )
    with torch.no_grad():
        # One picture at a time: flat memory, and a value that does not depend on the batch.
        values = [_distance(x[None].float(), y[None].float()) for x, y in zip(a, b, strict=True)]
    return torch.stack(values) if values else widened(a.new_zeros(0))


def _distance(x: Tensor, y: Tensor) -> Tensor:
    x, y = _reduce(x), _reduce(y)
    scales = []
    for filters in random_filters():
        if min(x.shape[-2:]) <= _SIDE // 2:
            break
        scales.append(_sliced(rgb_to_lab(x), rgb_to_lab(y), filters.to(x.device)))
        x, y = _halve(x), _halve(y)
    return torch.stack(scales).mean()


def _sliced(x: Tensor, y: Tensor, filters: Tensor) -> Tensor:
    """Mean |sorted responses of x - sorted responses of y|, scalar float64."""
    x, y = (F.pad(z, (_SIDE // 2,) * 4, mode="reflect") for z in (x, y))
    total = widened(x.new_zeros(()))
    # TF32 would leave three digits.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for some in filters.split(_CHUNK):
            left, right = (_sort(F.conv2d(z, some).flatten(2)) for z in (x, y))
            total = total + widened((left - right).abs()).mean(2).sum()
    return total / len(filters)


def _sort(x: Tensor) -> Tensor:
    # On processors NumPy's vectorised sort takes a tenth of the time of torch's.
    return torch.from_numpy(np.sort(x.numpy(), axis=2)) if x.is_cpu else x.sort(dim=2).values


@cache
def random_filters() -> tuple[Tensor, ...]:
    """Per scale (128, 3, 11, 11), each filter of length 1; for ever the same."""
    # NumPy promises that this legacy generator never changes its stream; torch does not.
    values = np.random.RandomState(0).standard_normal((_SCALES, _FILTERS, 3 * _SIDE * _SIDE))
    values /= np.linalg.norm(values, axis=2, keepdims=True)
    return torch.from_numpy(values).float().view(_SCALES, _FILTERS, 3, _SIDE, _SIDE).unbind()


def _reduce(x: Tensor) -> Tensor:
    shorter = min(x.shape[-2:])
    if shorter <= _LARGEST:
        return x
    size = [round(side * _LARGEST / shorter) for side in x.shape[-2:]]
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def _halve(x: Tensor) -> Tensor:
    """Every second pixel after the 5x5 binomial filter, borders reflected (Burt and Adelson)."""
    line = x.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = torch.outer(line, line)[None, None].repeat(3, 1, 1, 1)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=3)
