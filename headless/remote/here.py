"""Runs a workflow file in this process, for who wants a report of it."""

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.host import find_host, running
from ...core.node_api import sources
from ..runner import Outputs, input_specs, run_workflow
from ..workflows.endings import LateError
from ..workflows.report import RunReport, node_reports, seeds_of
from .server import prepared


class Here:
    """Runs of one workflow. Nodes that no changed input reaches run once and keep their outputs.

    A folder of pictures thus loads its models once, as ComfyUI would.
    """

    def __init__(self, workflow: Mapping[str, Any], changing: str | None = None) -> None:
        """Take a workflow of either form.

        Args:
            changing: id of the only node whose inputs differ from run to run; None keeps nothing.
        """
        self.workflow = workflow
        self._changing = changing
        self._kept: dict[str, Outputs] = {}

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        input_dir: Path | None,
        output_dir: Path,
        on_progress: Callable[[str, float], None] = lambda text, share: None,
        on_text: Callable[[str, str, str], None] = lambda node_id, title, text: None,
        timeout: float | None = None,
    ) -> RunReport:
        """Run it; arguments and errors are those of `runner.run_workflow`.

        Args:
            on_progress: called with the title of the node that is running, and the share that is
                done.
            timeout: seconds that it may take, where this is the main thread.

        Raises:
            LateError: it took longer.
        """
        started = time.perf_counter()
        report = RunReport()
        on_node, steps = _follow(on_progress)

        def take_text(node_id: str, title: str, text: str) -> None:
            report.add_text(node_id, text)
            on_text(node_id, title, text)

        with running(replace(find_host(), begin_progress=steps)), _within(timeout):
            results = run_workflow(
                self.workflow,
                inputs,
                input_dir=input_dir,
                output_dir=output_dir,
                on_node=on_node,
                on_text=take_text,
                known=self._kept,
            )
            api = prepared(self.workflow, input_specs, inputs)
        self._keep(api, results)
        report.seeds = seeds_of(api)
        report.nodes = node_reports(api, {k: v.seconds for k, v in results.items()})
        report.saved = [path for outputs in results.values() for path in _saved(outputs.ui)]
        report.seconds = time.perf_counter() - started
        return report

    def _keep(self, api: Mapping[str, Any], results: Mapping[str, Outputs]) -> None:
        if self._changing is None:
            return
        reached = {self._changing}
        while more := {i for i in api.keys() - reached if sources(api[i]) & reached}:
            reached |= more
        # Output nodes do something besides: they show and save.
        self._kept = {k: v for k, v in results.items() if k not in reached and v.ui is None}


class _Late(KeyboardInterrupt):
    """Passes through whatever handles errors of nodes, as Ctrl-C does."""


_ALARM: int = getattr(signal, "SIGALRM", 0) or getattr(signal, "SIGBREAK", 0)
"""A number for what interrupts a run; no real signal is sent. (Ctrl-C's is ignored in scripts that
start commands in the background.)"""


@contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """What takes longer is interrupted, once the step under way is done."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: Any) -> None:
        raise _Late

    before = signal.signal(_ALARM, late)
    timer = threading.Timer(seconds, _thread.interrupt_main, [_ALARM])
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
    except _Late as error:
        raise LateError(f"The workflow gave no result within {seconds:g} s.") from error
    finally:
        signal.signal(_ALARM, before)


def _saved(ui: Any) -> list[Path]:
    """Files that an output node wrote; previews are tensors."""
    images = ui.get("images") if isinstance(ui, dict) else None
    return images if isinstance(images, list) else []


def _follow(
    on_progress: Callable[[str, float], None],
) -> tuple[Callable[[str, int, int], None], Callable[[int], Any]]:
    """An `on_node`, and a host's `begin_progress` that moves between a node's start and its end."""
    at = ("", 0, 1)

    def on_node(title: str, done: int, total: int) -> None:
        nonlocal at
        at = title, done, total
        on_progress(title, done / total)

    class Steps:
        def __init__(self, total: int) -> None:
            self.total, self.done = max(total, 1), 0

        def update(self, n: int = 1) -> None:
            self.done += n
            title, done, total = at
            on_progress(title, (done + min(self.done / self.total, 1)) / total)

    return on_node, Steps
