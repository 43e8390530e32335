"""Pictures, videos, sounds and 3D models that a workflow may read.

A workflow comes from anybody. It reads such files of the input folder, and nothing else: whatever
else is wanted has to be named by the person who starts the run, in that very command.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import shorten
from ...core.files.confined import inside
from ...core.files.editor_form import in_folder
from ...core.files.writing import expand_path
from ...core.weights.model_folders import is_there
from .media import is_latent, is_picture, is_scene, is_sound, is_video
from .specs import Specs, UnknownNodeError
from .workflow import ApiWorkflow
from .workflow_file import WorkflowError


class Medium(NamedTuple):
    """What a node reads."""

    what: str
    fits: Callable[[Path], bool]


_PICTURE, _VIDEO = Medium("picture", is_picture), Medium("video", is_video)
_SOUND, _SCENE = Medium("sound", is_sound), Medium("3D model", is_scene)
_LATENT = Medium("latent", is_latent)
_ANY = Medium("file", lambda path: any(m.fits(path) for m in (_PICTURE, _SOUND, _SCENE)))
_MARKED: Mapping[str, Medium] = {
    "image_upload": _PICTURE,
    "animated_image_upload": _PICTURE,
    "video_upload": _VIDEO,
    "audio_upload": _SOUND,
    "file_upload": _SCENE,
}
"""By the mark with which a node says that the editor shall offer to send a file."""
_KNOWN: Mapping[str, tuple[str, Medium]] = {
    "LoadImage": ("image", _PICTURE),
    "LoadVideo": ("file", _VIDEO),
    "LoadLatent": ("latent", _LATENT),
}
"""Node classes that read a file of the input folder, whether or not they say so: the input."""


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
    return _file(_KNOWN[kind][1], name, input_dir, named)


def _file(
    medium: Medium, name: str | os.PathLike[str], input_dir: Path, named: Collection[str]
) -> Path | None:
    what, fits = medium
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
    api: ApiWorkflow,
    input_dir: Path,
    named: Collection[str],
    specs: Specs = lambda kind: None,
) -> Iterator[tuple[str, str, Path | None]]:
    """Node id, input and file of whatever a workflow in the API form reads of the input folder.

    Args:
        specs: say which inputs of which nodes take a file that the editor would send.

    Raises:
        WorkflowError: as `input_file`.
    """
    for node_id, node in api.items():
        for name, medium in loaded(node, specs).items():
            value = node["inputs"].get(name)
            if isinstance(value, os.PathLike) or (
                isinstance(value, str) and value and in_folder(value)[1] == "input"
            ):
                yield node_id, name, _file(medium, value, input_dir, named)


def loaded(node: Mapping[str, Any], specs: Specs) -> dict[str, Medium]:
    """Inputs of a node that name a file of the input folder, and what each may be."""
    try:
        spec = specs(node["class_type"])
    except UnknownNodeError:
        spec = None  # whoever is to run it says so
    found = dict([_KNOWN[node["class_type"]]] if node["class_type"] in _KNOWN else [])
    for one in spec.with_nested(node["inputs"]) if spec is not None else ():
        if one.is_upload and one.details.get("image_folder", "input") == "input":
            marks = (_MARKED[mark] for mark, on in one.details.items() if on and mark in _MARKED)
            found.setdefault(one.name, next(marks, _ANY))
    return found
