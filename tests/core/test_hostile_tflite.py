"""TensorFlow Lite files and .task archives of strangers: a sentence for each, and no room taken."""

import random
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.core.tflite import TfliteGraph, load_tflite, read_task, read_tflite

from .hostile_files import no_hang
from .test_tflite import SAME, VALID, compressed
from .tflite_files import Writer


def whole():
    """A graph with something of everything."""
    file, rng = Writer(), np.random.default_rng(0)

    def stored(*shape):
        values = file.constant(rng.standard_normal(shape).astype("f2"))
        return file.add("DEQUANTIZE", [values], *shape)

    x = file.input(1, 6, 6, 2)
    around = file.constant(np.array([(0, 0), (1, 1), (1, 1), (0, 0)], "i4"))
    x = file.add("PAD", [x, around], 1, 8, 8, 2)
    x = file.add(
        "CONV_2D", [x, stored(4, 3, 3, 2), stored(4)], 1, 6, 6, 4, Padding=VALID, StrideH=1,
        StrideW=1, FusedActivationFunction=1,
    )  # fmt: skip
    weight = rng.standard_normal((4, 1, 1, 4)).astype("f2") * (rng.random((4, 1, 1, 4)) < 0.5)
    values, sparse = compressed(weight, (0, 1, 2, 3), (False, False, False, True))
    dense = file.add("DENSIFY", [file.constant(values, weight.shape, sparse)], *weight.shape,
                     kind="float16")  # fmt: skip
    wide = file.add("DEQUANTIZE", [dense], *weight.shape)
    y = file.add(
        "DEPTHWISE_CONV_2D", [x, stored(1, 3, 3, 4), stored(4)], 1, 6, 6, 4, Padding=SAME,
        StrideH=1, StrideW=1, DepthMultiplier=1,
    )  # fmt: skip
    y = file.add("CONV_2D", [y, wide, stored(4)], 1, 6, 6, 4, Padding=SAME, StrideH=1, StrideW=1)
    x = file.add("PRELU", [file.add("ADD", [x, y], 1, 6, 6, 4), stored(1, 1, 4)], 1, 6, 6, 4)
    x = file.add(
        "MAX_POOL_2D", [x], 1, 3, 3, 4, Padding=VALID, StrideH=2, StrideW=2, FilterHeight=2,
        FilterWidth=2,
    )  # fmt: skip
    size = file.constant(np.array([6, 6], "i4"))
    x = file.add("RESIZE_BILINEAR", [x, size], 1, 6, 6, 4, HalfPixelCenters=True)
    d = file.add("DEPTH_TO_SPACE", [x], 1, 12, 12, 1, BlockSize=2)
    shape = file.constant(np.array([1, 36, 4], "i4"))
    d = file.add("RESHAPE", [d, shape], 1, 36, 4, NewShape=[1, 36, 4])
    x = file.add("RESHAPE", [x, shape], 1, 36, 4, NewShape=[1, 36, 4])
    x = file.add("CONCATENATION", [x, d], 1, 72, 4, Axis=1)
    return file.bytes(file.add("LOGISTIC", [x], 1, 72, 4))


WHOLE = whole()


def outcome(data):
    """The sentence a file was refused with, or its graph, which then runs."""
    try:
        graph = load_tflite(data, source="x.tflite")
    except CheckpointError as error:
        text = str(error)
        assert text.startswith("x.tflite ") and text.endswith(".") and len(text) < 700
        assert text.isprintable()
        return text
    assert sum(buffer.numel() for buffer in graph.buffers()) <= 4 * len(data) + 2**16
    x = [torch.zeros(2, *info.shape[1:]) for info in graph.inputs if np.prod(info.shape) < 1e5]
    if len(x) == len(graph.inputs):
        with torch.no_grad():
            for info, made in zip(graph.outputs, graph(*x), strict=True):
                assert tuple(made.shape) == (2, *info.shape[1:])
    return graph


def refused(file, *outputs):
    text = outcome(file.bytes(*outputs))
    assert isinstance(text, str), "was taken"
    return text


