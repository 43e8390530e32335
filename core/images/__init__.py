"""Pictures on disk, read and written without losing depth, alpha, colour profile or orientation."""

from ..files.scan import PICTURE_SUFFIXES
from .picture import MAX_PIXELS, Encoded, Picture, to_array
from .reading import decode_picture, read_picture, upright_size
from .writing import check_sides, holds, write_atomic, write_picture, written_suffix

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "Encoded",
    "Picture",
    "check_sides",
    "decode_picture",
    "holds",
    "read_picture",
    "to_array",
    "upright_size",
    "write_atomic",
    "write_picture",
    "written_suffix",
]
