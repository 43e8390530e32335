"""What seems to be wrong with the LoRA on a model whose pictures come out unrestored."""

import re
from collections.abc import Iterable

_ATTENTION = re.compile(r"\battn[12]?\b")
_LOADER = "Load LoRA (all modules)"
_NONE = (
    "No LoRA is on `model`. A restorer's weights are a LoRA, without which the base model alone "
    f"makes the picture. Put {_LOADER} between the checkpoint and this node, unless the checkpoint "
    "has it merged."
)
_NO_ATTENTION = (
    "The LoRA on `model` changes no attention layer. ComfyUI's own loader leaves these out of "
    f"diffusers and peft files and says nothing. Load the file with {_LOADER} instead."
)


def lacking(whole: bool, changed: Iterable[str]) -> str:
    """A sentence on what the LoRA of a model seems to lack; empty where nothing does.

    Args:
        whole: whether one was put on by `LoadLoRA`, which applies every module or none.
        changed: names of the weights that loaders change, with their modules' names between dots.
    """
    names = list(changed)
    if whole or any(map(_ATTENTION.search, names)):
        return ""
    return _NO_ATTENTION if names else _NONE
