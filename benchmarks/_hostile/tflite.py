"""TensorFlow Lite files and the archives they come in: damaged bytes, numbers that lie."""

import math
import struct
import zipfile

import numpy as np
import torch
from facewright.core.tflite import load_tflite, read_task

from ...tests.core.test_hostile_tflite import LIES, WHOLE, flipped
from ...tests.core.test_tflite import CASES, written
from .watch import Told, Wrong

_MOST = 10**6
"""Numbers that a value of a damaged graph may have if it is run here."""


def files(room):
    path = room.given / "x.task"
    whole = {name: written(name) for name in CASES}

    def case(rng):
        name = rng.choice(list(whole))
        data = rng.choice((WHOLE, whole[name][0]))
        draw = rng.random()
        if draw < 0.1:
            data = whole[name][0]
        elif draw < 0.6:
            data = flipped(data, rng)
        elif draw < 0.8:
            at = rng.randrange(0, len(data) - 4)
            data = data[:at] + struct.pack("<I", rng.choice(LIES)) + data[at + 4 :]
        elif draw < 0.9:
            data = data[: rng.randrange(len(data))]
        else:
            return _archive(room, path, data, rng)
        with torch.no_grad():
            graph = room.watch(load_tflite, data, source="x.tflite")
            if isinstance(graph, Told):
                if draw < 0.1:
                    raise Wrong(f"the whole file of {name} was refused: {graph}")
                return graph
            if sum(buffer.numel() for buffer in graph.buffers()) > 4 * len(data) + 2**16:
                raise Wrong("its weights take far more room than its file")
            if draw < 0.1:
                _as_by_hand(graph, *whole[name][1:])
            elif all(math.prod(info.shape) < _MOST for info in graph.inputs):
                _runs(graph)
        return graph

    return case


def _as_by_hand(graph, naive, x):
    found = graph(torch.from_numpy(x))
    for k, entry in enumerate(x):
        for made, wanted in zip(found, naive(entry.astype("f8")), strict=True):
            if np.abs(made[k].numpy() - wanted).max() > 1e-4 * max(np.abs(wanted).max(), 1e-3):
                raise Wrong("a whole file computes something else")


def _runs(graph):
    """What was read for good can be run, whatever the file became."""
    made = graph(*[torch.zeros(2, *info.shape[1:]) for info in graph.inputs])
    if [tuple(m.shape[1:]) for m in made] != [info.shape[1:] for info in graph.outputs]:
        raise Wrong("a graph makes other shapes than it says")


def _archive(room, path, data, rng):
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    name = rng.choice(
        ("a.tflite", "b/a.tflite", "../a.tflite", "/a.tflite", "C:\\a.tflite", "\x1b")
    )
    data = rng.choice((data, bytes(2**22)))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, data)
    content = path.read_bytes()
    if damaged := rng.random() < 0.5:
        path.write_bytes(flipped(content, rng))
    found = room.watch(read_task, path)
    if not damaged and not isinstance(found, Told) and found.get(name) != data:
        raise Wrong("a member holds other bytes than were put in")
    return found
