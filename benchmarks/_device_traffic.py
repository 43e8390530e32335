"""What goes between host and device, and how often the host waits for the device."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from facewright.core.methods._onestep import OneStepFaces
from facewright.core.restorer import ONE_STEP_TIMESTEP
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ._device_models import faces, ours, plain, random_networks
from ._device_run import Bench, Row, attempt

READS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal")
"""Operations that give the host a number of the device's, which it has to wait for."""


class Transfers(TorchDispatchMode):
    """Counts copies between the CPU and any other device, and single numbers that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name == "aten::_to_copy":
            self._copied(args[0], out)
        elif name == "aten::copy_":
            self._copied(args[1], args[0])
        elif name == "aten::lift_fresh" and args[0].device.type != "cpu":
            # torch.tensor(..., device=...) made it on the CPU and took it there unseen.
            self._count("to_device", args[0])
        elif name in READS and any(isinstance(a, Tensor) and _away(a) for a in args):
            self.found["numbers_read"] += 1
        return out

    def _copied(self, source: Tensor, target: Tensor) -> None:
        if _away(target) != _away(source):
            self._count("to_device" if _away(target) else "to_host", source)

    def _count(self, way: str, x: Tensor) -> None:
        self.found[f"{way}_copies"] += 1
        self.found[f"{way}_bytes"] += x.numel() * x.element_size()


def _away(x: Tensor) -> bool:
    return x.device.type != "cpu"


def traffic_of(work: Callable[[], object]) -> Row:
    """Copies and bytes each way, and numbers read, of one call."""
    with Transfers() as seen:
        work()
    ways = ("to_device", "to_host")
    keys = [f"{way}_{what}" for way in ways for what in ("copies", "bytes")]
    return {key: seen.found[key] for key in (*keys, "numbers_read")}


def waits_of(work: Callable[[], object]) -> Row:
    """Lines of code at which CUDA says that the host waits, and how often."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    lines = Counter(
        f"{w.filename.replace(chr(92), '/').rpartition('/')[2]}:{w.lineno}"
        for w in said
        if "synchron" in str(w.message)
    )
    return {"waits": sum(lines.values()), "waits_at": dict(lines.most_common(8))}


def measure(bench: Bench) -> None:
    """Rows: one face from the CPU and back, ours and plain."""
    flows = {
        "one face": lambda: ours(
            random_networks(bench.device, bench.tiny), torch.float16, bench.device
        ),
        "one face, plain": lambda: plain(random_networks(bench.device, bench.tiny)),
    }
    with torch.no_grad():
        for name, make in flows.items():
            bench.row(name, lambda m=make: one_face(bench, m()))


def one_face(bench: Bench, flow: Any) -> Row:
    """As the pipeline calls it: the picture is on the CPU before and afterwards."""
    lq = faces(1, torch.device("cpu"), bench.tiny)

    def restored() -> Tensor:
        if flow.backbone is None:
            return flow.whole(lq.to(bench.device)).cpu()
        method = OneStepFaces(
            backbone=flow.backbone,
            embed=lambda x, people: flow.vre(x),
            size=lq.shape[-1],
            device=bench.device,
            timestep=ONE_STEP_TIMESTEP,
        )
        return method.restore(lq, [None])

    restored()
    found = {"picture_bytes": lq.numel() * lq.element_size(), "traffic": traffic_of(restored)}
    if bench.device.type == "cuda":
        found["waits"] = attempt(lambda: waits_of(restored))
    return found
