"""Operators that move a window over a picture: convolutions and the largest in a window."""

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


class MaxPool(Step):
    """MAX_POOL_2D; padding never is the largest."""

    def __init__(
        self, kernel: list[int], stride: list[int], pads: list[int], activation: Function | None
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.pads, self.activation = pads, activation
        self.products = kernel[0] * kernel[1]

    def forward(self, x: Tensor) -> Tensor:
        if any(self.pads):
            x = F.pad(x, self.pads, value=-torch.inf)
        x = F.max_pool2d(x, self.kernel, self.stride)
        return self.activation(x) if self.activation else x


def max_pool_2d(node: Node) -> Built:
    kernel, stride = [node.reach(4), node.reach(3)], [node.reach(2), node.reach(1)]
    pads, size = node.window(kernel, stride, [1, 1])
    step = MaxPool(kernel, stride, pads, node.activation(5))
    return step, (1, *size, node.picture()[2])
