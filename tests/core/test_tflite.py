"""TensorFlow Lite graphs in torch: each operator against loops, whole graphs against LiteRT."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.tflite import load_tflite, read_task, read_tflite
from facewright.core.tflite.operators import OPERATORS

from .tflite_files import Writer
from .tflite_loops import (
    ACTIVATIONS,
    NONE,
    RELU,
    SAME,
    VALID,
    naive_conv,
    naive_depthwise,
    naive_pool,
    naive_resize,
)


def conv(h, w, c, o, kernel, stride=(1, 1), dilation=(1, 1), padding=SAME, act=NONE, bias=True):
    def case(file, rng):
        weight = rng.standard_normal((o, *kernel, c)).astype("f4")
        shift = rng.standard_normal(o).astype("f4") if bias else np.zeros(o)
        made = naive_conv(np.zeros((h, w, c)), weight, 0, stride, dilation, padding).shape
        inputs = [file.input(1, h, w, c), file.constant(weight)]
        inputs += [file.constant(shift)] if bias else [-1]
        out = file.add(
            "CONV_2D", inputs, 1, *made, Padding=padding, StrideH=stride[0], StrideW=stride[1],
            DilationHFactor=dilation[0], DilationWFactor=dilation[1], FusedActivationFunction=act,
        )  # fmt: skip
        return [out], lambda x: [
            ACTIVATIONS[act](naive_conv(x, weight, shift, stride, dilation, padding))
        ]

    return case


def depthwise(h, w, c, many, kernel, stride=(1, 1), dilation=(1, 1), padding=SAME, act=NONE):
    def case(file, rng):
        weight = rng.standard_normal((1, *kernel, c * many)).astype("f4")
        shift = rng.standard_normal(c * many).astype("f4")
        naive = (weight[0], shift, stride, dilation, padding)
        made = naive_depthwise(np.zeros((h, w, c)), *naive).shape
        out = file.add(
            "DEPTHWISE_CONV_2D",
            [file.input(1, h, w, c), file.constant(weight), file.constant(shift)],
            1, *made, Padding=padding, StrideH=stride[0], StrideW=stride[1], DepthMultiplier=many,
            DilationHFactor=dilation[0], DilationWFactor=dilation[1], FusedActivationFunction=act,
        )  # fmt: skip
        return [out], lambda x: [ACTIVATIONS[act](naive_depthwise(x, *naive))]

    return case


def pool(h, w, c, kernel, stride, padding, act=NONE):
    def case(file, rng):
        made = naive_pool(np.zeros((h, w, c)), kernel, stride, padding).shape
        out = file.add(
            "MAX_POOL_2D", [file.input(1, h, w, c)], 1, *made, Padding=padding, StrideH=stride[0],
            StrideW=stride[1], FilterHeight=kernel[0], FilterWidth=kernel[1],
            FusedActivationFunction=act,
        )  # fmt: skip
        return [out], lambda x: [ACTIVATIONS[act](naive_pool(x, kernel, stride, padding))]

    return case


def unary(name, function, shape=(4, 5, 3)):
    def case(file, rng):
        return [file.add(name, [file.input(1, *shape)], 1, *shape)], lambda x: [function(x)]

    return case


def prelu(slope_shape, shape=(4, 5, 3)):
    def case(file, rng):
        slope = rng.standard_normal(slope_shape).astype("f4")
        out = file.add("PRELU", [file.input(1, *shape), file.constant(slope)], 1, *shape)
        return [out], lambda x: [np.where(x > 0, x, x * slope.astype("f8")).reshape(shape)]

    return case


def added(constant, first=False, act=NONE, shape=(4, 5, 3)):
    def case(file, rng):
        values = rng.standard_normal(constant).astype("f4")
        operands = [file.input(1, *shape), file.constant(values)]
        operands = operands[::-1] if first else operands
        made = np.broadcast_shapes((1, *shape), constant)
        out = file.add("ADD", operands, *made, FusedActivationFunction=act)
        return [out], lambda x: [ACTIVATIONS[act](x[None] + values.astype("f8"))[0]]

    return case


def added_values(shape=(4, 5, 3)):
    """A picture with its own largest value, and with itself."""

    def case(file, rng):
        x = file.input(1, *shape)
        sides = {"StrideH": 1, "StrideW": 1, "FilterHeight": shape[0], "FilterWidth": shape[1]}
        most = file.add("MAX_POOL_2D", [x], 1, 1, 1, shape[2], Padding=VALID, **sides)
        one = file.add("ADD", [most, x], 1, *shape, FusedActivationFunction=RELU)
        two = file.add("ADD", [x, x], 1, *shape, FusedActivationFunction=NONE)
        return [one, two], lambda x: [np.maximum(x.max((0, 1)) + x, 0), x + x]

    return case


def padded(amounts, shape=(4, 5, 3)):
    def case(file, rng):
        made = tuple(n + sum(a) for n, a in zip(shape, amounts[1:], strict=True))
        operands = [file.input(1, *shape), file.constant(np.array(amounts, "i4"))]
        return [file.add("PAD", operands, 1, *made)], lambda x: [np.pad(x, amounts[1:])]

    return case


def padded_convolution(amounts, padding, stride, name="CONV_2D"):
    """As the full-range detector pads; the padded picture is an output as well where `amounts`
    reach into the channels, which a convolution cannot do by itself."""

    def case(file, rng):
        shape = (6, 7, 2)
        x = file.input(1, *shape)
        made = tuple(n + sum(a) for n, a in zip(shape, amounts[1:], strict=True))
        around = file.add("PAD", [x, file.constant(np.array(amounts, "i4"))], 1, *made)
        weight = rng.standard_normal((4, 3, 3, made[2])).astype("f4")
        naive = (weight, 0, stride, (1, 1), padding)
        size = naive_conv(np.zeros(made), *naive).shape
        out = file.add(
            "CONV_2D", [around, file.constant(weight), file.constant(np.zeros(4, "f4"))], 1, *size,
            Padding=padding, StrideH=stride[0], StrideW=stride[1],
        )  # fmt: skip
        outputs = [out] if made[2] == 2 else [out, around]
        return outputs, lambda x: [
            naive_conv(np.pad(x, amounts[1:]), *naive), np.pad(x, amounts[1:])
        ][: len(outputs)]  # fmt: skip

    return case


def reshaped(old, new, wanted=None):
    def case(file, rng):
        operands = [file.input(1, *old)]
        operands += [file.constant(np.array(wanted or (1, *new), "i4"))]
        out = file.add("RESHAPE", operands, 1, *new, NewShape=(1, *new))
        return [out], lambda x: [x.reshape(new)]

    return case


def concatenated(axis, shape=(4, 5, 3)):
    def case(file, rng):
        x = file.input(1, *shape)
        y = file.add("RELU", [x], 1, *shape)
        made = [1, *shape]
        made[axis] *= 3
        out = file.add("CONCATENATION", [x, y, x], *made, Axis=axis, FusedActivationFunction=NONE)
        return [out], lambda x: [
            np.concatenate([x[None], np.maximum(x, 0)[None], x[None]], axis)[0]
        ]

    return case


def resized(h, w, size, corners, centers):
    def case(file, rng):
        operands = [file.input(1, h, w, 3), file.constant(np.array(size, "i4"))]
        options = {"AlignCorners": corners, "HalfPixelCenters": centers}
        out = file.add("RESIZE_BILINEAR", operands, 1, *size, 3, **options)
        return [out], lambda x: [naive_resize(x, size, corners, centers)]

    return case


def blocks(h, w, c, block):
    def case(file, rng):
        out = file.add(
            "DEPTH_TO_SPACE", [file.input(1, h, w, c * block**2)], 1, h * block, w * block, c,
            BlockSize=block,
        )  # fmt: skip

        def naive(x):
            made = np.zeros((h * block, w * block, c))
            for i in range(h * block):
                for j in range(w * block):
                    start = ((i % block) * block + j % block) * c
                    made[i, j] = x[i // block, j // block, start : start + c]
            return [made]

        return [out], naive

    return case


def compressed(dense, order, sizes, blocks=()):
    """Values and levels of `dense` as the schema stores it: `sizes` None where compressed."""
    axes = dense.ndim
    shape = [n // dict(blocks).get(a, 1) for a, n in enumerate(dense.shape)]
    split = dense.reshape([k for a in range(axes) for k in (shape[a], dense.shape[a] // shape[a])])
    inner = [2 * a for a in range(axes)] + [2 * a + 1 for a, _ in blocks]
    rest = [i for i in range(2 * axes) if i not in inner]
    split = split.transpose(inner + rest).reshape([split.shape[i] for i in inner])
    tree = split.transpose(order)
    levels, places = [], [()]
    for depth, compress in enumerate(sizes):
        if not compress:
            levels.append(tree.shape[depth])
            places = [(*p, i) for p in places for i in range(tree.shape[depth])]
            continue
        starts, found = [0], []
        for p in places:
            found += [(*p, i) for i in range(tree.shape[depth]) if tree[(*p, i)].any()]
            starts.append(len(found))
        levels.append((starts, [p[-1] for p in found]))
        places = found
    return np.array([tree[p] for p in places]), (order, [a for a, _ in blocks], levels)


def sparse_convolution(order, sizes, blocks=()):
    """As in the full-range detector: float16, compressed, made dense, made float32."""

    def case(file, rng):
        weight = rng.standard_normal((4, 1, 1, 8)).astype("f2")
        if blocks:
            weight *= (rng.random((4, 1, 1, 2)) < 0.5).repeat(4, 3)
        else:
            weight *= rng.random(weight.shape) < 0.3
        values, sparse = compressed(weight, order, sizes, blocks)
        stored = file.constant(values, weight.shape, sparse)
        dense = file.add("DENSIFY", [stored], *weight.shape, kind="float16")
        wide = file.add("DEQUANTIZE", [dense], *weight.shape)
        bias = file.add("DEQUANTIZE", [file.constant(np.ones(4, "f2"))], 4)
        out = file.add(
            "CONV_2D", [file.input(1, 3, 3, 8), wide, bias], 1, 3, 3, 4, Padding=VALID, StrideH=1,
            StrideW=1,
        )  # fmt: skip
        return [out], lambda x: [x @ weight[:, 0, 0].astype("f8").T + 1]

    return case


CASES = {
    "convolution": conv(5, 6, 3, 4, (3, 3)),
    "pointwise": conv(5, 6, 3, 4, (1, 1), padding=VALID, act=RELU),
    "even kernel": conv(5, 6, 3, 4, (2, 4), act=RELU),
    "stride 2 of even": conv(6, 8, 3, 4, (3, 3), (2, 2)),
    "stride 2 of odd": conv(5, 7, 3, 4, (3, 3), (2, 2), act=RELU),
    "stride above the kernel": conv(9, 8, 2, 3, (2, 1), (4, 3)),
    "strides differ": conv(7, 8, 2, 3, (3, 5), (1, 3)),
    "valid": conv(7, 8, 2, 3, (3, 2), (2, 3), padding=VALID),
    "dilated": conv(9, 8, 2, 3, (3, 3), dilation=(2, 3)),
    "dilated, valid": conv(9, 8, 2, 3, (3, 3), dilation=(2, 3), padding=VALID),
    "no bias": conv(4, 4, 2, 3, (3, 3), bias=False),
    "one pixel": conv(1, 1, 2, 3, (5, 5)),
    "depthwise": depthwise(5, 6, 3, 1, (3, 3)),
    "depthwise, stride 2": depthwise(6, 6, 3, 1, (3, 3), (2, 2), act=RELU),
    "depthwise, valid": depthwise(6, 7, 3, 1, (5, 3), (2, 2), padding=VALID),
    "depthwise, several": depthwise(5, 6, 2, 3, (3, 3), act=RELU),
    "depthwise, dilated": depthwise(9, 9, 2, 2, (3, 3), dilation=(3, 2)),
    "max pool": pool(6, 4, 3, (2, 2), (2, 2), VALID, RELU),
    "max pool, same": pool(5, 7, 3, (3, 2), (2, 2), SAME),
    "relu": unary("RELU", ACTIVATIONS[RELU]),
    "logistic": unary("LOGISTIC", lambda x: 1 / (1 + np.exp(-x))),
    "logistic of three axes": unary("LOGISTIC", lambda x: 1 / (1 + np.exp(-x)), (7, 2)),
    "prelu per channel": prelu((1, 1, 3)),
    "prelu of one": prelu((1, 1, 1)),
    "prelu per pixel": prelu((4, 5, 1)),
    "prelu of each": prelu((4, 5, 3)),
    "add per channel": added((3,), act=RELU),
    "add a number": added(()),
    "add each": added((1, 4, 5, 3), first=True, act=RELU),
    "add three axes": added((1, 3), shape=(5, 3)),
    "add values": added_values(),
    "pad": padded([(0, 0), (1, 2), (3, 0), (0, 0)]),
    "pad channels": padded([(0, 0), (0, 0), (0, 0), (1, 2)]),
    "pad three axes": padded([(0, 0), (1, 2), (0, 1)], shape=(4, 5)),
    "padded convolution": padded_convolution([(0, 0), (1, 1), (1, 1), (0, 0)], VALID, (2, 2)),
    "unevenly padded": padded_convolution([(0, 0), (0, 2), (1, 3), (0, 0)], VALID, (1, 2)),
    "padded twice": padded_convolution([(0, 0), (1, 2), (0, 1), (0, 0)], SAME, (2, 2)),
    "padded channels": padded_convolution([(0, 0), (1, 1), (1, 1), (0, 1)], VALID, (1, 1)),
    "reshape to three axes": reshaped((4, 5, 6), (40, 3)),
    "reshape to four": reshaped((40, 3), (4, 5, 6)),
    "reshape to two": reshaped((2, 3, 4), (24,)),
    "reshape to the rest": reshaped((4, 5, 6), (10, 12), wanted=(1, -1, 12)),
    "reshape the batch to the rest": reshaped((4, 5, 6), (10, 12), wanted=(-1, 10, 12)),
    "concatenate channels": concatenated(3),
    "concatenate rows": concatenated(1),
    "concatenate from behind": concatenated(-2),
    "concatenate three axes": concatenated(1, shape=(5, 3)),
    "resize, centers": resized(3, 4, (6, 8), False, True),
    "resize smaller, centers": resized(7, 8, (3, 5), False, True),
    "resize, corners": resized(3, 4, (7, 5), True, False),
    "resize to one": resized(3, 4, (1, 1), True, False),
    "resize, edge": resized(3, 4, (7, 6), False, False),
    "resize smaller, edge": resized(7, 8, (3, 5), False, False),
    "depth to space": blocks(3, 2, 4, 2),
    "depth to space, 3": blocks(2, 3, 1, 3),
    "sparse": sparse_convolution((0, 1, 2, 3), (False, False, False, True)),
    "sparse, other order": sparse_convolution((3, 0, 1, 2), (False, True, False, False)),
    "sparse twice": sparse_convolution((0, 3, 1, 2), (True, True, False, False)),
    "sparse blocks": sparse_convolution(
        (0, 1, 2, 3, 4), (False, False, False, True, False), ((3, 4),)
    ),
}  # fmt: skip
NOT_IN_LITERT = {
    "no bias": "its convolutions need one",
}


def written(name):
    """A case's file, its graph and naive answers, and a batch of three."""
    file, rng = Writer(), np.random.default_rng(len(name))
    outputs, naive = CASES[name](file, rng)
    shape = file.tensors[file.inputs[0]][0]
    x = rng.standard_normal((3, *shape[1:])).astype("f4") * 2
    return file.bytes(*outputs), naive, x


