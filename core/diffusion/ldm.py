"""Stable Diffusion single files (the original "LDM" layout) as diffusers modules.

The architecture is read off the tensors themselves, so a thin model of the same layout loads like
the full one and nothing is fetched from a hub. Own code, because diffusers' converters are no
public part of it and stop at the first tensor they miss. Layout facts: CompVis latent-diffusion,
`openaimodel.py` and `model.py`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from ..checkpoint.identify import PREFIX
from ..errors import CheckpointError, shorten
from ..lora.unet_names import table, unet_modules

T = TypeVar("T")

UNET_PREFIX = PREFIX
VAE_PREFIX = "first_stage_model."

CHANNELS_PER_HEAD = 64
"""Stable Diffusion 2.x; the file itself does not tell."""
SD_SCALING_FACTOR = 0.18215
"""z = 0.18215 * E(x), the scale of Stable Diffusion 1.x and 2.x latents."""


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """One part of a whole checkpoint, its prefix removed; empty where it has no such part."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


_NUMBER = r"(\d{1,2})"
"""Of a block; what a file counts beyond has no place in any model that is known here."""


def _count(keys: Iterable[str], pattern: str) -> int:
    """Highest number that the group of `pattern` captures, plus one; 0 where nothing matches."""
    found = (re.match(pattern, k) for k in keys)
    return max((int(m[1]) + 1 for m in found if m), default=0)


def unet_config(unet: Mapping[str, Tensor], *, source: str) -> dict[str, Any]:
    """Arguments of `diffusers.UNet2DConditionModel` for UNet tensors in LDM layout.

    Raises:
        CheckpointError: tensors are missing that every such UNet has.
    """
    try:
        blocks = _count(unet, rf"input_blocks\.{_NUMBER}\.")
        downs = [i for i in range(blocks) if f"input_blocks.{i}.0.op.weight" in unet]
        per_level = (downs[0] if downs else blocks) - 1
        first = range(1, blocks, per_level + 1)
        widths = [unet[f"input_blocks.{i}.0.in_layers.2.weight"].shape[0] for i in first]
        crossed = [f"input_blocks.{i}.1.proj_in.weight" in unet for i in first]
        any_proj = next(v for k, v in unet.items() if k.endswith("1.proj_in.weight"))
        context = next(v for k, v in unet.items() if k.endswith("attn2.to_k.weight"))
        conv_in, conv_out = unet["input_blocks.0.0.weight"], unet["out.2.weight"]
    except (LookupError, StopIteration, ValueError) as error:
        raise CheckpointError(
            f"{source} is not a complete Stable Diffusion UNet ({shorten(error)} is missing or of "
            "another shape). "
            "Download the file again."
        ) from error
    down = ["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed]
    up = ["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(crossed)]
    return {
        "in_channels": conv_in.shape[1],
        "out_channels": conv_out.shape[0],
        "block_out_channels": tuple(widths),
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "mid_block_type": "UNetMidBlock2DCrossAttn" if "middle_block.0.in_layers.0.weight" in unet
        else None,
        "layers_per_block": per_level,
        # diffusers calls the number of heads `attention_head_dim`.
        "attention_head_dim": tuple(max(1, w // CHANNELS_PER_HEAD) for w in widths),
        "cross_attention_dim": context.shape[1],
        "use_linear_projection": any_proj.ndim == 2,
        "sample_size": 64,
    }  # fmt: skip


def unet_to_diffusers(unet: Mapping[str, T], config: Mapping[str, Any]) -> dict[str, T]:
    """Rename UNet tensors from LDM layout to diffusers layout; values stay the same objects."""
    attention = tuple("CrossAttn" in kind for kind in config["down_block_types"])
    names = table(unet_modules(attention, config["layers_per_block"]))
    renamed = {}
    for key, value in unet.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{names.get(module, module)}.{parameter}"] = value
    return renamed


def vae_config(vae: Mapping[str, Tensor], *, source: str) -> dict[str, Any]:
    """Arguments of `diffusers.AutoencoderKL` for VAE tensors in LDM layout.

    Raises:
        CheckpointError: not an autoencoder with KL posterior.
    """
    if any(k.startswith(("taesd_", "encoder.layers", "decoder.layers")) for k in vae):
        raise CheckpointError(
            f"{source} holds a tiny preview autoencoder (TAESD); the full VAE was expected. Load "
            "vae-ft-mse-840000-ema-pruned.safetensors or the one inside SD 2.1-base."
        )
    try:
        levels = _count(vae, rf"encoder\.down\.{_NUMBER}\.")
        widths = [vae[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
        channels = vae["post_quant_conv.weight"].shape[1]
    except LookupError as error:
        raise CheckpointError(
            f"{source} is not a complete Stable Diffusion VAE ({shorten(error)} is missing or of "
            "another shape). "
            "Choose another VAE file or download it again."
        ) from error
    return {
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": _count(vae, rf"encoder\.down\.0\.block\.{_NUMBER}\."),
        "latent_channels": channels,
        "norm_num_groups": 32,
        "sample_size": 512,
        "scaling_factor": SD_SCALING_FACTOR,
    }


def vae_to_diffusers(vae: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename VAE tensors from LDM layout to diffusers layout; 1x1 attention convs become linear."""
    last = len(config["block_out_channels"]) - 1
    renamed = {}
    for key, value in vae.items():
        new = _vae_key(key, last)
        is_linear = re.search(r"\.attentions\.0\.to_\w+(\.0)?\.weight$", new)
        renamed[new] = value.flatten(1) if is_linear else value
    return renamed


def _vae_key(key: str, last: int) -> str:
    key = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", key)
    key = re.sub(rf"\.down\.{_NUMBER}\.block\.", r".down_blocks.\1.resnets.", key)
    key = re.sub(rf"\.down\.{_NUMBER}\.downsample\.", r".down_blocks.\1.downsamplers.0.", key)
    # LDM counts decoder levels from fine to coarse, diffusers in the order they run.
    level = rf"\.up\.{_NUMBER}\."
    key = re.sub(level + r"block\.", lambda m: f".up_blocks.{last - int(m[1])}.resnets.", key)
    key = re.sub(
        level + r"upsample\.", lambda m: f".up_blocks.{last - int(m[1])}.upsamplers.0.", key
    )
    key = key.replace("nin_shortcut", "conv_shortcut").replace(".norm_out.", ".conv_norm_out.")
    if ".mid.attn_1." in key:
        key = key.replace(".mid.attn_1.", ".mid_block.attentions.0.")
        key = key.replace(".norm.", ".group_norm.").replace(".proj_out.", ".to_out.0.")
        key = re.sub(r"\.(q|k|v)\.", r".to_\1.", key)
    return key
