"""The operators of TensorFlow Lite as torch modules, built once from what a file says of them.

Meanings after the public operator descriptions and schema of TensorFlow Lite (Apache-2.0).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .node import MOST_NUMBERS, Built, Function, Node, Shape, Step, inside, outside
from .reader import MOST_OPERANDS
from .windows import conv_2d, depthwise_conv_2d, max_pool_2d


class Apply(Step):
    """A function of one value."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Prelu(Step):
    """x where it is positive, else x times a slope: per channel, or of any shape that repeats."""

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        if self.slope.ndim == 1:
            return F.prelu(x, self.slope)
        return torch.where(x > 0, x, x * self.slope)


def prelu(node: Node) -> Built:
    slope = node.constant(1)
    shape = node.shape(0)
    if len(shape) == 4 and slope.size == shape[3] and slope.shape[-1:] == shape[3:]:
        return Prelu(node.weights(1, slope.shape).flatten()), shape
    return Prelu(_repeated(node, 1, shape)), _joined(node, shape, slope.shape)


class Add(Step):
    """ADD of two values, or of one and a constant that repeats over it."""

    constant: Tensor | None

    def __init__(self, constant: Tensor | None, activation: Function | None) -> None:
        super().__init__()
        self.register_buffer("constant", constant)
        self.activation = activation

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        other = self.constant if y is None else y
        assert other is not None
        return self.activation(x + other) if self.activation else x + other


def add(node: Node) -> Built:
    stored = [i for i, n in enumerate(node.operator.inputs) if n in node.model.constants]
    constant = _repeated(node, stored[0], node.shape(1 - stored[0])) if stored else None
    if not stored and len(node.shape(0)) != len(node.shape(1)):
        raise node.refusal(f"adds values of {node.shape(0)} and {node.shape(1)}")
    return Add(constant, node.activation(0)), _joined(node, node.shape(0), node.shape(1))


def _repeated(node: Node, i: int, shape: tuple[int, ...]) -> Tensor:
    """Constant operand `i`, ready to repeat over a value of `shape`."""
    values = node.weights(i, node.constant(i).shape)
    if values.ndim > len(shape):
        raise node.refusal(f"has a constant of {tuple(values.shape)} for a value of {shape}")
    return inside(values.reshape((1,) * (len(shape) - values.ndim) + tuple(values.shape)))


def _joined(node: Node, one: Shape, other: Shape) -> Shape:
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        raise node.refusal(f"joins values of {one} and {other}") from None


class Pad(Step):
    """PAD with zeros; `pads` as `F.pad` takes them."""

    def __init__(self, pads: list[int]) -> None:
        super().__init__()
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads)

    @property
    def is_around(self) -> bool:
        """Whether a convolution can do it as well."""
        return len(self.pads) == 8 and not any(self.pads[4:])


def pad(node: Node) -> Built:
    shape, amounts = node.shape(0), node.integers(1)
    if amounts.shape != (len(shape), 2) or amounts.min() < 0 or amounts.max() > MOST_NUMBERS:
        raise node.refusal(f"pads {shape} by {amounts.tolist()}")
    made = tuple(n + int(a) + int(b) for n, (a, b) in zip(shape, amounts, strict=True))
    if len(shape) == 4:
        amounts = amounts[[0, 3, 1, 2]]
    return Pad(amounts[::-1].reshape(-1).tolist()), made


