"""What a person sees of a run: progress, TensorBoard, picture grids, lines of JSON."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from .recipe import Evaluation


def picture_grid(columns: dict[str, Tensor], count: int) -> Image.Image:
    """One row per column name, one sample beside the other, names written on the left margin.

    Args:
        columns: name -> (n, 3, s, s) in [0, 1].
        count: how many of the n samples to show.
    """
    rows = []
    for pictures in columns.values():
        shown = pictures[:count].detach().float().clamp(0, 1).cpu()
        rows.append(torch.cat(list(shown), dim=2))
    pixels = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    margin = 72
    sheet = Image.new("RGB", (pixels.shape[1] + margin, pixels.shape[0]), "white")
    sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), (margin, 0))
    draw, top = ImageDraw.Draw(sheet), 0
    for name, row in zip(columns, rows, strict=True):
        draw.text((4, top + row.shape[1] // 2 - 5), name, fill="black")
        top += row.shape[1]
    return sheet


def keep_lines(path: Path, step: int) -> list[dict]:
    """Cut a `metrics.jsonl` down to what was logged up to `step`, and return that.

    A run that was killed may have logged steps after its last checkpoint, the last line in part.
    The file is exchanged as a whole, and only where there is something to cut.
    """
    if not path.is_file():
        return []
    written, kept = path.read_text(encoding="utf-8", errors="replace"), []
    for text in written.splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line["step"] <= step:
            kept.append(line)
    whole = "".join(_as_text(line) for line in kept)
    if whole != written:
        partial = path.with_suffix(".partial")
        partial.write_text(whole, encoding="utf-8")
        os.replace(partial, path)
    return kept


def _as_text(line: dict) -> str:
    return json.dumps(line) + "\n"


class RunLog:
    """Progress bar, TensorBoard and `metrics.jsonl` of one run; silent on all but process 0.

    Args:
        output: folder of the run.
        main: whether this is process 0.
        step: that the run starts at or goes on from; what was logged after it is forgotten.
    """

    def __init__(self, output: Path, *, main: bool, step: int = 0) -> None:
        self.output, self.main, self.step = output, main, step

    def __enter__(self) -> Self:
        if self.main:
            from torch.utils.tensorboard import SummaryWriter

            self.output.mkdir(parents=True, exist_ok=True)
            self.writer = SummaryWriter(str(self.output / "tensorboard"), purge_step=self.step + 1)
            path = self.output / "metrics.jsonl"
            self.logged = {_kind(line) for line in keep_lines(path, self.step)}
            self.lines = path.open("a", encoding="utf-8")
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("step {task.fields[step]} {task.fields[note]}"),
            )
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.main:
            self.progress.stop()
            self.writer.close()
            self.lines.close()

    def start(self, stage: str) -> None:
        if self.main:
            self.task = self.progress.add_task(stage, total=1.0, step=self.step, note="")

    def advance(self, step: int, fraction: float) -> None:
        if self.main:
            self.progress.update(self.task, completed=fraction, step=step)

    def scalars(self, values: dict[str, float], step: int) -> None:
        if not self.main:
            return
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self._line({"step": step, **{k: round(v, 5) for k, v in values.items()}})
        total = sum(v for k, v in values.items() if not k.endswith("grad_norm"))
        self.progress.update(self.task, note=f"loss {total:.4f}")

    def evaluation(
        self, evaluation: Evaluation, step: int, count: int, seconds: float, cpu_seconds: float
    ) -> None:
        """Held-out metrics and the picture grid `grids/step-<n>.png`."""
        if not self.main:
            return
        for key, value in evaluation.metrics.items():
            self.writer.add_scalar(f"held_out/{key}", value, step)
        line = {"step": step, "seconds": round(seconds), "cpu_seconds": round(cpu_seconds)}
        self._line(line | {"held_out": {k: round(v, 5) for k, v in evaluation.metrics.items()}})
        if not evaluation.images:
            return
        grid = picture_grid(evaluation.images, count)
        folder = self.output / "grids"
        folder.mkdir(exist_ok=True)
        grid.save(folder / f"step-{step:08d}.png")
        self.writer.add_image("held_out", np.asarray(grid), step, dataformats="HWC")

    def _line(self, values: dict) -> None:
        # The end of a run validates once more; so does the resume of a run that was at its end.
        if _kind(values) not in self.logged:
            self.logged.add(_kind(values))
            self.lines.write(_as_text(values))
            self.lines.flush()


def _kind(line: dict) -> tuple[int, bool]:
    """What there is one line of: a step's losses, or its held-out metrics."""
    return line["step"], "held_out" in line
