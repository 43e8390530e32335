"""What a TensorFlow Lite file says, checked: its tensors, its constants, its operators in order.

Field numbers and codes are those of the public schema (tensorflow/lite/schema/schema.fbs,
Apache-2.0). Only what `core.tflite.operators` can run is accepted: one graph, numbers in float32 or
float16, and int32 where an operator reads a shape.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError, shorten
from .flatbuffer import Flatbuffer, Table

_MOST_ENTRIES = 10_000
"""Tensors, buffers or operators of a file; the official ones have up to 700."""
MOST_OPERANDS = 100
_MOST_AXES = 6
_MOST_LENGTH = 2**24
_SLACK = 4
"""Numbers that a file may expand to, per byte of it: sparse constants are stored without zeros."""
_MOST_NUMBERS = 2**25

_TYPES = (
    "FLOAT32", "FLOAT16", "INT32", "UINT8", "INT64", "STRING", "BOOL", "INT16", "COMPLEX64", "INT8",
    "FLOAT64", "COMPLEX128", "UINT64", "RESOURCE", "VARIANT", "UINT32", "UINT16", "INT4",
    "BFLOAT16",
)  # fmt: skip
_DTYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT32": "<i4"}
_OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL
CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST
PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM
MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
""".split()  # noqa: SIM905
"""By code. Later ones stand for another dialect (StableHLO), which these files do not use."""
_CUSTOM = 32


class TensorInfo(NamedTuple):
    """A tensor as the file declares it: (1, h, w, c) for a picture."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """One step of a graph: its operands by number, -1 where one is left out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    options_kind: int


@dataclass(frozen=True)
class Model:
    """A file's only graph."""

    file: Flatbuffer
    tensors: list[TensorInfo]
    kinds: list[str]
    """The type of each tensor's numbers."""
    constants: dict[int, np.ndarray]
    """By number of their tensor, dense, as they lie in the file or expanded."""
    room: int
    """Numbers that constants may take in memory."""
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(data: bytes, source: str) -> Model:
    """A file's graph; its constants still lie in `data`.

    Raises:
        CheckpointError: no TensorFlow Lite file, a damaged one, or one that asks for too much.
    """
    file = Flatbuffer(data, source)
    if data[4:8] != b"TFL3":
        raise CheckpointError(
            f"{file.source} is no TensorFlow Lite model: one has TFL3 as bytes 4 to 8, here is "
            f"{data[4:8]!r}. Check that it is the right file."
        )
    root = file.root()
    graphs = root.tables(2, most=_MOST_ENTRIES)
    if len(graphs) != 1:
        raise file.refusal(f"has {len(graphs)} graphs where one is expected")
    graph = graphs[0]
    entries = graph.tables(0, most=_MOST_ENTRIES)
    tensors, kinds = [], []
    for entry in entries:
        tensors.append(TensorInfo(entry.text(3), _shape(file, entry)))
        kinds.append(_kind(entry))
    names = [_operator_name(code) for code in root.tables(1, most=_MOST_ENTRIES)]
    room = min(_SLACK * len(data) + 2**16, _MOST_NUMBERS)
    return Model(
        file=file,
        tensors=tensors,
        kinds=kinds,
        constants=_constants(root, entries, tensors, kinds, room),
        room=room,
        operators=[
            _operator(entry, names, len(tensors)) for entry in graph.tables(3, most=_MOST_ENTRIES)
        ],
        inputs=_numbers(graph, 1, len(tensors)),
        outputs=_numbers(graph, 2, len(tensors)),
    )


def _shape(file: Flatbuffer, entry: Table) -> tuple[int, ...]:
    shape = entry.vector(0, "<i4")
    if len(shape) > _MOST_AXES or not all(1 <= n <= _MOST_LENGTH for n in shape):
        raise file.refusal(
            f"declares a tensor of the shape {shorten(shape.tolist()[:20])}; up to {_MOST_AXES} "
            f"axes of 1 to {_MOST_LENGTH} are expected"
        )
    return tuple(shape.tolist())


def _kind(entry: Table) -> str:
    code = entry.number(1, "i8")
    name = _TYPES[code] if 0 <= code < len(_TYPES) else f"type {code}"
    if name not in _DTYPES:
        raise entry.file.refusal(
            f"has the tensor {shorten(entry.text(3))} in {name}, which is not supported: only "
            f"{', '.join(_DTYPES)}"
        )
    return name


def _operator_name(code: Table) -> str:
    # Codes above 127 did not fit the older field, which then holds 127.
    number = max(code.number(0, "i8"), code.number(3, "i32"))
    if number == _CUSTOM:
        return f"CUSTOM {shorten(code.text(1))}"
    return _OPERATORS[number] if 0 <= number < len(_OPERATORS) else f"number {number}"


def _operator(entry: Table, names: list[str], tensors: int) -> Operator:
    code = entry.number(0, "u32")
    if code >= len(names):
        raise entry.file.refusal(f"is damaged: it lists {len(names)} operators and uses {code}")
    return Operator(
        name=names[code],
        inputs=_numbers(entry, 1, tensors, fewest=-1),
        outputs=_numbers(entry, 2, tensors),
        options=entry.table(4),
        options_kind=entry.number(3, "u8"),
    )


