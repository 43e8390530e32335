"""Jobs spread over workers, any of which may die without taking the others along.

Nothing heavy is imported here: a starting process reads this file before it can ignore Ctrl-C.
"""

import multiprocessing.connection
import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

J = TypeVar("J")
R = TypeVar("R")
_MOST_PROCESSES = 61 if os.name == "nt" else 2**10
"""Windows waits for no more answers at a time."""
_PATIENCE = 5.0
"""Seconds for what a worker is writing when the batch is stopped."""


class WorkerLostError(Exception):
    """Given in place of a result: the process that had the job is gone, and how it went."""

    @property
    def sentence(self) -> str:
        return f"the process working on it {self}; try again with fewer workers"


class _Task(NamedTuple):
    job: Any
    lost: int = 0
    """Workers that were lost over it before."""


class Worker(ABC):
    """A process that does one job at a time; before the first it says that it is ready."""

    task: _Task | None = None
    promise: Any
    """Of the next answer, as `Team.wait` takes it."""

    @abstractmethod
    def begin(self, job: Any) -> None:
        """Let it work on this one."""

    @abstractmethod
    def answer(self) -> Any:
        """The result, None for "ready", or a `WorkerLostError` where the process is gone."""

    @abstractmethod
    def dismiss(self) -> None:
        """Let it go; of what it is doing nothing is heard any more."""


class Team(ABC):
    """Who does jobs in other processes: what `spread` needs to know of them."""

    attempts = 1
    """Workers that may be lost over one job, or before their first, until it is given up. Above 1,
    a job may be begun again while a worker that was given up is still busy with it."""
    alive = 0
    """Workers that have a job just now."""

    @abstractmethod
    def gathered(self, work: Callable[[Any], Any]) -> AbstractContextManager[int]:
        """Be able to hire, with room for so many; afterwards no worker is left."""

    @abstractmethod
    def hire(self) -> Worker:
        """A new process, which is given the work."""

    @abstractmethod
    def wait(self, promises: list[Any]) -> Collection[Any]:
        """Wait for some answer, and say which promises are kept."""


def spread(
    team: Team, work: Callable[[J], R], jobs: Sequence[J]
) -> Generator[tuple[J, R | WorkerLostError], None, None]:
    """Yield (job, result) as the results come; closing the generator stops the work.

    `concurrent.futures` gives up every job in flight when one process dies and cannot say which
    one did it; Ray's own retries put a job back on the actor it has just killed. Here a worker
    holds one job; when it is lost another takes the job, as often as the team allows.

    Args:
        work: goes to each process by pickle, once, and computes there with one thread of torch; so
            do the jobs, one at a time. It should return its errors: what it raises ends its
            process.

    Raises:
        WorkerLostError: no process lived long enough to take a job.
    """
    if not jobs:
        return
    waiting = deque(map(_Task, jobs))
    workers: list[Worker] = []
    stillborn = 0
    with team.gathered(work) as room:
        wanted = min(room, len(jobs))
        try:
            while waiting or team.alive:
                while len(workers) < wanted and len(workers) - team.alive < len(waiting):
                    workers.append(team.hire())
                kept = team.wait([worker.promise for worker in workers])
                for worker in [w for w in workers if w.promise in kept]:
                    task, result = worker.task, worker.answer()
                    lost = isinstance(result, WorkerLostError)
                    if waiting and not lost:
                        worker.task = waiting.popleft()
                        worker.begin(worker.task.job)
                    else:
                        workers.remove(worker)
                        worker.dismiss()
                    team.alive = sum(w.task is not None for w in workers)
                    if task is None:
                        stillborn = stillborn + 1 if lost else 0
                        if stillborn == team.attempts:  # a successor would fare no better
                            wanted, stillborn = wanted - 1, 0
                            if not wanted:
                                raise result
                    elif lost and task.lost + 1 < team.attempts:
                        waiting.append(_Task(task.job, task.lost + 1))
                    elif lost and team.attempts > 1:
                        why = f"{result}, {team.attempts} times on different workers"
                        yield task.job, WorkerLostError(why)
                    else:
                        yield task.job, result
        finally:
            for worker in workers:
                worker.dismiss()
            team.alive = 0


class Processes(Team):
    """So many processes of this machine."""

    def __init__(self, workers: int) -> None:
        self._room = min(workers, _MOST_PROCESSES)

    @contextmanager
    def gathered(self, work: Callable[[Any], Any]) -> Iterator[int]:
        self._work, self._started = work, []
        try:
            yield self._room
        finally:
            for process in self._started:
                process.join(_PATIENCE)
                process.kill()

    def hire(self) -> Worker:
        worker = _Process(self._work)
        self._started.append(worker.process)
        return worker

    def wait(self, promises: list[Any]) -> Collection[Any]:
        return multiprocessing.connection.wait(promises)


class _Process(Worker):
    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.promise, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # or its end would never be seen
        self.begin(work)

    def begin(self, job: Any) -> None:
        # One that died just now is found out, and its job given up, when its answer is awaited.
        with suppress(OSError):
            self.promise.send(job)

    def answer(self) -> Any:
        try:
            return self.promise.recv()
        except (EOFError, OSError):
            self.process.join()
        code = self.process.exitcode
        killed = "was killed, perhaps for lack of memory"
        return WorkerLostError(killed if code == -9 else f"ended with code {code}")

    def dismiss(self) -> None:
        self.promise.close()


def _serve(connection: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone decides when to stop
    with suppress(EOFError, OSError):  # the parent is gone or has closed the line
        work = connection.recv()
        import torch

        torch.set_num_threads(1)
        connection.send(None)  # ready
        while True:
            connection.send(work(connection.recv()))
