"""What the doctor has to be told by whoever runs it: ComfyUI, or a plain process."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...core.weights.model_folders import ModelFolders, comfyui_path


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where to look, and what is known of ComfyUI."""

    places: Callable[[str], list[Path]]
    """Folders searched for the files of a models folder ("checkpoints", ...), first match first."""
    has_node: Callable[[str], bool]
    """Whether a node class can run here."""
    title: Callable[[str], str | None]
    """What the editor calls a node class; None for one that is not here."""
    inside: bool = False
    """In a ComfyUI, which knows its nodes. Else other packs' nodes are looked for in sources."""
    comfyui: Path | None = None
    version: str | None = None
    """ComfyUI's."""
    custom_nodes: tuple[Path, ...] = ()
    """Folders of node packs."""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """Number formats that ComfyUI chooses, by part; empty where facewright chooses itself."""
    warnings: tuple[str, ...] = ()
    """What whoever runs the doctor noticed itself."""


def plain_process(folders: ModelFolders) -> Surroundings:
    """Those of the command line, with the ComfyUI that `comfyui_path` finds."""
    from ..runner import input_specs, node_classes

    def title(kind: str) -> str | None:
        spec = input_specs(kind)
        return spec and spec.title

    comfyui = comfyui_path()
    return Surroundings(
        places=folders.places,
        has_node=node_classes().__contains__,
        title=title,
        comfyui=comfyui,
        version=comfyui and _version(comfyui),
        custom_nodes=(comfyui / "custom_nodes",) if comfyui else (),
    )


def _version(comfyui: Path) -> str | None:
    file = comfyui / "comfyui_version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return found[1] if found else None
