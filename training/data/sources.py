"""Where photographs come from: the procedural world, files, folders of pairs, or tar shards."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...core.geometry.square import centred_square
from ..settings.strict import ConfigError
from .damage import inside
from .files import (
    SUFFIXES,
    digest_of,
    picture_folder,
    read_caption,
    read_picture,
    relative_name,
    size_of,
    to_tensor,
)

log = logging.getLogger(__name__)

P = TypeVar("P", bound="Photos")


class Photo(NamedTuple):
    """One photograph."""

    pixels: Tensor
    """uint8 (3, s, s)."""
    box: Tensor
    """(4,) float: the face, in pixels x0 y0 x1 y1."""
    identity: int
    """Number of the person."""
    lq: Tensor | None = None
    """Like `pixels`, where the photo comes with a degraded counterpart."""
    caption: str = ""
    references: tuple[Tensor, ...] = ()
    """Like `pixels`: other photos of the person, where the config asks for them."""


class Photos(Protocol):
    """Photographs of one split, numbered from 0."""

    by_identity: list[list[int]]
    """Numbers of the photos of every person."""

    def name(self, index: int) -> str:
        """What files made from this photo are called."""
        ...

    def load(self, index: int, seed: int = 0) -> Photo:
        """Photo number `index`; `seed` decides what is drawn each time, like a crop.

        Raises:
            UnreadableError: a file of this photo is gone or damaged.
            DataLostError: all of them are gone.
        """
        ...

    def digest(self) -> str:
        """What tells this data set from others, sha256 in hexadecimal: names and sizes of its
        files, or how it was rendered."""
        ...

    def damage(self) -> dict[str, str]:
        """File -> why, of what was left out when the source was opened."""
        return {}


def grouped(people: Iterable[int]) -> list[list[int]]:
    """Numbers of the photos of every person, from who is on each."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, person in enumerate(people):
        groups[person].append(index)
    return list(groups.values())


def whole_picture(size: int) -> Tensor:
    """Box of a face whose place is not known: aligned data sets fill the picture with it."""
    return torch.tensor([0.0, 0.0, size - 1, size - 1])


@dataclass
class WorldPhotos(Photos):
    """Rendered faces held as arrays on disk, read where they lie."""

    images: np.ndarray
    boxes: np.ndarray
    identities: np.ndarray
    made: str
    """How, and which split."""

    def __post_init__(self) -> None:
        self.by_identity = grouped(self.identities.tolist())

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def load(self, index: int, seed: int = 0) -> Photo:
        pixels = torch.from_numpy(np.array(self.images[index]))
        box = torch.from_numpy(np.array(self.boxes[index], dtype=np.float32))
        return Photo(pixels, box, int(self.identities[index]))

    def digest(self) -> str:
        return hashlib.sha256(self.made.encode()).hexdigest()


@dataclass
class FolderPhotos(Photos):
    """Image files, cut to a centred square and resized."""

    folder: Path
    files: list[Path]
    names: list[str]
    people: list[int]
    size: int
    captions: bool
    lost: dict[str, str] = field(default_factory=dict)

    def damage(self) -> dict[str, str]:
        return self.lost

    def __post_init__(self) -> None:
        self.by_identity = grouped(self.people)

    def name(self, index: int) -> str:
        return self.names[index]

    def load(self, index: int, seed: int = 0) -> Photo:
        path = self.files[index]
        with inside(self.folder):
            pixels = to_tensor(centred_square(read_picture(path), self.size))
        caption = read_caption(path) if self.captions else ""
        return Photo(pixels, whole_picture(self.size), self.people[index], caption=caption)

    def digest(self) -> str:
        texts = [f.with_suffix(".txt") for f in self.files] if self.captions else []
        files = self.files + [text for text in texts if text.is_file()]
        return digest_of((f.relative_to(self.folder).as_posix(), size_of(f)) for f in files)


def open_folder(
    folder: Path,
    size: int,
    held_out: float,
    identity: Literal["file", "parent"],
    *,
    captions: bool = True,
    limit: int | None = None,
) -> tuple[FolderPhotos, FolderPhotos]:
    """Training and validation photographs of a folder; `limit` keeps only so many people.

    Raises:
        ConfigError: the folder holds fewer than two people.
    """
    found = picture_folder(folder)
    files = [sample.file for sample in found.samples]
    # As files are named before their endings: x.png and x.jpg show one person.
    groups = [
        str(f.parent.relative_to(folder)) if identity == "parent" else person
        for f, _, person in found.samples
    ]
    if len(people := set(groups)) < 2:
        raise ConfigError(
            f"The data folder {folder} holds pictures of {len(people)} people, at least 2 "
            f"are needed. Pictures end in {', '.join(SUFFIXES)}; subfolders are searched."
            f" {found.aside.sentence()}".rstrip()
        )
    if found.aside:
        log.warning("%s: %s", folder, found.aside.sentence())

    def split(chosen: list[int], people: list[int]) -> FolderPhotos:
        mine = [files[i] for i in chosen]
        names = [relative_name(folder, file) for file in mine]
        return FolderPhotos(folder, mine, names, people, size, captions, found.lost)

    return split_photos(groups, held_out, split, limit)


def split_photos(
    groups: Sequence[str],
    held_out: float,
    split: Callable[[list[int], list[int]], P],
    limit: int | None = None,
) -> tuple[P, P]:
    """Training and validation photographs.

    Args:
        groups: what the person on each photo is called.
        split: makes a split of the numbers of its photos, and of the number of who is on each.
        limit: keeps only so many people.
    """
    people = sorted(set(groups))
    number = {name: i for i, name in enumerate(people)}
    numbers = [number[group] for group in groups]

    def of(wanted: set[int]) -> P:
        chosen = [i for i, person in enumerate(numbers) if person in wanted]
        return split(chosen, [numbers[i] for i in chosen])

    training, validation = map(set, parted(people, held_out, limit))
    return of(training), of(validation)


def parted(
    names: Sequence[str], held_out: float, limit: int | None = None
) -> tuple[list[int], list[int]]:
    """Numbers of those to train on and of those held out, at least one each, in no order.

    The side of each hangs on its name alone: adding pictures moves none to the other.

    Args:
        names: of people or pictures; names of files may be any bytes.
        held_out: share of them.
        limit: keeps only so many.
    """
    digests = [hashlib.sha256(n.encode("utf-8", "surrogateescape")).hexdigest() for n in names]
    ranked = sorted(range(len(names)), key=digests.__getitem__)[:limit]
    most = len(ranked) - 1  # somebody is left to train on
    count = min(most, max(1, round(held_out * len(ranked))))
    return ranked[count:], ranked[:count]