def test_the_whole_file_is_read():
    assert isinstance(outcome(WHOLE), TfliteGraph)


def test_files_that_are_cut_off_anywhere():
    with no_hang():
        cut = [outcome(WHOLE[:n]) for n in range(0, len(WHOLE), 3)]
    assert sum(isinstance(text, str) for text in cut) > len(cut) - 20


LIES = [0, 1, len(WHOLE) - 4, 2**31 - 1, 2**31, 2**32 - 1]


def lies(pairs):
    for at, value in pairs:
        yield outcome(WHOLE[:at] + struct.pack("<I", value) + WHOLE[at + 4 :])


def test_any_number_of_four_bytes_may_lie():
    places = range(0, len(WHOLE) - 4, 4)
    with no_hang():
        told = list(lies((at, LIES[k % len(LIES)]) for k, at in enumerate(places) if k % 3 == 0))
    assert sum(isinstance(text, str) for text in told) > len(told) / 4
    for words in ("cut off or damaged", "outside its table", "cannot be run", "not supported"):
        assert any(isinstance(text, str) and words in text for text in told), words


@pytest.mark.slow
@pytest.mark.parametrize("value", LIES)
def test_every_number_of_four_bytes_may_lie(value):
    with no_hang(1800):
        list(lies((at, value) for at in range(len(WHOLE) - 4)))


def flipped(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data))
        draw = rng.random()
        if draw < 0.5:
            data[at] = rng.randrange(256)
        elif draw < 0.8:
            data[at] ^= 1 << rng.randrange(8)
        else:
            data[at : at + 2] = rng.choice((b"\0\0", b"\xff\xff", b"\xff\x7f", b"\0\x80"))
    return bytes(data)


def flips(cases, seed):
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sum(isinstance(outcome(flipped(WHOLE, rng)), str) for _ in range(cases))


def test_bytes_that_were_changed():
    with no_hang():
        assert 15 < flips(150, 1) < 148


@pytest.mark.slow
def test_thousands_of_bytes_that_were_changed():
    with no_hang(1800):
        assert flips(20_000, 2) > 2000


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", bytes(8), b"PK\x03\x04" * 9, b"\x1c\0\0\0TFL2" + bytes(40)]
)
def test_what_is_no_such_file_is_told(data):
    assert "is no TensorFlow Lite model" in outcome(data)


def one(name="RELU", shape=(1, 4, 4, 2), made=None, inputs=1, **options):
    """A file with one operator."""
    file = Writer()
    operands = [file.input(*shape) for _ in range(inputs)]
    return file, file.add(name, operands, *(made or shape), **options)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("SOFTMAX", "SOFTMAX"),
        ("MEAN", "MEAN"),
        ("WHILE", "WHILE"),
        (190, "number 190"),
        (32, "CUSTOM"),
        (5000, "number 5000"),
    ],
)
def test_operators_that_are_not_supported_are_named(name, word):
    text = refused(*one(name))
    assert f"uses the operator {word}" in text and "only ADD, CONCATENATION" in text


@pytest.mark.parametrize(
    "shape",
    [(1, -4, 4, 2), (1, 0, 4, 2), (1, 2**24 + 1, 1, 1), (1, 2**31 - 1, 2**31 - 1, 2), (1,) * 7,
     (1, 2**20, 2**20, 2), (3, 4, 4, 2), ()],
)  # fmt: skip
def test_shapes_that_lie(shape):
    refused(*one(shape=shape))


def test_numbers_of_another_type_are_named():
    file, out = one()
    file.tensors[out] = ((1, 4, 4, 2), "int8", 0, None)
    assert "t1 in INT8, which is not supported: only FLOAT32" in refused(file, out)
    file.tensors[out] = ((1, 4, 4, 2), "float16", 0, None)
    assert "not FLOAT32" in refused(file, out)


@pytest.mark.parametrize("made", [(1, 4, 4, 3), (1, 4, 8), (2, 4, 4, 2), (1, 4, 2, 4)])
def test_results_of_another_shape(made):
    assert "should make" in refused(*one(made=made))


