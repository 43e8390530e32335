"""Pickles that name functions, in every way a pickle can, and damaged ones: nothing runs."""

import builtins
import functools
import operator
import os
import pickle
import subprocess
import zipfile

import torch
from facewright.core.checkpoint import read_tensors
from facewright.training.loop.checkpoints import read_checkpoint

from ...tests.core.test_hostile_weights import PICKLES, _damaged, _zip
from ...tests.training.test_hostile_states import STATE, Calls
from . import watch
from .watch import MARK, Told, Wrong

_HERE = watch.__name__
SUFFIXES = (".pth", ".ckpt", ".pt", ".bin", ".safetensors", ".person")
TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}


def _calls(rng, canary):
    """An object whose reading would call something."""
    code = f"open({canary!r}, 'w').close()  # {MARK}"
    calls = [
        (os.system, f"touch {canary}"),
        (subprocess.call, ["touch", canary]),
        (builtins.exec, code),
        (builtins.eval, f"__import__('os').system('touch {canary}')"),
        (builtins.compile, code, "x", "exec"),
        (builtins.open, canary, "w"),
        (builtins.__import__, MARK),
        (os.mkdir, canary),
        (watch.canary,),
        (map, watch.canary, [1]),
        (functools.partial, watch.canary, 1),
        (operator.methodcaller, "canary"),
        (getattr, watch.canary, "__call__"),
        (torch.load, canary),
        (torch.jit.load, canary),
        (torch.storage._load_from_bytes, pickle.dumps(Calls(watch.canary))),
        (bytearray, 10**12),
        (torch.empty, [10**6, 10**6]),
    ]
    function, *arguments = rng.choice(calls)
    return Calls(function, *arguments)


def _by_hand(rng, canary):
    """Instructions that call by other ways than REDUCE, or name what is called late."""
    module, name = rng.choice(
        [("os", "system"), ("posix", "system"), (_HERE, "canary"), ("builtins", "exec"),
         ("__builtin__", "eval"), ("subprocess", "Popen"), ("torch._dynamo", "Eval"),
         ("numpy.testing._private.utils", "runstring"), (_HERE, "Room"), ("pathlib", "Path.touch")]
    )  # fmt: skip
    m, n = module.encode(), name.encode()
    text = f"touch {canary}".encode()
    argument = b"X" + len(text).to_bytes(4, "little") + text

    def short(value):
        return b"\x8c" + bytes([len(value)]) + value

    return rng.choice(
        [
            b"\x80\x02c" + m + b"\n" + n + b"\n" + argument + b"\x85R.",
            b"\x80\x04" + short(m) + short(n) + b"\x93" + argument + b"\x85R.",
            b"(" + argument + b"i" + m + b"\n" + n + b"\n.",
            b"(c" + m + b"\n" + n + b"\n" + argument + b"o.",
            b"\x80\x02c" + m + b"\n" + n + b"\n" + argument + b"\x85\x81.",
            b"\x80\x02c" + m + b"\n" + n + b"\n)R}" + argument + b"K\x01sb.",
            b"\x80\x02}q\x00X\x01\x00\x00\x00ac" + m + b"\n" + n + b"\n" + argument + b"\x85Rs.",
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(c" + m + b"\n" + n + b"\n"
            + argument + b"\x85RK\x00)(t)tR.",
            b"\x80\x02" + argument + b"Q.",
        ]
    )  # fmt: skip


def pickles(room):
    canary = str(room.folder / MARK)

    def case(rng):
        path = room.given / f"x{rng.choice(SUFFIXES)}"
        expected = None
        kind = rng.random()
        zipped = rng.random() < 0.5
        if kind < 0.35:
            content = rng.choice(
                [lambda bad: {**TENSORS, "x": bad}, lambda bad: {"state_dict": TENSORS, "x": bad},
                 lambda bad: {**STATE, "extra": {"x": bad}}, lambda bad: [bad], lambda bad: bad]
            )(_calls(rng, canary))  # fmt: skip
            torch.save(content, path, _use_new_zipfile_serialization=zipped)
        elif kind < 0.5:
            _write(path, _by_hand(rng, canary), zipped)
        elif kind < 0.55:
            _write(path, rng.choice(list(PICKLES.values()))[0], zipped)
        else:
            torch.save(rng.choice([TENSORS, {"state_dict": TENSORS}, STATE]), path,
                       _use_new_zipfile_serialization=zipped)  # fmt: skip
            if kind < 0.6:
                expected = TENSORS
                torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
            elif zipped and rng.random() < 0.3:
                _smuggled(path, _by_hand(rng, canary), rng)
            else:
                path.write_bytes(_damaged(path.read_bytes(), rng))
        result = room.watch(read_tensors, path)
        if expected is not None:
            if isinstance(result, Told):
                raise Wrong(f"whole weights were refused: {result}")
            if not all(torch.equal(v, result[0][k]) for k, v in expected.items()):
                raise Wrong("whole weights came back changed")
        if not isinstance(result, Told) and not all(
            isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in result[0].items()
        ):
            raise Wrong(f"read as weights: {result!r:.300}")
        state = room.watch(read_checkpoint, path)
        path.unlink()
        return result if isinstance(state, Told) else state

    return case


def _write(path, data, zipped):
    if zipped:
        _zip(path, data)
    else:
        path.write_bytes(data or b"\x80")


def _smuggled(path, data, rng):
    """A further pickle in an archive, under a name that some reader may look at."""
    name = rng.choice(
        ("archive/data.pkl", "x/data.pkl", "constants.pkl", "data.pkl", "x/code/y.py")
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data)
