"""ComfyUI nodes. A new node is a new file here that sets NODES; nothing else lists it."""

import sys

from ..core._plugins import import_all
from ._host import ComfyExtension, io


def all_nodes() -> list[type[io.ComfyNode]]:
    """Every node class of the pack, in the order of the files' names."""
    return [node for module in import_all(sys.modules[__name__]) for node in module.NODES]


class FacewrightExtension(ComfyExtension):
    """What ComfyUI asks for the list of nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return all_nodes()
