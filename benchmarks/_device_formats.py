"""How far each number format, layout and attention of a device is from strict float32 there."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from facewright.core.restorer import ONE_STEP_TIMESTEP
from facewright.core.schedule import alpha_bar
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._device_models import (
    PARTS,
    Flow,
    Networks,
    faces,
    formats_of,
    inputs_of,
    ours,
    plain,
    random_networks,
    tensor_cores,
)
from ._device_run import Bench, Row
from .onestep import SCALING, agreement

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
STRICT = {"products": False, "convolutions": False}
KERNELS = ("MATH", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION")
FACES = 2


def measure(bench: Bench) -> None:
    """Rows: the device's float32 against the CPU's; each format, each attention against it.

    Every part of the flow is given what the strict float32 flow gave the part before, so that its
    error is its own; `image` is the error of the whole flow by itself.
    """
    with torch.no_grad():
        bench.row("float32 against the CPU's float64", lambda: against_cpu(bench))
        nets = random_networks(bench.device, bench.tiny)
        lq = faces(FACES, bench.device, bench.tiny)
        with tensor_cores(**STRICT):
            reference = plain(nets)
            given = inputs_of(reference, lq)
            wanted = results_of(reference, given, lq)
            tokens = nets.vre.tokenize(lq)
        compare = partial(compared, given=given, wanted=wanted, tokens=tokens, lq=lq)
        del reference
        ours_there = partial(ours, device=bench.device)

        def one(dtype: torch.dtype, make: Callable[..., Flow] = ours_there, **allowed: bool) -> Row:
            with tensor_cores(**{**STRICT, **allowed}):
                return compare(make(nets, dtype))

        bench.row("float32, channels-last", lambda: one(torch.float32))
        bench.row("float32, torch's defaults", lambda: one(torch.float32, convolutions=True))
        bench.row("float32 as TF32", lambda: one(torch.float32, products=True, convolutions=True))
        for name, dtype in HALVES.items():
            bench.row(name, lambda d=dtype: one(d))
            bench.row(f"{name}, plain", lambda d=dtype: one(d, plain))
        attentions(bench, nets, given["denoise"], wanted["denoise"])


def results_of(flow: Flow, given: dict[str, tuple[Tensor, ...]], lq: Tensor) -> dict[str, Tensor]:
    """What each part makes of its arguments, and the whole of `lq` as "image"."""
    found = {part: getattr(flow, part)(*given[part]) for part in PARTS}
    return {**found, "image": flow.whole(lq)}


def compared(
    flow: Flow,
    *,
    given: dict[str, tuple[Tensor, ...]],
    wanted: dict[str, Tensor],
    tokens: Tensor,
    lq: Tensor,
) -> Row:
    """Agreement of each part and of the whole, and the share of equal tokens."""
    found = results_of(flow, given, lq)
    same = (flow.vre.tokenize(lq) == tokens).float().mean().item()
    return {
        "agreement": {part: agrees(found[part], wanted[part]) for part in wanted},
        "tokens_equal": same,
        "formats": formats_of(flow),
    }


def agrees(x: Tensor, reference: Tensor) -> Row:
    """PSNR in dB against the reference's range, largest and relative difference; computed on the
    CPU in float64."""
    x, reference = x.cpu().double(), reference.cpu().double()
    if not torch.isfinite(x).all():
        return {"finite": False}
    relative = ((x - reference).norm() / reference.norm()).item()
    return {**agreement(x, reference), "relative": relative, "finite": True}


def against_cpu(bench: Bench) -> Row:
    """The flow on tiny shapes: a device whose own float32 is wrong is no reference."""
    nets = random_networks(torch.device("cpu"), tiny=True)
    lq = faces(1, torch.device("cpu"), tiny=True)
    given = inputs_of(plain(nets), lq)
    wanted = {
        "denoise": double_denoise(nets, *given["denoise"]),
        "decode": nets.vae.double().decode(given["decode"][0].double() / SCALING).sample,
    }
    nets.vae.float()
    moved = (net.to(bench.device) for net in (nets.vre, nets.unet, nets.vae))
    there = replace(nets, **dict(zip(("vre", "unet", "vae"), moved, strict=True)))
    with tensor_cores(**STRICT):
        flow = ours(there, torch.float32, bench.device)
        found = {
            part: getattr(flow, part)(*(x.to(bench.device) for x in given[part])) for part in wanted
        }
    return {"agreement": {part: agrees(found[part], wanted[part]) for part in wanted}}


def double_denoise(nets: Networks, z: Tensor, prompt: Tensor) -> Tensor:
    """x_0 in float64, by the UNet in float64, which is float32 again afterwards."""
    eps = nets.unet.double()(
        z.double(), ONE_STEP_TIMESTEP, encoder_hidden_states=prompt.double()
    ).sample
    nets.unet.float()
    a = alpha_bar()[ONE_STEP_TIMESTEP].item()
    return (z.double() - math.sqrt(1 - a) * eps) / math.sqrt(a)


def attentions(bench: Bench, nets: Networks, given: tuple[Tensor, ...], wanted: Tensor) -> None:
    """The UNet with each of torch's kernels for attention, and with the one it takes by itself."""
    for name, dtype in HALVES.items():
        flow: list[Flow] = []

        def run(kernel: str | None, d: torch.dtype = dtype, flow: list[Flow] = flow) -> Row:
            if not flow:
                flow.append(ours(nets, d, bench.device))
            backend = None if kernel is None else getattr(SDPBackend, kernel)
            with nullcontext() if backend is None else sdpa_kernel([backend]):
                found = flow[0].denoise(*given)
                time = bench.timed(lambda: flow[0].denoise(*given))
            return {"agreement": {"denoise": agrees(found, wanted)}, **time}

        for kernel in (None, *KERNELS):
            shown = "torch's choice" if kernel is None else kernel.lower()
            bench.row(f"attention, {name}: {shown}", lambda k=kernel, r=run: r(k))
