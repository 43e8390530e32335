"""LoRA on a diffusers UNet through peft, and its file format."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.errors import CheckpointError, listed
from ..core.lora.files import read_lora
from ..core.lora.merge import misfits, parse_lora, unfit
from ..core.lora.styles import save_lora_as
from ..core.lora.weights import LoraModules, LoraWeight
from .settings.strict import ConfigError

log = logging.getLogger(__name__)

LORA_TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)
"""Every attention, feed-forward and residual layer of the UNet: 278 modules in SD 2.1-base,
16.94 M parameters at rank 16. `conv_in` and `conv_out` stay as they are."""
ATTENTION_TARGETS = LORA_TARGETS[:4]
"""Self- and cross-attention alone: 128 modules in SD 2.1-base, 13.28 M parameters at rank 64."""

LoraLayers = Literal["attention", "linear", "osediff", "all", "from file"]
LORA_LAYERS = (
    "layers of the UNet with a LoRA. attention: self- and cross-attention (128 modules in SD 2.1); "
    "linear: and feed-forward and projections (192); osediff: those and all convolutions (258), as "
    "OSEDiff; all: 278, osediff's with the time embedding's projections in place of conv_in and "
    "conv_out; from file: those that the LoRA of `start` has, with its ranks and alphas in place "
    "of `rank` and `alpha`"
)
"""Description of the option that chooses among them."""
LORA_SETS: Mapping[str, tuple[str, ...]] = {
    "attention": ATTENTION_TARGETS,
    "linear": LORA_TARGETS[:8],
    "osediff": (*LORA_TARGETS[:-1], "conv_in", "conv_out"),
    "all": LORA_TARGETS,
}
"""The named sets, as ends of module paths."""


def add_lora(
    module: nn.Module,
    rank: int,
    alpha: float,
    targets: tuple[str, ...] = LORA_TARGETS,
    like: Mapping[str, LoraWeight] | None = None,
) -> None:
    """Freeze `module` and put a fresh LoRA (up = 0: no change yet) on its `targets`.

    Args:
        like: adapters by module path whose rank and alpha hold in place of `rank` and `alpha`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    module.requires_grad_(False)
    own = {} if like is None else like
    # peft computes alpha / rank, whatever its annotation of alpha says.
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
        init_lora_weights="gaussian",
        # Names end a path ("...attn1.to_q"); peft matches them as suffixes.
        target_modules=list(targets),
        rank_pattern={name: w.rank for name, w in own.items() if w.rank != rank},
        alpha_pattern={name: w.alpha for name, w in own.items() if w.alpha != alpha},
    )
    inject_adapter_in_model(config, module)


def begin_lora(
    module: nn.Module, layers: LoraLayers, *, rank: int, alpha: float, start: Path | None
) -> list[str]:
    """Put the LoRA that is to be trained on a UNet: fresh, or going on from a file.

    Args:
        layers: see `LORA_LAYERS`.
        start: a LoRA in any key style, of any of the UNet's layers.

    Returns:
        sentences on what the file and the config do not have in common.

    Raises:
        ConfigError: "from file" without a file.
        LoraError: the file holds no LoRA, or one for another architecture.
        CheckpointError: it has layers outside of `layers`, other ranks, or more than a LoRA.
    """
    if layers != "from file":
        add_lora(module, rank, alpha, LORA_SETS[layers])
        return load_lora(module, start) if start else []
    if start is None:
        raise ConfigError(
            "`lora_layers: from file` trains the layers that the LoRA of `start` has, but `start` "
            f"names none. Name its file, or choose one of {', '.join(LORA_SETS)}."
        )
    weights = read_start(module, start)
    own = _most_common(weights)
    add_lora(module, *own, tuple(weights), like=weights)
    _take_over(module, weights)
    kinds = sorted({(w.rank, w.alpha) for w in weights.values()})
    if kinds == [(rank, alpha)]:
        return [f"The LoRA of {start.name} goes on with its own {len(weights)} modules."]
    said = listed([f"{r} and {a:g}" for r, a in kinds])
    return [
        f"The LoRA of {start.name} goes on with its own {len(weights)} modules, ranks and alphas "
        + f"({said}), not with the config's `rank: {rank}` and `alpha: {alpha:g}`."
    ]


def _most_common(weights: Mapping[str, LoraWeight]) -> tuple[int, float]:
    """The rank and alpha that most adapters have."""
    return Counter((w.rank, w.alpha) for w in weights.values()).most_common(1)[0][0]


def lora_layers(module: nn.Module) -> dict[str, Any]:
    """peft's own `LoraLayer`s by their path in the original module."""
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def lora_weights(module: nn.Module) -> LoraModules:
    """The adapters of `module`, as files hold them."""
    weights = LoraModules()
    for name, layer in lora_layers(module).items():
        down, up = (part["default"].weight.detach() for part in (layer.lora_A, layer.lora_B))
        weights[name] = LoraWeight(down, up, layer.lora_alpha["default"], layer.r["default"])
    return weights


