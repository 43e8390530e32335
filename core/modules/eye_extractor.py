"""What describes eyes for HonestFace."""

import os
from pathlib import Path

from ..checkpoint import detect_format, read_tensors
from ..errors import CheckpointError
from .identity import FORMAT as NANO_IDENTITY
from .identity import IdentityEncoder
from .vgg import VGG16

EyeExtractor = VGG16 | IdentityEncoder
"""A frozen network whose first and third feature stages describe eyes."""


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


def eye_channels(extractor: EyeExtractor) -> tuple[int, int]:
    """Channels of the first and third stage of what `load_eye_extractor` returns."""
    if isinstance(extractor, IdentityEncoder):
        return extractor.config.ch[0], extractor.config.ch[2]
    return 64, 256
