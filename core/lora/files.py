"""Reading a LoRA from disk: one file, or the folder that peft or diffusers saves."""

import json
import os
from pathlib import Path

from torch import Tensor

from ..checkpoint import read_tensors
from ..checkpoint.identify import DIFFUSERS_LORA, PEFT_CONFIG, PEFT_WEIGHTS
from ..errors import CheckpointError, LoraError, shorten
from .alphas import ADAPTER_KEY, read_json


def read_lora(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a LoRA, as `core.lora.merge.parse_lora` takes them.

    peft writes a LoRA's strength into adapter_config.json beside the weights; what it says comes
    with the metadata.

    Args:
        path: a file, or a folder made by peft's `save_pretrained` or diffusers'
            `save_lora_adapter`.

    Raises:
        CheckpointError: no such file, not readable, or a folder of something else.
        LoraError: peft's weights without their config, or with one that is no JSON object.
    """
    file = lora_file(Path(path))
    tensors, metadata = read_tensors(file)
    if file.name not in PEFT_WEIGHTS:
        return tensors, metadata
    config = file.with_name(PEFT_CONFIG)
    if config.is_file():
        try:
            text = config.read_bytes()
        except OSError as error:
            raise LoraError(f"{config} cannot be read ({shorten(error)}).") from error
        return tensors, {**metadata, ADAPTER_KEY: json.dumps(read_json(text, PEFT_CONFIG))}
    if ADAPTER_KEY not in metadata and not any(str(k).endswith("alpha") for k in tensors):
        raise LoraError(
            f"{file} lacks the {PEFT_CONFIG} that peft saves beside it, which says how strong this "
            "LoRA is. Put both files into one folder."
        )
    return tensors, metadata


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `core.checkpoint.read_tensors`; but a LoRA that peft saved comes with its config."""
    is_peft = path.is_dir() or path.name in PEFT_WEIGHTS
    return read_lora(path) if is_peft else read_tensors(path)


def lora_file(path: Path) -> Path:
    """The file of weights that a path to a LoRA stands for; see `read_lora`.

    Raises:
        CheckpointError: a folder without a LoRA.
    """
    if not path.is_dir():
        return path
    names = (*PEFT_WEIGHTS, *DIFFUSERS_LORA)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{path} is a folder without a LoRA: {PEFT_CONFIG} with {PEFT_WEIGHTS[0]} (peft) or "
            f"{DIFFUSERS_LORA[0]} (diffusers) was expected in it."
        )
    return found
