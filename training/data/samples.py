"""What sample n of a run is: a photo of somebody, mirrored or not, and what goes with it."""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ...core.errors import DataLostError
from .damage import Careful
from .off_shelf import OffShelf
from .sources import Photo, Photos

TRIED_OF_A_PERSON = 8
"""Photos of one person (or as many as there are views) that are tried before another person takes
the place: a person whose whole folder is damaged is no reason to stop the run."""


class Sample(NamedTuple):
    """One sample on its way into a batch."""

    photo: Photo
    number: int
    unreadable: Mapping[str, str] = {}
    """Files that were left out on the way -> why."""


class TrainSamples(Dataset):
    """Sample number -> photo. Every person (with views: 1 every photo) comes once per round.

    A photo that cannot be read is replaced by another of the person, or, where there is none, by
    the person next in the round: the same one each time, as long as the files are the same.
    """

    def __init__(
        self,
        photos: Photos,
        seed: int,
        views: int,
        shelf: OffShelf | None = None,
        references: int = 0,
        mirror: bool = True,
    ) -> None:
        self.photos, self.seed, self.views, self.shelf = photos, seed, views, shelf
        self.references, self.mirror = references, mirror
        self.person = {i: g for g in photos.by_identity for i in g} if references else {}
        everything = [[i] for group in photos.by_identity for i in group]
        self.groups = photos.by_identity if views > 1 else everything
        self.careful = Careful()
        self._round, self._order = -1, np.empty(0, np.int64)

    def __getitem__(self, number: int) -> Sample | DataLostError:
        """Returns the error that ends a run: raised in a worker process it would arrive as a
        traceback in place of its sentence."""
        try:
            photo = self._photo(number)
        except DataLostError as error:
            return error
        unreadable = self.careful.found()
        if self.shelf:
            unreadable |= self.shelf.careful.found()
        return Sample(photo, number, unreadable)

    def _photo(self, number: int) -> Photo:
        group, view = divmod(number, self.views)
        round_, place = divmod(group, len(self.groups))
        if round_ != self._round:
            rng = np.random.default_rng([self.seed, 0, round_])
            self._round, self._order = round_, rng.permutation(len(self.groups))
        seed = self.seed * 2**42 + number
        for attempt in itertools.count():  # `careful` ends it
            rng = np.random.default_rng([self.seed, 1, group, attempt])
            person = self.groups[self._order[(place + attempt) % len(self._order)]]
            # The views of a group try the same photos, each in its own order: so they agree on
            # whether another person takes the place, and stay one person's.
            tried = rng.permutation(person)[: max(self.views, TRIED_OF_A_PERSON)].tolist()
            for index in _in_turn(tried, view, self.views):
                photo = self.careful(partial(self.photos.load, index, seed))
                if photo is not None:
                    return self._dressed(photo, index, seed, rng)
        raise AssertionError("not reached")

    def _dressed(self, photo: Photo, index: int, seed: int, rng: np.random.Generator) -> Photo:
        # One draw per group: a person's mirror image is another person to the identity losses.
        mirrored = rng.random() < 0.5 and self.mirror
        if self.shelf and photo.lq is None:
            photo = photo._replace(lq=self.shelf.lq(index, photo, rng))
        if self.references:
            others = self._others(index, rng)
            loaded = [self.careful(partial(self.photos.load, i, seed)) for i in others]
            photo = photo._replace(references=tuple(p.pixels for p in loaded if p is not None))
        return _mirror(photo) if mirrored else photo

    def _others(self, index: int, rng: np.random.Generator) -> list[int]:
        """1 to `references` other photos of the person, drawn anew; none where there are none."""
        others = [i for i in self.person[index] if i != index]
        if not others:
            return []
        count = int(rng.integers(1, min(len(others), self.references) + 1))
        return rng.permutation(others)[:count].tolist()


def _in_turn(members: list[int], view: int, views: int) -> list[int]:
    """A view's order of the photos: its own, then spares of no other view, then the rest."""
    start = view % len(members)
    return list(dict.fromkeys(members[start::views] + members[start:] + members[:start]))


def _mirror(photo: Photo) -> Photo:
    box, last = photo.box, photo.pixels.shape[2] - 1
    return photo._replace(
        pixels=photo.pixels.flip(2),
        box=torch.stack([last - box[2], box[1], last - box[0], box[3]]),
        lq=None if photo.lq is None else photo.lq.flip(2),
        references=tuple(r.flip(2) for r in photo.references),
    )
