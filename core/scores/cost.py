"""What a network costs: parameters, multiply-accumulates and seconds, as papers state them.

with counting() as counted:
    method.restore(faces, [None])
counted.parameters   counted.macs   counted.parts
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

_Hooks = nn.modules.module


@dataclass
class Part:
    """A network that was called from outside of any other."""

    name: str
    parameters: int
    """Of this network that no earlier one has, too."""
    calls: int = 0
    macs: int = 0
    """In all calls together."""


@dataclass
class Counted:
    """Everything that ran inside of `counting`."""

    parts: list[Part] = field(default_factory=list)
    """In the order in which they were first called."""
    outside: int = 0
    """Multiply-accumulates that belong to no network."""

    @property
    def parameters(self) -> int:
        """Of all networks that were called, each once, called on or not."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of matrix products, convolutions and attention."""
        return sum(part.macs for part in self.parts) + self.outside


@contextmanager
def counting() -> Iterator[Counted]:
    """Count what PyTorch computes in this block, by torch's own counter of operations.

    One multiply-accumulate is one product with its sum, which others count as two FLOPs. Counted
    are matrix products, convolutions and both products of attention; additions, normalisations and
    activations are not, as in `fvcore` and `thop`. Convolutions count as they are defined, also
    where they are computed with fewer products. Code that PyTorch does not see is not counted.
    The numbers are whole when the block has ended.
    """
    found = Counted()
    parts: dict[int, Part] = {}
    known: set[int] = set()
    alive: list[nn.Module] = []  # or a number of the next could be that of one that is gone
    depth = begun = within = correction = 0

    # The CPU's attention is missing from torch's list.
    cpu = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    mapping: Any = {} if cpu is None else {cpu: _attention}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)

    def so_far() -> int:
        return counter.get_total_flops() + correction

    def before(module: nn.Module, _inputs: Any) -> None:
        nonlocal depth, begun, within
        if depth == 0:
            begun = so_far()
            if id(module) not in parts:
                new = {id(p): p.numel() for p in module.parameters() if id(p) not in known}
                known.update(new)
                alive.append(module)
                parts[id(module)] = Part(type(module).__name__, sum(new.values()))
        if isinstance(module, nn.Conv2d):
            within = so_far()
        depth += 1

    def after(module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal depth, correction
        depth -= 1
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            weight = module.weight
            products = 2 * output.numel() * weight[0].numel()
            correction += products - (so_far() - within)
        if depth == 0:
            part = parts[id(module)]
            part.calls += 1
            part.macs += (so_far() - begun) // 2

    hooks = [
        _Hooks.register_module_forward_pre_hook(before),
        _Hooks.register_module_forward_hook(after),
    ]
    try:
        with counter:
            yield found
    finally:
        for hook in hooks:
            hook.remove()
        found.parts = list(parts.values())
        found.outside = so_far() // 2 - sum(part.macs for part in found.parts)


def _attention(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any
) -> int:
    return sdpa_flop_count(query, key, value)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The median of `repeats` runs after one that is not timed, which loads and warms up.

    Args:
        work: what is timed.
        device: where it computes; waited for at the end of each run.
        repeats: 1 or more.
    """
    times = []
    for number in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if number:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).synchronize()