@pytest.mark.parametrize(
    ("name", "options", "inputs"),
    [
        ("RELU", {}, 2),
        ("RELU", {}, 0),
        ("ADD", {}, 1),
        ("ADD", {}, 3),
        ("ADD", {"FusedActivationFunction": 9}, 2),
        ("CONV_2D", {"StrideH": 1, "StrideW": 1}, 2),
        ("MAX_POOL_2D", {"StrideH": 0, "StrideW": 1, "FilterHeight": 1, "FilterWidth": 1}, 1),
        ("MAX_POOL_2D", {"StrideH": 1, "StrideW": 1, "FilterHeight": 9999, "FilterWidth": 1}, 1),
        ("MAX_POOL_2D", {"StrideH": 1, "StrideW": 1, "FilterHeight": -1, "FilterWidth": 1}, 1),
        ("MAX_POOL_2D", {"StrideH": 1, "StrideW": 1, "FilterHeight": 9, "FilterWidth": 9,
                         "Padding": VALID}, 1),
        ("DEPTH_TO_SPACE", {"BlockSize": 3}, 1),
        ("CONCATENATION", {"Axis": 0}, 2),
        ("CONCATENATION", {"Axis": -9}, 2),
        ("PRELU", {}, 2),
        ("PAD", {}, 2),
        ("RESIZE_BILINEAR", {}, 2),
        ("ADD", {"FusedActivationFunction": 3}, 2),
    ],
)  # fmt: skip
def test_operands_and_options_that_do_not_fit(name, options, inputs):
    text = refused(*one(name, inputs=inputs, **options))
    assert f"cannot be run: its operator 0 ({name})" in text


def with_constant(name, values, made, shape=(1, 4, 4, 2), first=False, **options):
    file = Writer()
    operands = [file.input(*shape), file.constant(np.array(values))]
    return file, file.add(name, operands[::-1] if first else operands, *made, **options)


