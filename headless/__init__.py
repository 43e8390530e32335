from typing import Any

from ..core._moved import keep_paths
from ..core.node_api import run_by_default

keep_paths(__name__, {"server": "remote.server", "workflow": "workflows.workflow"})


def _embedded() -> Any:
    from .host.host import host

    return host


run_by_default(_embedded)
