"""What a run would take, measured before it is begun: parameters, memory, speed, disk, data."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import FacewrightError
from ...core.files.writing import written_whole
from .._lora import lora_layers
from ..data import Batches
from ..log.visual import RunLog, picture_grid
from ..recipe import Batch
from .engine import Engine
from .guard import NonFiniteGuard
from .state import capture

_SHOWN = 8
"""Pictures of the first batch on the sheet."""
_EVERY = 0.005
"""Seconds between two looks at the process's memory."""


def dry_run(
    engine: Engine,
    steps: int = 3,
    sheet: Path | None = None,
    on_progress: Callable[[str, float], None] = lambda text, share: None,
) -> dict:
    """Take a few real steps at the end of the budget and a part of a validation; keep nothing.

    Steps are those of a run that is nearly over: what starts late, like a discriminator, is at
    work, so memory is at its highest. The output folder is neither read nor made. Every process
    has to call it, and none can train with this engine afterwards.

    Args:
        steps: to measure, after one that only warms up.
        sheet: PNG for the first batch, lq above gt.
        on_progress: told what is done, and the share that is over, in [0, 1].

    Returns:
        `stage device precision processes`; `networks`: by name `trained`, `frozen` (parameters),
        `lora_modules`, `bytes` (by dtype, parameters and buffers); `phases`: by name `trained`
        (networks), `runs`, `finite`; `memory`: bytes of `weights gradients optimizer ema
        activations total validation` (the last None but on a GPU) and `measured`, how; `speed`:
        `seconds_per_step samples_per_step samples_per_second validation_seconds`; `budget`: `steps
        validations seconds`; `disk`: bytes of `checkpoint`, of all that are `kept`, of one picture
        `grid`; `data`: `train` and `held_out`, each `people` and `pictures`; `sheet`: its path or
        None.

    Raises:
        FacewrightError: the device's memory is too small, or the data cannot be read.
        OSError: `sheet` cannot be written.
    """
    on_progress("Reading the data", 0)
    batches = engine.open_data()
    noted = engine.guard = _Noted()
    engine.log = RunLog(engine.config.output, main=False)
    stream = batches.train(first_step=0)
    first = next(stream)
    if sheet is not None and engine.accelerator.is_main_process:
        _draw(first[0], sheet)
    try:
        _fill_optimizers(engine)
        with peak_memory(engine.device) as peak:
            spent = [_step(engine, lambda: first)]
            for n in range(steps):
                on_progress(f"Step {n + 1} of {steps}", (n + 1) / (steps + 2))
                spent.append(_step(engine, lambda: next(stream)))
            of_steps = peak()
        on_progress("A part of the validation", (steps + 1) / (steps + 2))
        validation = _validate(engine, batches)
    except torch.OutOfMemoryError as error:
        raise FacewrightError(
            f"The memory of {engine.device} is too small for this config ({error}). Lower "
            "`batch_size` and raise `accumulate` instead (with `total_batch` it follows), or set "
            "gradient_checkpointing: true, or hold frozen weights in half with frozen_precision: "
            "bf16."
        ) from error
    speed = _speed(engine, spent[1:], sum(len(batch["gt"]) for batch in first))
    speed["validation_seconds"] = validation["seconds"]
    return {
        "stage": engine.recipe.stage,
        "device": _device_name(engine.device),
        "precision": engine.config.precision,
        "processes": engine.accelerator.num_processes,
        "networks": _networks(engine),
        "phases": {
            phase: {
                "trained": list(names),
                "runs": phase in noted.ran,
                "finite": phase not in noted.bad_ones,
            }
            for phase, names in engine.phases.items()
        },
        "memory": _memory(engine, of_steps, validation["peak"]),
        "speed": speed,
        "budget": _budget(engine, speed),
        "disk": _disk(engine, validation["grid"]),
        "data": {
            "train": _counts(batches.train_photos.by_identity),
            "held_out": _counts(batches.validation_photos.by_identity),
        },
        "sheet": None if sheet is None else str(sheet),
    }


class _Noted(NonFiniteGuard):
    """In the place of the engine's guard: which phases ran and which were not finite."""

    def scaled(self, phase: str, step: int, finite: bool) -> None:
        """A scaler that still looks for its scale says nothing of the run."""

    def __init__(self) -> None:
        self.rows = {}  # no row of bad steps is kept
        self.ran: set[str] = set()
        self.bad_ones: set[str] = set()

    def good(self, phase: str) -> None:
        self.ran.add(phase)

    def bad(self, phase: str, step: int, terms: dict[str, float], batches: list[Batch]) -> None:
        self.ran.add(phase)
        self.bad_ones.add(phase)


def _fill_optimizers(engine: Engine) -> None:
    """Give every optimiser its states by a step of nothing, so that all measured steps are alike.

    They would come with the first step, which a gradient scaler may skip.
    """
    for optimizers in engine.optimizers.values():
        for optimizer in optimizers:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            for p in params:
                p.grad = torch.zeros_like(p)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _step(engine: Engine, fetch: Callable[[], list[Batch]]) -> float:
    """Seconds of a step at the end of the budget, fetching its data included."""
    budget = engine.config.budget
    if budget.max_steps:
        engine.step = budget.max_steps - 1
    else:
        engine.spent = budget.seconds * (1 - 1e-6)
    start = time.perf_counter()
    engine.train_step(fetch())
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return time.perf_counter() - start


