"""The list of the pack's nodes. A new node is a new file here that sets NODES."""

import sys
from collections.abc import Sequence
from typing import Any

from ..core._plugins import import_all

REPLACED: Sequence[dict[str, Any]] = ()
"""Nodes that others took the place of, as arguments of ComfyUI's `io.NodeReplace`:

    {"old_node_id": "FacewrightOld", "new_node_id": "FacewrightNew", "old_widget_ids": ["size"],
     "input_mapping": [{"new_id": "side", "old_id": "size"}, {"new_id": "mode", "set_value": "a"}],
     "output_mapping": [{"new_idx": 0, "old_idx": 0}]}

The old class stays, for older ComfyUIs know nothing else: "Changing a node" in CONTRIBUTING.
"""


def all_nodes() -> list[type]:
    """Every node class of the pack, in the order of the files' names."""
    return [
        node
        for module in import_all(sys.modules[__name__.rpartition(".")[0]])
        for node in module.NODES
    ]


def file_inputs(node: Any) -> dict[str, str]:
    """Names of a node's inputs that name files -> the models folder these lie in."""
    return {i.id: i.of_files for i in node.GET_SCHEMA().inputs if hasattr(i, "of_files")}
