"""Weight files: read and written (`files`), told apart (`identify`), held against a network
(`fitting`), which `core.architecture` builds.

Nothing here knows a method. How files of other programs become ours is in `core.diffusion.ldm`
(Stable Diffusion), `core.lora` and `core.weights.convert`.
"""

from .files import (
    CONFIG_KEY,
    FORMAT_KEY,
    make_metadata,
    read_config,
    read_content,
    read_header,
    read_metadata,
    read_pieces,
    read_tensors,
    save_safetensors,
)
from .fitting import broken_in, check_finite, check_fits, load_strict, refuse_broken
from .identify import Identity, describe_format, detect_format, identify

__all__ = [
    "CONFIG_KEY",
    "FORMAT_KEY",
    "Identity",
    "broken_in",
    "check_finite",
    "check_fits",
    "describe_format",
    "detect_format",
    "identify",
    "load_strict",
    "make_metadata",
    "read_config",
    "read_content",
    "read_header",
    "read_metadata",
    "read_pieces",
    "read_tensors",
    "refuse_broken",
    "save_safetensors",
]
