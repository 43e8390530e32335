"""A small recogniser of rendered faces: an embedding of who it is, and features of how it looks."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d, GroupNorm, Linear

from ..architecture import CLOSED, Between, SavedNetwork
from ..errors import FacewrightError

FORMAT = "nano-identity"


@dataclass(frozen=True, kw_only=True)
class IdentityConfig:
    """Shape of an `IdentityEncoder`."""

    __pydantic_config__ = CLOSED

    ch: Annotated[tuple[Annotated[int, Between(8, 4096)], ...], Between(1, 8)] = (32, 64, 96, 128)
    """Channels per stage; every stage halves the picture. Multiples of 8."""
    dim: Annotated[int, Between(1, 16384)] = 128
    """Length of the embedding."""
    input_size: Annotated[int, Between(8, 1024)] = 64
    """Pictures are reduced to this size first, by area."""

    def __post_init__(self) -> None:
        if any(width % 8 for width in self.ch):
            raise FacewrightError(f"its channels {list(self.ch)} should be multiples of 8")


class _Stage(nn.Sequential):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(
            Conv2d(c_in, c_out, 3, 2, 1), GroupNorm(8, c_out), nn.SiLU(),
            Conv2d(c_out, c_out, 3, 1, 1), GroupNorm(8, c_out), nn.SiLU(),
        )  # fmt: skip


class IdentityEncoder(SavedNetwork):
    """(b, 3, h, w) face crops in [0, 1] -> (b, dim) embeddings of length 1.

    The cosine of two embeddings tells whether two photographs show the same person. Faces should
    be aligned alike (FFHQ template). Trained with InfoNCE over identities (arXiv:1807.03748).
    """

    format = FORMAT
    config_type = IdentityConfig
    what = "an identity encoder"
    stored = torch.float16
    config: IdentityConfig

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3, *config.ch)
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(widths))
        self.head = Linear(config.ch[-1] * 16, config.dim)

    def features(self, faces: Tensor) -> list[Tensor]:
        """Maps of every stage, fine to coarse: (b, ch[i], s / 2^(i+1), s / 2^(i+1))."""
        size = self.config.input_size
        if faces.shape[-2:] != (size, size):
            smaller = max(faces.shape[-2:]) > size
            mode, corners = ("area", None) if smaller else ("bilinear", False)
            faces = F.interpolate(faces, (size, size), mode=mode, align_corners=corners)
        maps, h = [], faces * 2 - 1
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return maps

    def embed(self, last_map: Tensor) -> Tensor:
        """Embedding from the coarsest of `features`."""
        pooled = F.adaptive_avg_pool2d(last_map, 4).flatten(1)
        return F.normalize(self.head(pooled), dim=1)

    def forward(self, faces: Tensor) -> Tensor:
        return self.embed(self.features(faces)[-1])
