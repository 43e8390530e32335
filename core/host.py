"""Who runs this code: it says where files lie, shows progress and owns the diffusion models.

Each run may have a host of its own, and runs of different threads do not see each other's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .errors import FacewrightError

_running: ContextVar[Any] = ContextVar("facewright_host")
_otherwise: list[Callable[[], Any]] = []


@contextmanager
def running(host: Any) -> Iterator[None]:
    """What is done in here is done for `host` (a `nodes._host.Host`)."""
    token = _running.set(host)
    try:
        yield
    finally:
        _running.reset(token)


def run_for(host: Any) -> None:
    """As `running`, for the rest of a command or of the life of a process."""
    _running.set(host)


def run_otherwise(make: Callable[[], Any]) -> None:
    """Whoever can run this code registers here: `make` gives the host of what nobody else runs."""
    _otherwise[:] = [make]


def find_host() -> Any:
    """The host of this run; None where only core is used."""
    host = _running.get(None)
    return host if host is not None or not _otherwise else _otherwise[0]()


class _Host:
    """Each attribute is that of the host of this run."""

    __slots__ = ()  # nothing is configured by assigning to it

    def __getattr__(self, name: str) -> Any:
        found = find_host()
        if found is None:
            raise FacewrightError(
                "Nothing runs nodes in this process. Import facewright.headless first, which runs "
                "them without ComfyUI."
            )
        return getattr(found, name)


host = _Host()
"""Whoever it is when it is asked."""
