"""SIGTERM and Ctrl-C end a run in good order."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger(__name__)


@contextmanager
def ended_by_signals(engine: "Engine") -> Iterator[None]:
    """Inside, either ends the run after the current step, with a checkpoint.

    A second Ctrl-C ends it at once.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if engine.stopped_by and number == signal.SIGINT:
            raise KeyboardInterrupt
        engine.stopped_by = signal.Signals(number).name
        log.warning("%s: stopping after this step, with a checkpoint.", engine.stopped_by)

    try:
        kept = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # only a main thread may set handlers
        kept = {}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
