"""Stable Diffusion single files (the original "LDM" layout) as diffusers modules.

The architecture is read off the tensors themselves, so a thin model of the same layout loads like
the full one and nothing is fetched from a hub. Layout facts: CompVis latent-diffusion,
`openaimodel.py` and `model.py`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, shorten
from ..weights.sd_config import other_model, refusal
from ..weights.sd_versions import BIAS, PREFIX, no_unet, unet_facts

UNET_PREFIX = PREFIX
VAE_PREFIX = "first_stage_model."

CHANNELS_PER_HEAD = 64
"""Stable Diffusion 2.x; the file itself does not tell."""
SD_SCALING_FACTOR = 0.18215
"""z = 0.18215 * E(x), the scale of Stable Diffusion 1.x and 2.x latents."""

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def split_checkpoint(
    tensors: Mapping[str, Tensor], *, source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """UNet and VAE tensors of a whole checkpoint, prefixes removed; the text encoder is dropped.

    Raises:
        CheckpointError: no UNet in it.
    """
    unet = _with_prefix(tensors, UNET_PREFIX)
    if not unet:
        raise CheckpointError(no_unet(source, tensors))
    return unet, _with_prefix(tensors, VAE_PREFIX)


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


_NUMBER = r"(\d{1,2})"
"""Of a block; what a file counts beyond has no place in any model that is known here."""


def _count(keys: Iterable[str], pattern: str) -> int:
    """Highest number that the group of `pattern` captures, plus one; 0 where nothing matches."""
    found = (re.match(pattern, k) for k in keys)
    return max((int(m[1]) + 1 for m in found if m), default=0)


def check_is_sd2_base(unet: Mapping[str, Tensor], *, source: str, velocity: bool = False) -> None:
    """Refuse a UNet whose conditioning, inputs or prediction are not those of SD 2.1-base.

    Args:
        velocity: something beside the tensors says that it predicts v.

    Raises:
        CheckpointError: saying what the file is instead.
    """
    if not any(key.startswith("input_blocks.") for key in unet):
        raise CheckpointError(no_unet(source, unet))
    facts = unet_facts(unet, unet.get(BIAS))
    name = other_model(replace(facts, velocity=facts.velocity or velocity))
    if name:
        raise CheckpointError(refusal(source, name))


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


def unet_to_diffusers(unet: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename UNet tensors from LDM layout to diffusers layout; values stay the same objects."""
    per_level = config["layers_per_block"] + 1
    return {_unet_key(k, per_level): v for k, v in unet.items()}


def _unet_key(key: str, per_level: int) -> str:
    for old, new in _UNET_ENDS.items():
        if key.startswith(old + "."):
            return new + key.removeprefix(old)
    match = re.match(rf"(input_blocks|output_blocks|middle_block)\.{_NUMBER}\.(.+)", key)
    if match is None:
        return key
    part, number, rest = match[1], int(match[2]), match[3]
    if part == "middle_block":
        slot = "attentions.0" if number == 1 else f"resnets.{number // 2}"
        return f"mid_block.{slot}.{_resnet(rest) if number != 1 else rest}"
    down = part == "input_blocks"
    block, layer = divmod(number - down, per_level)
    side = f"{'down' if down else 'up'}_blocks.{block}"
    place, _, rest = rest.partition(".")
    if rest.startswith("op."):
        return f"{side}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    if rest.startswith("conv."):
        return f"{side}.upsamplers.0.{rest}"
    if place == "0":
        return f"{side}.resnets.{layer}.{_resnet(rest)}"
    return f"{side}.attentions.{layer}.{rest}"


def _resnet(rest: str) -> str:
    for old, new in _RESNET.items():
        if rest.startswith(old + "."):
            return new + rest.removeprefix(old)
    return rest


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