class Reshape(Step):
    """RESHAPE of each entry of the batch."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return inside(outside(x).reshape(x.shape[0], *self.shape[1:]))


def reshape(node: Node) -> Built:
    old, new = node.shape(0), node.made()
    if math.prod(old) != math.prod(new):
        raise node.refusal(f"makes {new} of {old}")
    return Reshape(new), new


class Concatenation(Step):
    def __init__(self, axis: int, activation: Function | None) -> None:
        super().__init__()
        self.axis, self.activation = axis, activation

    def forward(self, *xs: Tensor) -> Tensor:
        x = torch.cat(xs, self.axis)
        return self.activation(x) if self.activation else x


def concatenation(node: Node) -> Built:
    shapes = [node.shape(i) for i in range(len(node.operator.inputs))]
    if not node.model.constants.keys().isdisjoint(node.operator.inputs):
        raise node.refusal("joins a stored tensor to others, which is not supported")
    axes, axis = len(node.shape(0)), node.option(0)
    if not -axes <= axis < axes or axis % axes == 0:
        raise node.refusal(f"works on the axis {axis} of {axes}; the first is the batch")
    axis %= axes
    if len({(*s[:axis], *s[axis + 1 :]) for s in shapes}) != 1 or {len(s) for s in shapes} != {
        axes
    }:
        raise node.refusal(f"joins values of {shapes}")
    made = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    inner = (0, 2, 3, 1)[axis] if axes == 4 else axis
    return Concatenation(inner, node.activation(1)), made


class Resize(Step):
    """RESIZE_BILINEAR: pixels counted from their corners, their centers, or their upper edge."""

    def __init__(self, size: list[int], corners: bool, centers: bool) -> None:
        super().__init__()
        self.size, self.corners, self.centers = size, corners, centers

    def forward(self, x: Tensor) -> Tensor:
        if self.centers or self.corners:
            return F.interpolate(x, self.size, mode="bilinear", align_corners=self.corners)
        for axis, size in zip((2, 3), self.size, strict=True):
            x = self._from_the_edge(x, axis, size)
        return x

    @staticmethod
    def _from_the_edge(x: Tensor, axis: int, size: int) -> Tensor:
        """Pixel i lies at i * old / new, which `F.interpolate` does not offer."""
        at = torch.arange(size, device=x.device) * (x.shape[axis] / size)
        low = at.floor().long()
        share = (at - low).to(x.dtype).view((-1, 1) if axis == 2 else (-1,))
        high = (low + 1).clamp_max(x.shape[axis] - 1)
        return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), share)


def resize_bilinear(node: Node) -> Built:
    channels = node.picture()[2]
    size = node.integers(1)
    corners, centers = bool(node.option(2, "u8")), bool(node.option(3, "u8"))
    if size.shape != (2,) or size.min() < 1 or size.max() > MOST_NUMBERS or (corners and centers):
        raise node.refusal(f"resizes to {size.tolist()}, or counts from corners and centers alike")
    height, width = size.tolist()
    return Resize([height, width], corners, centers), (1, height, width, channels)


class DepthToSpace(Step):
    """Blocks of channels become blocks of pixels; the channels of a pixel stay neighbours."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        b = self.block
        x = outside(x).reshape(n, height, width, b, b, channels // (b * b)).transpose(2, 3)
        return inside(x.reshape(n, height * b, width * b, channels // (b * b)))


def depth_to_space(node: Node) -> Built:
    (height, width, channels), block = node.picture(), node.reach(0)
    if channels % block**2:
        raise node.refusal(f"makes blocks of {block} pixels from {channels} channels")
    return DepthToSpace(block), (1, height * block, width * block, channels // block**2)


def _apply(function: Function) -> Callable[[Node], Built]:
    return lambda node: (Apply(function), node.shape(0))


OPERATORS: dict[str, tuple[Callable[[Node], Built], int, int]] = {
    "ADD": (add, 11, 2),
    "CONCATENATION": (concatenation, 10, MOST_OPERANDS),
    "CONV_2D": (conv_2d, 1, 3),
    "DEPTHWISE_CONV_2D": (depthwise_conv_2d, 2, 3),
    "DEPTH_TO_SPACE": (depth_to_space, 94, 1),
    "LOGISTIC": (_apply(torch.sigmoid), 0, 1),
    "MAX_POOL_2D": (max_pool_2d, 5, 1),
    "PAD": (pad, 22, 2),
    "PRELU": (prelu, 0, 2),
    "RELU": (_apply(F.relu), 0, 1),
    "RESHAPE": (reshape, 17, 2),
    "RESIZE_BILINEAR": (resize_bilinear, 15, 2),
}
"""By name, those of MediaPipe's face detectors and face mesh: how each is built, the kind of its
options in the schema (0: it has none), and how many operands it takes at most."""
