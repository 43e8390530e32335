"""What the doctor has to be told by whoever runs it: ComfyUI, or a plain process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where to look, and what is known of ComfyUI."""

    places: Callable[[str], list[Path]]
    """Folders searched for the files of a models folder ("checkpoints", ...), first match first."""
    base: Path | None = None
    """Where the base model is said to be, whatever its name."""
    has_node: Callable[[str], bool]
    """Whether a node class can run here."""
    title: Callable[[str], str | None]
    """What the editor calls a node class; None for one that is not here."""
    files: Callable[[str], Mapping[str, str]]
    """Inputs of a node class of ours that name weight files -> the models folder of these; they are
    its first widgets."""
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
