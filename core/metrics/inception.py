"""The Inception network of pytorch-fid as BasicSR's and VQFR's scripts feed it, for another FID.

Szegedy et al., "Rethinking the Inception Architecture" (arXiv:1512.00567), with the 2015 weights
that FID is defined on. Its blocks pool as TensorFlow did: averages leave the border out, and the
last block takes maxima.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import load_strict, read_tensors
from ..errors import FacewrightError
from .optional import BASICSR_FILE, basicsr_missing, find_weights

_SIDE = 299
_CLASSIFIER = ("fc.weight", "fc.bias")

_Step = tuple[str, int, int | tuple[int, int]]
"""How a convolution's name ends, its channels, and its kernel."""
_Branches = dict[str, list[list[_Step]]]
"""Name of a branch -> its steps; convolutions of one step read the same maps."""


class _Conv(nn.Module):
    def __init__(self, width: int, out: int, kernel: int | tuple[int, int], stride: int) -> None:
        super().__init__()
        height, across = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, across // 2) if stride == 1 else 0
        self.conv = nn.Conv2d(width, out, (height, across), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side: pooled with stride 1 before "branch_pool", or where there is none,
    halved in size at the end of each and by maxima beside them."""

    def __init__(self, width: int, branches: _Branches, *, maxima: bool = False) -> None:
        super().__init__()
        self.maxima = maxima
        self.paths: list[tuple[bool, list[list[str]]]] = []
        halves = "branch_pool" not in branches
        for branch, steps in branches.items():
            channels = width
            for number, step in enumerate(steps):
                stride = 2 if halves and number == len(steps) - 1 else 1
                for end, out, kernel in step:
                    setattr(self, branch + end, _Conv(channels, out, kernel, stride))
                channels = sum(out for _, out, _ in step)
            names = [[branch + end for end, _, _ in step] for step in steps]
            self.paths.append((branch == "branch_pool", names))
        self.halves = halves

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for pooled, steps in self.paths:
            h = self._pooled(x) if pooled else x
            for names in steps:
                h = torch.cat([getattr(self, name)(h) for name in names], 1)
            found.append(h)
        if self.halves:
            found.append(F.max_pool2d(x, 3, 2))
        return torch.cat(found, 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.maxima:
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _small(pool: int) -> _Branches:
    return {
        "branch1x1": [[("", 64, 1)]],
        "branch5x5": [[("_1", 48, 1)], [("_2", 64, 5)]],
        "branch3x3dbl": [[("_1", 64, 1)], [("_2", 96, 3)], [("_3", 96, 3)]],
        "branch_pool": [[("", pool, 1)]],
    }


def _long(inner: int) -> _Branches:
    row, column = (1, 7), (7, 1)
    steps = (("_2", column), ("_3", row), ("_4", column))
    return {
        "branch1x1": [[("", 192, 1)]],
        "branch7x7": [[("_1", inner, 1)], [("_2", inner, row)], [("_3", 192, column)]],
        "branch7x7dbl": [
            [("_1", inner, 1)],
            *([(end, inner, kernel)] for end, kernel in steps),
            [("_5", 192, row)],
        ],
        "branch_pool": [[("", 192, 1)]],
    }


_WIDE: _Branches = {
    "branch1x1": [[("", 320, 1)]],
    "branch3x3": [[("_1", 384, 1)], [("_2a", 384, (1, 3)), ("_2b", 384, (3, 1))]],
    "branch3x3dbl": [
        [("_1", 448, 1)],
        [("_2", 384, 3)],
        [("_3a", 384, (1, 3)), ("_3b", 384, (3, 1))],
    ],
    "branch_pool": [[("", 192, 1)]],
}
_HALVED_ONCE: _Branches = {
    "branch3x3": [[("", 384, 3)]],
    "branch3x3dbl": [[("_1", 64, 1)], [("_2", 96, 3)], [("_3", 96, 3)]],
}
_HALVED_TWICE: _Branches = {
    "branch3x3": [[("_1", 192, 1)], [("_2", 320, 3)]],
    "branch7x7x3": [
        [("_1", 192, 1)], [("_2", 192, (1, 7))], [("_3", 192, (7, 1))], [("_4", 192, 3)],
    ],
}  # fmt: skip


class FidInception(nn.Module):
    """The network up to its last average: (n, 3, 299, 299) in [-1, 1] -> (n, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, 1)
        self.Conv2d_2a_3x3.conv.padding = (0, 0)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, 1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, 1)
        self.Conv2d_4a_3x3.conv.padding = (0, 0)
        blocks = {
            "5b": _Mixed(192, _small(32)), "5c": _Mixed(256, _small(64)),
            "5d": _Mixed(288, _small(64)), "6a": _Mixed(288, _HALVED_ONCE),
            "6b": _Mixed(768, _long(128)), "6c": _Mixed(768, _long(160)),
            "6d": _Mixed(768, _long(160)), "6e": _Mixed(768, _long(192)),
            "7a": _Mixed(768, _HALVED_TWICE), "7b": _Mixed(1280, _WIDE),
            "7c": _Mixed(2048, _WIDE, maxima=True),
        }  # fmt: skip
        self.blocks = [f"Mixed_{end}" for end in blocks]
        for end, block in blocks.items():
            setattr(self, f"Mixed_{end}", block)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return x.mean((2, 3))


def basicsr_features(pictures: Tensor) -> Tensor:
    """Inception features as BasicSR's and VQFR's scripts take them, for the metric `fid_basicsr`.

    Pictures in [-1, 1] are resized to 299 x 299 bilinearly, without antialiasing.

    Args:
        pictures: (n, 3, h, w) in [0, 1].

    Returns:
        (n, 2048) float64 on the CPU.

    Raises:
        FacewrightError: the network's file is missing or does not fit.
    """
    reason = basicsr_missing()
    path = find_weights(BASICSR_FILE)
    if reason or path is None:
        raise FacewrightError(reason or f"{BASICSR_FILE} is not there any more.")
    network = _network(path, pictures.device)
    rows = []
    for picture in pictures:
        with torch.no_grad():
            x = picture[None].float() * 2 - 1
            x = F.interpolate(x, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
            rows.append(network(x).cpu().double())
    return torch.cat(rows) if rows else torch.zeros(0, 2048, dtype=torch.float64)


@cache
def _network(path: Path, device: torch.device) -> FidInception:
    return load_inception(read_tensors(path)[0], str(path)).to(device)


def load_inception(tensors: Mapping[str, Tensor], source: str) -> FidInception:
    """The network with pytorch-fid's weights, whose classifier is left out.

    Raises:
        CheckpointError: tensors that do not fit it.
    """
    network = FidInception()
    kept = {name: value for name, value in tensors.items() if name not in _CLASSIFIER}
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    load_strict(network, {**counters, **kept}, source=source)
    return network.eval().requires_grad_(False)
