"""Whether a recogniser finds each picture's own original among all originals."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.metrics import Metric

_What = Mapping[str, Tensor | str]
"""Metric -> (1, d) embedding of one picture, or why there is none."""


class Gallery:
    """Embeddings of every restored picture and of every original, each original once."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """
        Args:
            metrics: those that read no gallery are left to others.
        """
        self.metrics = [m for m in metrics if m.reads == "gallery"]
        self._originals: dict[Path, Tensor] = {}
        self._restored: list[tuple[Any, Path, Tensor]] = []

    def add(self, row: Any, original: Path | None, restored: _What, gt: _What) -> None:
        """Take a row with what its picture and its original give; `measure` fills it."""
        if not self.metrics or original is None:
            return
        name = self.metrics[0].name  # all of them read the same embeddings
        truth, mine = gt.get(name), restored.get(name)
        if isinstance(truth, Tensor):
            self._originals.setdefault(original, truth.cpu().double())
        if row.error:
            return
        if isinstance(mine, Tensor) and isinstance(truth, Tensor):
            self._restored.append((row, original, mine.cpu().double()))
            return
        for m in self.metrics:
            row.values[m.name] = math.nan
            row.problems[m.name] = next(x for x in (mine, truth) if isinstance(x, str))

    def measure(self) -> None:
        """Write the ranks into the rows: all originals are known now."""
        if not self._restored:
            return
        places = {original: i for i, original in enumerate(self._originals)}
        gallery = torch.cat(list(self._originals.values()))
        restored = torch.cat([embedding for _, _, embedding in self._restored])
        own = [places[original] for _, original, _ in self._restored]
        for m in self.metrics:
            found = m.compute(restored, gallery, own).tolist()
            for (row, _, _), value in zip(self._restored, found, strict=True):
                row.values[m.name] = value
