"""What all scores have in common: numbers of each picture of a batch, for people and programs."""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from ..files.json_text import strict
from ..metrics.statistics import mean_interval


@dataclass(frozen=True, kw_only=True)
class Scores(ABC):
    """Of a batch of pictures."""

    values: dict[str, list[float]]
    """Name -> one number per picture; NaN where there was nothing to score."""
    notes: list[str]
    """Per picture what is worth knowing, "" for nothing."""

    _entries: ClassVar[str] = "images"
    _digits: ClassVar[int | None] = None
    """JSON's name for the pictures, and digits after the point."""

    def __len__(self) -> int:
        return len(self.notes)

    def mean(self, name: str) -> float:
        """Over the pictures with a finite number; infinite where every one is, NaN without any."""
        summary = mean_interval(self.values[name])
        return math.inf if summary.infinite and not summary.count else summary.mean

    def report(self) -> str:
        """A line per picture, and of several the means."""
        lines = [f"picture {i}: {self._line(i)}" for i in range(len(self))]
        return "\n".join([*lines, *(self._last_lines() if len(lines) > 1 else [])])

    def to_json(self) -> str:
        """What the scores are about, an entry per picture, and "mean", as strict JSON.

        null stands for a number that there is not.
        """
        entries = [self._entry(i) for i in range(len(self))]
        content = {**self._about(), self._entries: entries, "mean": self._grouped(self._means())}
        return json.dumps(strict(content, digits=self._digits), allow_nan=False, indent=1)

    def _of(self, picture: int) -> dict[str, float]:
        return {name: numbers[picture] for name, numbers in self.values.items()}

    def _means(self) -> dict[str, float]:
        return {name: self.mean(name) for name in self.values}

    @abstractmethod
    def _words(self, numbers: dict[str, float]) -> str:
        """One picture's numbers, or the means, for people."""

    def _line(self, picture: int) -> str:
        note = self.notes[picture]
        return f"{self._words(self._of(picture))}{f' ({note})' if note else ''}"

    def _last_lines(self) -> list[str]:
        return [f"mean: {self._words(self._means())}"]

    def _about(self) -> dict[str, Any]:
        return {}

    def _grouped(self, numbers: dict[str, float]) -> dict[str, Any]:
        """One picture's numbers, or the means, for JSON."""
        return numbers

    def _entry(self, picture: int) -> dict[str, Any]:
        return self._grouped(self._of(picture))
