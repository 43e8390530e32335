"""Endless training batches and fixed validation batches, every sample a function of its number.

Sample n of a run is decided by the seed and n alone: which photo, whether mirrored, how degraded.
So a run resumes exactly by knowing its step, with any number of worker processes.
"""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...core.degradation import PRESETS, Degradation
from ...core.errors import DataLostError
from ..settings.config import HIDDEN, DegradationConfig, TrainConfig
from .batch import Batch
from .cache import picture_digest
from .damage import Careful, lost
from .off_shelf import OffShelf
from .opening import open_source
from .samples import Sample, TrainSamples
from .sources import Photo

log = logging.getLogger(__name__)

VALIDATION_SEED = 2**40
"""Seeds from here on belong to held-out samples; training stays below."""


class Batches:
    """The data of one run, on `device`."""

    def __init__(
        self, config: TrainConfig, device: torch.device, *, process: int = 0, processes: int = 1
    ) -> None:
        self.config, self.device = config, device
        self.process, self.processes = process, processes
        self.train_photos, self.validation_photos = open_source(config.data)
        self.shelf = OffShelf(self.train_photos, config.off_shelf) if config.off_shelf else None
        self.skipped: dict[str, str] = {}
        """Files that could not be read so far -> why; the run went on without them."""
        for photos in (self.train_photos, self.validation_photos):
            self._note(photos.damage())
        if process == 0:
            for remark in size_remarks(config):
                log.warning(remark)

    def train(self, *, first_step: int) -> Iterator[list[Batch]]:
        """Lists of `accumulate` batches, one per optimiser step, from `first_step` on, endless.

        Raises:
            DataLostError: the data are gone, or too much of them cannot be read. All steps before
                have had their batches, so a checkpoint written now resumes exactly.
        """
        config, data = self.config, self.config.data
        samples = TrainSamples(
            self.train_photos, config.seed, data.views, self.shelf, data.references, data.mirror
        )
        numbers = _Numbers(
            first_step * config.accumulate, config.batch_size, self.process, self.processes
        )
        loader = DataLoader(
            samples,
            batch_size=config.batch_size,
            sampler=numbers,
            num_workers=data.workers,
            collate_fn=_Collate(config.degradation, config.seed, cached=config.cache is not None),
            persistent_workers=False,
            worker_init_fn=leave_signals_to_main,
            # Without one of its own the loader draws from the generator that training saves.
            generator=torch.Generator(),
            multiprocessing_context="spawn" if data.workers else None,
        )
        stream = iter(loader)
        while True:
            yield [self._received(next(stream)) for _ in range(config.accumulate)]

    def _received(self, batch: Batch | DataLostError) -> Batch:
        if isinstance(batch, DataLostError):
            raise batch
        self._note(batch.pop("unreadable", {}))
        return self._place(batch)

    def _note(self, found: Mapping[str, str]) -> None:
        for file, reason in found.items():
            if file not in self.skipped:
                log.warning("%s could not be read and is left out: %s", file, reason)
                self.skipped[file] = reason

    def validation(self) -> Iterator[Batch]:
        """The first `validate_images` held-out samples, the same ones every time.

        The first batch holds at least `grid_images`.
        With `views: 1` these are different people as long as there are enough; with more views
        photos of one person stand together. Those that cannot be read are left out.

        Raises:
            DataLostError: the photos are gone, or too many of them cannot be read.
        """
        order = self._validation_order()
        collate = _Collate(
            self._validation_degradation(), 0, cached=self.config.cache is not None, fixed=True
        )
        size = max(self.config.batch_size, self.config.grid_images)
        careful, samples, readable = Careful(), [], 0
        for index in order:
            seed = VALIDATION_SEED + index
            photo = self._validation_photo(index, seed, careful)
            self._note(careful.found())
            if photo is not None:
                samples.append(Sample(photo, seed))
                readable += 1
            if len(samples) == size:
                yield self._received(collate(samples))
                samples = []
        if samples:
            yield self._received(collate(samples))
        if not readable:
            raise lost(f"None of the {len(order)} held-out pictures can be read any more.")

    def _validation_order(self) -> list[int]:
        groups = self.validation_photos.by_identity
        if self.config.data.views > 1:
            order = [i for group in groups for i in group]
        else:
            rounds = range(max(len(g) for g in groups))
            order = [group[r] for r in rounds for group in groups if r < len(group)]
        return order[: self.config.validate_images]

    def _validation_degradation(self) -> DegradationConfig | None:
        """One preset, and no variants: held-out samples are the same ones each time."""
        degradation = self.config.degradation
        if degradation is None:
            return None
        preset = degradation.validation or degradation.presets[0]
        return degradation.model_copy(update={"presets": (preset,), "variants": None})

    def _validation_photo(self, index: int, seed: int, careful: Careful) -> Photo | None:
        """With the first of the person's other photos as references, as many as wanted."""
        source, most = self.validation_photos, self.config.data.references
        photo = careful(partial(source.load, index, seed))
        if photo is None or not most:
            return photo
        group = next(g for g in source.by_identity if index in g)
        others = [i for i in group if i != index][:most]
        loaded = [careful(partial(source.load, i, seed)) for i in others]
        return photo._replace(references=tuple(p.pixels for p in loaded if p is not None))

    def _place(self, batch: Batch) -> Batch:
        return {
            k: v.to(self.device, non_blocking=True) if isinstance(v, Tensor) else v
            for k, v in batch.items()
        }


def leave_signals_to_main(worker: int) -> None:
    # A terminal's Ctrl-C goes to all processes, as does the SIGTERM of a scheduler, of systemd or
    # of `timeout`; the main one still needs the step's batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _pass_over_once)


def _pass_over_once(number: int, frame: FrameType | None) -> None:
    # By a second one the loader ends a worker that hangs.
    signal.signal(number, signal.SIG_DFL)


