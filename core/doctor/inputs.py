"""Pictures, videos and sounds that nodes load from ComfyUI's input folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import shorten
from ..files.confined import inside
from ..files.editor_form import in_folder
from ..node_api import called
from ..weights.model_folders import is_there
from .nodes import Node

LOADERS = {
    "Load3D": ("model_file", "3D model"),
    "LoadAudio": ("audio", "sound"),
    "LoadImage": ("image", "picture"),
    "LoadImageMask": ("image", "picture"),
    "LoadLatent": ("latent", "latent"),
    "LoadVideo": ("file", "video"),
}
"""ComfyUI's nodes that read a file of the input folder: the widget, their first, and what it is."""


@dataclass(frozen=True)
class Inputs:
    """Looks for such files."""

    folder: Path | None
    """None: nobody knows where they lie."""
    sent: bool = False
    """Whether they are sent from there to wherever the workflow runs."""

    def look(self, node: Node) -> dict[str, Any] | None:
        """An entry for the report; None where a node names no file, or none can be looked for."""
        if node.kind not in LOADERS or self.folder is None:
            return None
        name = LOADERS[node.kind][0]
        value = node.value(name, 0)
        if not isinstance(value, str) or value == "none" or in_folder(value)[1] != "input":
            return None
        return self.entry(node, name, value, False, str(self.folder))

    def entry(self, node: Node, name: str, value: str, there: bool, where: str) -> dict[str, Any]:
        """What the report says of a file, with its `problem` where it is missing.

        Args:
            there: whether the run finds it without this machine.
            where: what was searched, for the sentence.
        """
        found = there or self._is_here(value)
        what = LOADERS.get(node.kind, ("", "file"))[1]
        lies = f"which {where} does not have" if self.sent else f"which is not in {where}"
        problem = (
            f"{called(node.id, node.title)} loads the {what} {shorten(value)}, {lies}: choose one "
            f"in the node, or put it {'there or here' if self.sent else 'there'}."
        )
        return node.entry(name) | {
            "value": shorten(value, 200),
            "problem": None if found else problem,
        }

    def _is_here(self, value: str) -> bool:
        name, folder = in_folder(value)
        if self.folder is None or folder != "input":
            return False
        path = inside(self.folder, name)
        return path is not None and is_there(path)
