"""Weight files and base models: what they say of themselves, and their very bytes."""

import json
import math
import random
import struct

import numpy as np
import torch
from facewright.core.checkpoint import (
    CONFIG_KEY,
    make_metadata,
    read_metadata,
    read_tensors,
    save_safetensors,
)
from facewright.core.checkpoint.identify import identify
from facewright.core.diffusion.loading import load_checkpoint, load_vae
from safetensors.torch import load, save
from torch import nn

from ...tests.core.hostile_files import mutated
from ...tests.core.test_hostile_weights import FOLDER, READERS, _damaged, _headers, _with_config
from ...tests.headless.test_hostile_models import UNET, VAE, _folder, _names
from .watch import Told, Wrong

_ODD = [
    lambda t: t * math.nan, lambda t: t.float() + math.inf, lambda t: t.flatten()[:1],
    lambda t: t.flatten(),
    lambda t: t.sum(), lambda t: t[None], lambda t: t.to(torch.int64), lambda t: t.double(),
    lambda t: t.half(), lambda t: t[None, :0], lambda t: t.transpose(0, -1) if t.ndim else t,
]  # fmt: skip


def described(room):
    """Descriptions and state dicts of the bundled weights, changed in one to three places."""
    files = {kind: (FOLDER / f"{name}.safetensors", read) for kind, (name, read) in READERS.items()}
    texts = {kind: path.read_bytes() for kind, (path, _) in files.items()}
    configs = {
        kind: json.loads(read_metadata(path)[CONFIG_KEY]) for kind, (path, _) in files.items()
    }
    about = {kind: read_metadata(path) for kind, (path, _) in files.items()}

    def case(rng):
        kind = rng.choice(list(files))
        path = room.given / "x.safetensors"
        draw = rng.random()
        if draw < 0.6:
            path.write_bytes(_with_config(texts[kind], mutated(configs[kind], rng)))
        elif draw < 0.95:
            path.write_bytes(save(_changed(load(texts[kind]), rng), about[kind]))
        else:
            path.write_bytes(texts[kind])
        result = room.watch(files[kind][1], path)
        if draw >= 0.95 and isinstance(result, Told):
            raise Wrong(f"the bundled {kind} was refused: {result}")
        if not isinstance(result, Told):
            _holds(kind, result, load(path.read_bytes()))
        return result

    return case


def _changed(tensors, rng):
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(tensors) or [""])
        how = rng.random()
        if not tensors or how < 0.15:
            tensors[rng.choice(("extra", "x" * 5000, "\x1b[31m", "", "__class__"))] = torch.ones(2)
        elif how < 0.35:
            del tensors[name]
        elif how < 0.5:
            tensors[rng.choice((name.upper(), f"module.{name}", name[1:]))] = tensors.pop(name)
        else:
            tensors[name] = (
                rng.choice(_ODD)(tensors[name]) if tensors[name].numel() else torch.ones(1)
            )
    return {k: v.contiguous().clone() for k, v in tensors.items()}


def _holds(kind, result, tensors):
    """Every network that was built holds numbers of the file, all finite."""
    there = {(tuple(v.shape), _sum(v)) for v in tensors.values()}
    for part in [result, *getattr(result, "__dict__", {}).values()]:
        if isinstance(part, nn.Module):
            own = part.state_dict()
            if not all(v.isfinite().all() for v in own.values()):
                raise Wrong(f"{kind}: NaN or infinite weights were taken")
            if own and not any((tuple(v.shape), _sum(v)) in there for v in own.values()):
                raise Wrong(f"{kind}: the network holds nothing of the file")
            if any(v.is_meta for v in own.values()):
                raise Wrong(f"{kind}: weights without numbers")


def _sum(tensor):
    return round(float(tensor.double().sum()), 3)


def tensor_bytes(room):
    """Bytes of safetensors files, against a reader of a dozen lines."""
    state = {
        "a.weight": torch.arange(6.0).view(2, 3),
        "b": torch.tensor(1),
        "c": torch.ones(4).half(),
    }
    path = room.given / "x.safetensors"
    save_safetensors(path, state, make_metadata("person", {"version": 1}))
    whole = path.read_bytes()
    lies = [json.dumps(header).encode() for _, header in _headers()]

    def case(rng):
        draw = rng.random()
        if draw < 0.05:
            data = whole
        elif draw < 0.8:
            data = _damaged(whole, rng)
        elif draw < 0.9:
            text = rng.choice(lies)
            data = struct.pack("<Q", len(text)) + text + bytes(rng.choice((0, 8, 16, 4000)))
        else:
            length = rng.choice((0, 1, 2**20, 2**40, 2**63, 2**64 - 1, len(whole)))
            data = struct.pack("<Q", length) + whole[8:]
        path.write_bytes(data)
        result = room.watch(read_tensors, path)
        room.watch(read_metadata, path)
        if isinstance(result, Told):
            if draw < 0.05:
                raise Wrong(f"a whole file was refused: {result}")
            return result
        if data[:2] != b"PK" and data[:1] != b"\x80":
            _as_plainly_read(data, result[0])
        return result

    return case


_NUMBERS = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2",
            "I8": "i1", "U8": "u1", "BOOL": "?", "U16": "u2", "U32": "u4", "U64": "u8"}  # fmt: skip


def _as_plainly_read(data, tensors):
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    if header.keys() != tensors.keys():
        raise Wrong(f"names {sorted(tensors)[:5]} for {sorted(header)[:5]}")
    for name, about in header.items():
        start, end = (8 + length + o for o in about["data_offsets"])
        kind = _NUMBERS.get(about["dtype"])
        if kind is None:
            continue
        wanted = np.frombuffer(data[start:end], f"<{kind}").reshape(about["shape"])
        if not np.array_equal(tensors[name].numpy(), wanted, equal_nan=kind[0] == "f"):
            raise Wrong(f"{name} holds other numbers than the file")


def configs(room):
    """Descriptions of base models, and single files whose names count strangely."""
    folder = room.given / "base"
    folder.mkdir(exist_ok=True)
    single = room.given / "x.safetensors"

    def case(rng: random.Random):
        draw = rng.random()
        if draw < 0.8:
            unet = mutated(UNET, rng) if draw < 0.5 else UNET
            vae = mutated(VAE, rng) if draw >= 0.4 else VAE
            _folder(folder, unet, vae)
            if draw < 0.1:
                text = (folder / "unet/config.json").read_bytes()
                (folder / "unet/config.json").write_bytes(_damaged(text, rng))
            unet_path, vae_path = folder, folder / "vae"
        else:
            single.write_bytes(save(_names(rng.getrandbits(32))))
            unet_path = vae_path = single
        results = [room.watch(load_checkpoint, unet_path), room.watch(load_vae, vae_path)]
        if not all(isinstance(r, Told) for r in results):
            raise Wrong("a model was made of weights that it lacks")
        return room.watch(lambda p: identify(p).check_base(), unet_path) or results[0]

    return case
