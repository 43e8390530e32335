"""A training step of `onestep` and of `flipnet-restore` on a device, beside plain loops."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from facewright.training.methods.flipnet import RestoreRecipe
from facewright.training.methods.onestep import OneStepRecipe

from ._device_flipnet import PlainFlip, flipnet_config, write_flipnet_files
from ._device_run import Bench, Row, attempt
from ._device_traffic import traffic_of
from ._training_loops import Losses, OurLoop, PlainLoop
from ._training_setup import SHAPES, Shape, logical_noise, run_config, write_files
from .training import CHECKED, changes_of, largest_difference

ARMS = ("plain", "ours", "cached", "bf16", "checkpointed")
STEPS, SECONDS = 5, 4.0
"""That are timed at most, and after which no further one begins; one more counts its traffic."""
TRUE_SIZE = 512
WRITTEN = "written"


@dataclass(frozen=True)
class Stage:
    """How a stage is configured, and its loop by hand."""

    name: str
    recipe: Callable[[Any], Any]
    config: Callable[..., Any]
    plain: Callable[[Path, Shape, Any], Any]


ONESTEP = Stage("onestep", OneStepRecipe, run_config, PlainLoop)
FLIPNET = Stage(
    "flipnet-restore",
    RestoreRecipe,
    flipnet_config,
    lambda folder, shape, config: PlainFlip(folder, config),
)


def shape_of(bench: Bench) -> Shape:
    """SD 2.1's own at 512 px, or a tiny one."""
    if bench.tiny:
        return SHAPES["tiny"]
    return replace(SHAPES["true"], size=TRUE_SIZE, batch=bench.training_batch)


def measure_onestep(bench: Bench) -> None:
    """Rows: a step of OSDFace's second stage in each arm."""
    _measure(bench, ONESTEP)


def measure_flipnet(bench: Bench) -> None:
    """Rows: a step of FLIPNET's restoration mode in each arm."""
    _measure(bench, FLIPNET)


def _measure(bench: Bench, stage: Stage) -> None:
    bench.row("files", lambda: files(bench))
    losses: dict[str, list[Losses]] = {}
    for arm in ARMS:
        bench.row(arm, partial(step_of, bench, stage, arm, losses))


def files(bench: Bench) -> Row:
    """Networks and pictures on disk, for whichever stage comes first."""
    start, mark = time.perf_counter(), bench.folder / WRITTEN
    if not mark.exists():
        shape = shape_of(bench)
        write_files(bench.folder, shape, pictures=4 * shape.batch)
        write_flipnet_files(bench.folder, tiny=bench.tiny)
        mark.touch()
    return {"seconds": time.perf_counter() - start}


def step_of(bench: Bench, stage: Stage, arm: str, losses: dict[str, list[Losses]]) -> Row:
    """Seconds, samples a second, memory and traffic of one arm's step, without the data's share.

    Pictures are read and degraded beforehand, and that is timed by itself: how much of it hides
    behind the steps is a matter of `data.workers`.
    """
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # arms differ in their precision
    shape = shape_of(bench)
    name = f"{stage.name}-{arm}"
    changes = changes_of(arm, bench.folder / stage.name)
    config = stage.config(bench.folder, shape, name, bench.device.type, **changes)
    steps = CHECKED + STEPS + 1
    start = time.perf_counter()
    if arm == "plain":
        loop = stage.plain(bench.folder, shape, config)
    else:
        loop = OurLoop(config, steps, stage.recipe)
    built = time.perf_counter() - start
    start = time.perf_counter()
    loop.stream = iter([next(loop.stream) for _ in range(steps)])
    data_ms = (time.perf_counter() - start) * 1000 / steps / shape.batch
    torch.manual_seed(config.seed + 1)  # both draw from the same generator
    with bench.peak() as memory, logical_noise():
        losses[arm] = [loop.step() for _ in range(CHECKED)]
    row = {"batch": shape.batch, "size": shape.size, "built_s": built, "data_ms": data_ms, **memory}
    timed = []
    while not timed or (len(timed) < STEPS and sum(timed) < min(SECONDS, bench.left())):
        bench.wait()
        start = time.perf_counter()
        loop.step()
        bench.wait()
        timed.append(time.perf_counter() - start)
    median = statistics.median(timed)
    row |= {"s_per_step": median, "s_per_step_range": [min(timed), max(timed)]}
    row |= {"steps": len(timed), "samples_per_s": shape.batch / median, "losses": losses[arm]}
    if arm != "plain" and "plain" in losses:
        mine, wanted = losses[arm], losses["plain"]
        row["first_step_difference"] = largest_difference(mine[:1], wanted[:1])
        row["largest_difference"] = largest_difference(mine, wanted)
    return {**row, "traffic": attempt(lambda: traffic_of(loop.step))}
