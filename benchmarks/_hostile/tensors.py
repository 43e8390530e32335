"""Tensors of every shape, type and value into every node: finite numbers or a sentence."""

import math

import torch

from ...tests.nodes.test_hostile_tensors import (
    FINE,
    NODES,
    OPTIONAL,
    PICTURES,
    REFUSED,
    everything,
    finite,
)
from .watch import Told, Wrong

_TYPES = [torch.float32] * 4 + [torch.float16, torch.bfloat16, torch.float64]
_VALUES = [math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 1e-40, -5.0, 2.0, 255.0]


def _drawn(rng):
    """A picture of any shape and type, perhaps with odd pixels."""
    sides = [rng.choice((1, 2, 3, 7, 16, 33, 64, 64, 90)) for _ in range(2)]
    shape = (rng.choice((0, 1, 2, 2, 2, 3)), *sides, rng.choice((1, 3, 3, 3, 3, 4)))
    draw = torch.Generator().manual_seed(rng.getrandbits(32))
    image = torch.rand(shape, generator=draw) * rng.choice((1, 1, 1, 0, 4)) - rng.choice((0, 0, 1))
    if image.numel() and rng.random() < 0.4:
        flat = image.view(-1)
        for _ in range(rng.choice((1, 5))):
            flat[rng.randrange(len(flat))] = rng.choice(_VALUES)
    image = image.to(rng.choice(_TYPES))
    return image.flip(rng.randrange(4)) if rng.random() < 0.2 else image


def tensors(room):
    setup = everything()

    def case(rng):
        node = rng.choice(list(NODES))
        kind = rng.choice(list(PICTURES)) if rng.random() < 0.6 else None
        image = PICTURES[kind] if kind else _drawn(rng)
        before = image.clone() if isinstance(image, torch.Tensor) else None
        run, (name,) = NODES[node]
        result = room.watch(lambda: run(setup, image).result)
        what = kind or f"{image.dtype} {tuple(image.shape)}"
        if before is not None and not image.is_complex():
            kept = torch.equal(image.nan_to_num(7), before.nan_to_num(7))
            if not kept or image.dtype != before.dtype:
                raise Wrong(f"{node} changed what it was given: {what}")
        if isinstance(result, Told):
            if kind in FINE and "no face was found" not in result:
                raise Wrong(f"{node} refused {what}: {result}")
            if kind in REFUSED and f"`{name}`" not in result:
                raise Wrong(f"{node}, {what}: the sentence lacks `{name}`: {result}")
            return result
        if kind in REFUSED and not (kind == "nothing" and node in OPTIONAL):
            raise Wrong(f"{node} took {what}")
        if not finite(result):
            raise Wrong(f"{node} made NaN or infinity of {what}")
        return result

    return case
