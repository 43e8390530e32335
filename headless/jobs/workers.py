"""Jobs spread over processes, any of which may die without taking the others along.

Nothing heavy is imported here: a starting process reads this file before it can ignore Ctrl-C.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

J = TypeVar("J")
R = TypeVar("R")
_PATIENCE = 5.0
"""Seconds for what a worker is writing when the batch is stopped."""


class WorkerLostError(Exception):
    """Given in place of a result: the process that had the job is gone, and how it went."""

    @property
    def sentence(self) -> str:
        return f"the process working on it {self}; try again with fewer workers"


class Team(Protocol):
    """Who does jobs in other processes."""

    retries: bool
    """A job may be begun again, even while a worker that was given up is still busy with it."""

    def spread(
        self, work: Callable[[J], R], jobs: Sequence[J]
    ) -> Iterator[tuple[J, R | WorkerLostError]]:
        """Yield (job, result) as the results come; closing the generator stops the work.

        Args:
            work: goes to each worker by pickle, once, and computes there with one thread of torch;
                the jobs go one at a time. It should return its errors.

        Raises:
            WorkerLostError: no worker could be started.
        """
        ...


class Processes:
    """So many processes of this machine; a job whose process dies is given up."""

    retries = False

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def spread(
        self, work: Callable[[J], R], jobs: Sequence[J]
    ) -> Iterator[tuple[J, R | WorkerLostError]]:
        return spread(work, jobs, self.workers)


def spread(
    work: Callable[[J], R], jobs: Sequence[J], workers: int
) -> Iterator[tuple[J, R | WorkerLostError]]:
    """Yield (job, result) as the results come, from `workers` processes of one torch thread each.

    `concurrent.futures` gives up every job in flight when one process dies and cannot say which
    one did it; here the job of the dead one is given as `WorkerLostError` and another takes over.
    Closing the generator lets what is being written be finished and drops the rest.

    Args:
        work: goes to each process by pickle, once; so do the jobs, one at a time. It should return
            its errors: what it raises ends its process.

    Raises:
        WorkerLostError: no process lived long enough to take a job.
    """
    waiting = deque(jobs)
    team: list[_Worker] = []
    try:
        while waiting or any(worker.busy for worker in team):
            while len(team) < workers and sum(not w.busy for w in team) < len(waiting):
                team.append(_Worker(work))
            ready = wait([worker.connection for worker in team])
            for worker in [w for w in team if w.connection in ready]:
                job, was_busy = worker.job, worker.busy
                try:
                    result = worker.connection.recv()
                except (EOFError, OSError):
                    team.remove(worker)
                    if was_busy:
                        yield job, WorkerLostError(worker.epitaph())
                    elif not worker.started:
                        workers -= 1  # a successor would fare no better
                        if not workers:
                            raise WorkerLostError(worker.epitaph()) from None
                else:
                    worker.started = True
                    worker.take(waiting.popleft() if waiting else _NOTHING)
                    if was_busy:
                        yield job, result
    finally:
        for worker in team:
            worker.connection.close()
        for worker in team:
            worker.process.join(_PATIENCE)
            worker.process.kill()


_NOTHING = object()


class _Worker:
    """A process and what it is working on."""

    def __init__(self, work: Callable) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # or its end would never be seen
        self.started = False
        self.job: Any = _NOTHING
        self._send(work)

    @property
    def busy(self) -> bool:
        return self.job is not _NOTHING

    def take(self, job: Any) -> None:
        self.job = job
        if self.busy:
            self._send(job)

    def _send(self, what: Any) -> None:
        # One that died just now is found out, and its job given up, when its answer is awaited.
        with suppress(OSError):
            self.connection.send(what)

    def epitaph(self) -> str:
        """How the process ended, to follow "the process"."""
        self.process.join()
        code = self.process.exitcode
        if code == -9:
            return "was killed, perhaps for lack of memory"
        return f"ended with code {code}"


def _serve(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone decides when to stop
    with suppress(EOFError, OSError):  # the parent is gone or has closed the line
        work = connection.recv()
        import torch

        torch.set_num_threads(1)
        connection.send(None)  # ready
        while True:
            connection.send(work(connection.recv()))
