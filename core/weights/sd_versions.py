"""Whether a file or folder is SD 2.1-base, told without loading it."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..architecture import describe
from ..checkpoint import describe_format, detect_format, read_metadata, read_tensors
from ..errors import CheckpointError, shorten
from ..files.json_text import JsonError, parse_json
from .sd_config import UNetFacts, other_model, refusal

PREFIX = "model.diffusion_model."
BIAS = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
DIFFUSERS_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
"""The same tensor by its diffusers name."""
_OTHER_KINDS = {
    "joint_blocks.": "Stable Diffusion 3",
    "double_blocks.": "Flux, or another transformer",
    "transformer_blocks.": "a transformer model",
}
_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


def velocity_by_bias(bias: Tensor | None) -> bool:
    """Whether SD 2.x weights were trained to predict v, by the tensor called `BIAS`.

    Both variants have the same tensors. ComfyUI's rule of thumb: this one spreads wider than 0.09
    in the v-prediction models only.
    """
    return bias is not None and bias.float().std(unbiased=False).item() > 0.09


def unet_facts(unet: Mapping[str, Any], bias: Tensor | None) -> UNetFacts:
    """Facts from the tensors of a UNet in LDM layout, or from anything else that has shapes."""
    context = next((v for k, v in unet.items() if k.endswith("attn2.to_k.weight")), None)
    first = unet.get("input_blocks.0.0.weight")
    return UNetFacts(
        context=None if context is None else channels_in(context),
        channels=4 if first is None else channels_in(first),
        class_embedding=any(k.startswith("label_emb.") for k in unet),
        velocity=velocity_by_bias(bias),
    )


def channels_in(weight: Any) -> int:
    """Channels that a layer takes, from anything with the shape of its weight; 0 where it is none.

    Of a convolution or a linear layer, whose weights have two axes at least.
    """
    return weight.shape[1] if len(weight.shape) > 1 else 0


def says_velocity(path: Path, metadata: Mapping[str, str]) -> bool:
    """Whether what accompanies a single file says v-prediction: metadata, or a YAML beside it."""
    architecture = metadata.get("modelspec.architecture", "")
    if metadata.get("modelspec.prediction_type") == "v" or architecture.endswith("768-v"):
        return True
    if metadata.get("ss_v_parameterization", "").lower() in {"true", "1"}:
        return True
    beside = path.with_suffix(".yaml")
    text = beside.read_text(encoding="utf-8", errors="replace") if beside.is_file() else ""
    return (
        re.search(r"""^\s*parameterization:\s*["']?v["']?\s*(#|$)""", text, re.MULTILINE)
        is not None
    )


def check_base(path: str | os.PathLike[str]) -> None:
    """Refuse a single file or a diffusers folder that is not SD 2.1-base; reads little of it.

    Raises:
        CheckpointError: saying what it is instead, or that it is damaged or incomplete.
    """
    path = Path(path)
    name = other_model(_folder_facts(path) if path.is_dir() else _file_facts(path))
    if name:
        raise CheckpointError(refusal(path.name, name))


def _file_facts(path: Path) -> UNetFacts:
    metadata = read_metadata(path)
    with headers(path) as (tensors, tensor):
        unet = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
        if not any(key.startswith("input_blocks.") for key in unet):
            raise CheckpointError(no_unet(path.name, tensors))
        facts = unet_facts(unet, tensor(PREFIX + BIAS))
    return replace(facts, velocity=facts.velocity or says_velocity(path, metadata))


def _folder_facts(folder: Path) -> UNetFacts:
    with headers(weights_in(folder / "unet")) as (_, tensor):
        return folder_facts(folder, tensor(DIFFUSERS_BIAS))


def folder_facts(folder: Path, bias: Tensor | None) -> UNetFacts:
    """Facts of a diffusers folder, from its JSON files and the UNet's tensor `DIFFUSERS_BIAS`.

    Raises:
        CheckpointError: files are missing.
    """
    path = folder / "unet" / "config.json"
    config = read_json(path)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    prediction = read_json(scheduler).get("prediction_type") if scheduler.is_file() else None
    return UNetFacts(
        context=_number(config, "cross_attention_dim", None, path),
        channels=_number(config, "in_channels", 4, path),
        class_embedding=bool(config.get("class_embed_type") or config.get("addition_embed_type")),
        velocity=prediction == "v_prediction" or velocity_by_bias(bias),
    )


def weights_in(folder: Path) -> Path:
    """The weight file of one part ("unet", "vae") of a diffusers folder.

    Raises:
        CheckpointError: it or the part's config.json is missing.
    """
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None or not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} should hold config.json and {_WEIGHTS[0]}. Download the whole folder of the "
            "model."
        )
    return found


def no_unet(source: str, tensors: Mapping[str, Any]) -> str:
    """The sentence for a file without a UNet in Stable Diffusion's single-file layout."""
    names = [key.removeprefix(PREFIX) for key in tensors]
    other = (v for start, v in _OTHER_KINDS.items() if any(n.startswith(start) for n in names))
    kind = next(other, None) or describe_format(detect_format(tensors))
    return (
        f"{source} holds no Stable Diffusion UNet (no tensor starts with {PREFIX!r} and "
        f"'input_blocks'); it looks like {kind}. Choose the whole SD 2.1-base checkpoint, for "
        "example v2-1_512-ema-pruned.safetensors."
    )


@contextmanager
def headers(path: Path) -> Iterator[tuple[dict[str, Any], Callable[[str], Tensor | None]]]:
    """Names and shapes of a weight file, and a function that reads one tensor of it.

    Of safetensors little more than the header is read.

    Raises:
        CheckpointError: as `core.checkpoint.read_tensors`.
    """
    try:
        opened = safe_open(path, framework="pt")
    except (SafetensorError, OSError):
        tensors, _ = read_tensors(path)  # a pickle, or refused with its own sentence
        yield tensors, tensors.get
        return
    with opened as file:
        names = set(file.keys())
        shapes = {name: _Shaped(tuple(file.get_slice(name).get_shape())) for name in names}
        yield shapes, lambda name: file.get_tensor(name) if name in names else None


class _Shaped(NamedTuple):
    shape: tuple[int, ...]


def _number(config: Mapping[str, Any], key: str, default: int | None, path: Path) -> int | None:
    value = config.get(key, default)
    if value is None or type(value) is int:
        return value
    raise CheckpointError(
        f"`{key}` in {path} should be a number, got {shorten(repr(value))}. Download the whole "
        "folder of the model again."
    )


def part_config(folder: Path, kind: type, what: str) -> dict[str, Any]:
    """What the config.json of one part ("unet", "vae") of a diffusers folder says.

    Args:
        kind: the dataclass of `core.weights.sd_config` it has to fit.
        what: the part is, such as "a UNet".

    Raises:
        CheckpointError: it says nothing that such a network could be built of.
    """
    path = folder / "config.json"
    config = read_json(path)
    describe(kind, config, source=str(path), what=what)
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a diffusers folder.

    Raises:
        CheckpointError: it cannot be read, or is none.
    """
    try:
        content = parse_json(path.read_bytes())
    except (OSError, JsonError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({shorten(error, 160)}). Download the whole folder of the "
            "model again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} should hold a JSON object, got {shorten(repr(content))}. Download the whole "
            "folder of the model again."
        )
    return content
