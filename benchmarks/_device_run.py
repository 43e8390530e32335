"""How parts of the device benchmark measure time and memory, and what they say of failures."""

import gc
import json
import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from facewright.benchmarks.onestep import PeakMemory

Row = dict[str, Any]
WARM_UPS = 2
OUT_OF_MEMORY = "out of memory"
FOR_TIME = "for time"


@dataclass
class Bench:
    """What a part is given: a device, a deadline, and a place for its rows.

    Attributes:
        tiny: small shapes, to try the script.
        until: `time.time()` at which the part has to be done.
        tell: takes a row as soon as it is there, so that what ends the process loses no other.
        folder: for files that parts share; whoever started the benchmark removes it.
        training_batch: pictures in a training step.
    """

    device: torch.device
    tiny: bool
    until: float
    tell: Callable[[Row], object]
    folder: Path
    training_batch: int = 2

    def left(self) -> float:
        """Seconds until the part has to be done."""
        return self.until - time.time()

    def row(self, name: str, measure: Callable[[], Row], *, needs: float = 0.0) -> Row:
        """Tell what `measure` finds, or how it failed, or that no time was left for it.

        Args:
            needs: seconds that it takes at least on a device worth measuring.
        """
        if self.left() < needs or self.left() <= 0:
            row: Row = {"left_out": f"{FOR_TIME}: {max(0.0, self.left()):.0f} s were left"}
        else:
            self.tell({"name": name, "began": True})
            row = attempt(measure)
        row = {"name": name, **row}
        self.tell(row)
        self.tidy()
        return row

    def tidy(self) -> None:
        """Give back what is not used any more, so that the next row has all of the memory."""
        gc.collect()
        empty = getattr(self._module(), "empty_cache", None)
        # After an error of the device itself every call fails, this one too.
        if empty is not None:
            attempt(lambda: empty() or {})

    def wait(self) -> None:
        """Until the device has done all that it was told to do."""
        if self.device.type != "cpu":
            self._module().synchronize()

    def timed(self, function: Callable[[], object], *, most: int = 20, seconds: float = 1.0) -> Row:
        """Median and range of a call's milliseconds, after it has run `WARM_UPS` times.

        Args:
            most: calls that count; tiny, a single one does, after one to warm up.
            seconds: no further call is begun after these; one always counts.

        Returns:
            ms, ms_range: by the clock, the device waited for before and after; device_ms: between
            two events of the device, None where it has none; repeats; first_ms: of the very first.
        """
        first = None
        most = 1 if self.tiny else most
        for _ in range(1 if self.tiny else WARM_UPS):
            ms, _ = self._call(function)
            first = ms if first is None else first
            if ms > 1000 * seconds:
                break
        walls, own = [], []
        start = time.perf_counter()
        while not walls or (
            len(walls) < most and time.perf_counter() - start < seconds and self.left() > 0
        ):
            wall, device = self._call(function)
            walls.append(wall)
            own.append(device)
        return {
            "ms": statistics.median(walls),
            "ms_range": [min(walls), max(walls)],
            "device_ms": None if own[0] is None else statistics.median(own),
            "repeats": len(walls),
            "first_ms": first,
        }

    def _call(self, function: Callable[[], object]) -> tuple[float, float | None]:
        events = None
        self.wait()
        start = time.perf_counter()
        if self.device.type == "cuda":
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
        function()
        if events:
            events[1].record()
        self.wait()
        ms = (time.perf_counter() - start) * 1000
        return ms, events[0].elapsed_time(events[1]) if events else None

    @contextmanager
    def peak(self) -> Iterator[Row]:
        """Fills a row with the most memory that was taken in the block, in MB.

        On a GPU held_mb is what torch had allocated when the block began, mostly weights, peak_mb
        the most it had allocated at a time, weights included, and reserved_mb what it had taken
        from the driver for that. Elsewhere peak_mb is how much the process grew.
        """
        row: Row = {}
        module = self._module()
        if self.device.type == "cpu" or not hasattr(module, "reset_peak_memory_stats"):
            with PeakMemory() as memory:
                yield row
            row |= {"peak_mb": memory.mb, "memory": "growth of the process"}
            return
        self.wait()
        module.reset_peak_memory_stats()
        row["held_mb"] = round(module.memory_allocated() / 2**20)
        yield row
        self.wait()
        row["peak_mb"] = round(module.max_memory_allocated() / 2**20)
        row["reserved_mb"] = round(module.max_memory_reserved() / 2**20)

    def _module(self) -> Any:
        return None if self.device.type == "cpu" else getattr(torch, self.device.type)


def attempt(measure: Callable[[], Row]) -> Row:
    """What `measure` gives, or a row that says how it failed.

    The error is let go on return: it would hold on to all tensors of what failed.
    """
    try:
        return measure()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is told
        return failure(error)


def failure(error: BaseException) -> Row:
    """What went wrong: in a word, the first lines of what was said, and the line of code."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if ran_out(error):
        return {"failed": OUT_OF_MEMORY, "why": said}
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-1:]]
    return {"failed": type(error).__name__, "why": said, "where": "".join(where)}


def ran_out(error: BaseException) -> bool:
    """Whether memory was lacking; outside of CUDA torch says so in words alone."""
    kinds = (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, kinds) or any(w in str(error).lower() for w in words)


def as_json(value: Any) -> str:
    """One line of JSON that any reader takes: NaN and infinities are null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
