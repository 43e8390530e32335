"""All that is learned of HonestFace's identity embedder, and what goes into it."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ..architecture import CLOSED, Between
from ..errors import CheckpointError, FacewrightError, shorten
from .eye_extractor import EyeFeatures
from .reference_tokens import (
    FUSIONS,
    AppendFusion,
    AttentionFusion,
    FaceIdentityEncoder,
    FacialFeatureExtractor,
    LearnedValuesEncoder,
    MixingFusion,
)

_Width = Annotated[int, Between(1, 16384)]


@dataclass(frozen=True, kw_only=True)
class IDEConfig:
    """Architecture of an `IdentityEmbedder`. The defaults are HonestFace's on OSDFace's weights."""

    __pydantic_config__ = CLOSED

    width: _Width = 512
    """Channels k of the tokens: of the embedder's codebook rows."""
    vre_tokens: Annotated[int, Between(1, 4096)] = 77
    queries: Annotated[int, Between(1, 1024)] = 7
    """Tokens n2 of the face identity encoder."""
    hidden: _Width = 256
    eye_size: Annotated[int, Between(4, 1024)] = 80
    """Side of the eye crops in pixels."""
    colour_channels: _Width = 64
    """Of the maps whose statistics are the colour: 64 for VGG-16's relu1_2."""
    structure_channels: _Width = 256
    """Of the maps that are the structure: 256 for VGG-16's relu3_3."""
    recogniser_dim: _Width = 512
    recogniser: str = ""
    """`Recogniser.id` of the weights it was trained with."""
    extractor: str = ""
    """`core.people.recogniser.fingerprint` of the eye extractor it was trained with."""
    use_eyes: bool = True
    """Whether the facial feature extractor sees the references; for ablations."""
    use_identity: bool = True
    """Whether the face identity encoder sees them."""
    fusion: str = "mix"
    """One of `core.modules.reference_tokens.FUSIONS`."""
    eye_features: EyeFeatures = "stages"
    """Which maps of the extractor describe an eye, see `core.modules.eye_extractor.eye_maps`."""
    identity_values: Literal["embeddings", "linear"] = "embeddings"
    """What the face identity encoder averages: the embeddings, or learned linear maps of them."""

    def __post_init__(self) -> None:
        heads = LearnedValuesEncoder.HEADS
        if self.identity_values == "linear" and (
            self.hidden % heads or self.recogniser_dim % heads
        ):
            raise FacewrightError(
                f"its `hidden`, {self.hidden}, and the recogniser's {self.recogniser_dim} numbers "
                f"should be multiples of the {heads} heads of learned values"
            )
        if self.fusion == "append" and self.vre_tokens <= 4 + self.queries:
            raise FacewrightError(
                f"its {4 + self.queries} tokens of references would leave none of the embedder's "
                f"{self.vre_tokens} where they are appended"
            )


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the references say of b faces; the identity embedder's input. No gradient, cacheable."""

    embeddings: Tensor
    """(b, N, d) of the recogniser, anything where not valid."""
    valid: Tensor
    """(b, N) bool."""
    colour: Tensor
    """(b, 2, c): statistics of the left and right eye of the chosen reference."""
    structure: Tensor
    """(b, 2, c')"""
    chosen: Tensor
    """(b,) int64: the reference that looks most alike about the eyes, -1 where there is none."""
    distance: Tensor
    """(b, N) float64 A-LD of eyes and brows in pixels of the face; infinite where not valid."""


class IdentityTokens(nn.Module):
    """All that is learned of an identity embedder: tokens of references, and the fusion."""

    def __init__(self, config: IDEConfig) -> None:
        super().__init__()
        c = self.config = config
        self.eyes = FacialFeatureExtractor(
            c.colour_channels, c.structure_channels, c.hidden, c.width
        )
        learned = c.identity_values == "linear"
        encoder = LearnedValuesEncoder if learned else FaceIdentityEncoder
        self.identity = encoder(c.recogniser_dim, c.queries, c.hidden, c.width)
        self.fusion = _fusion(c)

    def tokens(self, identity: Identity) -> Tensor:
        """p_F and p_I, (b, 11, width)."""
        c, known = self.config, identity.chosen >= 0
        seen, valid = known & c.use_eyes, identity.valid & c.use_identity
        eyes = self.eyes(identity.colour, identity.structure, seen)
        return torch.cat([eyes, self.identity(identity.embeddings, valid)], 1)

    def fuse(self, vre_tokens: Tensor, ide_tokens: Tensor) -> Tensor:
        """(b, 77, width) and (b, 11, width) -> (b, 77, width)."""
        return self.fusion(vre_tokens, ide_tokens)

    def forward(self, vre_tokens: Tensor, identity: Identity) -> Tensor:
        """(b, 77, width) codebook rows -> (b, 77, width) with what the references say."""
        return self.fuse(vre_tokens, self.tokens(identity))


def _fusion(config: IDEConfig) -> MixingFusion | AttentionFusion | AppendFusion:
    if config.fusion in ("mix", "append"):
        fusion = MixingFusion if config.fusion == "mix" else AppendFusion
        return fusion(config.vre_tokens, 4 + config.queries)
    if config.fusion == "attention":
        return AttentionFusion(config.width)
    raise CheckpointError(
        f"This identity embedder fuses tokens by {shorten(repr(config.fusion))}; this version "
        f"knows {', '.join(FUSIONS)}. Update facewright."
    )
