"""What a person sees of a run: progress, picture grids, lines of JSON, trackers."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from rich.console import Console
from torch import Tensor

from ...core.drawing.paint import font_of, plate
from ...core.drawing.sheet import stacked
from ...core.files.writing import written_whole
from ..recipe import Evaluation
from .records import LineFile, Unwritten, keep_lines
from .status import Bar, Status
from .trackers import Tracker

log = logging.getLogger(__name__)


def picture_grid(columns: dict[str, Tensor], count: int) -> Image.Image:
    """One row per column name, one sample beside the other, names written on the left margin.

    Args:
        columns: name -> (n, 3, s, s) in [0, 1].
        count: how many of the n samples to show.
    """
    margin = max(72, 8 + round(max(font_of(10).getlength(name) for name in columns)))
    rows = []
    for name, pictures in columns.items():
        shown = pictures[:count].detach().float().clamp(0, 1).cpu()
        height = shown.shape[-2]
        label = plate(name, margin, height, 10, at=(4, height // 2 - 5))
        rows.append(stacked([label, *shown], across=True))
    return Image.fromarray((stacked(rows).permute(1, 2, 0) * 255).round().byte().numpy())


class RunLog:
    """What is seen and kept of one run; silent on all but process 0.

    On a terminal: a bar and a line below it. Elsewhere (a file, a job's log): one line of the
    package's log for every logged step and validation. Either way `metrics.jsonl`, picture grids
    and the trackers. What cannot be written is warned about once and costs no run.

    Args:
        output: folder of the run.
        main: whether this is process 0.
        step: that the run starts at or goes on from; what was logged after it is forgotten.
        trackers: started ones, closed with the log.
    """

    def __init__(
        self, output: Path, *, main: bool, step: int = 0, trackers: Sequence[Tracker] = ()
    ) -> None:
        self.output, self.main, self.step, self.trackers = output, main, step, trackers
        self.lines = LineFile(output / "metrics.jsonl")
        self.unwritten = Unwritten()
        self.status = Status()
        self.bar: Bar | None = None
        self.logged: set[tuple[int, bool]] = set()
        self.untold = False

    def __enter__(self) -> Self:
        if self.main:
            with self._spared("metrics.jsonl"):
                self.logged = {_kind(line) for line in keep_lines(self.lines.path, self.step)}
            console = Console(stderr=True, highlight=False)
            if console.is_terminal:
                self.bar = Bar(console)
                self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()
        for tracker in self.trackers:
            tracker.close()

    def start(self, stage: str, fraction: float, steps: int | None) -> None:
        """Say what starts.

        Args:
            fraction: of the budget, spent before.
            steps: of the whole run, where the budget is in steps.
        """
        self.status.start(stage, self.step, fraction, steps)
        self._refresh()

    def advance(self, step: int, fraction: float, images: int, spent: float) -> None:
        """Note a step.

        Args:
            fraction: of the budget, spent by now.
            images: trained on by now, in all processes.
            spent: seconds of training by now, without validations.
        """
        self.status.advance(step, fraction, images, spent)
        self._refresh()
        if self.untold:
            log.info("%s", self.status.sentence())
            self.untold = False

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Losses and what else a step logged: `<phase>/<term>`, `/grad_norm` and `/lr`."""
        if not self.main or not self._line({"step": step, **_rounded(values)}):
            return
        for tracker in self.trackers:
            tracker.scalars(values, step)
        self.status.scalars(values)
        self.untold = not self.bar  # with the step, which is about to be over

    def evaluation(
        self, evaluation: Evaluation, step: int, count: int, seconds: float, cpu_seconds: float
    ) -> None:
        """Held-out metrics and the picture grid `grids/step-<n>.png`."""
        metrics = _rounded(evaluation.metrics)
        line = {"step": step, "seconds": round(seconds), "cpu_seconds": round(cpu_seconds)}
        if not self.main or not self._line(line | {"held_out": metrics}):
            return
        grid = picture_grid(evaluation.images, count) if evaluation.images else None
        if grid:
            with (
                self._spared("grids"),
                written_whole(self.output / "grids" / f"step-{step:08d}.png") as path,
            ):
                grid.save(path, format="PNG")
        for tracker in self.trackers:
            tracker.held_out(evaluation.metrics, None if grid is None else np.asarray(grid), step)
        said = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        self._say(f"step {step}, held out: {said}")

    def _line(self, values: dict) -> bool:
        """Whether the line is new.

        The end of a run validates once more; so does the resume of a run that was at its end.
        """
        if _kind(values) in self.logged:
            return False
        self.logged.add(_kind(values))
        with self._spared("metrics.jsonl"):
            self.lines.write(values)
        return True

    def _say(self, text: str) -> None:
        if self.bar:
            self.bar.console.print(text, markup=False)
        else:
            log.info("%s", text)

    def _refresh(self) -> None:
        if self.bar:
            self.bar.show(self.status)

    @contextmanager
    def _spared(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.unwritten.warn(f"{self.output / name} could not be written", error)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    """Six significant digits: learning rates are small."""
    return {key: float(f"{value:.6g}") for key, value in values.items()}


def _kind(line: dict) -> tuple[int, bool]:
    """What there is one line of: a step's losses, or its held-out metrics."""
    return line["step"], "held_out" in line
