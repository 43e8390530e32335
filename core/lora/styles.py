"""One LoRA under the names that different programs look for: peft and diffusers each know one."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..checkpoint import save_safetensors
from ..errors import FacewrightError, LoraError, shorten
from .alphas import ADAPTER_KEY, read_json
from .keys import some
from .merge import to_kohya
from .weights import LoraModules, LoraWeight

LoraStyle = Literal["kohya", "diffusers", "peft"]
LORA_STYLES: tuple[LoraStyle, ...] = get_args(LoraStyle)
_CONVOLUTIONS = ("conv", "conv1", "conv2", "conv_in", "conv_out")
"""Last names of the modules with 3x3 kernels."""
_PREFIXES = {"diffusers": "unet.", "peft": "base_model.model."}


def restyle_lora(
    weights: LoraModules, style: LoraStyle
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under the names of a style, and the metadata that its loaders read.

    Args:
        weights: what `core.lora.merge.parse_lora` gives; any style.
        style: "kohya" for ComfyUI's and other stock loaders (alphas as tensors), "diffusers" for
            `load_lora_weights` and `load_lora_adapter`, "peft" for `PeftModel.from_pretrained`,
            which wants `adapter_config` in a file of its own beside.

    Raises:
        LoraError: whole differences of weights, which only "kohya" has names for.
    """
    if style == "kohya":
        return to_kohya(weights), {}
    if weights.differences:
        raise LoraError(
            f"This LoRA also changes {len(weights.differences)} weights or biases as a whole "
            f"({some(weights.differences)}), which {style}'s names have no place for. Use the "
            "style kohya, or merge it into a base."
        )
    prefix = _PREFIXES[style]
    tensors = {}
    for module, weight in weights.items():
        down, up = _with_kernel(module, weight)
        tensors[f"{prefix}{module}.lora_A.weight"] = down
        tensors[f"{prefix}{module}.lora_B.weight"] = up
    inner = prefix if style == "diffusers" else ""  # pipelines name the part, too
    config = {f"{inner}{key}": value for key, value in adapter_config(weights).items()}
    return tensors, {ADAPTER_KEY: json.dumps(config)}


def _with_kernel(module: str, weight: LoraWeight) -> tuple[Tensor, Tensor]:
    """Down and up as peft and diffusers have them; ComfyUI's trainer flattens convolutions."""
    size = weight.down.shape[1]
    if weight.down.ndim == 4 or module.rpartition(".")[2] not in _CONVOLUTIONS or size % 9:
        return weight.down, weight.up
    return weight.down.view(weight.rank, size // 9, 3, 3), weight.up.view(-1, weight.rank, 1, 1)


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
    weights: LoraModules,
    style: LoraStyle,
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> str:
    """Write a LoRA in a style, with the metadata it came with.

    Args:
        dtype: of the matrices; None leaves them as they are.

    Returns:
        a sentence on what was written, with what became of keys of text encoders: ComfyUI reads
        them under any name, so "kohya" keeps them; the other styles' files are for a UNet alone.

    Raises:
        LoraError: see `restyle_lora`.
        FacewrightError: weights that do not fit into `dtype`.
    """
    tensors, adapter = restyle_lora(weights, style)
    said = f"LoRA of {len(weights.modules)} UNet modules under {style}'s names"
    if weights.text:
        said += f", {len(weights.text)} text-encoder keys ({some(weights.text)}) "
        keep = style == "kohya" and not _text_alphas(metadata)
        said += "kept as they are" if keep else "left out: the file is for the UNet alone"
        tensors |= weights.text if keep else {}
    kept = {k: v for k, v in metadata.items() if k != ADAPTER_KEY}  # said anew, or by tensors
    matrices = {k: cast(k, v, dtype) if v.ndim and dtype else v for k, v in tensors.items()}
    save_safetensors(path, matrices, {"format": "pt", **kept, **adapter})
    return said


def _text_alphas(metadata: Mapping[str, str]) -> bool:
    """Whether alphas of text encoders stand in metadata, which kohya's style has no place for."""
    config = read_json(metadata.get(ADAPTER_KEY, "{}"), f"metadata {ADAPTER_KEY!r}")
    return any(key.startswith("text_encoder") for key in config)


def cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A floating-point tensor in another dtype; whole numbers stay.

    Raises:
        FacewrightError: finite values that the dtype cannot hold.
    """
    if not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    new = tensor.to(dtype)
    if not new.float().isfinite().all() and tensor.float().isfinite().all():
        kind = str(dtype).removeprefix("torch.")
        raise FacewrightError(
            f"{shorten(name)} holds values beyond {kind}'s {torch.finfo(dtype).max:g}. Take "
            "--dtype bf16 or fp32."
        )
    return new