@pytest.mark.parametrize(
    ("name", "values", "made"),
    [
        ("PAD", np.array([(0, 0), (-1, 1), (1, 1), (0, 0)], "i4"), (1, 4, 6, 2)),
        ("PAD", np.array([(1, 0), (0, 0), (0, 0), (0, 0)], "i4"), (2, 4, 4, 2)),
        ("PAD", np.array([(0, 0), (2**30, 0), (0, 0), (0, 0)], "i4"), (1, 4, 4, 2)),
        ("PAD", np.zeros((4, 2), "f4"), (1, 4, 4, 2)),
        ("PAD", np.zeros(3, "i4"), (1, 4, 4, 2)),
        ("RESIZE_BILINEAR", np.array([0, 4], "i4"), (1, 4, 4, 2)),
        ("RESIZE_BILINEAR", np.array([2**30, 2**30], "i4"), (1, 4, 4, 2)),
        ("ADD", np.zeros((3, 4, 4, 2), "f4"), (3, 4, 4, 2)),
        ("ADD", np.zeros((1, 1, 1, 1, 2), "f4"), (1, 4, 4, 2)),
        ("ADD", np.zeros(5, "f4"), (1, 4, 4, 2)),
        ("ADD", np.zeros(2, "i4"), (1, 4, 4, 2)),
        ("PRELU", np.float32(1), (1, 4, 4, 3)),
        ("CONCATENATION", np.zeros((1, 4, 4, 2), "f4"), (1, 4, 4, 2)),
        ("RELU", np.zeros((1, 4, 4, 2), "f4"), (1, 4, 4, 2)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [False, True])
def test_constants_that_do_not_fit(name, values, made, first):
    refused(*with_constant(name, values, made, first=first))


def test_weights_have_to_be_numbers():
    for bad in (np.nan, np.inf):
        text = refused(*with_constant("ADD", np.float32([bad, 0]), (1, 4, 4, 2)))
        assert "holds NaN or infinity in the tensor t1" in text


def test_an_order_that_cannot_be_computed():
    file = Writer()
    x = file.input(1, 4, 4, 2)
    later = file.add("RELU", [x + 2], 1, 4, 4, 2)
    assert "not computed before it" in refused(file, file.add("RELU", [later], 1, 4, 4, 2))
    file = Writer()
    out = file.add("RELU", [file.input(1, 4, 4, 2)], 1, 4, 4, 2)
    file.operators.append(file.operators[0])
    assert "there already" in refused(file, out)
    file, _ = one()
    assert "does not compute its outputs" in refused(file, file.value(1, 4, 4, 2))
    assert "does not compute its outputs" in refused(file)


def test_many_tensors_that_share_one_buffer_take_no_room():
    file, out = one()
    shared = file.constant(np.ones(2**14, "f4"))
    for _ in range(200):
        file.value(2**14, buffer=file.tensors[shared][2])
    assert "far more numbers than it has bytes" in refused(file, out)
    file = Writer()
    x = file.input(1, 2, 2, 256)
    weight = file.constant(np.ones((256, 1, 1, 256), "f4"))
    bias = file.constant(np.ones(256, "f4"))
    for _ in range(100):
        x = file.add("CONV_2D", [x, weight, bias], 1, 2, 2, 256, StrideH=1, StrideW=1)
    assert "larger than any of MediaPipe" in refused(file, x)


def test_graphs_that_would_never_end_or_fill_the_memory():
    file = Writer()
    x = file.input(1, 4096, 4096, 1)
    for _ in range(8):
        x = file.add("RELU", [x], 1, 4096, 4096, 1)
    assert "larger than any of MediaPipe" in refused(file, x)
    file = Writer()
    x = file.input(1, 2048, 2048, 1)
    sides = {"FilterHeight": 1024, "FilterWidth": 1024, "StrideH": 1, "StrideW": 1}
    x = file.add("MAX_POOL_2D", [x], 1, 2048, 2048, 1, Padding=SAME, **sides)
    assert "larger than any of MediaPipe" in refused(file, x)
    weight = np.ones((1, 64, 64, 64), "f4")
    options = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1024, "DilationWFactor": 1024}
    file, out = with_constant("CONV_2D", weight, (1, 4, 4, 1), (1, 4, 4, 64), **options)
    assert "unreasonable size" in refused(file, out)


DENSE = np.kron(np.eye(4, dtype="f4"), np.ones((1, 2), "f4"))  # (4, 8)


@pytest.mark.parametrize(
    "change",
    [
        lambda order, blocks, levels, values: ((0, 0), blocks, levels, values),
        lambda order, blocks, levels, values: ((0, 1, 2), blocks, levels, values),
        lambda order, blocks, levels, values: (order, [1], levels, values),
        lambda order, blocks, levels, values: (order, [5], levels, values),
        lambda order, blocks, levels, values: (order, blocks, levels[:1], values),
        lambda order, blocks, levels, values: (order, blocks, [5, levels[1]], values),
        lambda order, blocks, levels, values: (order, blocks, [2**30, levels[1]], values),
        lambda order, blocks, levels, values: (order, blocks, [-1, levels[1]], values),
        lambda order, blocks, levels, values: (order, blocks, levels, values[:-1]),
        lambda order, blocks, levels, values: (order, blocks, levels, np.tile(values, 9)),
        lambda order, blocks, levels, values: (order, blocks, [4, ([0, 2, 4, 6], levels[1][1])],
                                               values),
        lambda order, blocks, levels, values: (order, blocks, [4, ([0, 2, 4, 6, 9], levels[1][1])],
                                               values),
        lambda order, blocks, levels, values: (order, blocks, [4, ([0, 6, 4, 6, 8], levels[1][1])],
                                               values),
        lambda order, blocks, levels, values: (order, blocks, [4, ([1, 2, 4, 6, 8], levels[1][1])],
                                               values),
        lambda order, blocks, levels, values: (order, blocks, [4, (levels[1][0], [8] * 8)], values),
        lambda order, blocks, levels, values: (order, blocks, [4, ([0, *[33] * 4], [0] * 33)],
                                               np.ones(33, "f4")),
    ],
)  # fmt: skip
def test_sparse_numbers_that_do_not_add_up(change):
    values, (order, blocks, levels) = compressed(DENSE, (0, 1), (False, True))
    order, blocks, levels, values = change(order, blocks, levels, values)
    file = Writer()
    stored = file.constant(values, DENSE.shape, (order, blocks, levels))
    out = file.add("ADD", [file.input(1, 4, 8), stored], 1, 4, 8)
    assert "do not add up" in refused(file, out)


def task(path, members, method=zipfile.ZIP_STORED, before=b""):
    with path.open("wb") as file:
        file.write(before)
        with zipfile.ZipFile(file, "a" if before else "w", method) as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name) if "//" in name else name, data, method)
    return path


