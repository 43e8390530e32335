"""What the parts of a Stable Diffusion in a diffusers folder may say of themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ..architecture import OPEN, Between, describe
from ..checkpoint.identify import read_json

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


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """What a text encoder's `config.json` says, as far as its size depends on it."""

    __pydantic_config__ = OPEN

    num_hidden_layers: Annotated[int, Between(1, 64)] = 12
    hidden_size: Annotated[int, Between(1, 8192)] = 512
    intermediate_size: Annotated[int, Between(1, 65536)] = 2048
    num_attention_heads: Annotated[int, Between(1, 128)] = 8
    vocab_size: Annotated[int, Between(1, 2**20)] = 49408
    max_position_embeddings: Annotated[int, Between(1, 2**14)] = 77


def part_config(folder: Path, kind: type, what: str) -> dict[str, Any]:
    """What the config.json of one part ("unet", "vae", "text_encoder") of a diffusers folder says.

    Args:
        kind: the dataclass of this file it has to fit.
        what: the part is, such as "a UNet".

    Raises:
        CheckpointError: it says nothing that such a network could be built of.
    """
    path = folder / "config.json"
    config = read_json(path)
    describe(kind, config, source=str(path), what=what)
    return config
