"""Pictures and captions from files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def picture_files(folder: Path) -> list[Path]:
    """Pictures below `folder`, sorted; subfolders are searched."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def relative_name(folder: Path, file: Path) -> str:
    """Path below `folder` without suffix, with forward slashes."""
    return file.relative_to(folder).with_suffix("").as_posix()


def read_picture(path: Path) -> Image.Image:
    """RGB.

    Raises:
        ConfigError: the file is no picture.
    """
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise ConfigError(
            f"The training picture {path} could not be read ({error}). Remove or replace it."
        ) from error


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_caption(picture: Path) -> str:
    """Text of the `.txt` file beside a picture; empty where there is none."""
    path = picture.with_suffix(".txt")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
