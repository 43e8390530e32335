"""Batches of drawn parameters: one tensor per field, one row per face."""

from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Self

import numpy as np
import torch

from ...core.errors import FacewrightError


@dataclass(frozen=True)
class ParameterBatch:
    """Base of `Identities` and `Nuisances`: each field is a tensor, its first axis the face."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, index: torch.Tensor | list[int]) -> Self:
        """The faces at `index`, repeated or reordered as asked."""
        index = torch.as_tensor(index, dtype=torch.long)
        return type(self)(
            **{f.name: (x := getattr(self, f.name))[index.to(x.device)] for f in fields(self)}
        )

    def to(self, device: torch.device | str) -> Self:
        """The same parameters on `device`."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def broadcast(self, axes: int) -> SimpleNamespace:
        """Fields ready to meet maps of `axes` axes per face: (b,) -> (b, 1, ...), and vectors
        (b, k) -> (b, k, 1, ...). Tables of shape (b, n, k) are left as they are."""
        ones = (1,) * axes
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return SimpleNamespace(
            **{k: x if x.ndim > 2 else x.reshape(*x.shape, *ones) for k, x in values.items()}
        )


class SeededDraws:
    """Uniform numbers per seed, read column by column.

    Row i depends on `seeds[i]` and on `stream` alone, so a face is the same in whatever batch it
    is drawn. Columns are read in a fixed order; a new parameter must be read after all others,
    else every face in the world changes.
    """

    def __init__(self, seeds: list[int], stream: int, columns: int) -> None:
        for seed in seeds:
            if seed < 0:
                raise FacewrightError(f"Seeds should be integers from 0 up, got {seed}.")
        rows = [np.random.default_rng((stream, seed)).random(columns) for seed in seeds]
        self._table = torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, columns).double()
        self._next = 0

    def _read(self, count: int) -> torch.Tensor:
        start, self._next = self._next, self._next + count
        if self._next > self._table.shape[1]:
            raise FacewrightError(
                f"{self._next} numbers per face are read but {self._table.shape[1]} were drawn; "
                f"raise `columns` (earlier columns keep their values)."
            )
        return self._table[:, start : self._next]

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """(b, *shape) in [low, high)."""
        x = self._read(int(np.prod(shape, dtype=int)))
        return (x * (high - low) + low).reshape(-1, *shape).float()

    def normal(self, mean: float, std: float, *shape: int) -> torch.Tensor:
        """(b, *shape), Gaussian clipped at two standard deviations."""
        x = self._read(int(np.prod(shape, dtype=int))).clamp(1e-9, 1 - 1e-9)
        z = torch.special.ndtri(x).clamp(-2, 2)
        return (z * std + mean).reshape(-1, *shape).float()

    def below(self, probability: float | torch.Tensor) -> torch.Tensor:
        """(b,) booleans, true with `probability` (a number or one per face)."""
        return self._read(1)[:, 0].float() < probability


def as_seeds(seeds: int | list[int] | torch.Tensor) -> list[int]:
    """Seeds as a list of Python integers."""
    if isinstance(seeds, int):
        return [seeds]
    return [int(s) for s in seeds]
