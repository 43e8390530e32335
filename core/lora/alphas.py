"""Alpha of each module of a LoRA, out of what its file says beside the tensors."""

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat

from ..errors import LoraError, shorten
from ..files.json_text import JsonError, parse_json
from .patterns import NameEnds, PatternError

ADAPTER_KEY = "lora_adapter_metadata"
"""Metadata entry with the arguments of peft's `LoraConfig`, as diffusers writes it."""

_REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole modules beside the LoRA",
    "trainable_token_indices": "trained tokens",
    "target_parameters": "adapters of single parameters",
    "lora_bias": "biases of its own",
    "layer_replication": "repeated layers",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "loftq_config": "LoftQ",
    "alora_invocation_tokens": "aLoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
}
"""Entries of peft's config under which an adapter is more than up and down matrices."""
_ALPHA = 8
"""What peft takes where its config says nothing."""
_UNSAID = object()
_BASE_CHANGED = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to start that take something away from the base, which has to be changed likewise."""


class Alphas:
    """Alpha per module, out of a file's metadata.

    Raises:
        LoraError: the metadata says that this is no plain LoRA, or makes no sense.
    """

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.source = "not in the file, so taken equal to the rank"
        self._alpha: object = _UNSAID
        self._rank: object = None
        self._root = False
        self._alphas = _Patterns({}, "alpha_pattern")
        self._ranks = _Patterns({}, "rank_pattern")
        if ADAPTER_KEY in metadata:
            self._read_peft(read_json(metadata[ADAPTER_KEY], f"metadata {ADAPTER_KEY!r}"))
        elif "alpha" in metadata:
            self._alpha, self.source = metadata["alpha"], "from its metadata"
        elif metadata.get("ss_network_alpha") not in (None, "None"):
            self._alpha, self.source = metadata["ss_network_alpha"], "from its kohya metadata"
            if str(dim := metadata.get("ss_network_dim")).isdecimal():
                self._rank = dim

    def _read_peft(self, config: Mapping[str, Any]) -> None:
        # A pipeline writes "unet.lora_alpha", a bare UNet "lora_alpha".
        config = {k.removeprefix("unet."): v for k, v in config.items()}
        for key, value in config.items():
            part = key.partition(".")[0] if "." in key else ""
            if part and not part.startswith("text_encoder"):
                raise LoraError(
                    f"peft's config is for a model's {shorten(part)}; one for a UNet was expected."
                )
            if key.startswith("use_") and value and key not in {"use_rslora", *_REFUSED}:
                raise LoraError(
                    f"peft's config says {shorten(key)}, which is not known here: it may make this "
                    "more than a plain LoRA, and only plain LoRA is supported."
                )
        kind = config.get("peft_type") or "LORA"
        if kind != "LORA":
            raise LoraError(
                f"peft's config says that this is {shorten(kind)}; only plain LoRA is supported."
            )
        for key, what in _REFUSED.items():
            if config.get(key):
                raise LoraError(
                    f"This is a {what} adapter; only plain LoRA is supported."
                    if what == "DoRA"
                    else f"peft's config says {key}: this adapter has {what}, and only plain LoRA "
                    "is supported."
                )
        if config.get("bias", "none") not in ("none", None, False):
            raise LoraError(
                f"peft's config says bias {shorten(config['bias'])!r}: biases were trained, too, "
                "and only plain LoRA is supported."
            )
        start = config.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_BASE_CHANGED):
            raise LoraError(
                f"The adapter began as {shorten(start)!r}, which changes the base model, too. Save "
                "it again as a plain LoRA (peft: path_initial_model_for_weight_conversion)."
            )
        if any("." not in key for key in config):
            self._alpha, self.source = config.get("lora_alpha", _ALPHA), "from its peft metadata"
        self._rank = config.get("r")
        self._alphas = _Patterns(config.get("alpha_pattern"), "alpha_pattern")
        self._ranks = _Patterns(config.get("rank_pattern"), "rank_pattern")
        root = config.get("use_rslora")
        if not isinstance(root, bool | None):
            raise LoraError(
                f"peft's config says {_show(root)} for use_rslora; true or false was expected."
            )
        self._root = bool(root)

    def of(self, module: str, rank: int) -> float:
        """Alpha of a module that has no alpha tensor; alpha / rank is its scale.

        Args:
            module: its name as the trainer knew it.
            rank: of its matrices.
        """
        said = self._ranks.of(module, self._rank)
        if said is not None and _number(said, "rank") != rank:
            raise LoraError(
                f"{shorten(module)} has rank {rank}, but the LoRA's metadata or config "
                f"says {shorten(said)}: that belongs to another file."
            )
        alpha = self._alphas.of(module, self._alpha)
        if alpha is _UNSAID:
            return float(rank)
        # Rank-stabilised LoRA divides by sqrt(rank) (arXiv:2312.03732).
        return _number(alpha, "alpha") * (rank**0.5 if self._root else 1.0)


class _Patterns:
    """One of peft's mappings of name patterns to numbers."""

    def __init__(self, value: object, key: str) -> None:
        value = value or {}
        if not isinstance(value, Mapping):
            raise LoraError(
                f"peft's {key} should name a number for each pattern, came {_show(value)}."
            )
        self._values: dict[str, object] = dict(value)
        try:
            self._ends = NameEnds(self._values)
        except PatternError as error:
            raise LoraError(
                f"The LoRA's {key} cannot be used: {error}. Save the LoRA with the modules' full "
                "names there."
            ) from error

    def of(self, module: str, otherwise: object) -> object:
        # Where peft trained a whole pipeline's parts, its names have the part's in front.
        hits = map(self._ends.first, (module, f"unet.{module}"))
        hit = next((h for h in hits if h is not None), None)
        return otherwise if hit is None else self._values[hit]


def _number(value: object, what: str) -> float:
    number = math.nan
    try:
        if isinstance(value, str | SupportsFloat) and not isinstance(value, bool):
            number = float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if not math.isfinite(number):
        raise LoraError(f"The LoRA gives {_show(value)} as {what}; a number was expected.")
    return number


def _show(value: object) -> str:
    try:
        return shorten(repr(value))
    except ValueError:  # Python prints no number of thousands of digits
        return "an endless number"


def read_json(text: object, where: str) -> dict[str, Any]:
    """A JSON object out of a LoRA's metadata.

    Raises:
        LoraError: something else is there.
    """
    try:
        value = parse_json(text) if isinstance(text, str | bytes) else None
    except JsonError as error:
        raise LoraError(f"The LoRA's {where} is not a JSON object: {error}.") from error
    if not isinstance(value, dict):
        raise LoraError(f"The LoRA's {where} is not a JSON object; the file is damaged.")
    return value
