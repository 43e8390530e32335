"""Pictures and captions from files."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import FacewrightError
from ...headless import images, text
from .damage import UnreadableError

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
        UnreadableError: the file is gone, damaged or no picture.
    """
    return _rgb(lambda: images.read_picture(path), path)


def decode_picture(data: bytes, name: str) -> Image.Image:
    """`read_picture` of a file's content."""
    return _rgb(lambda: images.decode_picture(data, name), name)


def _rgb(decode: Callable[[], images.Picture], name: object) -> Image.Image:
    try:
        return Image.fromarray(images.to_array(decode().pixels[:3]))
    except Exception as error:  # decoders raise whatever damage leads them to
        raise UnreadableError(name, error) from error


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of what `read_picture` gives, from the file's header alone.

    Raises:
        UnreadableError: the file is no picture.
    """
    try:
        return images.upright_size(path)
    except Exception as error:  # as above
        raise UnreadableError(path, error) from error


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_caption(picture: Path) -> str:
    """Text of the `.txt` file beside a picture; empty where there is none.

    Raises:
        UnreadableError: the file is no UTF-8 text.
    """
    try:
        return text.read_caption(picture)
    except FacewrightError as error:
        raise UnreadableError(picture.with_suffix(".txt"), error) from error


def digest_of(files: Iterable[tuple[str, int]]) -> str:
    """sha256 in hexadecimal of a set of files, each a name and its size in bytes."""
    digest = hashlib.sha256()
    for name, size in sorted(files):
        digest.update(f"{name}\0{size}\n".encode())
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """In bytes; -1 where the file is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
