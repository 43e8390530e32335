"""Where photographs come from: the procedural world, files, folders of pairs, or tar shards."""

import hashlib
import itertools
import logging
import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
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


class Top(NamedTuple):
    """One of the folders of a data set."""

    folder: Path
    label: str
    """Its name among several; empty for a single one."""

    def name(self, path: Path) -> str:
        """A path below it as names hold it, with forward slashes."""
        return PurePosixPath(self.label, path.relative_to(self.folder).as_posix()).as_posix()


@dataclass
class FolderPhotos(Photos):
    """Image files, cut to a centred square and resized."""

    files: list[Path]
    tops: list[Top]
    """Where each of them was found."""
    people: list[int]
    size: int
    captions: bool
    lost: dict[str, str] = field(default_factory=dict)

    def damage(self) -> dict[str, str]:
        return self.lost

    def __post_init__(self) -> None:
        self.by_identity = grouped(self.people)
        both = zip(self.files, self.tops, strict=True)
        self.names = [top.name(file.with_suffix("")) for file, top in both]

    def name(self, index: int) -> str:
        return self.names[index]

    def load(self, index: int, seed: int = 0) -> Photo:
        path = self.files[index]
        with inside(self.tops[index].folder):
            pixels = to_tensor(centred_square(read_picture(path), self.size))
        caption = read_caption(path) if self.captions else ""
        return Photo(pixels, whole_picture(self.size), self.people[index], caption=caption)

    def digest(self) -> str:
        both = list(zip(self.files, self.tops, strict=True))
        texts = [(f.with_suffix(".txt"), top) for f, top in both] if self.captions else []
        both += [(text, top) for text, top in texts if text.is_file()]
        return digest_of((top.name(file), size_of(file)) for file, top in both)


def open_folder(
    folder: Path | Sequence[Path],
    size: int,
    held_out: float,
    identity: Literal["file", "parent"],
    *,
    captions: bool = True,
    limit: int | None = None,
) -> tuple[FolderPhotos, FolderPhotos]:
    """Training and validation photographs of a folder, or of several.

    Args:
        folder: pictures of one name in several folders show one person where `identity` is
            "file"; where it is "parent" each folder has people of its own.
        limit: keeps only so many people.

    Raises:
        ConfigError: there are fewer than two people, or one of the folders lies in another.
    """
    folders = [folder] if isinstance(folder, Path) else list(folder)
    files: list[Path] = []
    tops: list[Top] = []
    groups: list[str] = []
    lost: dict[str, str] = {}
    aside: list[str] = []
    first: dict[str, str] = {}
    for top in map(Top, folders, _labels(folders)):
        found = picture_folder(top.folder)
        lost |= found.lost
        if found.aside:
            aside.append(found.aside.sentence())
            log.warning("%s: %s", top.folder, aside[-1])
        for file, _, person in found.samples:
            files.append(file)
            tops.append(top)
            # As files are named before their endings: x.png and x.jpg show one person.
            if identity == "file":
                groups.append(first.setdefault(relative_name(top.folder, file), person))
            else:
                parent = str(file.parent.relative_to(top.folder))
                groups.append(posixpath.join(top.label, parent))
    if len(people := set(groups)) < 2:
        raise ConfigError(
            f"The data folder {', '.join(map(str, folders))} holds pictures of {len(people)} "
            f"people, at least 2 are needed. Pictures end in {', '.join(SUFFIXES)}; subfolders are "
            f"searched. {' '.join(aside)}".rstrip()
        )

    def split(chosen: list[int], people: list[int]) -> FolderPhotos:
        mine, theirs = [files[i] for i in chosen], [tops[i] for i in chosen]
        return FolderPhotos(mine, theirs, people, size, captions, lost)

    return split_photos(groups, held_out, split, limit)


def _labels(folders: Sequence[Path]) -> list[str]:
    """Names that tell folders apart, as much of their paths as that takes; none for a single one.

    Raises:
        ConfigError: one lies in another.
    """
    if len(folders) == 1:
        return [""]
    places = [top.resolve() for top in folders]
    for (a, top), (b, other) in itertools.permutations(zip(places, folders, strict=True), 2):
        if a.is_relative_to(b):
            raise ConfigError(
                f"Of the data folders {top} and {other} one lies in the other, so that its "
                "pictures would come twice. Name each folder once."
            )
    # As typed, without links: a data set that was moved keeps its name.
    parts = [Path(os.path.abspath(top)).parts for top in folders]
    for count in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(own[-count:]) for own in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


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
