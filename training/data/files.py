"""Pictures and captions from files."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core import images
from ...core.diffusion import text
from ...core.errors import shorten
from ...core.files.scan import PICTURE_SUFFIXES, LeftAside, pictures_in
from ..settings.strict import ConfigError
from .damage import UnreadableError

log = logging.getLogger(__name__)

SUFFIXES = tuple(sorted(PICTURE_SUFFIXES))
AGAIN = "~"
"""Between the name and the number of a person's further picture in a shard, where names end at the
first dot: x.jpg and x.png of a folder become x.jpg and x~2.png."""


class Sample(NamedTuple):
    """A good picture of a folder with what lies beside it."""

    file: Path
    lq: Path | None
    """Its degraded counterpart, `<name>.lq.<ending>`."""
    person: str
    """Its path below the folder; of pictures that differ in their endings only, the first one's.
    Who is on it, where each file shows somebody else."""


class PictureFolder(NamedTuple):
    """What a folder holds for training."""

    samples: list[Sample]
    """In the order of their paths."""
    lost: dict[str, str]
    """File -> why it is not among them, of degraded pictures without a good one."""
    aside: LeftAside
    """What is no picture to read."""


def picture_folder(folder: Path) -> PictureFolder:
    """Pictures below `folder`; degraded counterparts are no pictures of their own."""
    aside = LeftAside()
    files = picture_files(folder, aside)
    degraded: dict[Path, Path] = {}
    lost = {
        str(f): f"it is a degraded counterpart like {other.name}, which is taken"
        for f in files
        if _is_lq(f) and (other := degraded.setdefault(_good_name(f), f)) is not f
    }
    good = [f for f in files if not _is_lq(f)]
    first: dict[Path, str] = {}
    for file in good:
        first.setdefault(file.with_suffix(""), file.relative_to(folder).as_posix())
    lost |= {
        str(file): f"it is a degraded counterpart, and there is no {name.name}.*"
        for name, file in degraded.items()
        if name not in first
    }
    samples = [Sample(f, degraded.get(f.with_suffix("")), first[f.with_suffix("")]) for f in good]
    return PictureFolder(samples, lost, aside)


def _is_lq(file: Path) -> bool:
    return file.with_suffix("").suffix.lower() == ".lq"


def _good_name(lq: Path) -> Path:
    """`a/001` of `a/001.lq.png`."""
    return lq.with_suffix("").with_suffix("")


def picture_files(folder: Path, aside: LeftAside | None = None) -> list[Path]:
    """Every picture below `folder`, sorted; subfolders are searched, also behind links."""
    return pictures_in(folder, LeftAside() if aside is None else aside)


def relative_name(folder: Path, file: Path) -> str:
    """Path below `folder` without suffix, with forward slashes."""
    return file.relative_to(folder).with_suffix("").as_posix()


def read_picture(path: Path) -> Image.Image:
    """RGB, upright, 8 bits: decoded as `facewright synthesize` does, so that pixels correspond.

    Raises:
        UnreadableError: the file is gone, damaged or no picture.
    """
    with _unreadable(path):
        return _rgb(images.read_picture(path))


def decode_picture(data: bytes, name: str) -> Image.Image:
    """`read_picture` of a file's content."""
    with _unreadable(name):
        return _rgb(images.decode_picture(data, name))


def _rgb(picture: images.Picture) -> Image.Image:
    return Image.fromarray(images.to_array(picture.pixels[:3]))


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of what `read_picture` gives, from the file's header alone.

    Raises:
        UnreadableError: the file is no picture.
    """
    with _unreadable(path):
        return images.upright_size(path)


@contextmanager
def _unreadable(name: object) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # decoders raise whatever damage leads them to
        raise UnreadableError(name, error) from error


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_caption(picture: Path) -> str:
    """Text of the `.txt` file beside a picture; empty where there is none.

    Raises:
        UnreadableError: the file is no UTF-8 text.
    """
    with _unreadable(picture.with_suffix(".txt")):
        return text.read_caption(picture)


def look_for_captions(pictures: Collection[Path], folders: Iterable[Path], *, needed: bool) -> None:
    """Say how many pictures have no text file beside them: they are trained without text.

    Raises:
        ConfigError: captions are `needed`, and there is none at all.
    """
    without = sorted(file for file in pictures if not file.with_suffix(".txt").is_file())
    if not without:
        return
    where = ", ".join(map(str, folders))
    if needed and len(without) == len(pictures):
        raise ConfigError(
            f"`captions` is true, and none of the {len(pictures)} pictures in {where} has a text "
            f"file beside it: {without[0].with_suffix('.txt')} was expected, for example. Write "
            "captions (`facewright caption` does, with a BLIP model of yours), or set `captions: "
            "false` to train without text."
        )
    log.warning(
        "%d of %d pictures in %s have no caption, such as %s: they are trained without text; "
        "`facewright caption` writes what is missing.",
        len(without), len(pictures), where, shorten(without[0], 160),
    )  # fmt: skip


def digest_of(files: Iterable[tuple[str, int]]) -> str:
    """sha256 in hexadecimal of a set of files, each a name and its size in bytes."""
    digest = hashlib.sha256()
    for name, size in sorted(files):
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """In bytes; -1 where the file is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
