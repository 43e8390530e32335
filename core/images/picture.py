"""A decoded picture, and what the readers and writers of all formats share."""

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import FacewrightError

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before decoding, as Pillow does: a small file can claim any size."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
}
"""Formats that are written, by suffix."""


@dataclass(frozen=True)
class Encoded:
    """The file that a picture was decoded from."""

    data: bytes = field(repr=False)
    format: str
    """Pillow's name of it."""
    conversions: tuple[str, ...] = ()
    """Those of the picture's notes that do not hold of the file itself."""


@dataclass
class Picture:
    """A decoded picture, upright, and what it takes to write one like it."""

    pixels: Tensor
    """(c, h, w) float32 in [0, 1]; c is 3 (RGB) or 4 (RGB and alpha)."""
    bits: int = 8
    """8 or 16 per channel."""
    grey: bool = False
    """It was stored without colour, and is written so again."""
    icc: bytes | None = None
    exif: bytes | None = None
    notes: list[str] = field(default_factory=list)
    """What could not be kept as it was, one sentence each."""
    dpi: tuple[float, float] | None = None
    """Across and down."""
    lossless: bool = False
    """It was stored without loss in a format that also knows loss, such as WebP."""
    encoded: Encoded | None = None
    space: Mapping[bytes, bytes] = field(default_factory=dict)
    """Chunks of a PNG that say what its values look like, by kind."""


@dataclass
class Stored:
    """What a file holds, before it is turned upright."""

    array: np.ndarray
    """(h, w, 3 or 4) uint8 or uint16."""
    format: str
    grey: bool = False
    icc: bytes | None = None
    exif: "Exif | None" = None
    xmp: bytes | None = None
    """Read for its orientation where `exif` has none."""
    dpi: tuple[float, float] | None = None
    lossless: bool = False
    orientation: int | None = None
    """1 to 8; None where `exif` or `xmp` has it."""
    space: Mapping[bytes, bytes] = field(default_factory=dict)
    """As that of a `Picture`."""
    notes: list[str] = field(default_factory=list)
    conversions: list[str] = field(default_factory=list)

    @property
    def bits(self) -> int:
        return 16 if self.array.dtype == np.uint16 else 8


def check_size(width: int, height: int, path: object) -> None:
    """Raise FacewrightError where so many pixels are not decoded, or none."""
    if width < 1 or height < 1:
        raise damaged(path, f"it claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise FacewrightError(
            f"{path} claims more than {MAX_PIXELS / 1e6:.0f} megapixels and was not opened. "
            "Cut it into tiles or scale it down first."
        )


def damaged(path: object, why: object) -> FacewrightError:
    return FacewrightError(f"{path} is damaged or incomplete ({why}). Copy or download it again.")


def pages(path: object, count: int) -> FacewrightError:
    return FacewrightError(
        f"{path} is animated or has {count} pages; only single pictures can be read. "
        "Export its frames first."
    )


def refused(path: object, what: str) -> FacewrightError:
    """Of a kind that no decoder here reads rightly."""
    return FacewrightError(
        f"{path} {what}. Convert it to RGB with 8 or 16 bits per channel, as PNG or TIFF, first."
    )


@contextmanager
def no_warnings() -> Iterator[None]:
    """Without what Pillow says of metadata; as a decorator, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def silence() -> Iterator[None]:
    """Without what libtiff and libpng print of damage, which Pillow and OpenCV tell as well."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error, such as in a service
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def to_array(pixels: Tensor, bits: int = 8) -> np.ndarray:
    """(c, h, w) in [0, 1] -> (h, w, c) uint8 or uint16, rounded; nothing else grows with it."""
    channels, height, width = pixels.shape
    array = np.empty((height, width, channels), np.uint16 if bits == 16 else np.uint8)
    for rows in bands(height, width):
        part = pixels[:, rows].detach().float().cpu().clamp(0, 1)
        array[rows] = part.mul_(2**bits - 1).round_().permute(1, 2, 0).numpy()
    return array


def from_pillow(image: "Image", mode: str) -> np.ndarray:
    """(h, w, c) of a picture in a Pillow mode, which `numpy.asarray` would hold three times."""
    width, height = image.size
    array = np.empty((height, width, len(mode)), np.uint8)
    for rows in bands(height, width):
        part = image.crop((0, rows.start, width, rows.stop))
        array[rows] = np.asarray(part if part.mode == mode else part.convert(mode))
    return array


def bands(height: int, width: int) -> Iterator[slice]:
    """Rows of a picture in groups of about a million pixels."""
    step = max(1, 2**20 // max(1, width))
    for y in range(0, height, step):
        yield slice(y, min(y + step, height))
