from typing import Any

from ..core._moved import keep_paths
from ..core.host import run_otherwise

keep_paths(
    __name__,
    {"restore": "make.restore", "server": "remote.server", "workflow": "workflows.workflow"},
)


def _embedded() -> Any:
    from .host.host import HeadlessHost

    return HeadlessHost()


run_otherwise(_embedded)


def __getattr__(name: str) -> Any:
    if name in {"load_restorer", "RestoreOptions"}:  # heavy: only for who asks
        from .make import restore

        return getattr(restore, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
