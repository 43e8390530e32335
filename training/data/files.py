"""Pictures and captions from files."""

from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ...core.errors import FacewrightError
from ...headless.images import read_picture as decode
from ...headless.images import to_array
from ...headless.text import read_caption as caption_of
from ..config import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def picture_files(folder: Path) -> list[Path]:
    """Pictures below `folder`, sorted; subfolders are searched."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def relative_name(folder: Path, file: Path) -> str:
    """Path below `folder` without suffix, with forward slashes."""
    return file.relative_to(folder).with_suffix("").as_posix()


def read_picture(path: Path) -> Image.Image:
    """RGB, upright, 8 bits: decoded as `facewright synthesize` does, so that pixels correspond.

    Raises:
        ConfigError: the file is no picture.
    """
    try:
        return Image.fromarray(to_array(decode(path).pixels[:3]))
    except FacewrightError as error:
        raise _unreadable(path, error) from error


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of what `read_picture` gives, from the file's header alone.

    Raises:
        ConfigError: the file is no picture.
    """
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            # PNG's own method would decode all pixels, in case the entry lies behind them.
            turned = Image.Image.getexif(opened).get(ExifTags.Base.Orientation, 1) >= 5
    except OSError as error:
        raise _unreadable(path, error) from error
    return (height, width) if turned else (width, height)


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"The training picture {path} could not be read ({error}). Remove or replace it."
    )


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_caption(picture: Path) -> str:
    """Text of the `.txt` file beside a picture; empty where there is none.

    Raises:
        ConfigError: the file is no UTF-8 text.
    """
    try:
        return caption_of(picture)
    except FacewrightError as error:
        raise ConfigError(str(error)) from error
