"""Small TensorFlow Lite files, written with the packages `flatbuffers` and `tflite`."""

import flatbuffers
import numpy as np
import tflite

TYPES = {"float32": 0, "float16": 1, "int32": 2, "int8": 9}
OPTIONS = {
    "ADD": "Add", "CONCATENATION": "Concatenation", "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "MAX_POOL_2D": "Pool2D", "RESHAPE": "Reshape",
    "RESIZE_BILINEAR": "ResizeBilinear", "DEPTH_TO_SPACE": "DepthToSpace", "PAD": "Pad",
}  # fmt: skip


class Writer:
    """A graph in the making. Tensors are told by their number."""

    def __init__(self):
        self.tensors, self.buffers, self.operators, self.codes = [], [b""], [], []
        self.inputs, self.outputs = [], []

    def value(self, *shape, kind="float32", buffer=0, sparse=None):
        self.tensors.append((shape, kind, buffer, sparse))
        return len(self.tensors) - 1

    def input(self, *shape):
        self.inputs.append(self.value(*shape))
        return self.inputs[-1]

    def constant(self, values, shape=None, sparse=None):
        """Stored numbers; `sparse` is (order, blocks, levels), each a size or (starts, places)."""
        values = np.asarray(values)
        self.buffers.append(values.tobytes())
        shape = values.shape if shape is None else shape
        kind = values.dtype.name
        return self.value(*shape, kind=kind, buffer=len(self.buffers) - 1, sparse=sparse)

    def add(self, name, inputs, *shape, kind="float32", **options):
        """An operator that makes a value of `shape`; options as the schema calls them."""
        code = getattr(tflite.BuiltinOperator, name) if isinstance(name, str) else name
        if code not in self.codes:
            self.codes.append(code)
        made = self.value(*shape, kind=kind)
        self.operators.append((self.codes.index(code), inputs, [made], OPTIONS.get(name), options))
        return made

    def bytes(self, *outputs):
        self.outputs = list(outputs)
        b = flatbuffers.Builder(1024)
        tensors = self._vector(b, [self._tensor(b, i) for i in range(len(self.tensors))])
        operators = self._vector(b, [self._operator(b, o) for o in self.operators])
        inputs, outputs = _numbers(b, self.inputs), _numbers(b, outputs)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, inputs)
        tflite.SubGraphAddOutputs(b, outputs)
        tflite.SubGraphAddOperators(b, operators)
        graphs = self._vector(b, [tflite.SubGraphEnd(b)])
        buffers = self._vector(b, [self._buffer(b, data) for data in self.buffers])
        codes = self._vector(b, [self._code(b, code) for code in self.codes])
        description = b.CreateString("test")
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddDescription(b, description)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
        return bytes(b.Output())

    @staticmethod
    def _vector(b, offsets):
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return b.EndVector()

    def _tensor(self, b, i):
        shape, kind, buffer, sparse = self.tensors[i]
        name, shape = b.CreateString(f"t{i}"), _numbers(b, shape)
        sparsity = self._sparsity(b, *sparse) if sparse else None
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, TYPES[kind])
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, name)
        if sparsity:
            tflite.TensorAddSparsity(b, sparsity)
        return tflite.TensorEnd(b)

    def _sparsity(self, b, order, blocks, levels):
        levels = self._vector(b, [self._level(b, level) for level in levels])
        order, blocks = _numbers(b, order), _numbers(b, blocks)
        tflite.SparsityParametersStart(b)
        tflite.SparsityParametersAddTraversalOrder(b, order)
        tflite.SparsityParametersAddBlockMap(b, blocks)
        tflite.SparsityParametersAddDimMetadata(b, levels)
        return tflite.SparsityParametersEnd(b)

    @staticmethod
    def _level(b, level):
        if isinstance(level, int):
            tflite.DimensionMetadataStart(b)
            tflite.DimensionMetadataAddDenseSize(b, level)
            return tflite.DimensionMetadataEnd(b)
        held = []
        for values, width in zip(level, (2, 1), strict=True):  # as the official files: 16, 8 bits
            vector = b.CreateNumpyVector(np.asarray(values, f"u{width}"))
            kind = "Uint16Vector" if width == 2 else "Uint8Vector"
            getattr(tflite, f"{kind}Start")(b)
            getattr(tflite, f"{kind}AddValues")(b, vector)
            held.append(getattr(tflite, f"{kind}End")(b))
        tflite.DimensionMetadataStart(b)
        tflite.DimensionMetadataAddFormat(b, tflite.DimensionType.SPARSE_CSR)
        tflite.DimensionMetadataAddArraySegmentsType(b, tflite.SparseIndexVector.Uint16Vector)
        tflite.DimensionMetadataAddArraySegments(b, held[0])
        tflite.DimensionMetadataAddArrayIndicesType(b, tflite.SparseIndexVector.Uint8Vector)
        tflite.DimensionMetadataAddArrayIndices(b, held[1])
        return tflite.DimensionMetadataEnd(b)

    def _operator(self, b, operator):
        code, inputs, outputs, kind, options = operator
        options_at = None
        if kind:
            vectors = {
                k: _numbers(b, v) for k, v in options.items() if isinstance(v, (list, tuple))
            }
            getattr(tflite, f"{kind}OptionsStart")(b)
            for key, value in (options | vectors).items():
                getattr(tflite, f"{kind}OptionsAdd{key}")(b, value)
            options_at = getattr(tflite, f"{kind}OptionsEnd")(b)
        inputs, outputs = _numbers(b, inputs), _numbers(b, outputs)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if kind:
            number = getattr(tflite.BuiltinOptions, f"{kind}Options")
            tflite.OperatorAddBuiltinOptionsType(b, number)
            tflite.OperatorAddBuiltinOptions(b, options_at)
        return tflite.OperatorEnd(b)

    @staticmethod
    def _buffer(b, data):
        at = None
        if data:
            b.StartVector(1, len(data), 16)
            b.head -= len(data)
            b.Bytes[b.head : b.head + len(data)] = data
            at = b.EndVector()
        tflite.BufferStart(b)
        if at:
            tflite.BufferAddData(b, at)
        return tflite.BufferEnd(b)

    @staticmethod
    def _code(b, code):
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
        tflite.OperatorCodeAddVersion(b, 1)
        tflite.OperatorCodeAddBuiltinCode(b, code)
        return tflite.OperatorCodeEnd(b)


def _numbers(b, values):
    return b.CreateNumpyVector(np.asarray(values, "<i4"))