def _validate(engine: Engine, batches: Batches) -> dict[str, Any]:
    """The first batch of a validation, and what all of it would take."""
    if not engine.accelerator.is_main_process:
        return {"seconds": 0.0, "peak": 0, "grid": 0}
    batch = next(iter(batches.validation()))
    start = time.perf_counter()
    with peak_memory(engine.device) as peak:
        evaluation = engine.evaluate([batch])
        highest = peak()
    seconds = time.perf_counter() - start
    held_out = sum(map(len, batches.validation_photos.by_identity))
    share = min(held_out, engine.config.validate_images) / len(batch["gt"])
    grid = 0
    if evaluation.images:
        picture = picture_grid(evaluation.images, engine.config.grid_images)
        grid = picture.width * picture.height * 3
    return {"seconds": seconds * share, "peak": highest, "grid": grid}


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Yields what tells the most bytes taken since, above those taken at the start.

    On a GPU what torch has allocated there. Elsewhere the resident memory of this process, looked
    at every 5 ms: it holds what is loaded from files, too, and an allocator's reserve.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    import psutil  # comes with accelerate

    process, over, one_at_a_time = psutil.Process(), threading.Event(), threading.Lock()
    before = highest = process.memory_info().rss

    def look() -> int:
        nonlocal highest
        with one_at_a_time:
            highest = max(highest, process.memory_info().rss)
        return highest - before

    def keep_looking() -> None:
        while not over.wait(_EVERY):
            look()

    thread = threading.Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield look
    finally:
        over.set()
        thread.join()


def _networks(engine: Engine) -> dict[str, dict]:
    found = {}
    for name, net in engine.recipe.nets.items():
        trained = sum(p.numel() for p in engine.trainable.get(name, []))
        found[name] = {
            "trained": trained,
            "frozen": sum(p.numel() for p in net.parameters()) - trained,
            "lora_modules": len(lora_layers(net)),
            "bytes": _bytes_by_dtype([net]),
        }
    return found


def _bytes_by_dtype(nets: Iterable[nn.Module]) -> dict[str, int]:
    """Of parameters and buffers; one that several networks share counts once."""
    tensors = {id(t): t for net in nets for t in (*net.parameters(), *net.buffers())}
    found: dict[str, int] = defaultdict(int)
    for tensor in tensors.values():
        found[str(tensor.dtype).removeprefix("torch.")] += _bytes(tensor)
    return dict(found)


def _bytes(value: Any) -> int:
    """Of all tensors in a nest of dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    return sum(map(_bytes, value))


def _memory(engine: Engine, of_steps: int, of_validation: int) -> dict[str, Any]:
    optimizers = [o for phase in engine.optimizers.values() for o in phase]
    # A phase's gradients are gone before the next phase's come.
    gradients = max(
        sum(_bytes(p) for n in names for p in engine.trainable[n])
        for names in engine.phases.values()
    )
    memory = {
        "weights": sum(_bytes_by_dtype(engine.recipe.nets.values()).values()),
        "gradients": gradients,
        "optimizer": sum(_bytes(list(o.state.values())) for o in optimizers),
        "ema": _bytes(engine.ema.averages) if engine.ema else 0,
    }
    held = memory["weights"] + memory["optimizer"] + memory["ema"]
    cuda = engine.device.type == "cuda"
    return memory | {
        "activations": max(0, of_steps - gradients),
        "total": held + max(of_steps, gradients),
        # A process keeps what its steps have given back, so it does not grow for a validation.
        "validation": held + of_validation if cuda else None,
        "measured": (
            "the most that torch had allocated on the GPU"
            if cuda
            else "how far this process's resident memory grew, which is more than torch asks for"
        ),
    }


def _speed(engine: Engine, spent: list[float], samples: int) -> dict[str, float]:
    seconds = sum(spent) / len(spent)
    samples *= engine.accelerator.num_processes
    return {
        "seconds_per_step": seconds,
        "samples_per_step": samples,
        "samples_per_second": samples / seconds,
    }


def _budget(engine: Engine, speed: dict[str, float]) -> dict[str, float]:
    """Steps, validations and seconds until the end; writing checkpoints is not counted."""
    budget = engine.config.budget
    steps = budget.max_steps or max(1, round(budget.seconds / speed["seconds_per_step"]))
    # One before the first step, one after the last.
    validations = 2 + (steps - 1) // engine.config.validate_every
    training = budget.seconds or steps * speed["seconds_per_step"]
    seconds = training + validations * speed["validation_seconds"]
    return {"steps": steps, "validations": validations, "seconds": seconds}


def _disk(engine: Engine, grid: int) -> dict[str, int]:
    checkpoint = _bytes(capture(engine))
    # A new one is whole before the oldest goes.
    kept = checkpoint * (engine.config.keep_last + 1)
    return {"checkpoint": checkpoint, "kept": kept, "grid": grid}


def _counts(by_identity: list[list[int]]) -> dict[str, int]:
    return {"people": len(by_identity), "pictures": sum(map(len, by_identity))}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _draw(batch: Batch, target: Path) -> None:
    grid = picture_grid({k: batch[k] for k in ("lq", "gt") if k in batch}, _SHOWN)
    with written_whole(target) as path:
        grid.save(path, format="PNG")
