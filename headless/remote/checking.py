"""Whether a ComfyUI would run a workflow: all that can be known without asking it to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import first_of, shorten
from ...core.node_api import called
from ..runner import checks_itself, node_classes
from ..workflows.checking import needed, problems
from ..workflows.endings import UnfitError, refusing
from ..workflows.input_files import files_read, loaded, named_by_hand
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
            files = files_read(api, input_dir, named_by_hand(inputs), specs)
            sent = {(node_id, name) for node_id, name, path in files if path}
        found = _lacking(api, server, specs, input_dir, sent)
    if found:
        told = " ".join(first_of(found))
        raise UnfitError(f"This workflow would not run in the ComfyUI at {server}. {told}")


def _lacking(
    api: ApiWorkflow, server: Server, specs: Specs, input_dir: Path, sent: set[tuple[str, str]]
) -> list[str]:
    """Pictures and other files that the server would read and does not have."""
    found, running = [], needed(api, specs)
    for node_id in (k for k in api if k in running):
        node = api[node_id]
        spec = specs(node["class_type"])
        for one in spec.with_nested(node["inputs"]) if spec is not None else ():
            name = node["inputs"].get(one.name)
            if not isinstance(name, str) or name in one.options:
                continue
            if not one.is_upload and one.name not in loaded(node, specs):
                continue
            folder = str(one.details.get("image_folder") or "input")
            if (node_id, one.name) not in sent and not has(server, name, folder):
                here = f", nor is it in {input_dir}" if folder == "input" else ""
                found.append(
                    f"{called(node_id, node_title(api, node_id))}: the server has no file "
                    f"{shorten(name)}{here}."
                )
    return found
