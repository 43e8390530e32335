"""Face tokens out of a recogniser's vector: what FLIPNET compares its own face encoder with.

Its paper (Sec. 5.2.1, Fig. 4) shows what is lost where the tokens come from ArcFace, which looks at
what tells people apart and at little else.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Self

import torch
from torch import Tensor, nn

from ..architecture import CLOSED, Between, build, describe
from ..checkpoint import make_metadata, read_config, read_tensors, save_safetensors
from ..checkpoint.identify import identify
from ..modules.face_encoder import FaceEncoder, TokenAdapter
from ..modules.identity import FORMAT, IdentityConfig
from ..people.recogniser import Recogniser, recogniser_of

RECOGNISED_FORMAT = "flipnet-face-recogniser"
_RECOGNISER, _ADAPTER = "recogniser.", "adapter."


@dataclass(frozen=True, kw_only=True)
class RecognisedFacesConfig:
    """Shape of the adapter of `RecognisedFaces`."""

    __pydantic_config__ = CLOSED

    num_tokens: Annotated[int, Between(1, 65536)] = 256
    """As many as the face encoder gives at 512 pixels, so that their number makes no difference."""
    hidden: Annotated[int, Between(1, 16384)] = 512
    width: Annotated[int, Between(1, 16384)] = 1024
    """Channels of the tokens: the UNet's cross-attention width."""
    nano: IdentityConfig | None = None
    """Of the recogniser, where it is one of rendered faces."""


class RecognisedFaces(nn.Module):
    """Aligned faces -> face tokens tau(F(y)) of a frozen recogniser F, in `FaceEncoder`'s place.

    All tokens are made of one vector; what sets them apart are the adapter's positions.
    """

    def __init__(self, recogniser: Recogniser, config: RecognisedFacesConfig) -> None:
        super().__init__()
        self.config, self.recogniser = config, recogniser
        self.adapter = TokenAdapter(recogniser.dim, config.hidden, config.width, config.num_tokens)

    def latents(self, faces: Tensor) -> Tensor:
        """FFHQ-aligned faces (b, 3, s, s) in [0, 1] -> (b, 1, d), before the adapter."""
        return self.recogniser(faces)[:, None]

    def forward(self, faces: Tensor) -> Tensor:
        """(b, 3, s, s) in [0, 1] -> tokens (b, n, width)."""
        return self.adapter(self.latents(faces))

    def save(
        self, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **extra: str
    ) -> None:
        """Write one safetensors file that `load_face_encoder` reads, the recogniser included.

        Args:
            dtype: of the adapter; the recogniser stays the very one it was trained with.
            extra: more metadata.
        """
        net, _ = self.recogniser.weights()
        adapter = {k: v.to(dtype or v.dtype) for k, v in self.adapter.state_dict().items()}
        tensors = {f"{_RECOGNISER}{k}": v for k, v in net.items()}
        tensors |= {f"{_ADAPTER}{k}": v for k, v in adapter.items()}
        save_safetensors(
            path, tensors, make_metadata(RECOGNISED_FORMAT, asdict(self.config), **extra)
        )

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, source: str
    ) -> Self:
        """What `save` wrote: in float32 on the CPU, frozen, in evaluation mode.

        Raises:
            CheckpointError: something else, or incomplete.
        """
        values = read_config(metadata, RECOGNISED_FORMAT, source=source)
        config = describe(RecognisedFacesConfig, values, source=source, what="a face encoder")
        net = {k.removeprefix(_RECOGNISER): v for k, v in tensors.items()
               if k.startswith(_RECOGNISER)}  # fmt: skip
        rest = {k.removeprefix(_ADAPTER): v for k, v in tensors.items()
                if not k.startswith(_RECOGNISER)}  # fmt: skip
        about = make_metadata(FORMAT, asdict(config.nano)) if config.nano else {}
        recogniser = recogniser_of(net, about, source=source)
        return build(
            lambda: cls(recogniser, config), rest, source=source, load=lambda own: own.adapter
        )


def load_face_encoder(
    path: str | os.PathLike[str], *, untrained: bool = False
) -> FaceEncoder | RecognisedFaces:
    """FLIPNET's face encoder, or a recogniser in its place, frozen, float32, in eval mode.

    Args:
        untrained: take a face encoder whose adapter is still to be trained as well.

    Raises:
        CheckpointError: the file is something else, not whole, or was never trained.
    """
    if identify(path).kind == RECOGNISED_FORMAT:
        return RecognisedFaces.from_tensors(*read_tensors(path), source=str(path))
    return FaceEncoder.from_file(path, untrained=untrained)
