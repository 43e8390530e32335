"""What a training stage supplies, and what the engine does with it.

The engine (`engine.py`) owns devices, data, optimisers, EMA, clipping, checkpoints and logs and
knows no method. A `Recipe` owns networks and losses and knows no loop. Any subclass with a `stage`
name in a file of `training/methods/` is found by that name.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..core.checkpoint.identify import TRAINING_KEY
from .data.batch import Batch
from .data.cache import FrozenCache
from .settings.config import Strict, TrainConfig


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int
    """Optimiser steps done so far, from 0."""
    fraction: float
    """Share of the budget spent, in [0, 1]; ramps and phases follow this, not `step`."""


@dataclass
class Evaluation:
    """What a recipe reports about held-out samples."""

    metrics: dict[str, float]
    images: dict[str, Tensor] = field(default_factory=dict)
    """Columns of the picture grid, by name: (n, 3, s, s) in [0, 1], the same samples every time."""


def as_metadata(facts: dict) -> dict[str, str]:
    """What `Recipe.export` is told of the run, for the metadata of its files."""
    return {TRAINING_KEY: json.dumps(facts)}


EXPORT_ONLY = ("name", "half")
"""Keys of a section `recipe:` that are first read when a run exports."""


class Recipe(ABC):
    """One training stage.

    Life of a recipe: `__init__(config)`, `build()` once on the CPU, then per optimiser step and for
    every phase `losses(phase, batch, progress)`, then `after_step`. `evaluate` and `export` run
    with averaged (EMA) weights in the networks, in eval mode and without gradients.

    Random numbers come from torch's global generator: the engine saves and restores it, and
    shields it during `evaluate`.
    """

    stage: ClassVar[str] = ""
    """Name on the command line; empty for abstract bases."""
    method: ClassVar[str] = ""
    """Paper the stage belongs to, as files' metadata name it; empty where it is none's."""
    workflow: str = ""
    """The shipped workflow that runs what the stage exports; empty where no node loads it."""
    settings: tuple[str, ...] = ()
    """What to set in that workflow, as `facewright run --set` takes it: NODE.INPUT=VALUE, with the
    config's `{name}` in exported files' names."""
    goes_into: ClassVar[str] = ""
    """Which keys of which stages take what the stage exports, in words for its model card."""
    Config: ClassVar[type[Strict]] = Strict
    """Model of the YAML section `recipe:`."""
    large: ClassVar[tuple[str, ...]] = ()
    """Frozen weights that `frozen_precision` may hold in half: networks, or parts of them as
    `name.path`. Nothing that `export` writes."""
    changeable: ClassVar[tuple[str, ...]] = ("*",)
    """Keys of that section that may change when a run is resumed, as patterns: those that every
    step, or the export, reads anew. Of `weights.*` none may become 0 or cease to be."""
    needs_lq: bool = False
    """True where `batch["lq"]` is read: the config must then have a `degradation` section."""

    def __init__(self, config: Strict) -> None:
        self.config = config
        self.device = torch.device("cpu")  # set by the engine before the first step
        self.trained: tuple[str, ...] = ()  # names of what `build` returned; set by the engine
        self.nets: dict[str, Any] = {}
        """Networks as to be called now: wrapped for multi-process training in the phase that trains
        them, bare in the others. The engine sets it; call networks only through it."""
        self.cache: FrozenCache | None = None  # set by the engine where the config asks for one
        self.monitor: dict[str, float | Tensor] = {}
        """Put any scalar here to have it logged beside the losses."""
        self.remarks: list[str] = []
        """Sentences on what `build` found otherwise than the config says, for the model card."""

    def remembered(
        self, what: str, net: str, batch: Batch, key: str, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """`compute(batch[key])`, which frozen network `net` does, from the cache if there is one.

        Args:
            what: name of the result; together with `net` it says all that `compute` does.
            compute: (b, 3, s, s) -> (b, ...), each picture by itself and without chance.
        """
        digests = batch.get(f"{key}_digest")
        if self.cache is None or digests is None:
            return compute(batch[key])
        return self.cache.get(what, self.nets[net], batch[key], digests, compute)

    def check_data(self, config: TrainConfig) -> None:
        """Refuse pictures that lack what the stage learns from; called before `build`.

        Raises:
            ConfigError: what is missing, and what to write.
        """
        return

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """Create the networks that hold trained weights, by name.

        Parameters with requires_grad=True are trained; together with the buffers they are what a
        checkpoint holds (so a LoRA on a frozen base gives a small checkpoint).
        In multi-process runs only `forward` synchronises gradients: give a network one `forward`
        that does all its training work.
        """

    def frozen(self) -> dict[str, nn.Module]:
        """Networks that are only used: on the device, in eval mode, never saved; in `nets` too."""
        return {}

    def phases(self) -> dict[str, tuple[str, ...]]:
        """Phases of one step in order, each with the names of the networks it trains.

        Every phase has its own optimiser (`optimizers.<phase>` in the config). During a phase the
        networks of other phases have requires_grad=False. Default: one phase "main" with all that
        `build` returned.
        """
        return {"main": self.trained}

    def averaged(self) -> tuple[str, ...]:
        """Names of the networks with averaged weights (EMA). Default: those of the first phase."""
        return next(iter(self.phases().values()))

    def adam_only(self) -> tuple[str, ...]:
        """With the `muon` optimiser: parts of parameter names that stay with AdamW.

        First and last layers and embeddings; vectors stay with AdamW anyway.
        """
        return ()

    @abstractmethod
    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        """Weighted terms of this phase's loss, scalars; their sum is minimised.

        None skips the phase in this step (a discriminator before its start).
        """

    def after_step(self, progress: Progress) -> None:
        """Called after all phases of a step (dead-code revival and the like)."""
        return

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Measure held-out samples; the first batch holds the fixed samples of the picture grid."""

    @abstractmethod
    def export(self, folder: Path, facts: dict) -> list[Path]:
        """Write the files that nodes load.

        Args:
            folder: exists already.
            facts: what the run measured (steps, CPU seconds, minutes, metrics), for metadata.

        Returns:
            The files written.
        """

    def extra_state(self) -> dict:
        """Tensors and plain values a checkpoint needs beyond networks (counters, buffers)."""
        return {}

    def load_extra_state(self, state: dict) -> None:
        """Inverse of `extra_state`."""
        return
