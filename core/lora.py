"""Low-rank adapters of a Stable Diffusion UNet: every key style, every key accounted for.

W' = W + strength * (alpha / rank) * B A (Hu et al. 2021, arXiv:2106.09685); for a convolution A is
(rank, in, kh, kw) and B (out, rank, 1, 1).

Loaders that skip what they do not recognise turn a LoRA into a different, worse model without a
word. Here a key is applied, or belongs to a text encoder and is reported, or the file is refused.
"""

import json
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from .checkpoint import name_some
from .errors import LoraError

_PREFIXES = ("base_model.model.", "unet.", "lora_unet_")
_TEXT_ENCODER = re.compile(r"(base_model\.model\.)?(text_encoder(_\d)?\.|lora_te\d?_)")

_SUFFIXES = {
    # tail of a key -> which part of the adapter it is
    r"[._]lora_A(\.\w+)?\.weight": "down",  # peft, with the adapter's name where it was kept
    r"[._]lora_B(\.\w+)?\.weight": "up",
    r"[._]lora\.down\.weight": "down",  # diffusers, also ".processor.to_q_lora.down.weight"
    r"[._]lora\.up\.weight": "up",
    r"[._]lora_down\.weight": "down",  # kohya
    r"[._]lora_up\.weight": "up",
    r"([._]lora)?\.alpha": "alpha",
}
_KEY = re.compile(
    r"(?P<module>.+?)(?:" + "|".join(f"(?P<k{i}>{s})" for i, s in enumerate(_SUFFIXES)) + r")$"
)

_COMPOUND = (
    # Names with an underscore of their own; every other underscore of a kohya key was a dot.
    *("down_blocks", "mid_block", "up_blocks", "transformer_blocks", "to_q", "to_k", "to_v"),
    *("to_out", "proj_in", "proj_out", "time_emb_proj", "time_embedding", "linear_1", "linear_2"),
    *("conv_shortcut", "conv_in", "conv_out"),
)
_WORD = re.compile("|".join((*_COMPOUND, "[^_]+")))


@dataclass(frozen=True)
class LoraWeight:
    """The adapter of one module."""

    down: Tensor
    """A: (rank, in) or (rank, in, kh, kw)."""
    up: Tensor
    """B: (out, rank) or (out, rank, 1, 1)."""
    alpha: float
    rank: int

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self, like: Tensor) -> Tensor:
        """(alpha / rank) B A in float32, with the shape and on the device of `like`."""
        up, down = (m.to(like.device, torch.float32).flatten(1) for m in (self.up, self.down))
        return (up @ down * self.scale).view_as(like)

    def fits(self, shape: torch.Size) -> bool:
        """Whether a weight of `shape` is what this adapter was trained on."""
        out, features, kernel = shape[0], shape[1], tuple(shape[2:]) or (1, 1)
        mine = tuple(self.down.shape[2:]) or (1, 1)
        return (self.up.shape[0], self.down.shape[1], mine) == (out, features, kernel)


class LoraModules(dict[str, LoraWeight]):
    """Adapters by diffusers module path, without `unet.` in front."""

    def __init__(self) -> None:
        super().__init__()
        self.unused: list[str] = []
        """Keys that are not for a UNet (text encoders)."""
        self.alpha_source = ""
        """Where the alphas come from, in words."""


@dataclass
class LoraReport:
    """What became of a LoRA file. `str()` is a sentence for the user."""

    applied: list[str]
    """Module paths; always all of the file's UNet modules."""
    unused: list[str]
    """Keys of the file that are not for a UNet."""
    ranks: list[int] = field(default_factory=list)
    """Distinct ranks, ascending."""
    alphas: list[float] = field(default_factory=list)
    alpha_source: str = ""

    @classmethod
    def of(cls, weights: LoraModules) -> Self:
        """The report of a file whose every module was applied."""
        return cls(
            applied=list(weights),
            unused=weights.unused,
            ranks=sorted({w.rank for w in weights.values()}),
            alphas=sorted({w.alpha for w in weights.values()}),
            alpha_source=weights.alpha_source,
        )

    def __str__(self) -> str:
        text = f"{len(self.applied)} modules applied"
        if self.ranks:
            ranks, alphas = (" and ".join(f"{v:g}" for v in vs) for vs in (self.ranks, self.alphas))
            text += f" (rank {ranks}, alpha {alphas} {self.alpha_source})"
        if self.unused:
            text += f", {len(self.unused)} text-encoder keys unused"
        return text


