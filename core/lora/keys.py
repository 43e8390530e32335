"""The keys of LoRA files: which part of which module's adapter a tensor is."""

from collections.abc import Iterable

from ..errors import LoraError, listed

_TAILS = {
    # tail of a key -> which part of the adapter it is
    ".lora_A.weight": "down",  # peft
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",  # diffusers
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",  # diffusers: ".processor.to_q_lora.down.weight"
    "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_down.weight": "down",  # kohya, ComfyUI
    ".lora_up.weight": "up",
    "_lora_down.weight": "down",
    "_lora_up.weight": "up",
    "_lora_A.weight": "down",
    "_lora_B.weight": "up",
    ".lora_mid.weight": "mid",  # LyCORIS: the kernel of a convolution between two pointwise ones
    "_lora.alpha": "alpha",
    ".lora.alpha": "alpha",
    ".alpha": "alpha",
    ".diff": "weight",  # the whole difference of a weight or a bias
    ".diff_b": "bias",
    ".w_norm": "weight",
    ".b_norm": "bias",
}
_FOREIGN = {
    # piece of a key -> what the file is instead
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    ".hada_": "LoHa",
    ".lokr_": "LoKr",
    ".oft_": "OFT",
    "oft_blocks": "OFT",
    "oft_diag": "OFT",
    ".a1.weight": "GLoRA",
    ".a2.weight": "GLoRA",
    ".b1.weight": "GLoRA",
    ".b2.weight": "GLoRA",
    ".on_input": "IA3",
    "lora_embedding_": "a LoRA of embeddings",
    "lora_B.bias": "a LoRA with biases of its own (lora_bias)",
    "lora_up.bias": "a LoRA with biases of its own",
    "lora_B.default.bias": "a LoRA with biases of its own (lora_bias)",
    ".set_weight": "a patch that replaces weights",
    ".reshape_weight": "a patch that changes the shape of weights",
    "modules_to_save": "a LoRA with whole modules (modules_to_save)",
    "emb_params": "a textual inversion",
    "bundle_emb.": "a textual inversion",
}
_PREFIXES = (
    *("base_model.model.", "unet.", "diffusion_model.", "model.diffusion_model."),
    *("lora_unet_", "lycoris_", "unet_"),
)
_TEXT_ENCODERS = (
    *("text_encoder.", "text_encoder_", "text_encoders.", "text_model.", "lora_te", "te1_", "te2_"),
    *("lora_prior_te_", "lycoris_text_encoder", "lora_text_encoder"),
    *("clip_l.", "clip_h.", "clip_g."),
)


def is_for_text(key: str) -> bool:
    """Whether a key belongs to a text encoder."""
    return key.removeprefix("base_model.model.").startswith(_TEXT_ENCODERS)


def split_key(key: str) -> tuple[str, str] | None:
    """Name of the module as the file has it, and the part: down, up, mid, alpha, weight, bias.

    None where the key is not of a plain LoRA.
    """
    head, _, last = key.rpartition(".")
    stem, _, adapter = head.rpartition(".")
    if last == "weight" and adapter and stem.endswith(("lora_A", "lora_B")):
        key = f"{stem}.weight"  # peft's state dict keeps the adapter's name
    tail = next((t for t in _TAILS if key.endswith(t) and len(key) > len(t)), None)
    return None if tail is None else (key.removesuffix(tail), _TAILS[tail])


def bare_name(name: str) -> str:
    """A module's name without what programs put in front of it."""
    while True:
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return name.replace(".processor.", ".")
        name = name.removeprefix(prefix)


def foreign(keys: list[str], total: int) -> LoraError:
    """The refusal of keys that are not of a plain LoRA, saying what they are of."""
    kinds = dict.fromkeys(k for key in keys for piece, k in _FOREIGN.items() if piece in key)
    known = all(any(piece in key for piece in _FOREIGN) for key in keys)
    what = [*kinds, *([] if known else ["whole weights, or a kind that is not known here"])]
    return LoraError(
        f"{len(keys)} of {total} tensors are not part of a plain LoRA ({some(keys)}): the file is "
        f"or holds {' and '.join(what)}. Use a LoRA with down and up matrices only."
    )


def some(names: Iterable[str]) -> str:
    """The first few of names from a file, shortened."""
    return listed(names, longest=80)