@dataclass
class _Numbers:
    """Sample numbers of one process, without end: whole batches go round the processes."""

    first: int
    batch: int
    process: int
    processes: int

    def __iter__(self) -> Iterator[int]:
        index = self.first
        while True:
            start = (index * self.processes + self.process) * self.batch
            yield from range(start, start + self.batch)
            index += 1

    def __len__(self) -> int:
        return 2**40  # DataLoader asks; never reached


@dataclass
class _Collate:
    """Stack samples, scale to [0, 1], degrade; runs in the worker processes."""

    degradation: DegradationConfig | None
    seed: int
    cached: bool
    """Add digests of the pictures that come back."""
    fixed: bool = False
    """Every sample comes back as it is."""

    def __call__(self, samples: list[Sample | DataLostError]) -> Batch | DataLostError:
        for sample in samples:
            if isinstance(sample, DataLostError):
                return sample
        photos, numbers, unreadable = zip(*samples, strict=True)
        seeds = [self.seed * 2**42 + n for n in numbers]
        gt = torch.stack([p.pixels for p in photos]).float() / 255
        batch: Batch = {
            "gt": gt,
            "box": torch.stack([p.box for p in photos]),
            "identity": torch.tensor([p.identity for p in photos]),
            "seed": torch.tensor(seeds),
        }
        batch |= _besides(photos, unreadable)
        lq = self._lq(gt, photos, seeds)
        made = [picture for picture in lq if picture is not None]
        if len(made) == len(lq):
            batch["lq"] = torch.stack(made)
        if self.cached:
            batch |= self._digests(gt, photos, lq)
        return batch

    def _lq(self, gt: Tensor, photos: Sequence[Photo], seeds: list[int]) -> list[Tensor | None]:
        """What came with the photos, else what is made of them; None where nothing is to be."""
        lq = [None if p.lq is None else p.lq.float() / 255 for p in photos]
        missing = [i for i, picture in enumerate(lq) if picture is None]
        if missing and self.degradation:
            settings = self.degradation
            chosen = [self._damage(gt[i], seeds[i], settings.variants) for i in missing]
            made = degrade(gt[missing], chosen, settings.presets, settings.overrides)
            for i, picture in zip(missing, made, strict=True):
                lq[i] = picture
        return lq

    def _digests(self, gt: Tensor, photos: Sequence[Photo], lq: list[Tensor | None]) -> Batch:
        """Of the pictures that come back, None for others."""
        fixed = self.fixed or (self.degradation is not None and self.degradation.variants)
        returning = [
            picture if fixed or photo.lq is not None else None
            for picture, photo in zip(lq, photos, strict=True)
        ]
        return {
            "gt_digest": [picture_digest(picture) for picture in gt],
            "lq_digest": [None if p is None else picture_digest(p) for p in returning],
        }

    def _damage(self, gt: Tensor, seed: int, variants: int | None) -> int:
        """Seed of the degradation: the sample's own, or one of the picture's few."""
        if variants is None:
            return seed
        variant = int(np.random.default_rng([6, seed]).integers(variants))
        return (int(picture_digest(gt)[:10], 16) * 2**10 + variant) % VALIDATION_SEED


def _besides(photos: Sequence[Photo], unreadable: Sequence[Mapping[str, str]]) -> Batch:
    """What a batch holds only where one of its samples has it."""
    found: Batch = {}
    if any(unreadable):
        found["unreadable"] = {file: why for files in unreadable for file, why in files.items()}
    if any(p.caption for p in photos):
        found["caption"] = [p.caption for p in photos]
    if any(p.references for p in photos):
        found |= _pad([p.references for p in photos])
    return found


def _pad(references: list[tuple[Tensor, ...]]) -> Batch:
    """References of every sample as one tensor, and which places hold one."""
    shape = next(r[0].shape for r in references if r)
    most = max(len(r) for r in references)
    padded = torch.zeros(len(references), most, *shape)
    valid = torch.zeros(len(references), most, dtype=torch.bool)
    for i, photos in enumerate(references):
        for j, photo in enumerate(photos):
            padded[i, j] = photo.float() / 255
            valid[i, j] = True
    return {"references": padded, "valid": valid}


def size_remarks(config: TrainConfig) -> list[str]:
    """Sentences on presets that presume pictures of quite another size than the run's."""
    names, side = config.degradation.presets if config.degradation else (), config.data.size
    presets = [PRESETS[name] for name in names if name in PRESETS]
    return list(dict.fromkeys(filter(None, (preset.remark(side, side) for preset in presets))))


def degrade(
    gt: Tensor,
    seeds: list[int],
    presets: tuple[str, ...],
    overrides: Mapping[str, Any] | None = None,
) -> Tensor:
    """Degrade each picture by the preset its seed draws; other pictures of the batch do not matter.

    Args:
        gt: (b, 3, h, w) in [0, 1].
        seeds: one per picture.
        presets: names known to `core.degradation.Degradation.preset`, or HIDDEN: what happens
            to pictures in the rendered world (`training.data.real_damage`).
        overrides: settings of `Degradation`, for every preset but HIDDEN.
    """
    from .real_damage import real_damage

    chosen = [int(np.random.default_rng([2, s]).integers(len(presets))) for s in seeds]
    lq = torch.empty_like(gt)
    for which, preset in enumerate(presets):
        rows = [i for i, c in enumerate(chosen) if c == which]
        if not rows:
            continue
        mine = [seeds[i] for i in rows]
        if preset == HIDDEN:
            lq[rows], _ = real_damage(gt[rows], mine)
        else:
            degradation = Degradation.preset(preset, **(overrides or {}))
            lq[rows], _ = degradation(gt[rows], seed=mine)
    return lq
