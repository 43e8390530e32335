"""Where photographs come from: the procedural world, or a folder of files."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import ConfigError, FolderData, WorldData
from .world import world_arrays

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class Photos(Protocol):
    """Photographs of one split, numbered from 0."""

    by_identity: list[list[int]]
    """Numbers of the photos of every person."""

    def load(self, index: int) -> tuple[Tensor, Tensor, int]:
        """uint8 (3, s, s), face box (4,) float in pixels x0 y0 x1 y1, number of the person."""


@dataclass
class WorldPhotos:
    """Rendered faces held as arrays on disk, read where they lie."""

    images: np.ndarray
    boxes: np.ndarray
    identities: np.ndarray

    def __post_init__(self) -> None:
        groups = defaultdict(list)
        for index, identity in enumerate(self.identities.tolist()):
            groups[identity].append(index)
        self.by_identity = list(groups.values())

    def load(self, index: int) -> tuple[Tensor, Tensor, int]:
        pixels = torch.from_numpy(np.array(self.images[index]))
        box = torch.from_numpy(np.array(self.boxes[index], dtype=np.float32))
        return pixels, box, int(self.identities[index])


@dataclass
class FolderPhotos:
    """Image files, cut to a centred square and resized."""

    files: list[Path]
    people: list[int]
    size: int

    def __post_init__(self) -> None:
        groups = defaultdict(list)
        for index, person in enumerate(self.people):
            groups[person].append(index)
        self.by_identity = list(groups.values())

    def load(self, index: int) -> tuple[Tensor, Tensor, int]:
        path = self.files[index]
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise ConfigError(
                f"The training picture {path} could not be read ({error}). Remove or replace it."
            ) from error
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        # Where the face is, is not known here; aligned data sets fill the picture with it.
        box = torch.tensor([0.0, 0.0, self.size - 1, self.size - 1])
        return pixels, box, self.people[index]


def open_source(config: WorldData | FolderData) -> tuple[Photos, Photos]:
    """Training and validation photographs; no person is in both.

    Raises:
        ConfigError: the folder holds fewer than two people.
    """
    if isinstance(config, WorldData):
        train, held_out = world_arrays(config)
        return WorldPhotos(*train), WorldPhotos(*held_out)
    files = sorted(p for p in config.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    names = [str((f.parent if config.identity == "parent" else f).relative_to(config.folder))
             for f in files]  # fmt: skip
    people = sorted(set(names))
    if len(people) < 2:
        raise ConfigError(
            f"The data folder {config.folder} holds pictures of {len(people)} people, at least 2 "
            f"are needed. Pictures end in {', '.join(SUFFIXES)}; subfolders are searched."
        )
    # A person's split hangs on the name alone: adding pictures moves nobody to the other side.
    ranked = sorted(people, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held_out = set(ranked[: max(1, round(config.held_out * len(people)))])
    number = {name: i for i, name in enumerate(people)}

    def split(keep: bool) -> FolderPhotos:
        chosen = [i for i, name in enumerate(names) if (name in held_out) == keep]
        return FolderPhotos(
            [files[i] for i in chosen], [number[names[i]] for i in chosen], config.size
        )

    return split(False), split(True)
