"""Where a run stands, as a bar on a terminal and as a sentence elsewhere."""

import time
from collections import deque
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from .records import loss_terms

_WINDOW = 30
"""Steps whose mean speed is shown."""


class Status:
    """Steps, speed, time left, losses and rates of a run."""

    def __init__(self) -> None:
        self.stage, self.step, self.steps = "", 0, None
        self.first, self.fraction = 0.0, 0.0
        self.since: float | None = None
        self.speed: deque[tuple[int, float]] = deque(maxlen=_WINDOW + 1)
        self.losses: dict[str, float] = {}
        self.rates: dict[str, float] = {}

    def start(self, stage: str, step: int, fraction: float, steps: int | None) -> None:
        self.stage, self.step, self.steps = stage, step, steps
        self.first = self.fraction = fraction

    def advance(self, step: int, fraction: float, images: int, spent: float) -> None:
        if self.since is None:
            # Counted from the end of the first step, which alone loads data and warms up.
            self.since, self.first = time.monotonic(), fraction
        self.step, self.fraction = step, fraction
        self.speed.append((images, spent))

    def scalars(self, values: dict[str, float]) -> None:
        """Take a step's losses and rates; a phase's loss is the sum of its terms."""
        terms = loss_terms(values)
        self.losses = {phase: sum(values[key] for key in keys) for phase, keys in terms.items()}
        self.rates = {p: values[f"{p}/lr"] for p in terms if f"{p}/lr" in values}

    def samples_per_second(self) -> float | None:
        """Mean over the last steps, without validations and checkpoints."""
        if len(self.speed) < 2:
            return None
        (images, spent), (last_images, last_spent) = self.speed[0], self.speed[-1]
        return (last_images - images) / (last_spent - spent) if last_spent > spent else None

    def seconds_left(self) -> float | None:
        """At the pace so far, validations and checkpoints included."""
        done = self.fraction - self.first
        if self.since is None or done <= 0:
            return None
        return (time.monotonic() - self.since) * (1 - self.fraction) / done

    def parts(self) -> list[str]:
        """What matters most comes first: a narrow terminal cuts the end."""
        found = [f"step {self.step}/{self.steps}" if self.steps else f"step {self.step}"]
        if (speed := self.samples_per_second()) is not None:
            found.append(f"{speed:.3g} samples/s")
        single = len(self.losses) == 1
        found += [f"{'loss' if single else p} {v:.4g}" for p, v in self.losses.items()]
        rates = dict.fromkeys(f"{rate:.2g}" for rate in self.rates.values())
        return found + ([f"lr {', '.join(rates)}"] if rates else [])

    def sentence(self) -> str:
        left = self.seconds_left()
        rest = "" if left is None else f", {duration(left)} left"
        return f"{self.stage} {self.fraction:.0%}{rest}: {', '.join(self.parts())}"


def duration(seconds: float) -> str:
    """ "0:03:20", "2 days, 1:00:00"."""
    return str(timedelta(seconds=round(seconds)))


class Bar(Progress):
    """Two lines: how far and how long still, then step, speed, losses and rates, cut to fit."""

    def __init__(self, console: Console) -> None:
        self.below = Text(no_wrap=True, overflow="ellipsis")
        fixed = {"no_wrap": True, "overflow": "ellipsis"}
        super().__init__(
            TextColumn("{task.description}", table_column=Column(**fixed)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(**fixed)),
            TextColumn("{task.fields[left]}", table_column=Column(**fixed)),
            console=console,
            expand=True,
        )
        self.of_run = self.add_task("", total=1.0, left="")

    def get_renderables(self) -> list[RenderableType]:
        return [self.make_tasks_table(self.tasks), self.below]

    def show(self, status: Status) -> None:
        left = status.seconds_left()
        self.below = Text("  ".join(status.parts()), no_wrap=True, overflow="ellipsis")
        self.update(
            self.of_run,
            description=status.stage,
            completed=status.fraction,
            left="" if left is None else f"{duration(left)} left",
        )
