"""Which number format a device is quick in, and faster drop-in layers for the CPU."""

import torch
from torch import nn

from . import group_norm, winograd


def fast_dtype(device: torch.device) -> torch.dtype:
    """The format a diffusion model runs fastest in on `device` without visible loss.

    bfloat16 where the hardware multiplies it (GPUs since Ampere, CPUs with AMX or AVX512-BF16);
    float16 on GPUs that have tensor cores for that alone (Volta, Turing) and on Apple's; float32
    elsewhere: emulated, a short format is several times slower than float32. float16 ends at
    65504, and what goes beyond is computed again (`core.diffusion.overflow`).
    """
    kind = device.type
    if kind == "cuda":
        # Of this very device: torch's own question is about the current one.
        major = 8 if torch.version.hip else torch.cuda.get_device_capability(device)[0]
        return torch.bfloat16 if major >= 8 else torch.float16 if major == 7 else torch.float32
    if kind == "mps":
        return torch.float16
    # Private to torch and absent from older versions, where nothing is assumed.
    flags = ("_is_amx_tile_supported", "_is_avx512_bf16_supported") if kind == "cpu" else ()
    quick = any(getattr(torch.cpu, flag, bool)() for flag in flags)
    return torch.bfloat16 if quick else torch.float32


def use_fast_layers(module: nn.Module, *, convolutions: bool = False) -> nn.Module:
    """Swap layers of any network for equivalent ones that are faster on the CPU, in place.

    Weights, their names and the result (up to rounding) stay. GroupNorm becomes exact and quick in
    channels-last layout; see `core.modules.group_norm`.

    Args:
        convolutions: also compute large 3x3 convolutions with fewer products
            (`core.modules.winograd`); for autoencoders, whose pictures are large.
    """
    for layer in module.modules():
        if type(layer) is nn.GroupNorm:
            layer.__class__ = group_norm.GroupNorm
        elif convolutions and type(layer) is nn.Conv2d:
            layer.__class__ = winograd.Conv2d
    return module
