"""The list of the pack's nodes. A new node is a new file here that sets NODES."""

import sys
from typing import Any

from ..core._plugins import import_all


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
