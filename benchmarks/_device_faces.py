"""Milliseconds and memory of one face and of batches through OSDFace, at the true shapes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from facewright.core.scores.cost import counting
from torch import nn

from ._device_formats import HALVES, STRICT, agrees
from ._device_models import (
    PARTS,
    Flow,
    faces,
    formats_of,
    inputs_of,
    model_of,
    ours,
    plain,
    random_networks,
    tensor_cores,
)
from ._device_run import Bench, Row

BATCHES = (1, 4, 16, 64)
TINY_BATCHES = (1, 2)
DEFAULTS = {"products": False, "convolutions": True}
"""What torch does with float32 if nobody says otherwise."""
TF32 = {"products": True, "convolutions": True}


def measure(bench: Bench) -> None:
    """Rows: operations of a face; then each way at each batch, beside the plain flow's."""
    batches = TINY_BATCHES if bench.tiny else BATCHES
    with torch.no_grad():
        for name, dtype in HALVES.items():
            make = partial(_ours, bench, dtype)
            if name == "float16":
                _rows(bench, name, make, batches[:1], counted=True)
            else:
                _rows(bench, name, make, batches[:1])
        _rows(bench, "plain, float32", partial(_plain, bench, torch.float32), batches[:1])
        for name, dtype in HALVES.items():
            _rows(bench, name, partial(_ours, bench, dtype), batches[1:])
            _rows(bench, f"plain, {name}", partial(_plain, bench, dtype), batches[:3])
        _rows(bench, "float32 as TF32", partial(_ours, bench, torch.float32), batches[:3], **TF32)
        if bench.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            name = "float16, cudnn.benchmark"
            _rows(bench, name, partial(_ours, bench, torch.float16), batches[:3])
            torch.backends.cudnn.benchmark = False


def _ours(bench: Bench, dtype: torch.dtype) -> Flow:
    return ours(random_networks(bench.device, bench.tiny), dtype, bench.device)


def _plain(bench: Bench, dtype: torch.dtype) -> Flow:
    return plain(random_networks(bench.device, bench.tiny), dtype)


def _rows(
    bench: Bench,
    name: str,
    make: Callable[[], Flow],
    batches: tuple[int, ...],
    *,
    counted: bool = False,
    **allowed: bool,
) -> None:
    """A way at each batch; its networks alone are in memory."""
    flow: list[Flow] = []

    def run(batch: int) -> Row:
        if not flow:
            flow.append(make())
        with tensor_cores(**(allowed or DEFAULTS)):
            return batch_of(bench, flow[0], batch)

    for batch in batches:
        row = bench.row(f"{name}, batch {batch}", lambda b=batch: run(b))
        if counted and flow:
            bench.row("operations", lambda: operations(bench, flow[0]))
            counted = False
        if "failed" in row:
            break  # a larger one would not fit either, and a broken one is broken
    flow.clear()
    bench.tidy()


def batch_of(bench: Bench, flow: Flow, batch: int) -> Row:
    """Time of the whole and of each part, and the whole's memory."""
    lq = faces(batch, bench.device, bench.tiny)
    bench.tidy()
    with bench.peak() as memory:
        flow.whole(lq)
    whole = bench.timed(lambda: flow.whole(lq))
    given = inputs_of(flow, lq)
    parts = {
        part: bench.timed(partial(getattr(flow, part), *given[part]), most=10, seconds=0.5)
        for part in PARTS
    }
    facts = {"batch": batch, "ms_per_face": whole["ms"] / batch, "formats": formats_of(flow)}
    return {**facts, **whole, "parts": parts, **memory}


def operations(bench: Bench, flow: Flow) -> Row:
    """G multiply-accumulates of each part for one face, by torch's counter."""
    given = inputs_of(flow, faces(1, bench.device, bench.tiny))
    found = {}
    for part in PARTS:
        with counting() as counted:
            getattr(flow, part)(*given[part])
        found[part] = counted.macs / 1e9
    return {"macs_g": found, "macs_g_whole": sum(found.values())}


# ---------------------------------------------------------------- compiled, and in graphs


def measure_compiled(bench: Bench) -> None:
    """Rows: UNet, decoder and encoder in half precision as CUDA graphs, then compiled by inductor
    with graphs (`mode="reduce-overhead"`), each against the same network called as it is."""
    with torch.no_grad(), tensor_cores(**STRICT):
        nets = random_networks(bench.device, bench.tiny)
        flow = ours(nets, torch.float16, bench.device)
        del nets
        if flow.backbone is None:
            return
        lq = faces(1, bench.device, bench.tiny)
        for part, net, args in networks_of(flow, lq):
            wanted = net(*args)
            bench.row(f"{part} as it is", lambda n=net, a=args: bench.timed(lambda: n(*a)))
            if bench.device.type == "cuda":
                bench.row(f"{part} in a graph", partial(in_a_graph, bench, net, args, wanted))
        for part, net, args in networks_of(flow, lq):
            wanted = net(*args)
            bench.row(f"{part} compiled", partial(compiled, bench, net, args, wanted), needs=25)


def networks_of(flow: Flow, lq: torch.Tensor) -> list[tuple[str, nn.Module, tuple]]:
    """Name, network and arguments of the parts that a compiler is given, the quickest first."""
    given, model = inputs_of(flow, lq), model_of(flow)
    vae: Any = flow.backbone.vae.module if flow.backbone else None
    first = next(model.unet.parameters())

    def cast(x: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
        return x.to(first.dtype).contiguous(memory_format=layout)

    z, prompt = map(cast, given["denoise"])
    # On the device: made from a number it would be copied there within the graph.
    t = torch.full((1,), 399, device=z.device)
    return [
        ("denoise", _Unet(model.unet), (z, t, prompt)),
        ("decode", _Decoder(vae), (cast(given["decode"][0] / model.scaling_factor),)),
        ("encode", _Encoder(vae), (cast(given["encode"][0]),)),
    ]


class _Unet(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, z: torch.Tensor, t: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        return self.unet(z, t, encoder_hidden_states=prompt, return_dict=False)[0]


class _Decoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(z, return_dict=False)[0]


class _Encoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(pixels, return_dict=False)[0].mean


def in_a_graph(bench: Bench, net: nn.Module, args: tuple, wanted: torch.Tensor) -> Row:
    """One captured call, replayed: all kernels are told to run at once, without Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            net(*args)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with bench.peak() as memory:
        with torch.cuda.graph(graph):
            out = net(*args)
        graph.replay()
    time = bench.timed(graph.replay)
    return {"agreement": {"image": agrees(out, wanted)}, **time, **memory}


def compiled(bench: Bench, net: nn.Module, args: tuple, wanted: torch.Tensor) -> Row:
    """`torch.compile` with CUDA graphs where there is CUDA; built_s is what its first call took.

    Tiny, nothing is compiled: the traced code runs as it is.
    """
    mode = "reduce-overhead" if bench.device.type == "cuda" else "default"
    how: dict[str, Any] = {"backend": "eager"} if bench.tiny else {"mode": mode}
    fast = torch.compile(net, dynamic=False, **how)

    def call() -> torch.Tensor:
        # Else its graphs take results of before for still wanted.
        torch.compiler.cudagraph_mark_step_begin()
        return fast(*args)

    try:
        first = bench.timed(call, most=1)
        with bench.peak() as memory:
            found = agrees(call(), wanted)
        time = bench.timed(call)
    finally:
        torch.compiler.reset()
    built = {"built_s": first["first_ms"] / 1000, **how}
    return {"agreement": {"image": found}, **time, **built, **memory}
