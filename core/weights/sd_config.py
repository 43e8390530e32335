"""Which Stable Diffusion a UNet is, told from its shapes, and what to do about the wrong one."""

from dataclasses import dataclass
from typing import Annotated

from ..architecture import OPEN, Between

_CONTEXTS = {768: "1.x", 1280: "XL's refiner", 2048: "XL"}
"""Channels of the text conditioning, by Stable Diffusion's version."""
_INPUTS = {
    5: "a depth model such as SD 2-depth",
    7: "an upscaler such as SD x4",
    8: "an editing model such as InstructPix2Pix",
    9: "an inpainting model",
}
EXPECTED = "SD 2.1-base (512 pixels, 1024 conditioning channels, epsilon prediction)"
ADVICE = (
    "OSDFace's weights, and all that were trained like them, fit no other model. Get "
    "v2-1_512-ema-pruned.safetensors, or the diffusers folder of the same model."
)


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


def other_model(facts: UNetFacts) -> str | None:
    """What the model is, where it is not SD 2.1-base; None where it is, or is a finetune of it."""
    if facts.class_embedding:
        if facts.context == 1024:
            return "an unCLIP model of Stable Diffusion 2.1 (it takes the embedding of an image)"
        return f"Stable Diffusion {_CONTEXTS.get(facts.context, 'with a class embedding')}"
    if facts.channels in _INPUTS:
        return f"{_INPUTS[facts.channels]} (its UNet takes {facts.channels} channels, not 4)"
    if facts.channels != 4:
        return f"a model whose UNet takes {facts.channels} channels, not 4"
    if facts.context in _CONTEXTS:
        return (
            f"Stable Diffusion {_CONTEXTS[facts.context]} (its text conditioning has "
            f"{facts.context} channels)"
        )
    if facts.context not in (1024, None):
        return f"a model whose text conditioning has {facts.context} channels"
    if facts.velocity:
        return "a v-prediction model such as SD 2.1 for 768 pixels (v2-1_768-ema-pruned)"
    return None


def refusal(source: str, name: str) -> str:
    """The sentence for a model that `other_model` named."""
    return f"{source} is {name}; {EXPECTED} was expected. {ADVICE}"


_Channels = Annotated[int, Between(1, 65536)]
_Heads = Annotated[int, Between(1, 1024)]
_Layers = Annotated[int, Between(1, 32)]
_Levels = Between(1, 8)
_BlockNames = Annotated[tuple[str, ...], _Levels]


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What a UNet's `config.json` says, as far as the size of the UNet depends on it."""

    __pydantic_config__ = OPEN

    in_channels: _Channels
    out_channels: _Channels
    block_out_channels: Annotated[tuple[_Channels, ...], _Levels]
    down_block_types: _BlockNames
    up_block_types: _BlockNames
    layers_per_block: _Layers | Annotated[tuple[_Layers, ...], _Levels]
    cross_attention_dim: _Channels | Annotated[tuple[_Channels, ...], _Levels] | None
    attention_head_dim: _Heads | Annotated[tuple[_Heads, ...], _Levels] | None = 8
    num_attention_heads: _Heads | Annotated[tuple[_Heads, ...], _Levels] | None = None
    transformer_layers_per_block: _Layers | Annotated[tuple[_Layers, ...], _Levels] = 1
    reverse_transformer_layers_per_block: None = None
    norm_num_groups: Annotated[int, Between(1, 4096)] | None = 32
    sample_size: _Channels | Annotated[tuple[_Channels, ...], Between(2, 2)] | None = None
    use_linear_projection: bool = False
    class_embed_type: str | None = None
    addition_embed_type: str | None = None
    num_class_embeds: _Channels | None = None


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """What an autoencoder's `config.json` says, as far as its size depends on it."""

    __pydantic_config__ = OPEN

    block_out_channels: Annotated[tuple[_Channels, ...], _Levels]
    down_block_types: _BlockNames
    up_block_types: _BlockNames
    layers_per_block: _Layers = 1
    latent_channels: _Channels = 4
    in_channels: _Channels = 3
    out_channels: _Channels = 3
    norm_num_groups: Annotated[int, Between(1, 4096)] = 32
    sample_size: _Channels | Annotated[tuple[_Channels, ...], Between(2, 2)] | None = None
