"""Jobs shared out with Ray, over one machine or many; ray is imported when somebody asks for it."""

import contextlib
import logging
import os
import pickle
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError
from .workers import Team, Worker, WorkerLostError

LOCAL = "local"
ATTEMPTS = 3
"""As in `Team.attempts`: a machine may go that did nothing wrong."""
_LOOKED_FOR = 20
"""Files that a worker must see before it is given work."""
_SMALL_STORE = 80 * 2**20
"""Bytes of Ray's shared memory, near its minimum: pictures travel by file."""


class RayTeam(Team):
    """Workers of a Ray cluster, each with its models loaded once.

    They are actors without Ray's own restarts and retries: of one that is lost (killed, out of
    memory, its machine gone) another takes the job, wherever the cluster has room.
    """

    attempts = ATTEMPTS

    def __init__(
        self,
        address: str,
        workers: int | None = None,
        *,
        gpus: float | None = 0,
        reads: Iterable[Path] = (),
        writes: Path | None = None,
    ) -> None:
        """
        Args:
            address: "local" for a cluster that lives as long as the work, or one that runs, as
                `ray.init` takes it.
            workers: None: one per GPU that the work uses, else one per CPU.
            gpus: of each worker; None: 1 where the cluster has any.
            reads: files the jobs need; the workers look for some of them before they start.
            writes: folder of the results, made here.

        Raises:
            FacewrightError: ray is not installed.
        """
        self.address, self.workers, self.gpus = address, workers, gpus
        self._reads = [path for path in _some(list(reads)) if path.is_file()]
        self._writes = writes
        self._ray = _import_ray(local=address == LOCAL)

    @contextlib.contextmanager
    def gathered(self, work: Callable[[Any], Any]) -> Iterator[int]:
        """See `Team`.

        Raises:
            FacewrightError: no cluster at the address, or none with what the workers need.
        """
        with self._cluster(), self._mark() as mark:
            room = self._room()
            setting = _Setting.here(self._reads, mark)
            packed = self._ray.put(pickle.dumps(work))
            seat = self._ray.remote(_Seat).options(
                num_cpus=1, num_gpus=self._gpus(), max_restarts=0, max_task_retries=0
            )
            self._seat = lambda: seat.remote(setting, packed)
            yield room

    def hire(self) -> Worker:
        return _Actor(self._ray, self._seat())

    def wait(self, promises: list[Any]) -> Collection[Any]:
        return self._ray.wait(promises, num_returns=1)[0]

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[None]:
        ray = self._ray
        if ray.is_initialized():
            raise FacewrightError("Ray is in use in this process; start the command by itself.")
        quiet = {"log_to_driver": False, "configure_logging": False}
        with contextlib.ExitStack() as stack:
            # Ray writes there that workers died, which is said here where it matters.
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            log = logging.getLogger("ray")
            stack.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL)
            folder = stack.enter_context(_session_folder()) if self.address == LOCAL else ""
            stack.callback(ray.shutdown)
            if self.address == LOCAL:
                ray.init(
                    address="local",
                    num_cpus=max(os.cpu_count() or 1, self.workers or 1),
                    include_dashboard=False,
                    object_store_memory=_SMALL_STORE,
                    _temp_dir=folder,
                    **quiet,
                )
            else:
                try:
                    _knock(self.address)
                    ray.init(address=self.address, **quiet)
                except Exception as error:
                    raise FacewrightError(
                        f"No Ray cluster could be joined at {self.address} ({_first(error)}). "
                        "Start one with `ray start --head`, whose output says the address, or "
                        "take --ray local for this machine alone."
                    ) from error
            yield

    def _gpus(self) -> float:
        there = self._ray.cluster_resources().get("GPU", 0)
        return min(1, there) if self.gpus is None else self.gpus

    def _room(self) -> int:
        """How many workers there shall be.

        Raises:
            FacewrightError: the cluster has no room for one.
        """
        resources, gpus = self._ray.cluster_resources(), self._gpus()
        cpus, there = int(resources.get("CPU", 0)), resources.get("GPU", 0)
        room = min(cpus, int(there / gpus)) if gpus else cpus
        if room < 1:
            raise FacewrightError(
                f"A worker needs 1 CPU and {gpus:g} GPUs, and the cluster has {cpus} CPUs and "
                f"{there:g} GPUs. Give --gpus-per-worker less, or 0 for CPUs."
            )
        return self.workers or room  # those that find no room yet wait for it

    @contextlib.contextmanager
    def _mark(self) -> Iterator[tuple[Path, str] | None]:
        """A file among the results, by which workers see that it is the same folder."""
        if self._writes is None:
            yield None
            return
        self._writes.mkdir(parents=True, exist_ok=True)
        word = secrets.token_hex(8)
        mark = self._writes / f".facewright-{word}.mark"
        mark.write_text(word)
        try:
            yield mark, word
        finally:
            mark.unlink(missing_ok=True)


