"""The node classes that run without ComfyUI: ours and the built-in core nodes."""

import functools
import re
from pathlib import Path

from ...core.doctor import Surroundings
from ...core.errors import FacewrightError
from ...core.node_api import ComfyNode, Input
from ...core.weights.model_folders import ModelFolders, comfyui_path
from ...nodes import all_nodes
from ...nodes._all import file_inputs
from ..workflows.specs import InputSpec, NodeSpec, has_control
from .builtin import BUILTIN


@functools.cache
def node_classes() -> dict[str, type[ComfyNode]]:
    """Every node class the embedded host can run, by id.

    Raises:
        FacewrightError: this process already is a ComfyUI.
    """
    ours = all_nodes()
    if not all(issubclass(node, ComfyNode) for node in ours):
        raise FacewrightError(
            "The embedded runner was started inside ComfyUI, which runs workflows itself."
        )
    return {node.GET_SCHEMA().node_id: node for node in (*BUILTIN, *ours)}


def input_specs(kind: str) -> NodeSpec | None:
    """What `workflow.to_api` and `assign.set_inputs` ask about one of our node classes."""
    node = node_classes().get(kind)
    if node is None:
        return None
    schema = node.GET_SCHEMA()
    return NodeSpec([_spec(i) for i in schema.inputs], schema.display_name)


def _spec(i: Input) -> InputSpec:
    control = has_control(i.io_type, i.id, getattr(i, "control_after_generate", None))
    options = tuple(getattr(i, "options", None) or ())
    default = getattr(i, "default", None)
    default = options[0] if options and default is None else default
    # What is optional may be left out: its default is the node's own affair.
    default = None if i.optional else default
    return InputSpec(i.id, i.has_widget, control, i.io_type, options, default)


def plain_process(folders: ModelFolders) -> Surroundings:
    """Those of the command line, with the ComfyUI that `comfyui_path` finds."""

    def title(kind: str) -> str | None:
        spec = input_specs(kind)
        return spec and spec.title

    comfyui = comfyui_path()
    return Surroundings(
        places=folders.places,
        base=folders.base,
        has_node=node_classes().__contains__,
        title=title,
        files=lambda kind: file_inputs(node_classes()[kind]) if kind in node_classes() else {},
        comfyui=comfyui,
        version=comfyui and _version(comfyui),
        custom_nodes=(comfyui / "custom_nodes",) if comfyui else (),
    )


def _version(comfyui: Path) -> str | None:
    file = comfyui / "comfyui_version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return found[1] if found else None