def parse_lora(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> LoraModules:
    """Sort a LoRA file's tensors by UNet module.

    Understood, also side by side in one file: peft (`lora_A`/`lora_B`, with or without adapter
    name and `base_model.model.`), diffusers (`lora.down`/`lora.up`, `.processor.`) and kohya
    (`lora_unet_..._lora_down`, `.alpha`); with or without `unet.`.

    Args:
        tensors: a whole file.
        metadata: its safetensors metadata. Alpha comes from `.alpha` tensors, else from here
            (facewright, peft or kohya), else it equals the rank: scale 1, as OSDFace is merged.

    Raises:
        LoraError: no LoRA, a tensor of unknown kind, or half of a pair missing.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    result = LoraModules()
    unknown = []
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if _TEXT_ENCODER.match(key):
            result.unused.append(key)
        elif match:
            part = next(p for i, p in enumerate(_SUFFIXES.values()) if match[f"k{i}"])
            found = parts.setdefault(_module_path(match["module"]), {})
            if part in found:
                raise LoraError(f"{key} is the second {part} matrix for its module in this file.")
            found[part] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise LoraError(
            f"{len(unknown)} of {len(tensors)} tensors are not part of a plain LoRA "
            f"({name_some(unknown)}). DoRA, LoHa, LoKr and whole weights are not supported: use a "
            "LoRA with down and up matrices only."
        )
    if not parts:
        raise LoraError(
            "The file holds no LoRA for a UNet"
            + (", only for text encoders." if result.unused else ". Choose a LoRA file.")
        )
    alphas = _Alphas(metadata or {})
    for module, found in parts.items():
        if not {"down", "up"} <= found.keys():
            lacking = "down (lora_A)" if "down" not in found else "up (lora_B)"
            raise LoraError(f"{module} lacks its {lacking} matrix: the LoRA file is incomplete.")
        down, up = found["down"], found["up"]
        rank = down.shape[0]
        if down.ndim not in (2, 4) or up.ndim not in (2, 4) or up[0].numel() != rank:
            raise LoraError(
                f"{module}: the down matrix {tuple(down.shape)} and the up matrix "
                f"{tuple(up.shape)} do not share a rank; the LoRA file is damaged."
            )
        alpha = float(found["alpha"]) if "alpha" in found else alphas.of(module, rank)
        result[module] = LoraWeight(down, up, alpha, rank)
    stored = any("alpha" in found for found in parts.values())
    result.alpha_source = "from its .alpha tensors" if stored else alphas.source
    return result


def _module_path(name: str) -> str:
    """The diffusers path of a module, from any style's name for it."""
    kohya = name.startswith("lora_unet_")
    stripped = True
    while stripped:
        stripped = next((p for p in _PREFIXES if name.startswith(p)), None)
        name = name.removeprefix(stripped or "")
    if kohya:
        name = ".".join(_WORD.findall(name))
    name = name.replace(".processor.", ".")
    return f"{name}.0" if name.endswith(".to_out") else name


class _Alphas:
    """Alpha per module, out of a file's metadata."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.patterns: dict[str, float] = {}
        self.root = False
        self.alpha: float | None = None
        self.source = "not in the file, so taken equal to the rank"
        if "lora_adapter_metadata" in metadata:
            self._read_peft(_json(metadata, "lora_adapter_metadata"))
        elif "alpha" in metadata:
            self._set(metadata["alpha"], "from its metadata")
        elif metadata.get("ss_network_alpha") not in (None, "None"):
            self._set(metadata["ss_network_alpha"], "from its kohya metadata")

    def _set(self, value: object, source: str) -> None:
        try:
            self.alpha = float(value)
        except (TypeError, ValueError) as error:
            raise LoraError(
                f"The LoRA's metadata gives {value!r} as alpha; a number was expected."
            ) from error
        self.source = source

    def _read_peft(self, config: Mapping[str, object]) -> None:
        # A pipeline writes "unet.lora_alpha", a bare UNet "lora_alpha".
        config = {k.removeprefix("unet."): v for k, v in config.items()}
        if config.get("use_dora"):
            raise LoraError("This is a DoRA adapter; only plain LoRA is supported.")
        if "lora_alpha" in config:
            self._set(config["lora_alpha"], "from its peft metadata")
        self.patterns = dict(config.get("alpha_pattern") or {})
        self.root = bool(config.get("use_rslora"))

    def of(self, module: str, rank: int) -> float:
        alpha = self.alpha
        for pattern, value in self.patterns.items():
            # peft's rule: the pattern is the end of the path, on a dot.
            try:
                hit = re.match(rf"(.*\.)?({pattern})$", module)
            except re.error as error:
                raise LoraError(f"The LoRA's alpha_pattern {pattern!r} is no pattern.") from error
            if hit:
                alpha = float(value)
                break
        if alpha is None:
            return float(rank)
        # Rank-stabilised LoRA divides by sqrt(rank) (arXiv:2312.03732).
        return alpha * rank**0.5 if self.root else alpha


def _json(metadata: Mapping[str, str], key: str) -> dict[str, object]:
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise LoraError(f"The LoRA's metadata {key!r} is not a JSON object; the file is damaged.")
    return value


def merge_lora(
    unet_state_dict: MutableMapping[str, Tensor],
    lora_tensors: Mapping[str, Tensor],
    strength: float = 1.0,
    metadata: Mapping[str, str] | None = None,
) -> LoraReport:
    """Add a LoRA to a UNet's weights, in place; the weights are untouched on error.

    Args:
        unet_state_dict: tensors under diffusers names, any dtype. The sum is formed in float32.
        lora_tensors: a LoRA file, any key style; see `parse_lora`.
        strength: 1 is what the LoRA was trained for; negative values subtract.
        metadata: the LoRA file's safetensors metadata.

    Raises:
        LoraError: modules that the UNet lacks or that have another shape there.
    """
    weights = parse_lora(lora_tensors, metadata)
    problems = []
    for module, weight in weights.items():
        target = unet_state_dict.get(f"{module}.weight")
        if target is None:
            problems.append(f"{module} does not exist in the model")
        elif target.ndim < 2 or not weight.fits(target.shape):
            came = (weight.up.shape[0], *weight.down.shape[1:])
            problems.append(f"{module} should be {tuple(target.shape)}, came {came}")
    if problems:
        raise LoraError(
            f"{len(problems)} of {len(weights)} modules of this LoRA do not fit the model "
            f"({name_some(problems)}): it was made for another architecture. OSDFace's LoRA "
            "belongs to Stable Diffusion 2.1-base."
        )
    with torch.no_grad():
        for module, weight in weights.items():
            target = unet_state_dict[f"{module}.weight"]
            target.copy_(target.float() + strength * weight.delta(target))
    return LoraReport.of(weights)


def to_kohya(weights: Mapping[str, LoraWeight]) -> dict[str, Tensor]:
    """Tensors under the names that ComfyUI's and other loaders apply completely, with alphas."""
    tensors = {}
    for module, weight in weights.items():
        name = "lora_unet_" + module.replace(".", "_")
        tensors[f"{name}.lora_down.weight"] = weight.down
        tensors[f"{name}.lora_up.weight"] = weight.up
        tensors[f"{name}.alpha"] = torch.tensor(float(weight.alpha))
    return tensors


def check_loras(mode: str, loras: Iterable[Mapping[str, str]]) -> None:
    """Refuse a model whose LoRA does not belong to its BoostHub (FLIPNET).

    Args:
        mode: what the BoostHub was trained for, "restore" or "degrade".
        loras: metadata of the LoRA files on the model. What says nothing of its method is taken.

    Raises:
        LoraError: `method` or `mode` of a file is another.
    """
    for metadata in loras:
        method, theirs = metadata.get("method", "flipnet"), metadata.get("mode", mode)
        if method != "flipnet" or theirs != mode:
            purpose = f"to {theirs}" if method == "flipnet" else f"for the method {method}"
            raise LoraError(
                f"The LoRA on this model was trained {purpose}, but these BoostHub weights were "
                f"trained to {mode}. Take the LoRA and the BoostHub of one training."
            )
