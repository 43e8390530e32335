"""What describes eyes for HonestFace."""

import os
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..checkpoint import detect_format, read_tensors
from ..errors import CheckpointError
from .identity import FORMAT as NANO_IDENTITY
from .identity import IdentityEncoder
from .vgg import VGG16

EyeExtractor = VGG16 | IdentityEncoder
"""A frozen network whose first and third feature stages describe eyes."""
EyeFeatures = Literal["stages", "layers"]
"""How "layer 0" and "layer 2" of HonestFace's Sec. 3.2 are read: as the first and third stage, of
which the latter is "mid-level", or as torchvision's `features[0]` and `features[2]`, both early."""
_LAYERS = (0, 2)


def load_eye_extractor(path: str | os.PathLike[str]) -> EyeExtractor:
    """torchvision's VGG-16, or the identity encoder of rendered faces, frozen.

    Raises:
        CheckpointError: neither.
    """
    tensors, metadata = read_tensors(path)
    if detect_format(tensors, metadata) == NANO_IDENTITY:
        return IdentityEncoder.from_file(Path(path))
    if "features.0.weight" not in tensors:
        raise CheckpointError(
            f"{Path(path).name} is no extractor for eyes: torchvision's VGG-16 was expected "
            "(vgg16-397923af.pth from download.pytorch.org/models, BSD-3-Clause; its training "
            "pictures, ImageNet, are for non-commercial research)."
        )
    return VGG16.from_file(path, "max")[0]


def eye_maps(
    extractor: EyeExtractor, eyes: Tensor, features: EyeFeatures = "stages"
) -> tuple[Tensor, Tensor]:
    """Maps of eyes (n, 3, h, w) in [0, 1] for colour (n, c, ., .) and structure (n, c', ., .).

    Args:
        features: "stages": the first and third stage, VGG-16's relu1_2 and relu3_3; "layers":
            VGG-16's conv1_1 and conv1_2, before the ReLUs behind them.

    Raises:
        CheckpointError: layers of another network than VGG-16.
    """
    if features == "layers":
        colour, structure = _vgg(extractor).convolutions(eyes, _LAYERS)
        return colour, structure
    maps = extractor.features(eyes)
    return maps[0], maps[2]


def eye_channels(extractor: EyeExtractor, features: EyeFeatures = "stages") -> tuple[int, int]:
    """Channels of the two maps that `eye_maps` returns, and its errors."""
    if features == "layers":
        _vgg(extractor)
        return 64, 64
    if isinstance(extractor, IdentityEncoder):
        return extractor.config.ch[0], extractor.config.ch[2]
    return 64, 256


def _vgg(extractor: EyeExtractor) -> VGG16:
    if not isinstance(extractor, VGG16):
        raise CheckpointError(
            "`eye_features: layers` are two layers of VGG-16, but the eye extractor is an identity "
            "encoder of rendered faces. Give torchvision's VGG-16, or `eye_features: stages`."
        )
    return extractor
