"""Degraded pictures made beforehand by a degradation model (`facewright synthesize`)."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from torch import Tensor

from ...core.geometry.square import centred_square
from ..settings.config import OffShelfConfig
from ..settings.strict import ConfigError
from .damage import Careful, inside
from .files import picture_files, read_picture, relative_name, to_tensor
from .sources import Photo, Photos


class OffShelf:
    """Photos of a source, some with a degraded picture from the shelf in place of lq.

    With probability `share` a photo takes one of its own, `<name>_<k>.png`, drawn uniformly
    (FLIPNET, Sec. 5.1: share 0.5, five pictures for each face). Photos that have none on the shelf,
    because it is not complete, are degraded on the fly; so are those whose picture cannot be read.
    """

    def __init__(self, photos: Photos, config: OffShelfConfig) -> None:
        self.photos, self.config = photos, config
        self.careful = Careful()
        found: dict[str, list[Path]] = defaultdict(list)
        folder = config.folder
        for file in picture_files(folder):
            if match := re.fullmatch(r"(.+)_\d+", relative_name(folder, file)):
                found[match[1]].append(file)
        total = sum(map(len, photos.by_identity))
        self.shelf = [found.get(photos.name(i), []) for i in range(total)]
        if not any(self.shelf):
            raise ConfigError(
                f"None of the {total} training pictures has a degraded one in {folder}: "
                f"{photos.name(0)}_1.png was expected, for example. Make them with `facewright "
                "synthesize` from the same pictures, or take `off_shelf` out of the config."
            )

    def lq(self, index: int, photo: Photo, rng: np.random.Generator) -> Tensor | None:
        """A picture for photo number `index`, uint8 like its pixels, or None."""
        files = self.shelf[index]
        if rng.random() >= self.config.share or not files:
            return None
        file = files[int(rng.integers(len(files)))]
        return self.careful(lambda: self._read(file, photo.pixels.shape[-1]))

    def _read(self, file: Path, size: int) -> Tensor:
        with inside(self.config.folder):
            return to_tensor(centred_square(read_picture(file), size))