class _Actor(Worker):
    """A worker, seen from here."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.promise = actor.ready.remote()

    def begin(self, job: Any) -> None:
        self.promise = self._actor.do.remote(job)

    def answer(self) -> Any:
        """See `Worker`.

        Raises:
            FacewrightError: it is not where it could work.
        """
        try:
            result = self._ray.get(self.promise)
        except self._ray.exceptions.RayError as error:
            return WorkerLostError(_why(error))
        if self.task is None and result is not None:
            raise FacewrightError(result)
        return result

    def dismiss(self) -> None:
        # Also one that is only out of reach: it must not come back.
        self._ray.kill(self._actor)


@dataclass(frozen=True)
class _Setting:
    """What must be the same where a worker is."""

    folder: str
    """The current one, from which relative paths count."""
    version: str | None
    reads: list[Path]
    mark: tuple[Path, str] | None

    @classmethod
    def here(cls, reads: list[Path], mark: tuple[Path, str] | None) -> "_Setting":
        from ...core.doctor.machine import own_version

        return cls(os.getcwd(), own_version(), reads, mark)

    def problem(self) -> str | None:
        """Take the place, and say what is not as it should be on this machine."""
        from ...core.doctor.machine import own_version

        machine = socket.gethostname()
        same = "All machines of the cluster must see the folders under the same paths."
        try:
            os.chdir(self.folder)
        except OSError:
            return f"The worker on {machine} has no folder {self.folder}. {same}"
        for path in self.reads:
            if not path.is_file():
                return f"The worker on {machine} does not see {path}. {same}"
        if self.mark is not None:
            path, word = self.mark
            try:
                seen = path.read_text() == word
                written = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
                written.touch()
                written.unlink()
            except OSError:
                seen = False
            if not seen:
                return f"The worker on {machine} cannot write to {path.parent} as here. {same}"
        if own_version() != self.version:
            return (
                f"The worker on {machine} has facewright {own_version()}, and this machine "
                f"{self.version}. Install the same version everywhere."
            )
        return None


class _Seat:
    """What runs in a worker."""

    def __init__(self, setting: _Setting, packed: bytes) -> None:
        self.problem = setting.problem()
        if self.problem is None:
            import torch

            torch.set_num_threads(1)
            self.work = pickle.loads(packed)  # now, because reading it may look for weights

    def ready(self) -> str | None:
        """A sentence where this place will not do."""
        return self.problem

    def do(self, job: Any) -> Any:
        return self.work(job)


def _import_ray(*, local: bool) -> Any:
    # All of these are read when ray is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local and os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
        # Nobody else's jobs here, and no file in the home folder to say so.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise FacewrightError(
            '--ray needs the package ray: pip install "facewright[ray]". Without it, --workers '
            "shares the pictures among processes of this machine."
        ) from error
    return ray


@contextlib.contextmanager
def _session_folder() -> Iterator[str]:
    """For Ray's sockets, whose names may not be long, and its logs."""
    folder = tempfile.mkdtemp(prefix="facewright-ray-", dir="/tmp" if os.name == "posix" else None)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _knock(address: str) -> None:
    """Raise OSError where nobody listens, which takes ray minutes to find out."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _some(paths: Sequence[Path]) -> list[Path]:
    """Up to `_LOOKED_FOR` of them, from all over."""
    return list(paths[:: -(-len(paths) // _LOOKED_FOR) or 1])


def _first(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _why(error: Exception) -> str:
    """How a worker went, to follow "the process"."""
    text = str(error)
    if "OUT_OF_MEMORY" in text or type(error).__name__ == "OutOfMemoryError":
        return "was stopped for lack of memory"
    if "node" in text.lower() and "NODE_DIED" in text:
        return "was lost with its machine"
    cause = getattr(error, "cause", None)
    if cause is not None or "Error" in text.splitlines()[-1]:
        return f"ended with {text.splitlines()[-1].strip()}"
    return "died or was killed, perhaps for lack of memory"
