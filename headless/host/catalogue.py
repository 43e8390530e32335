"""The node classes that run without ComfyUI: ours and the built-in core nodes."""

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.doctor import Surroundings
from ...core.errors import FacewrightError
from ...core.node_api import ComfyNode, Input
from ...core.weights.model_folders import ModelFolders, comfyui_path
from ...nodes import all_nodes
from ...nodes._all import file_inputs
from ..workflows.specs import InputSpec, NodeSpec, input_spec
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
    outputs = tuple(o.io_type for o in schema.outputs)
    return NodeSpec([_spec(i) for i in schema.inputs], schema.display_name, outputs)


def _spec(i: Input) -> InputSpec:
    spec = input_spec(i.id, [i.io_type, _details(i)], optional=i.optional)
    # What is optional may be left out: its default is the node's own affair.
    return replace(spec, default=None) if i.optional else spec


_SAID = {"force_input": "forceInput", "dynamic_prompts": "dynamicPrompts"}


def _details(i: Input) -> dict[str, Any]:
    """What `object_info` would say of it."""
    said = {_SAID.get(k, k): v for k, v in vars(i).items() if v is not None}
    return said | i.extra_dict


def own_files(kind: str) -> dict[str, str]:
    """Inputs of a node class of ours that name weight files -> the models folder of these."""
    return file_inputs(node_classes()[kind]) if kind in node_classes() else {}


def plain_process(folders: ModelFolders, inputs: Path | None = None) -> Surroundings:
    """Those of the command line, with the ComfyUI that `comfyui_path` finds.

    Args:
        inputs: where pictures lie; by default in the input folder of that ComfyUI, if there is one.
    """

    def title(kind: str) -> str | None:
        spec = input_specs(kind)
        return spec and spec.title

    comfyui = comfyui_path()
    return Surroundings(
        places=folders.places,
        base=folders.base,
        has_node=node_classes().__contains__,
        title=title,
        files=own_files,
        everywhere=folders.everywhere,
        inputs=inputs or (comfyui / "input" if comfyui else None),
        comfyui=comfyui,
        version=comfyui and _version(comfyui),
        custom_nodes=(comfyui / "custom_nodes",) if comfyui else (),
    )


def _version(comfyui: Path) -> str | None:
    file = comfyui / "comfyui_version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return found[1] if found else None
