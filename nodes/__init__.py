"""ComfyUI nodes. A new node is a new file here that sets NODES; nothing else lists it."""

import logging
import sys
from pathlib import Path

from ._all import REPLACED, all_nodes
from ._host import ComfyExtension, io


class FacewrightExtension(ComfyExtension):
    """What ComfyUI asks for the list of nodes."""

    async def on_load(self) -> None:
        """Called once before the nodes are listed: say it where another copy was loaded before."""
        if hasattr(io, "NodeReplace"):  # of ComfyUI since 0.33
            from ._comfy_replaced import offer

            await offer(REPLACED)
        own = Path(__file__).parents[1]
        for module in list(sys.modules.values()):
            extension = vars(module).get("FacewrightExtension")
            file = getattr(module, "__file__", None)
            theirs = getattr(extension, "__module__", "") == module.__name__
            if file and theirs and Path(file).parents[1] != own:
                logging.getLogger(__name__).warning(
                    "facewright is in custom_nodes twice: %s and %s. Nodes of the one loaded last "
                    "are used. Keep one, and restart ComfyUI.",
                    Path(file).parents[1],
                    own,
                )
                return

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return all_nodes()
