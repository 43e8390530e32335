"""One LoRA under the names that different programs look for."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .checkpoint import save_safetensors
from .lora import LoraWeight, to_kohya

LoraStyle = Literal["kohya", "diffusers", "peft"]
LORA_STYLES: tuple[LoraStyle, ...] = get_args(LoraStyle)
ADAPTER_KEY = "lora_adapter_metadata"
"""Metadata entry from which diffusers takes alpha; without it, alpha is the rank there."""
_PREFIXES = {"diffusers": "unet.", "peft": "base_model.model."}


def restyle_lora(
    weights: Mapping[str, LoraWeight], style: LoraStyle
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under the names of a style, and the metadata that its loaders read.

    Args:
        weights: what `core.lora.parse_lora` gives; any style.
        style: "kohya" for ComfyUI's and other stock loaders (alphas as tensors), "diffusers" for
            `load_lora_weights` and `load_lora_adapter`, "peft" for `PeftModel.from_pretrained`,
            which wants `adapter_config` in a file of its own beside.
    """
    if style == "kohya":
        return to_kohya(weights), {}
    prefix = _PREFIXES[style]
    tensors = {}
    for module, weight in weights.items():
        tensors[f"{prefix}{module}.lora_A.weight"] = weight.down
        tensors[f"{prefix}{module}.lora_B.weight"] = weight.up
    inner = prefix if style == "diffusers" else ""  # pipelines name the part, too
    config = {f"{inner}{key}": value for key, value in adapter_config(weights).items()}
    return tensors, {ADAPTER_KEY: json.dumps(config)}


def adapter_config(weights: Mapping[str, LoraWeight]) -> dict[str, Any]:
    """The arguments of peft's `LoraConfig` that make these adapters, as plain JSON."""
    rank, alpha = (
        Counter(values).most_common(1)[0][0]
        for values in zip(*((w.rank, w.alpha) for w in weights.values()), strict=True)
    )
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(weights),
        "rank_pattern": {m: w.rank for m, w in weights.items() if w.rank != rank},
        "alpha_pattern": {m: w.alpha for m, w in weights.items() if w.alpha != alpha},
    }


def save_lora_as(
    path: Path,
    weights: Mapping[str, LoraWeight],
    style: LoraStyle,
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a LoRA in a style, with the metadata it came with.

    Args:
        dtype: of the matrices; None leaves them as they are.
    """
    tensors, adapter = restyle_lora(weights, style)
    kept = {k: v for k, v in metadata.items() if k != ADAPTER_KEY}  # said anew, or by tensors
    cast = {k: v.to(dtype or v.dtype) if v.ndim else v for k, v in tensors.items()}
    save_safetensors(path, cast, {"format": "pt", **kept, **adapter})
