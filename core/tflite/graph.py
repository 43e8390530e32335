"""A TensorFlow Lite graph as a torch module: the file's operators, one after the other."""

import math
from typing import NamedTuple

from torch import Tensor, nn

from ..errors import FacewrightError, shorten
from .node import MOST_NUMBERS, Node, Step, inside, outside
from .operators import OPERATORS, Pad
from .reader import Model, Operator, TensorInfo, read_model
from .windows import Convolution

__all__ = ["TensorInfo", "TfliteGraph", "load_tflite"]

_MOST_PRODUCTS = 2**38
"""Multiplications for one entry of a batch; those for faces need 2**27."""
_STORED = ("DEQUANTIZE", "DENSIFY")
"""Operators that only unpack constants: done once, when a file is read."""


class Placed(NamedTuple):
    """An operator in a graph: the numbers of the values that it reads, and of that it makes."""

    step: Step
    reads: tuple[int, ...]
    makes: int


class TfliteGraph(nn.Module):
    """A file's graph, for any batch on any device. Its weights are buffers: nothing is trained."""

    def __init__(
        self,
        inputs: list[TensorInfo],
        outputs: list[TensorInfo],
        steps: list[Placed],
        numbers: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:
        """
        Args:
            numbers: those of the inputs and of the outputs.
        """
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.steps = nn.ModuleList(step for step, _, _ in steps)
        self._reads, self._makes = [r for _, r, _ in steps], [m for _, _, m in steps]
        self._numbers = numbers
        last = {i: k for k, reads in enumerate(self._reads) for i in reads}
        self._done: list[list[int]] = [[] for _ in steps]
        for number, k in last.items():
            if number not in numbers[1]:
                self._done[k].append(number)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Every output of the file, for inputs with the file's shapes but any batch n >= 1.

        Args:
            inputs: (n, h, w, c) for pictures, in the dtype of the weights.

        Returns:
            In the file's order of axes; axis 0 is the batch.

        Raises:
            FacewrightError: another number of inputs, or other shapes.
        """
        self._check(inputs)
        values = {i: inside(x) for i, x in zip(self._numbers[0], inputs, strict=True)}
        for step, reads, makes, done in zip(
            self.steps, self._reads, self._makes, self._done, strict=True
        ):
            values[makes] = step(*[values[i] for i in reads])
            for i in done:
                del values[i]
        return [outside(values[i]).contiguous() for i in self._numbers[1]]

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        found = [tuple(x.shape) for x in inputs]
        wanted = [("n", *info.shape[1:]) for info in self.inputs]
        batches = {shape[:1] for shape in found}
        if (
            [s[1:] for s in found] != [s[1:] for s in wanted]
            or len(batches) != 1
            or (0,) in batches
        ):
            raise FacewrightError(
                f"This graph takes {wanted} with n of at least 1, and was given {found}."
            )


def load_tflite(data: bytes, *, source: str) -> TfliteGraph:
    """The graph in the bytes of a `.tflite` file, in float32 and on the CPU.

    Float16 constants become float32 and sparse ones dense. Every shape has been
    followed through, so no call of what this returns can meet an operator that does not fit.

    Args:
        source: name of the file for sentences.

    Raises:
        CheckpointError: no TensorFlow Lite file, a damaged or hostile one, or one that uses what
            `core.tflite.operators` does not have.
    """
    model = read_model(data, source)
    _unpack(model)
    for number in model.inputs:
        name, shape = model.tensors[number]
        is_value = number not in model.constants and model.kinds[number] == "FLOAT32"
        if not is_value or not shape or shape[0] != 1:
            raise model.file.refusal(f"takes {shorten(name)} of {shape}, not (1, h, w, c)")
    known = set(model.inputs)
    room, products, stored = MOST_NUMBERS, _MOST_PRODUCTS, model.room
    room -= sum(math.prod(model.tensors[i].shape) for i in model.inputs)
    steps: list[Placed] = []
    for index, operator in enumerate(model.operators):
        if operator.name in _STORED:
            continue
        node = Node(model, operator, f"its operator {index} ({operator.name})")
        placed = _placed(node, known)
        known.add(placed.makes)
        numbers = math.prod(node.made())
        room -= numbers
        products -= numbers * placed.step.products
        stored -= sum(buffer.numel() for buffer in placed.step.buffers())
        if min(room, products, stored) < 0:
            raise node.refusal("makes the graph far larger than any of MediaPipe's")
        steps.append(placed)
    if not known.issuperset(model.outputs) or not model.outputs or not model.inputs:
        raise model.file.refusal("does not compute its outputs from its inputs")
    return TfliteGraph(
        [model.tensors[i] for i in model.inputs],
        [model.tensors[i] for i in model.outputs],
        _simplified(steps, model.outputs),
        (model.inputs, model.outputs),
    )


def _unpack(model: Model) -> None:
    """Constants that operators make of constants join the others."""
    for index, operator in enumerate(model.operators):
        if operator.name not in _STORED:
            _check_known(model, operator)
            continue
        told = f"cannot be run: its operator {index} ({operator.name})"
        if len(operator.inputs) != 1 or len(operator.outputs) != 1:
            raise model.file.refusal(f"{told} has several operands")
        (source,), (target,) = operator.inputs, operator.outputs
        values = model.constants.get(source)
        if values is None or target in model.constants or values.dtype.kind != "f":
            raise model.file.refusal(f"{told} unpacks numbers that are not stored in the file")
        if values.shape != model.tensors[target].shape:
            raise model.file.refusal(f"{told} makes {model.tensors[target].shape} of others")
        model.constants[target] = values


def _check_known(model: Model, operator: Operator) -> None:
    if operator.name not in OPERATORS:
        known = ", ".join(sorted([*OPERATORS, *_STORED]))
        raise model.file.refusal(
            f"uses the operator {operator.name}, which is not supported: only {known}",
            advice="MediaPipe's face detectors and face landmarks need no others.",
        )


def _placed(node: Node, known: set[int]) -> Placed:
    """An operator ready to run; `known` are the values that are there before it."""
    build, kind, most = OPERATORS[node.operator.name]
    if len(node.operator.inputs) > most:
        raise node.refusal(f"has {len(node.operator.inputs)} operands where it takes {most}")
    if node.operator.options is not None and kind and node.operator.options_kind != kind:
        raise node.refusal(f"has options of the kind {node.operator.options_kind}, not {kind}")
    # Constants that an operator has no use for as such (weights, shapes) are part of its step.
    stored = node.model.constants
    reads = tuple(i for i in node.operator.inputs if i >= 0 and i not in stored)
    joins = node.operator.name in ("ADD", "CONCATENATION")
    if not reads or not known.issuperset(reads) or not (joins or reads == node.operator.inputs[:1]):
        raise node.refusal("reads what is not computed before it")
    declared, makes = node.made(), node.operator.outputs[0]
    if makes in known or makes in stored or node.model.kinds[makes] != "FLOAT32":
        raise node.refusal("makes a value that is there already, or one that is not FLOAT32")
    step, shape = build(node)
    if shape != declared or shape[0] != 1:
        raise node.refusal(f"should make {declared}, with a batch of 1, and makes {shape}")
    return Placed(step, reads, makes)


def _simplified(steps: list[Placed], outputs: tuple[int, ...]) -> list[Placed]:
    """The steps that outputs need; a convolution does by itself what a PAD in front of it does."""
    pads = {
        placed.makes: (placed.step.pads[:4], placed.reads)
        for placed in steps
        if isinstance(placed.step, Pad) and placed.step.is_around
    }
    kept, needed = [], set(outputs)
    for step, reads, makes in reversed(steps):
        if makes not in needed:
            continue
        if isinstance(step, Convolution) and reads[0] in pads:
            around, reads = pads[reads[0]]
            step.pads = [a + b for a, b in zip(step.pads, around, strict=True)]
        kept.append(Placed(step, reads, makes))
        needed.update(reads)
    return kept[::-1]
