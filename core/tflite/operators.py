"""The operators of TensorFlow Lite as torch modules, built once from what a file says of them.

Meanings after the public operator descriptions and schema of TensorFlow Lite (Apache-2.0). Values
with four axes are (n, h, w, c) in a file; here they are (n, c, h, w) with channels last in memory,
which is the same order of numbers and the layout in which CPUs convolve these small networks
fastest. All others keep the file's axes. Axis 0 is the batch, and no operator may touch it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from .reader import MOST_OPERANDS, Model, Operator

_MOST_REACH = 1024
"""Pixels that a kernel or a stride may span."""
MOST_NUMBERS = 2**26
"""Numbers of all values of a graph together, and of a padded one; those for faces need 2**24."""

Function = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]
Built = tuple["Step", Shape]
"""An operator that is ready to run, and the shape of what it makes in the file's order of axes."""


def inside(x: Tensor) -> Tensor:
    """A value in the file's order of axes as operators take it."""
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def outside(x: Tensor) -> Tensor:
    """The other way round."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


@dataclass(frozen=True)
class Node:
    """An operator of a file with what its operands are."""

    model: Model
    operator: Operator
    told: str
    """Which operator it is, in words."""

    def refusal(self, why: str) -> CheckpointError:
        return self.model.file.refusal(f"cannot be run: {self.told} {why}")

    def option(self, field: int, kind: str = "i32", default: int = 0) -> int:
        options = self.operator.options
        return default if options is None else options.number(field, kind, default)

    def reach(self, field: int, default: int = 0) -> int:
        """A kernel's side, a stride or a dilation."""
        value = self.option(field, default=default)
        if not 1 <= value <= _MOST_REACH:
            raise self.refusal(f"has a window or a stride of {value}; 1 to {_MOST_REACH} are fine")
        return value

    def shape(self, i: int) -> Shape:
        """The declared shape of operand `i`."""
        return self.model.tensors[self._number(i)].shape

    def made(self) -> Shape:
        """The declared shape of the only result."""
        if len(self.operator.outputs) != 1:
            raise self.refusal(f"makes {len(self.operator.outputs)} values, not one")
        return self.model.tensors[self.operator.outputs[0]].shape

    def picture(self, i: int = 0) -> tuple[int, int, int]:
        """(h, w, c) of operand `i`, which has four axes."""
        shape = self.shape(i)
        if len(shape) != 4:
            raise self.refusal(f"takes (1, h, w, c) and is given {shape}")
        return shape[1], shape[2], shape[3]

    def weights(self, i: int, shape: tuple[int | None, ...]) -> Tensor:
        """Constant operand `i` in float32; None stands for any length."""
        values = self.constant(i)
        fits = values.ndim == len(shape) and all(
            want in (None, has) for want, has in zip(shape, values.shape, strict=True)
        )
        if not fits or values.dtype.kind != "f":
            raise self.refusal(f"has weights of {values.dtype.name} {values.shape}, not {shape}")
        return torch.from_numpy(values.astype(np.float32))

    def integers(self, i: int) -> np.ndarray:
        """Constant operand `i`, a shape or the like."""
        values = self.constant(i)
        if values.dtype.kind != "i" or values.size > 64:
            raise self.refusal(f"has {values.dtype.name} {values.shape} where it reads a shape")
        return values

    def constant(self, i: int) -> np.ndarray:
        values = self.model.constants.get(self._number(i))
        if values is None:
            raise self.refusal(f"computes its operand {i}, which has to be stored in the file")
        return values

    def has(self, i: int) -> bool:
        return len(self.operator.inputs) > i and self.operator.inputs[i] >= 0

    def _number(self, i: int) -> int:
        if not self.has(i):
            raise self.refusal(f"lacks its operand {i}")
        return self.operator.inputs[i]

    def activation(self, field: int) -> Function | None:
        """The function fused into an operator."""
        code = self.option(field, "i8")
        if code not in _FUSED:
            raise self.refusal(f"ends with the activation {code}, which is not supported")
        return _FUSED[code]

    def window(
        self, kernel: list[int], stride: list[int], dilation: list[int]
    ) -> tuple[list[int], tuple[int, int]]:
        """Pads on the left, right, top and bottom as TensorFlow makes them, and (h, w) after it.

        Field 0 of the options is SAME or VALID.
        """
        height, width, channels = self.picture()
        pads, made = [], []
        for size, k, s, d in zip((height, width), kernel, stride, dilation, strict=True):
            reach = (k - 1) * d + 1
            total = max((-(-size // s) - 1) * s + reach - size, 0) if self._is_same() else 0
            if size + total < reach:
                raise self.refusal(f"has a window of {reach} pixels on a picture of {size}")
            pads = [total // 2, total - total // 2, *pads]
            made.append((size + total - reach) // s + 1)
        if (height + sum(pads[2:])) * (width + sum(pads[:2])) * channels > MOST_NUMBERS:
            raise self.refusal("pads its picture to an unreasonable size")
        return pads, (made[0], made[1])

    def _is_same(self) -> bool:
        code = self.option(0, "i8")
        if code not in (0, 1):
            raise self.refusal(f"has the padding {code}, which is not known")
        return code == 0


class Step(nn.Module):
    """An operator that is ready to run."""

    products = 1
    """Multiplications per number of its result, roughly."""


class Apply(Step):
    """A function of one value."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


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


_FUSED: dict[int, Function | None] = {
    0: None,
    1: torch.relu_,
    2: lambda x: x.clamp_(-1, 1),
    3: lambda x: x.clamp_(0, 6),
    4: torch.tanh_,
}
"""Activations by their code in the schema, written over what an operator has just made."""


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