def told(path):
    with no_hang(), pytest.raises(CheckpointError) as error:
        read_task(path)
    assert str(error.value).endswith(".") and str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"\0\0"])
def test_members_are_read_as_they_were_written(method, before, tmp_path):
    """The official archives start with two bytes of nothing, for alignment."""
    path = task(tmp_path / "x.task", [("a.tflite", WHOLE), ("b/c", b"")], method, before)
    assert read_task(path) == {"a.tflite": WHOLE, "b/c": b""}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "\\\\host\\a", "x" * 2000])
def test_names_that_lead_elsewhere(name, tmp_path):
    assert "leads elsewhere" in told(task(tmp_path / "x.task", [(name, b"1")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_there_twice(tmp_path):
    assert "stands there twice" in told(task(tmp_path / "x.task", [("a", b"1"), ("a", b"2")]))


def test_archives_that_unpack_to_far_more(tmp_path):
    bomb = task(tmp_path / "x.task", [("a", bytes(2**24))], zipfile.ZIP_DEFLATED)
    assert "unpacks to 1 file" in told(bomb)
    many = task(tmp_path / "y.task", [(f"{i}", b"") for i in range(65)])
    assert "unpacks to 65 files" in told(many)
    lying = bytearray(
        task(tmp_path / "z.task", [("a", bytes(2**20))], zipfile.ZIP_DEFLATED).read_bytes()
    )
    size = struct.pack("<I", 2**20)
    path = tmp_path / "lying.task"
    path.write_bytes(bytes(lying).replace(size, struct.pack("<I", 8)))
    assert "damaged archive" in told(path)


def test_compressions_and_locks_that_no_task_has(tmp_path):
    path = task(tmp_path / "x.task", [("a", bytes(100))], zipfile.ZIP_BZIP2)
    assert "compression" in told(path)
    content = bytearray(task(path, [("a", b"1")]).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # encrypted
    content[6] |= 1
    path.write_bytes(content)
    assert "damaged archive" in told(path)


def test_archives_that_are_damaged_anywhere(tmp_path):
    path = tmp_path / "x.task"
    whole = task(path, [("a.tflite", bytes(range(200))), ("b", b"12")]).read_bytes()
    rng = random.Random(3)
    cut = [whole[:n] for n in range(0, len(whole), 9)]
    for data in cut + [flipped(whole, rng) for _ in range(80)]:
        path.write_bytes(data)
        try:
            read_task(path)
        except CheckpointError as error:
            assert str(error).endswith(".") and str(error).isprintable()
    assert [p.name for p in tmp_path.iterdir()] == ["x.task"]


@pytest.mark.parametrize("read", [read_task, read_tflite])
def test_what_is_no_file_at_all(read, tmp_path):
    path = tmp_path / "x"
    for content, word in (
        (b"", "is empty"),
        (b"<html>", "web page"),
        (b"version https://git-lfs", "LFS"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=word):
            read(path)
    for place, word in ((tmp_path, "is a folder"), (tmp_path / "no", "no file")):
        with pytest.raises(CheckpointError, match=word):
            read(place)
    path.write_bytes(WHOLE)
    if read is read_task:
        assert "is no .task file" in told(path)
    else:
        assert read(path) == WHOLE
    with path.open("wb") as file:
        file.truncate(129 * 2**20)  # takes no room on the disk
    with pytest.raises(CheckpointError):
        read(path)