def close(found, wanted, tolerance=1e-5):
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * max(np.abs(wanted).max(), 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_operators_are_those_of_naive_loops_for_any_batch(name):
    data, naive, x = written(name)
    graph = load_tflite(data, source="x.tflite")
    found = graph(torch.from_numpy(x))
    for k, entry in enumerate(x):
        for whole, wanted in zip(found, naive(entry.astype("f8")), strict=True):
            close(whole[k].numpy(), wanted)
        for whole, alone in zip(found, graph(torch.from_numpy(x[k : k + 1])), strict=True):
            assert alone.shape[0] == 1 and torch.allclose(whole[k], alone[0], atol=1e-5)


def test_every_operator_has_a_case():
    names = set()
    for case in CASES.values():
        file = Writer()
        case(file, np.random.default_rng(0))
        names |= {file.codes[code] for code, *_ in file.operators}
    import tflite

    codes = {
        getattr(tflite.BuiltinOperator, name) for name in (*OPERATORS, "DENSIFY", "DEQUANTIZE")
    }
    assert names == codes


def litert(data, batch):
    """What LiteRT answers, by the outputs' names, entry by entry."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    known = interpreter(model_content=data, num_threads=1)
    known.allocate_tensors()
    outputs = known.get_output_details()
    found = {about["name"]: [] for about in outputs}
    for entry in batch:
        known.set_tensor(known.get_input_details()[0]["index"], entry[None])
        known.invoke()
        for about in outputs:
            found[about["name"]].append(known.get_tensor(about["index"]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


@torch.no_grad()
def agrees_with_litert(data, x, tolerance):
    graph = load_tflite(data, source="x.tflite")
    wanted = litert(data, x)
    found = graph(torch.from_numpy(x))
    assert {info.name for info in graph.outputs} == wanted.keys()
    for info, output in zip(graph.outputs, found, strict=True):
        close(output.numpy(), wanted[info.name], tolerance)


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_IN_LITERT])
def test_operators_are_those_of_litert(name):
    data, _, x = written(name)
    agrees_with_litert(data, x, 1e-5)


def official(name):
    folder = os.environ.get("FACEWRIGHT_MEDIAPIPE")
    if not folder:
        pytest.skip("name the folder of MediaPipe's files and answers in FACEWRIGHT_MEDIAPIPE")
    if name.endswith(".tflite"):
        return read_tflite(Path(folder) / name)
    return read_task(Path(folder) / "face_landmarker.task")[f"{name}.tflite"]


OFFICIAL = {
    "face_detection_full_range_sparse.tflite": ((192, 192, 3), [(2304, 16), (2304, 1)]),
    "face_detection_short_range.tflite": ((128, 128, 3), [(896, 16), (896, 1)]),
    "face_detector": ((128, 128, 3), [(896, 16), (896, 1)]),
    "face_landmarks_detector": ((256, 256, 3), [(1, 1, 1434), (1, 1, 1), (1,)]),
}


@torch.no_grad()
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_graphs_are_those_of_litert(name):
    data = official(name)
    taken, made = OFFICIAL[name]
    graph = load_tflite(data, source=name)
    assert [info.shape for info in graph.inputs] == [(1, *taken)]
    assert [info.shape for info in graph.outputs] == [(1, *shape) for shape in made]
    x = np.random.default_rng(5).uniform(-1, 1, (3, *taken)).astype("f4")
    agrees_with_litert(data, x, 1e-4)


def test_an_official_graph_with_other_operators_is_refused_by_name():
    with pytest.raises(FacewrightError, match=r"blendshapes uses the operator [A-Z_]+.*only ADD"):
        load_tflite(official("face_blendshapes"), source="blendshapes")


@torch.no_grad()
def test_weights_are_buffers_and_go_where_the_module_goes():
    data, naive, x = written("sparse")
    graph = load_tflite(data, source="x.tflite")
    assert not list(graph.parameters()) and len(list(graph.buffers())) == 2
    assert all(buffer.dtype == torch.float32 for buffer in graph.buffers())
    (found,) = graph.double()(torch.from_numpy(x).double())
    assert found.dtype == torch.float64
    close(found[1].numpy(), naive(x[1].astype("f8"))[0], 1e-12)


@pytest.mark.parametrize(
    "shapes", [[], [(1, 5, 6)], [(1, 6, 5, 3)], [(0, 5, 6, 3)], [(1, 5, 6, 3)] * 2]
)
def test_inputs_of_other_shapes_are_refused_in_words(shapes):
    graph = load_tflite(written("convolution")[0], source="x.tflite")
    with pytest.raises(FacewrightError, match=r"takes \[\('n', 5, 6, 3\)\].*was given"):
        graph(*[torch.zeros(shape) for shape in shapes])


def test_padding_is_left_to_the_convolution_and_what_nobody_reads_is_left_out():
    kinds = {
        name: [type(step).__name__ for step in load_tflite(written(name)[0], source="x").steps]
        for name in ("padded convolution", "padded channels")
    }
    assert kinds["padded convolution"] == ["Convolution"]
    assert kinds["padded channels"] == ["Pad", "Convolution"]
