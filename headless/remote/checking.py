"""Whether a ComfyUI would run a workflow: all that can be known without asking it to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import first_of, shorten
from ...core.node_api import called
from ..runner import checks_itself, node_classes
from ..workflows.checking import needed, problems
from ..workflows.endings import UnfitError, refusing
from ..workflows.input_files import LOADERS, files_read, named_by_hand
from ..workflows.specs import Specs
from ..workflows.workflow import ApiWorkflow, node_title
from .address import Server
from .http_client import has


def check_on_server(
    api: ApiWorkflow, server: Server, specs: Specs, input_dir: Path, inputs: Mapping[str, Any]
) -> None:
    """Hold a workflow against what a server says of its nodes, and look for its pictures.

    Args:
        specs: of that server.
        input_dir: pictures in there would be sent.
        inputs: what was set in the workflow: the files it names may lie anywhere.

    Raises:
        UnfitError: it would not run; every reason is told.
    """

    def own(kind: str) -> set[str]:
        return checks_itself(kind) if kind in node_classes() else set()

    found = problems(api, specs, own)
    if not found:
        with refusing():
            sent = {k for k, _, path in files_read(api, input_dir, named_by_hand(inputs)) if path}
        found = _lacking(api, server, specs, input_dir, sent)
    if found:
        told = " ".join(first_of(found))
        raise UnfitError(f"This workflow would not run in the ComfyUI at {server}. {told}")


def _lacking(
    api: ApiWorkflow, server: Server, specs: Specs, input_dir: Path, sent: set[str]
) -> list[str]:
    """Pictures and other files that the server would read and does not have."""
    found, running = [], needed(api, specs)
    for node_id in (k for k in api if k in running - sent):
        node = api[node_id]
        spec = specs(node["class_type"])
        for one in spec.inputs if spec is not None else ():
            name = node["inputs"].get(one.name)
            if not isinstance(name, str) or not one.is_upload or name in one.options:
                continue
            if not has(server, name, str(one.details.get("image_folder") or "input")):
                here = f", nor is it in {input_dir}" if node["class_type"] in LOADERS else ""
                found.append(
                    f"{called(node_id, node_title(api, node_id))}: the server has no file "
                    f"{shorten(name)}{here}."
                )
    return found
