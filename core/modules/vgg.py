"""VGG-16 and VGG-19 as feature extractors, with the weights read from a file of the user's."""

import os
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d

from ..checkpoint import check_finite, load_strict, read_tensors
from ..errors import CheckpointError

# Indices are those of torchvision's `vgg16().features`, whose names weight files carry.
_STAGES_16 = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_STAGES_19 = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30, 32, 34))
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DISTS_CHANNELS = 3 + sum(_WIDTHS)


def dists_weights(tensors: Mapping[str, Tensor], source: str) -> tuple[Tensor, Tensor]:
    """Take DISTS' learned weights out of a file's tensors, each checked.

    Args:
        tensors: with `alpha` (texture) and `beta` (structure), 1475 values each: one for every
            channel of the picture and of VGG-16's five stages, in that order.
        source: name of the file, for errors.

    Returns:
        alpha and beta as they are in the file.

    Raises:
        CheckpointError: one is missing, of another length, not finite, or both hold nothing but
            zeros.
    """
    found = {name: tensors[name] for name in ("alpha", "beta") if name in tensors}
    for name in ("alpha", "beta"):
        if name not in found:
            raise CheckpointError(
                f"{source} has no `{name}`. DISTS' learned weights are `alpha` and `beta`: take "
                "the file weights.pt of the package dists-pytorch."
            )
        values = found[name]
        if values.numel() != _DISTS_CHANNELS or not values.is_floating_point():
            raise CheckpointError(
                f"`{name}` in {source} should be {_DISTS_CHANNELS} real numbers, one for each "
                f"channel of the picture and of VGG-16's stages, but it holds {values.numel()} of "
                f"type {str(values.dtype).removeprefix('torch.')}."
            )
    check_finite(found, source=source)
    if not any(values.clamp(min=0).any() for values in found.values()):
        raise CheckpointError(f"{source} weighs every channel by 0. Download the file again.")
    return found["alpha"], found["beta"]


class _VGG(nn.Module):
    """Five stages of 3x3 convolutions, halved in between."""

    stages: tuple[tuple[int, ...], ...]
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features_ = nn.ModuleDict()
        c_in = 3
        for indices, width in zip(self.stages, _WIDTHS, strict=True):
            for index in indices:
                self.features_[str(index)] = Conv2d(c_in, width, 3, padding=1)
                c_in = width
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def _pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def features(self, images: Tensor) -> list[Tensor]:
        """The last activation of every stage of images (b, 3, h, w) in [0, 1]; 64, 128, 256, 512,
        512 channels."""
        h = (images - self.mean) / self.std
        maps = []
        for i, indices in enumerate(self.stages):
            h = h if i == 0 else self._pool(h)
            for index in indices:
                h = F.relu(self.features_[str(index)](h))
            maps.append(h)
        return maps

    def convolutions(self, images: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """What convolutions give for images (b, 3, h, w) in [0, 1], before the ReLUs behind them.

        (torchvision's ReLUs work in place: a hook on `features[i]` there sees what came after.)

        Args:
            indices: ascending, of torchvision's `features`.
        """
        h = (images - self.mean) / self.std
        found = {}
        for i, stage in enumerate(self.stages):
            h = h if i == 0 else self._pool(h)
            for index in stage:
                found[index] = h = self.features_[str(index)](h)
                if index == indices[-1]:
                    return [found[wanted] for wanted in indices]
                h = F.relu(h)
        raise IndexError(f"features[{indices[-1]}] is no convolution")

    def _load(self, path: str | os.PathLike[str]) -> dict[str, Tensor]:
        """Weights under torchvision's names, a classifier ignored; returns all of the file."""
        tensors, _ = read_tensors(path)
        prefix = "features."
        convs = {
            "features_." + k.removeprefix(prefix): v
            for k, v in tensors.items()
            if k.startswith(prefix)
        }
        load_strict(self, convs, source=str(path))
        self.eval().requires_grad_(False)
        return tensors


class VGG16(_VGG):
    """The five stages of VGG-16 up to relu5_3.

    Args:
        pooling: "max" between the stages, as it was trained; or "l2", sqrt(g * x^2) with a Hann
            window g and stride 2, which keeps DISTS free of aliasing (Ding et al. 2020,
            arXiv:2004.07728, Eq. 2).
    """

    stages = _STAGES_16
    window: Tensor

    def __init__(self, pooling: Literal["l2", "max"] = "l2") -> None:
        super().__init__()
        self.pooling = pooling
        hann = torch.hann_window(5, periodic=False)[1:-1]
        window = hann[:, None] * hann[None]
        self.register_buffer("window", (window / window.sum())[None, None], persistent=False)

    def _pool(self, x: Tensor) -> Tensor:
        if self.pooling == "max":
            return F.max_pool2d(x, 2)
        window = self.window.to(x).expand(x.shape[1], -1, -1, -1)
        pooled = F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1])
        return pooled.add(1e-12).sqrt()

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], pooling: Literal["l2", "max"] = "l2"
    ) -> tuple["VGG16", tuple[Tensor, Tensor] | None]:
        """Read torchvision's vgg16 weights, with the learned DISTS weights where the file has them.

        Args:
            path: safetensors or .pth with `features.<i>.weight/bias` (a classifier is ignored) and
                optionally `alpha` and `beta` of 1475 values.

        Returns:
            the network, frozen, and (alpha, beta) or None.

        Raises:
            CheckpointError: not such a file, or its DISTS weights are damaged.
        """
        model = cls(pooling)
        tensors = model._load(path)
        if tensors.keys().isdisjoint(("alpha", "beta")):
            return model, None
        return model, dists_weights(tensors, str(path))


class VGG19(_VGG):
    """The five stages of VGG-19 up to relu5_4, as it was trained, with maxima between them."""

    stages = _STAGES_19

    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "VGG19":
        """Read torchvision's vgg19 weights (safetensors or .pth), frozen.

        Raises:
            CheckpointError: not such a file.
        """
        model = cls()
        model._load(path)
        return model
