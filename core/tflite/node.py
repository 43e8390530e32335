"""What an operator of TensorFlow Lite is built from: its options and operands, each checked.

Values with four axes are (n, h, w, c) in a file; inside a graph they are (n, c, h, w) with channels
last in memory, which is the same order of numbers and the layout in which CPUs convolve these small
networks fastest. All others keep the axes of the file. Axis 0 is the batch, which no operator may
touch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .reader import Model, Operator

_MOST_REACH = 1024
"""Pixels that a kernel or a stride may span."""
MOST_NUMBERS = 2**26
"""Numbers of all values of a graph together, and of a padded one; those for faces need 2**24."""

Function = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]
Built = tuple["Step", Shape]
"""An operator that is ready to run, and the shape of what it makes in the file's order of axes."""


_FUSED: dict[int, Function | None] = {0: None, 1: torch.relu_}
"""Activations by their code in the schema, written over what an operator has just made."""


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