def _numbers(table: Table, field: int, tensors: int, *, fewest: int = 0) -> tuple[int, ...]:
    numbers = table.vector(field, "<i4")
    if len(numbers) > MOST_OPERANDS or not all(fewest <= n < tensors for n in numbers):
        raise table.file.refusal(
            f"is damaged: it has {tensors} tensors and uses {shorten(numbers.tolist()[:20])}"
        )
    return tuple(numbers.tolist())


def _constants(
    root: Table, entries: list[Table], tensors: list[TensorInfo], kinds: list[str], room: int
) -> dict[int, np.ndarray]:
    file, found = root.file, {}
    buffers = root.tables(4, most=_MOST_ENTRIES)
    for number, (entry, (name, shape), kind) in enumerate(
        zip(entries, tensors, kinds, strict=True)
    ):
        told = f"the tensor {shorten(name)}"
        index = entry.number(2, "u32")
        if index >= len(buffers):
            raise file.refusal(f"is damaged: it lists {len(buffers)} buffers; {told} has {index}")
        if buffers[index].number(1, "u64") > 1:
            raise file.refusal(f"keeps {told} behind its end, which is not supported")
        stored = buffers[index].vector(0, "u1")
        if not len(stored):
            continue
        count = math.prod(shape)
        room -= count
        if room < 0:
            raise file.refusal("expands to far more numbers than it has bytes")
        dtype = np.dtype(_DTYPES[kind])
        if len(stored) % dtype.itemsize:
            raise file.refusal(f"is damaged: {told} has {len(stored)} bytes of {kind}")
        values = stored.view(dtype)
        sparsity = entry.table(6)
        if sparsity is not None:
            values = _expanded(values, shape, sparsity, told)
        if len(values) != count:
            raise file.refusal(f"is damaged: {told} of {shape} has {len(values)} numbers")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise file.refusal(f"holds NaN or infinity in {told}")
        found[number] = values.reshape(shape)
    return found


def _expanded(values: np.ndarray, shape: tuple[int, ...], sparsity: Table, told: str) -> np.ndarray:
    """Numbers of a sparse tensor in a dense one, flat.

    The schema stores levels from the outside in: each is an axis of the tensor or, after those, of
    blocks of it, in `traversal_order`. A dense level has all its places, a compressed one (CSR)
    lists for each place above it which ones are there.
    """
    damaged = sparsity.file.refusal(f"is damaged: {told} has sparse numbers that do not add up")
    order = sparsity.vector(0, "<i4")[: 2 * _MOST_AXES + 1].tolist()
    # The tensor's axis that each axis of blocks cuts.
    blocks = sparsity.vector(1, "<i4")[: _MOST_AXES + 1].tolist()
    levels = sparsity.tables(2, most=2 * _MOST_AXES)
    axes = len(shape)
    if (
        sorted(order) != list(range(axes + len(blocks)))
        or len(levels) != len(order)
        or len(set(blocks)) != len(blocks)
        or not set(blocks) <= set(range(axes))
    ):
        raise damaged
    # The size and the stride in the dense tensor of every axis, those of blocks behind the others.
    sizes = list(shape)
    strides = [math.prod(shape[i + 1 :]) for i in range(axes)]
    block_sizes = {a: levels[order.index(axes + i)] for i, a in enumerate(blocks)}
    for axis, level in block_sizes.items():
        size = level.number(1, "i32")
        if level.number(0, "i8") or not 1 <= size <= sizes[axis] or sizes[axis] % size:
            raise damaged
        sizes[axis] //= size
        sizes.append(size)
        strides.append(strides[axis])
        strides[axis] *= size
    most = math.prod(shape)
    places = np.zeros(1, np.int64)
    for axis, level in zip(order, levels, strict=True):
        size, stride = sizes[axis], strides[axis]
        if level.number(0, "i8") == 0:
            if level.number(1, "i32") != size:
                raise damaged
            places = (places[:, None] + stride * np.arange(size)).reshape(-1)
        else:
            starts, indices = _sparse_vector(level, 2), _sparse_vector(level, 4)
            if len(starts) != len(places) + 1 or len(indices) > len(places) * size:
                raise damaged
            starts, indices = starts.astype(np.int64), indices.astype(np.int64)
            counts = np.diff(starts)
            if (
                starts[0] != 0
                or (counts < 0).any()
                or starts[-1] != len(indices)
                or ((indices < 0) | (indices >= size)).any()
            ):
                raise damaged
            places = np.repeat(places, counts) + stride * indices
    if len(places) != len(values):
        raise damaged
    dense = np.zeros(most, values.dtype)
    dense[places] = values
    return dense


def _sparse_vector(level: Table, field: int) -> np.ndarray:
    """The whole numbers of a compressed level: a union of three widths, its kind in `field`."""
    held = level.table(field + 1)
    dtype = {1: "<i4", 2: "<u2", 3: "u1"}.get(level.number(field, "u8"))
    if held is None or dtype is None:
        return np.empty(0, np.int64)
    return held.vector(0, dtype)
