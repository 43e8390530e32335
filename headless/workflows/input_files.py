"""Pictures and videos that a workflow may read.

A workflow comes from anybody. It reads pictures and videos of the input folder, and nothing else:
whatever else is wanted has to be named by the person who starts the run, in that very command.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import shorten
from ...core.files.confined import inside
from ...core.files.writing import expand_path
from ...core.weights.model_folders import is_there
from .media import is_picture, is_video
from .workflow_file import WorkflowError

LOADERS: Mapping[str, tuple[str, Callable[[Path], bool], str]] = {
    "LoadImage": ("image", is_picture, "picture"),
    "LoadVideo": ("file", is_video, "video"),
}
"""Node classes that read a file of the input folder: the input, what the file has to be."""


def named_by_hand(inputs: Mapping[str, Any]) -> frozenset[str]:
    """Every value that the person who starts a run gave, as text."""
    return frozenset(os.fspath(v) for v in inputs.values() if isinstance(v, str | os.PathLike))


def input_file(
    kind: str, name: str | os.PathLike[str], input_dir: Path, named: Collection[str]
) -> Path | None:
    """The file that a node of class `kind` reads; None where there is none of that name.

    Args:
        name: of a file in the input folder, as ComfyUI writes it, or any path in `named`.
        named: what the person who starts the run named.

    Raises:
        WorkflowError: it lies elsewhere, or is not what the node loads.
    """
    _, fits, what = LOADERS[kind]
    text = os.fspath(name)
    if text in named:
        path = input_dir / text  # of an absolute path that is itself
        path = path if is_there(path) else input_dir / expand_path(text)
    else:
        found = inside(input_dir, text.removesuffix(" [input]"))
        if found is None:
            raise WorkflowError(
                f"This workflow names the {what} {shorten(text)}, which is not in the input folder "
                f"{input_dir}. Workflows read no other files by themselves: if you want this one "
                f"read, name it with --set, or put it into that folder."
            )
        path = found
    if not is_there(path):
        return None
    try:
        good = path.is_file() and fits(path)
    except OSError as error:
        raise WorkflowError(f"{shorten(path, 200)} cannot be read ({error}).") from error
    if not good:
        raise WorkflowError(f"{shorten(path, 200)} is no {what} of a kind that can be read.")
    return path


def files_read(
    api: Mapping[str, Any], input_dir: Path, named: Collection[str]
) -> Iterator[tuple[str, str, Path | None]]:
    """Node id, name and file of every picture and video that a workflow in the API form reads.

    Raises:
        WorkflowError: as `input_file`.
    """
    for node_id, node in api.items():
        kind = node["class_type"]
        name = node["inputs"].get(LOADERS[kind][0]) if kind in LOADERS else None
        if isinstance(name, str | os.PathLike):
            yield node_id, os.fspath(name), input_file(kind, name, input_dir, named)
