"""Pictures that come with their degraded counterpart, taken by a camera rather than made here."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..settings.data_sections import PairFolders, PairsData
from ..settings.strict import ConfigError
from .damage import UnreadableError, inside
from .files import (
    SUFFIXES,
    digest_of,
    picture_files,
    read_caption,
    read_picture,
    relative_name,
    size_of,
    to_tensor,
    upright_size,
)
from .sources import Photo, Photos, open_folder, parted, whole_picture


class Pair(NamedTuple):
    """A good and a degraded file."""

    name: str
    files: tuple[Path, Path]
    folders: tuple[Path, Path]
    """That the files were found below."""
    key: str
    """The name with that of the data set."""


@dataclass
class PairPhotos(Photos):
    """HQ and LQ files cut alike: a random square after a random resize, drawn by the seed."""

    pairs: list[Pair]
    size: int
    largest: int

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
        short = int(rng.integers(self.size, self.largest + 1))
        width, height = images[0].size
        scale = short / min(width, height)
        width, height = (max(self.size, round(side * scale)) for side in (width, height))
        left = int(rng.integers(width - self.size + 1))
        top = int(rng.integers(height - self.size + 1))
        gt, degraded = (
            to_tensor(
                image.resize((width, height), Image.Resampling.LANCZOS).crop(
                    (left, top, left + self.size, top + self.size)
                )
            )
            for image in images
        )
        return Photo(gt, whole_picture(self.size), index, degraded, read_caption(pair.files[0]))

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
        ConfigError: a folder is empty, a file has no counterpart, two differ in size, or there is
            a single pair.
    """
    pairs = []
    for entry in config.folders:
        folders = _folders(entry)
        folder = entry if isinstance(entry, Path) else entry.hq
        # Not the path as typed: a run resumed from another folder must hold out the same pairs.
        data_set = os.path.basename(os.path.abspath(folder))
        for name, files in _pairs(folders).items():
            pairs.append(Pair(name, files, folders, f"{data_set}/{name}"))
    if len(pairs) < 2:
        raise ConfigError(
            f"There is a single pair, {pairs[0].files[0]}, and at least 2 are needed: one to train "
            "on and one held out for validation. Add pairs."
        )
    train, validation = (
        PairPhotos([pairs[i] for i in sorted(chosen)], config.size, config.largest)
        for chosen in parted([pair.key for pair in pairs], config.held_out)
    )
    if config.faces is None:
        return train, validation
    faces, faces_validation = open_folder(
        config.faces, config.size, config.held_out, "file", limit=config.faces_limit
    )
    return Mixed(train, faces), Mixed(validation, faces_validation)


def _folders(entry: Path | PairFolders) -> tuple[Path, Path]:
    """Of the good and the degraded pictures of one data set."""
    return (entry / "HQ", entry / "LQ") if isinstance(entry, Path) else (entry.hq, entry.lq)


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in picture_files(folder):
        other = found.setdefault(relative_name(folder, file), file)
        if other is not file:
            raise ConfigError(
                f"{other} and {file} have the same name but for the ending, so it is unclear which "
                "one is the counterpart. Remove or rename one of them."
            )
    return found


def _pairs(folders: tuple[Path, Path]) -> dict[str, tuple[Path, Path]]:
    """name -> (HQ file, LQ file)."""
    found = [_by_name(folder) for folder in folders]
    for folder, files in zip(folders, found, strict=True):
        if not files:
            raise ConfigError(
                f"There are no pictures in {folder}. A folder of pairs holds HQ/<name> and "
                f"LQ/<name>, or is given as two folders `hq:` and `lq:`; pictures end in "
                f"{', '.join(SUFFIXES)}."
            )
    alone = sorted(found[0].keys() ^ found[1].keys())
    if alone:
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise ConfigError(
            f"{alone[0]}{more} is in only one of {folders[0]} and {folders[1]}. Each picture needs "
            "its counterpart of the same name: add or remove it."
        )
    pairs = {name: (file, found[1][name]) for name, file in found[0].items()}
    for name, (hq, lq) in pairs.items():
        try:
            sizes = [upright_size(path) for path in (hq, lq)]
        except UnreadableError:
            continue  # it is named when its turn comes, and left out like any other
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"The pair {name} differs in size: {hq} has {sizes[0][0]} x {sizes[0][1]} pixels, "
                f"{lq} has {sizes[1][0]} x {sizes[1][1]}. Bring them to one size, pixel on pixel."
            )
    return pairs
