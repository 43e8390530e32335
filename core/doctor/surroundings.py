"""What the doctor has to be told by whoever runs it: ComfyUI, or a plain process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Choice:
    """What a combo offers."""

    options: tuple[Any, ...]
    upload: bool = False
    """It lists files of the input folder, which people add to."""
    several: bool = False
    """Several may be chosen."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A ComfyUI that is asked over HTTP; its answers count, not the files of this machine."""

    url: str
    version: str | None
    choices: Callable[[str, Mapping[str, Any]], Mapping[str, Choice]]
    """The combos of a node class, by the names of inputs, with these values of the others."""
    folder_of: Callable[[Sequence[Any]], str | None]
    """The models folder that holds exactly these files."""
    lists: Callable[[str | None, str], bool]
    """Whether a models folder, or None: any of them, holds a file."""
    has_input: Callable[[str], bool]
    """Whether it has a picture, video or the like of that name."""
    is_paid: Callable[[str], bool]
    """Whether a node class asks for credits of comfy.org."""


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
    everywhere: Callable[[], list[Path]] = list
    """All models folders, for files of nodes that nobody knows."""
    inputs: Path | None = None
    """Where pictures that a workflow names lie; None: they are not looked for."""
    server: Server | None = None
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
