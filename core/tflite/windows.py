"""Operators that move a window over a picture: convolutions and pools."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .node import Built, Function, Node, Step


class Convolution(Step):
    """CONV_2D and DEPTHWISE_CONV_2D.

    `pads` are left, right, top, bottom; those of a PAD in front are added to them.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: list[int],
        dilation: list[int],
        groups: int,
        pads: list[int],
        activation: Function | None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.pads, self.activation = pads, activation
        self.products = weight[0].numel()

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = self.pads
        padding = [top, left]
        if left != right or top != bottom:
            x, padding = F.pad(x, self.pads), [0, 0]
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return self.activation(x) if self.activation else x


def conv_2d(node: Node) -> Built:
    channels = node.picture()[2]
    weight = node.weights(1, (None, None, None, channels)).permute(0, 3, 1, 2)
    stride, dilation = [node.reach(2), node.reach(1)], [node.reach(5, 1), node.reach(4, 1)]
    return _convolution(node, weight, stride, dilation, groups=1, fused=3)


def depthwise_conv_2d(node: Node) -> Built:
    channels = node.picture()[2]
    weight = node.weights(1, (1, None, None, None)).permute(3, 0, 1, 2)
    if len(weight) % channels:
        raise node.refusal(f"has {len(weight)} filters for {channels} channels")
    stride, dilation = [node.reach(2), node.reach(1)], [node.reach(6, 1), node.reach(5, 1)]
    return _convolution(node, weight, stride, dilation, groups=channels, fused=4)


def _convolution(
    node: Node, weight: Tensor, stride: list[int], dilation: list[int], *, groups: int, fused: int
) -> Built:
    pads, size = node.window(list(weight.shape[2:]), stride, dilation)
    step = Convolution(
        weight,
        node.weights(2, (len(weight),)) if node.has(2) else None,
        stride=stride,
        dilation=dilation,
        groups=groups,
        pads=pads,
        activation=node.activation(fused),
    )
    return step, (1, *size, len(weight))


class Pool(Step):
    """MAX_POOL_2D and AVERAGE_POOL_2D; padding counts in neither."""

    share: Tensor | None

    def __init__(
        self,
        pool: Callable[..., Tensor],
        kernel: list[int],
        stride: list[int],
        pads: list[int],
        fill: float,
        share: Tensor | None,
        activation: Function | None,
    ) -> None:
        super().__init__()
        self.register_buffer("share", share)
        self.pool, self.kernel, self.stride = pool, kernel, stride
        self.pads, self.fill, self.activation = pads, fill, activation
        self.products = kernel[0] * kernel[1]

    def forward(self, x: Tensor) -> Tensor:
        if any(self.pads):
            x = F.pad(x, self.pads, value=self.fill)
        x = self.pool(x, self.kernel, self.stride)
        if self.share is not None:
            x = x / self.share
        return self.activation(x) if self.activation else x


def max_pool_2d(node: Node) -> Built:
    return _pool(node, F.max_pool2d, -torch.inf)


def average_pool_2d(node: Node) -> Built:
    return _pool(node, F.avg_pool2d, 0.0)


def _pool(node: Node, pool: Callable[..., Tensor], fill: float) -> Built:
    kernel, stride = [node.reach(4), node.reach(3)], [node.reach(2), node.reach(1)]
    pads, size = node.window(kernel, stride, [1, 1])
    height, width, channels = node.picture()
    share = None
    if fill == 0 and any(pads):  # the share of each window that lies on the picture
        rows = _on_the_picture(height, size[0], kernel[0], stride[0], pads[2])
        share = rows[:, None] * _on_the_picture(width, size[1], kernel[1], stride[1], pads[0])
    step = Pool(pool, kernel, stride, pads, fill, share, node.activation(5))
    return step, (1, *size, channels)


def _on_the_picture(length: int, made: int, kernel: int, stride: int, before: int) -> Tensor:
    """The share of each of `made` windows along one axis that lies on `length` pixels."""
    start = torch.arange(made) * stride - before
    return ((start + kernel).clamp_max(length) - start.clamp_min(0)) / kernel
