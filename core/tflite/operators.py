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
from .windows import average_pool_2d, conv_2d, depthwise_conv_2d, max_pool_2d


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


class Combine(Step):
    """ADD, SUB and MUL of two values, or of one and a constant that repeats over it."""

    constant: Tensor | None

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        constant: Tensor | None,
        constant_first: bool,
        activation: Function | None,
    ) -> None:
        super().__init__()
        self.register_buffer("constant", constant)
        self.function, self.constant_first = function, constant_first
        self.activation = activation

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        other = self.constant if y is None else y
        assert other is not None
        x = self.function(other, x) if self.constant_first else self.function(x, other)
        return self.activation(x) if self.activation else x


def combine(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Node], Built]:
    def build(node: Node) -> Built:
        stored = [i for i, n in enumerate(node.operator.inputs) if n in node.model.constants]
        constant = _repeated(node, stored[0], node.shape(1 - stored[0])) if stored else None
        if not stored and len(node.shape(0)) != len(node.shape(1)):
            raise node.refusal(f"joins values of {node.shape(0)} and {node.shape(1)}")
        step = Combine(function, constant, stored == [0], node.activation(0))
        return step, _joined(node, node.shape(0), node.shape(1))

    return build


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
    """PAD, PADV2 and MIRROR_PAD; `pads` as `F.pad` takes them."""

    def __init__(self, pads: list[int], mode: str, fill: float) -> None:
        super().__init__()
        self.pads, self.mode, self.fill = pads, mode, fill

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "constant":
            return F.pad(x, self.pads, value=self.fill)
        return F.pad(x, self.pads, mode=self.mode)

    @property
    def is_of_zeros_around(self) -> bool:
        """Whether a convolution can do it as well."""
        around = len(self.pads) == 8 and not any(self.pads[4:]) and min(self.pads) >= 0
        return around and self.mode == "constant" and self.fill == 0


def pad(node: Node) -> Built:
    fill = float(node.weights(2, (1,) if node.constant(2).ndim else ())) if node.has(2) else 0.0
    pads, shape = _pads(node)
    return Pad(pads, "constant", fill), shape


def mirror_pad(node: Node) -> Built:
    pads, shape = _pads(node)
    if node.option(0, "i8") != 0 or len(pads) != 8 or any(pads[4:]):
        raise node.refusal("mirrors other than REFLECT on height and width, which is not supported")
    height, width, _ = node.picture()
    if max(pads[:2]) >= width or max(pads[2:4]) >= height:
        raise node.refusal("mirrors more than there is")
    return Pad(pads[:4], "reflect", 0.0), shape


def _pads(node: Node) -> tuple[list[int], Shape]:
    """From the last axis inside on, before and behind it; and the shape after that."""
    shape, amounts = node.shape(0), node.integers(1)
    if amounts.shape != (len(shape), 2) or amounts.min() < 0 or amounts.max() > MOST_NUMBERS:
        raise node.refusal(f"pads {shape} by {amounts.tolist()}")
    made = tuple(n + int(a) + int(b) for n, (a, b) in zip(shape, amounts, strict=True))
    if len(shape) == 4:
        amounts = amounts[[0, 3, 1, 2]]
    return amounts[::-1].reshape(-1).tolist(), made


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


class Mean(Step):
    """MEAN; `axes` as the file counts them."""

    def __init__(self, axes: list[int], keep: bool) -> None:
        super().__init__()
        self.axes, self.keep = axes, keep

    def forward(self, x: Tensor) -> Tensor:
        return inside(outside(x).mean(self.axes, keepdim=self.keep))


def mean(node: Node) -> Built:
    axes = len(node.shape(0))
    wanted = {int(a) % axes for a in node.integers(1).reshape(-1) if -axes <= a < axes}
    if not wanted or 0 in wanted or len(wanted) != node.integers(1).size:
        raise node.refusal(f"averages over the axes {node.integers(1).tolist()} of {axes}")
    keep = bool(node.option(0, "u8"))
    sizes = enumerate(node.shape(0))
    made = [1 if i in wanted else n for i, n in sizes if keep or i not in wanted]
    return Mean(sorted(wanted), keep), tuple(made)


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
        """Pixel i lies at i * old / new, which torch has no word for."""
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


def relu_n1_to_1(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


def _apply(function: Function) -> Callable[[Node], Built]:
    return lambda node: (Apply(function), node.shape(0))


OPERATORS: dict[str, tuple[Callable[[Node], Built], int, int]] = {
    "ADD": (combine(torch.add), 11, 2),
    "AVERAGE_POOL_2D": (average_pool_2d, 5, 1),
    "CONCATENATION": (concatenation, 10, MOST_OPERANDS),
    "CONV_2D": (conv_2d, 1, 3),
    "DEPTHWISE_CONV_2D": (depthwise_conv_2d, 2, 3),
    "DEPTH_TO_SPACE": (depth_to_space, 94, 1),
    "LOGISTIC": (_apply(torch.sigmoid), 0, 1),
    "MAX_POOL_2D": (max_pool_2d, 5, 1),
    "MEAN": (mean, 27, 2),
    "MIRROR_PAD": (mirror_pad, 77, 2),
    "MUL": (combine(torch.mul), 21, 2),
    "PAD": (pad, 22, 2),
    "PADV2": (pad, 43, 3),
    "PRELU": (prelu, 0, 2),
    "RELU": (_apply(F.relu), 0, 1),
    "RELU6": (_apply(F.relu6), 0, 1),
    "RELU_N1_TO_1": (_apply(relu_n1_to_1), 0, 1),
    "RESHAPE": (reshape, 17, 2),
    "RESIZE_BILINEAR": (resize_bilinear, 15, 2),
    "SUB": (combine(torch.sub), 28, 2),
    "TANH": (_apply(torch.tanh), 0, 1),
}
"""By name: how each is built, the kind of its options in the schema (0: it has none), and how many
operands it takes at most."""
