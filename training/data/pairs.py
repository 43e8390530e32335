"""Pictures that come with their degraded counterpart, taken by a camera rather than made here."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.errors import counted, shorten
from ..settings.data_sections import PairFolders, PairsData
from ..settings.strict import ConfigError
from .cutting import random_square
from .damage import UnreadableError, inside
from .files import digest_of, look_for_captions, read_caption, read_picture, size_of, upright_size
from .pairing import (
    EXAMPLES,
    SAME_NAME,
    FoundPairs,
    chosen_pairs,
    find_pairs,
    place_of,
    refuse_alone,
    set_name,
)
from .sources import Photo, Photos, open_folder, parted, whole_picture

log = logging.getLogger(__name__)


class Pair(NamedTuple):
    """A good and a degraded file."""

    name: str
    files: tuple[Path, Path]
    folders: tuple[Path, Path]
    """That the files were found below."""
    key: str
    """The name with that of the data set."""
    largest: int | None
    """Shorter side before the crop, at most; None cuts without resizing."""


@dataclass
class PairPhotos(Photos):
    """HQ and LQ files cut alike: a random square, drawn by the seed; see `random_square`."""

    pairs: list[Pair]
    size: int
    captions: bool = True

    def __post_init__(self) -> None:
        self.by_identity = [[i] for i in range(len(self.pairs))]

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def load(self, index: int, seed: int = 0) -> Photo:
        pair, images = self.pairs[index], []
        for path, top in zip(pair.files, pair.folders, strict=True):
            with inside(top):
                images.append(read_picture(path))
        rng = np.random.default_rng([4, seed])
        gt, lq = random_square(images, self.size, rng, largest=pair.largest, name=pair.files[0])
        caption = read_caption(pair.files[0]) if self.captions else ""
        return Photo(gt, whole_picture(self.size), index, lq, caption)

    def digest(self) -> str:
        return digest_of(
            (f"{side}/{pair.name}{file.suffix}", size_of(file))
            for pair in self.pairs
            for side, file in zip(("HQ", "LQ"), pair.files, strict=True)
        )


@dataclass
class Mixed(Photos):
    """Pairs, then faces, as one source."""

    pairs: PairPhotos
    faces: Photos

    def __post_init__(self) -> None:
        self.first = len(self.pairs.pairs)
        self.by_identity = self.pairs.by_identity + [
            [self.first + i for i in group] for group in self.faces.by_identity
        ]

    def _where(self, index: int) -> tuple[Photos, int]:
        return (self.faces, index - self.first) if index >= self.first else (self.pairs, index)

    def name(self, index: int) -> str:
        source, i = self._where(index)
        return source.name(i)

    def load(self, index: int, seed: int = 0) -> Photo:
        source, i = self._where(index)
        photo = source.load(i, seed)
        # Faces number their people from 0 as well.
        return photo._replace(identity=photo.identity + (0 if source is self.pairs else self.first))

    def digest(self) -> str:
        both = self.pairs.digest() + self.faces.digest()
        return hashlib.sha256(both.encode()).hexdigest()


def open_pairs(config: PairsData) -> tuple[Photos, Photos]:
    """Training and validation pairs, with faces mixed in where the config names them.

    Raises:
        ConfigError: a folder is empty, a file has no counterpart, two differ in size, there is a
            single pair, or `captions` is true and there is none.
    """
    pairs = [pair for entry in config.folders for pair in _set_of(entry, config)]
    if len(pairs) < 2:
        raise ConfigError(
            f"There is a single pair, {pairs[0].files[0]}, and at least 2 are needed: one to train "
            "on and one held out for validation. Add pairs."
        )
    if config.captions is not False:
        sets = [place_of(entry) for entry in config.folders]
        look_for_captions([p.files[0] for p in pairs], sets, needed=config.captions is True)
    train, validation = (
        PairPhotos([pairs[i] for i in sorted(chosen)], config.size, config.captions is not False)
        for chosen in parted([pair.key for pair in pairs], config.held_out)
    )
    if config.faces is None:
        return train, validation
    faces, faces_validation = open_folder(
        config.faces,
        config.size,
        config.held_out,
        "file",
        captions=config.captions is not False,
        limit=config.faces_limit,
    )
    if config.captions is not False:
        folders = [config.faces] if isinstance(config.faces, Path) else config.faces
        files = [*faces.files, *faces_validation.files]
        look_for_captions(files, folders, needed=config.captions is True)
    return Mixed(train, faces), Mixed(validation, faces_validation)


def _set_of(entry: Path | PairFolders, config: PairsData) -> Iterator[Pair]:
    """The pairs of one data set."""
    found = find_pairs(entry)
    refuse_alone(found)
    names, folder, data_set = chosen_pairs(entry, found), place_of(entry), set_name(entry)
    limit, largest = None, None
    if isinstance(entry, PairFolders):
        limit, largest = entry.limit, entry.largest
    _tell(folder, found, names, limit)
    sizes = _sizes_of({name: found.pairs[name] for name in names})
    largest = largest or config.largest
    small = sum(min(size) < config.size for size in sizes.values())
    if small and largest is None:
        log.warning(
            "%s: %s of %d smaller than %d pixels: enlarged until a crop fits.",
            folder, counted(small, "pair"), len(names), config.size,
        )  # fmt: skip
    for name in names:
        yield Pair(name, found.pairs[name], found.folders, f"{data_set}/{name}", largest)


def _tell(folder: Path, found: FoundPairs, names: list[str], limit: int | None) -> None:
    """Say what was found and not taken."""
    if found.rule != SAME_NAME:
        log.info(
            "%s: %s by the rule %s (%s)",
            folder, counted(len(found.pairs), "pair"), found.rule, EXAMPLES[found.rule],
        )  # fmt: skip
    if found.others:
        log.warning(
            "%s: %s of neither side, left out; the first is %s",
            folder, counted(len(found.others), "picture"), shorten(found.others[0], 160),
        )  # fmt: skip
    if limit is not None and limit > len(names):
        log.warning("%s: limit %d, and there are %d pairs: all are taken", folder, limit,
                    len(names))  # fmt: skip


def _sizes_of(pairs: dict[str, tuple[Path, Path]]) -> dict[str, tuple[int, int]]:
    """Width and height of each pair, from the headers alone; without those that cannot be read.

    Raises:
        ConfigError: the pictures of a pair differ.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, files in pairs.items():
        try:
            sizes = both_sizes(files)
        except UnreadableError:
            continue  # it is named when its turn comes, and left out like any other
        if sizes[0] != sizes[1]:
            (hq, lq), (good, degraded) = files, sizes
            raise ConfigError(
                f"The pair {name} differs in size: {hq} has {good[0]} x {good[1]} pixels, "
                f"{lq} has {degraded[0]} x {degraded[1]}. Bring them to one size, pixel on pixel."
            )
        found[name] = sizes[0]
    return found


def both_sizes(files: tuple[Path, Path]) -> list[tuple[int, int]]:
    """Width and height of both pictures of a pair.

    Raises:
        UnreadableError: one of them is no picture.
    """
    return [upright_size(path) for path in files]
