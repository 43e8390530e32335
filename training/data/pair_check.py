"""What a set of pairs is made of, told before a run is started on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core.errors import counted, listed
from ..settings.data_sections import PairFolders
from .damage import UnreadableError
from .pairing import FoundPairs, chosen_pairs, find_pairs
from .pairs import Pair, PairPhotos, both_sizes


@dataclass
class PairCheck:
    """Pairs of one data set, and what is the matter with them."""

    entry: PairFolders
    found: FoundPairs
    names: list[str]
    """Of the pairs that the entry's limit leaves."""
    sizes: dict[str, tuple[int, int]]
    """Name -> width and height, where both pictures have the same."""
    other_sizes: list[str]
    """Pairs whose pictures differ in size: training refuses them."""
    unreadable: list[str]
    """Files that are no pictures: training leaves their pairs out."""
    size: int
    """Side of the crop in pixels."""

    @property
    def enlarged(self) -> list[str]:
        """Pairs with a side shorter than the crop."""
        return [name for name, sides in self.sizes.items() if min(sides) < self.size]

    def refusals(self) -> list[str]:
        """Sentences on what training would refuse."""
        told = []
        if alone := self.found.alone:
            told.append(f"{counted(len(alone), 'picture')} without a counterpart: {listed(alone)}.")
        if unequal := self.other_sizes:
            told.append(
                f"{counted(len(unequal), 'pair')} whose pictures differ in size: {listed(unequal)}."
            )
        if not self.names:
            told.append("There is no pair.")
        return told

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        pairs = ((name, *self.found.pairs[name]) for name in self.names)
        return {
            "rule": self.found.rule,
            "found": len(self.found.pairs),
            "pairs": [{"name": name, "hq": str(hq), "lq": str(lq)} for name, hq, lq in pairs],
            "alone": [str(file) for file in self.found.alone],
            "other_sizes": self.other_sizes,
            "unreadable": self.unreadable,
            "enlarged": self.enlarged,
            "of_neither_side": [str(file) for file in self.found.others],
            "left_aside": self.found.aside.entries(),
        }

    def crops(self, count: int) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, degraded and good crop, (3, size, size) in [0, 1], of the first pairs.

        They are cut as training cuts them without `largest`; pairs that cannot be read are passed
        over.
        """
        files, folders = self.found.pairs, self.found.folders
        pairs = [Pair(n, files[n], folders, n, self.entry.largest) for n in self.names]
        photos, drawn = PairPhotos(pairs, self.size, captions=False), 0
        for index, pair in enumerate(pairs):
            if drawn == count:
                return
            try:
                photo = photos.load(index, index)
            except UnreadableError:
                continue
            assert photo.lq is not None
            drawn += 1
            yield pair.name, photo.lq.float() / 255, photo.pixels.float() / 255


def check_pairs(entry: PairFolders, size: int) -> PairCheck:
    """Pair the files of one data set and look at each file's header.

    Args:
        entry: as in `data.folders` of a config.
        size: side of the crop in pixels.

    Raises:
        ConfigError: as `find_pairs`.
    """
    found = find_pairs(entry)
    check = PairCheck(entry, found, chosen_pairs(entry, found), {}, [], [], size)
    for name in check.names:
        try:
            good, degraded = both_sizes(found.pairs[name])
        except UnreadableError as error:
            check.unreadable.append(error.name)
            continue
        if good == degraded:
            check.sizes[name] = good
        else:
            check.other_sizes.append(name)
    return check
