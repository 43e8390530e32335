"""Which model a weight file is: the one answer for loaders, converter, doctor, folders and nodes.

It is told by the names, shapes and metadata in its header. Our own code, because no library knows
the papers' files, and those that know Stable Diffusion's load them whole first.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, shorten
from ..files.json_text import JsonError, parse_json
from .files import FORMAT_KEY, read_header

TRAINING_KEY = "facewright.training"
"""Metadata entry of exported files: the facts of the run as JSON."""
PREFIX = "model.diffusion_model."
"""Of the UNet's tensors in a whole checkpoint of the original ("LDM") layout."""
BIAS = f"{PREFIX}output_blocks.11.1.transformer_blocks.0.norm1.bias"
_DIFFUSERS_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
"""The same tensor by its diffusers name."""

_FORMATS = {
    "osdface-associate": "OSDFace's VRE checkpoint (associate_2.ckpt)",
    "osdface-embedding-change": "OSDFace's prompt projection (embedding_change_weights.pth)",
    "lora": "a LoRA",
    "sd-checkpoint": "a whole Stable Diffusion checkpoint",
    "sd-folder": "a diffusers folder",
    "sd3": "Stable Diffusion 3",
    "flux": "Flux, or another transformer",
    "transformer": "a transformer model",
    "diffusers-unet": "a diffusers UNet",
    "diffusers-vae": "a diffusers VAE",
    "ldm-vae": "an autoencoder (VAE)",
    "unknown": "none of the files facewright knows",
}
_LORA = re.compile(
    r"[._]lora[._]|^(lora_unet|lora_te\d?|lycoris)_"
    r"|\.(diff|diff_b|dora_scale|hada_w[12]_[ab]|lokr_w[12](_[ab])?)$"
)
"""In the keys of adapters: plain LoRA, and the kinds that are refused as what they are."""
_PROJECTION = {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
_STARTS: dict[str, tuple[str, ...]] = {
    "sd-checkpoint": (f"{PREFIX}input_blocks.",),
    "sd3": ("joint_blocks.", f"{PREFIX}joint_blocks."),
    "flux": ("double_blocks.", f"{PREFIX}double_blocks."),
    "transformer": ("transformer_blocks.", f"{PREFIX}transformer_blocks."),
    "diffusers-vae": ("encoder.down_blocks.",),
}
"""How a tensor's name starts that only this kind of file has."""

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
DIFFUSERS_LORA = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
"""What peft and diffusers call the files of a folder that they save a LoRA in."""
_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
_CONTEXTS: dict[int | None, str] = {768: "1.x", 1280: "XL's refiner", 2048: "XL"}
"""Channels of the text conditioning, by Stable Diffusion's version."""
_INPUTS = {
    5: "a depth model such as SD 2-depth",
    7: "an upscaler such as SD x4",
    8: "an editing model such as InstructPix2Pix",
    9: "an inpainting model",
}


@dataclass(frozen=True)
class UNetFacts:
    """What tells the versions of Stable Diffusion apart."""

    context: int | None = 1024
    """Channels of the text conditioning; None where there is no cross-attention."""
    channels: int = 4
    """Channels the UNet takes."""
    class_embedding: bool = False
    """SDXL and unCLIP have one."""
    velocity: bool = False
    """Trained to predict v; SD 2.1 for 768 pixels is."""

    @property
    def other(self) -> str | None:
        """What the model is, where it is not SD 2.1-base; None where it is, or a finetune of it."""
        if self.class_embedding:
            if self.context == 1024:
                return (
                    "an unCLIP model of Stable Diffusion 2.1 (it takes the embedding of an image)"
                )
            return f"Stable Diffusion {_CONTEXTS.get(self.context or 0, 'with a class embedding')}"
        if self.channels in _INPUTS:
            return f"{_INPUTS[self.channels]} (its UNet takes {self.channels} channels, not 4)"
        if self.channels != 4:
            return f"a model whose UNet takes {self.channels} channels, not 4"
        if self.context in _CONTEXTS:
            return (
                f"Stable Diffusion {_CONTEXTS[self.context]} (its text conditioning has "
                f"{self.context} channels)"
            )
        if self.context not in (1024, None):
            return f"a model whose text conditioning has {self.context} channels"
        if self.velocity:
            return "a v-prediction model such as SD 2.1 for 768 pixels (v2-1_768-ema-pruned)"
        return None

    def check_base(self, source: str) -> None:
        """Raise CheckpointError, saying what it is instead, where it is not SD 2.1-base."""
        if self.other:
            raise CheckpointError(
                f"{source} is {self.other}; SD 2.1-base (512 pixels, 1024 conditioning channels, "
                "epsilon prediction) was expected. OSDFace's weights, and all that were trained "
                "like them, fit no other model. Get v2-1_512-ema-pruned.safetensors, or the "
                "diffusers folder of the same model."
            )


@dataclass(frozen=True)
class Identity:
    """What a weight file, or a folder of such files, is."""

    source: str
    """Its name, for messages."""
    kind: str
    """A key of the formats known by sight, or the `facewright.format` in its metadata."""
    unet: UNetFacts | None = None
    """Of a whole Stable Diffusion."""

    @property
    def what(self) -> str:
        """In words, such as "a LoRA"."""
        return describe_format(self.kind)

    def unsuitable(self, expected: str) -> CheckpointError:
        """The refusal of a file of another kind; `expected` says of which, and what to do."""
        return CheckpointError(f"{self.source} is {self.what}; {expected}")

    def check_base(self) -> None:
        """Refuse all but SD 2.1-base: a whole checkpoint, or a diffusers folder.

        Raises:
            CheckpointError: saying what it is instead.
        """
        if self.unet is None:
            raise CheckpointError(
                f"{self.source} holds no Stable Diffusion UNet (no tensor starts with {PREFIX!r} "
                f"and 'input_blocks'); it looks like {self.what}. Choose the whole SD 2.1-base "
                "checkpoint, for example v2-1_512-ema-pruned.safetensors."
            )
        self.unet.check_base(self.source)


def identify(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Identity:
    """What a file or a folder is. Of safetensors little more than the header is read.

    Args:
        path: single file, diffusers folder, or a folder that a LoRA was saved in.
        tensors: of the file, where it has been read already; shapes are enough.
        metadata: read with them.

    Raises:
        CheckpointError: missing, damaged or incomplete, as `core.checkpoint.read_tensors`.
    """
    path = Path(path)
    if tensors is None and path.is_dir():
        if is_lora_folder(path) and not (path / "unet").is_dir():
            return Identity(path.name, "lora")
        return Identity(path.name, "sd-folder", _facts_of_folder(path))
    if tensors is None:
        header = read_header(path, (BIAS,))
        metadata, tensors = header.metadata, {**header.shapes, **header.tensors}
    metadata = metadata or {}
    kind = detect_format(tensors, metadata)
    if kind != "sd-checkpoint":
        return Identity(path.name, kind)
    facts = _facts_of_tensors(tensors)
    velocity = facts.velocity or _says_velocity(path, metadata)
    return Identity(path.name, kind, replace(facts, velocity=velocity))


def is_lora_folder(path: Path) -> bool:
    """Whether a folder is one that peft or diffusers saved a LoRA in."""
    names = (PEFT_CONFIG, *PEFT_WEIGHTS, *DIFFUSERS_LORA)
    return path.is_dir() and any((path / name).is_file() for name in names)


def detect_format(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> str:
    """Name what tensors are: their `facewright.format`, else a key of the formats known by sight.

    Returns "unknown" where nothing matches.
    """
    if metadata and FORMAT_KEY in metadata:
        return metadata[FORMAT_KEY]
    keys = set(tensors)

    def any_with(*starts: str) -> bool:
        return any(k.startswith(starts) for k in keys)

    if any_with("vqvae_LQ."):
        return "osdface-associate"
    if any(re.search(_LORA, k) for k in keys):
        return "lora"
    if keys & _PROJECTION and keys <= _PROJECTION:
        return "osdface-embedding-change"
    if any_with("time_embedding.") and any_with("down_blocks."):
        return "diffusers-unet"
    if any_with("encoder.down.") and any_with("decoder.up."):
        return "ldm-vae"
    return next((kind for kind, starts in _STARTS.items() if any_with(*starts)), "unknown")


def training_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a file that `facewright train` exported says of its run; {} of any other."""
    try:
        facts = parse_json(metadata.get(TRAINING_KEY, "{}"))
    except JsonError:
        return {}
    return facts if isinstance(facts, dict) else {}


def marked_trained(metadata: Mapping[str, str], mark: str, stage: str) -> bool:
    """Whether the last layers of an embedder are trained, as its file says.

    Args:
        mark: metadata entry that holds "trained" or "untrained". Files from before it say which
            training stage wrote them.
        stage: the one that leaves those layers as they were made.
    """
    if mark in metadata:
        return metadata[mark] == "trained"
    return training_facts(metadata).get("stage") != stage


def describe_format(name: str) -> str:
    """A format name in words, for messages."""
    return _FORMATS.get(name, f'a facewright "{shorten(name)}" file')


def _facts_of_tensors(tensors: Mapping[str, Any]) -> UNetFacts:
    unet = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
    context = next((v for k, v in unet.items() if k.endswith("attn2.to_k.weight")), None)
    first = unet.get("input_blocks.0.0.weight")
    return UNetFacts(
        context=None if context is None else channels_in(context),
        channels=4 if first is None else channels_in(first),
        class_embedding=any(k.startswith("label_emb.") for k in unet),
        velocity=_spreads(tensors.get(BIAS)),
    )


def channels_in(weight: Any) -> int:
    """Channels that a layer takes, from anything with the shape of its weight; 0 where it is none.

    Of a convolution or a linear layer, whose weights have two axes at least.
    """
    return weight.shape[1] if len(weight.shape) > 1 else 0


def _spreads(bias: Any) -> bool:
    """Whether SD 2.x weights were trained to predict v, by the tensor called `BIAS`.

    Both variants have the same tensors. ComfyUI's rule of thumb: this one spreads wider than 0.09
    in the v-prediction models only.
    """
    return isinstance(bias, Tensor) and bias.float().std(unbiased=False).item() > 0.09


def _says_velocity(path: Path, metadata: Mapping[str, str]) -> bool:
    """Whether what accompanies a single file says v-prediction: metadata, or a YAML beside it."""
    architecture = metadata.get("modelspec.architecture", "")
    if metadata.get("modelspec.prediction_type") == "v" or architecture.endswith("768-v"):
        return True
    if metadata.get("ss_v_parameterization", "").lower() in {"true", "1"}:
        return True
    beside = path.with_suffix(".yaml")
    text = beside.read_text(encoding="utf-8", errors="replace") if beside.is_file() else ""
    said = re.search(r"""^\s*parameterization:\s*["']?v["']?\s*(#|$)""", text, re.MULTILINE)
    return said is not None


def _facts_of_folder(folder: Path) -> UNetFacts:
    bias = read_header(weights_in(folder / "unet"), (_DIFFUSERS_BIAS,)).tensors
    path = folder / "unet" / "config.json"
    config = read_json(path)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    prediction = read_json(scheduler).get("prediction_type") if scheduler.is_file() else None
    return UNetFacts(
        context=_number(config, "cross_attention_dim", None, path),
        channels=_number(config, "in_channels", 4, path) or 0,
        class_embedding=bool(config.get("class_embed_type") or config.get("addition_embed_type")),
        velocity=prediction == "v_prediction" or _spreads(bias.get(_DIFFUSERS_BIAS)),
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


def _number(config: Mapping[str, Any], key: str, default: int | None, path: Path) -> int | None:
    value = config.get(key, default)
    if value is None or type(value) is int:
        return value
    raise CheckpointError(
        f"`{key}` in {path} should be a number, got {shorten(repr(value))}. Download the whole "
        "folder of the model again."
    )


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