def read_start(module: nn.Module, path: Path) -> LoraModules:
    """The adapters of a LoRA file by the paths of the UNet `module`, which they fit.

    Raises:
        LoraError: no LoRA, or one for another architecture.
        CheckpointError: it changes more than a LoRA can.
    """
    parameters = _parameters(module)
    weights = parse_lora(*read_lora(path), parameters)
    if weights.differences:
        raise CheckpointError(
            f"{path} changes {len(weights.differences)} weights or biases as a whole beside its "
            f"LoRA ({listed(list(weights.differences))}), and training cannot go on from those. "
            "Give a plain LoRA."
        )
    if problems := misfits(weights.changes, parameters):
        raise unfit(problems, len(weights))
    if weights.text:
        log.warning(
            "%s also holds %d tensors of text encoders; they are left out, as no text encoder is "
            "trained here.",
            path,
            len(weights.text),
        )
    return weights


def load_lora(module: nn.Module, path: Path) -> list[str]:
    """Put the LoRA of a file, in any key style, into the adapters of `module`.

    The file's own alpha is honoured: what the adapters do is what the file does. Adapters that the
    file has nothing for stay fresh.

    Returns:
        a sentence where there are such.

    Raises:
        LoraError: not a LoRA, or one for another architecture.
        CheckpointError: layers without an adapter here, or another rank.
    """
    layers, weights = lora_layers(module), read_start(module, path)
    outside = [name for name in weights if name not in layers]
    if outside:
        raise CheckpointError(
            f"{path} holds a LoRA of {len(weights)} modules, and the config's `lora_layers` leaves "
            f"out {len(outside)} of them ({listed(outside)}). Write `lora_layers: from file`, "
            "which trains what the file has, or another set."
        )
    ranks = {name: layers[name].r["default"] for name in weights}
    other = sorted({w.rank for name, w in weights.items() if w.rank != ranks[name]})
    if other:
        raise CheckpointError(
            f"{path} holds a LoRA of rank {listed(list(map(str, other)))}, but the config says "
            f"`rank: {next(iter(ranks.values()))}`. Write the file's rank, or `lora_layers: from "
            "file`, which takes ranks and layers as they are there."
        )
    _take_over(module, weights)
    added = [name for name in layers if name not in weights]
    if not added:
        return []
    return [
        f"{path.name} holds a LoRA of {len(weights)} modules; {len(added)} more begin afresh "
        + f"beside it ({listed(added)}). `lora_layers: from file` would train the file's alone."
    ]


def _take_over(module: nn.Module, weights: Mapping[str, LoraWeight]) -> None:
    for name, layer in lora_layers(module).items():
        if name in weights:
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            weight = weights[name]
            down.data.copy_(weight.down.view_as(down))  # ComfyUI's trainer flattens convolutions
            up.data.copy_(weight.up.view_as(up) * (weight.scale / layer.scaling["default"]))


def _parameters(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that `module` had before the adapters, by their names then."""
    named = ((name, p) for name, p in module.state_dict().items() if ".lora_" not in name)
    return {name.replace(".base_layer.", "."): p for name, p in named}


def _merged(layer: Any) -> Tensor:
    """W + alpha / rank * B A of one of peft's layers."""
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    base = layer.get_base_layer().weight
    delta = (up.flatten(1) @ down.flatten(1)).view_as(base)
    return base + layer.scaling["default"] * delta


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """State of `module` under the names of before its adapters, with what they learned in it."""
    state = _parameters(module)
    with torch.no_grad():
        for name, layer in lora_layers(module).items():
            state[f"{name}.weight"] = _merged(layer)
    return state


class MergedCall(nn.Module):
    """Calls a network with W + alpha / rank * B A in place of adapters beside W.

    Equal to the adapters' forward up to rounding. The cost is a full weight gradient in memory;
    the gain is one convolution instead of three per layer, which halves a step of a small network.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for layer in lora_layers(module).values():
            layer.enable_adapters(False)
            for part in (layer.lora_A, layer.lora_B):
                part.requires_grad_(True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        weights = {}
        for name, layer in lora_layers(self.module).items():
            merged = _merged(layer)
            if merged.ndim == 4:
                merged = merged.contiguous(memory_format=torch.channels_last)
            weights[f"{name}.base_layer.weight"] = merged
        return functional_call(self.module, weights, args, kwargs)


def save_lora(
    path: Path, module: nn.Module, *, base: str, dtype: torch.dtype, facts: dict[str, str]
) -> None:
    """Write the LoRA of `module` with what a loader has to know in the metadata."""
    weights = lora_weights(module)
    rank, alpha = _most_common(weights)
    metadata = {"rank": str(rank), "alpha": str(alpha), "base": base, **facts}
    save_lora_as(path, weights, "diffusers", metadata, dtype)
