"""Files that a run left on the server, of whatever kind, fetched into a folder here."""

import filecmp
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any

from ...core.errors import first_of, shorten
from ...core.files import shapes
from ...core.files.confined import inside
from ...core.files.shapes import Shape
from ...core.images import PICTURE_SUFFIXES
from ..workflows.endings import UnreachableError
from ..workflows.media import SCENES
from ..workflows.report import RunReport
from ..workflows.workflow_file import WorkflowError
from .address import Server
from .answers import checked
from .http_client import RefusedError, patiently, view

_OTHERS = (
    ".latent .safetensors .sft .npy .npz .gguf .txt .md .json .jsonl .csv .tsv .yaml .yml .srt"
)
_OTHERS += " .vtt .ass .lrc .pdf .psd .zip .cube .mid .midi .heic .heif .jxl .exr .hdr .svg .apng"
_MEDIA = ".mp4 .m4v .mov .webm .mkv .avi .mpg .mpeg .ts .m2ts .wmv .flv .ogv .mxf"
_MEDIA += " .wav .mp3 .flac .opus .ogg .m4a .aac .aiff"
_KINDS = PICTURE_SUFFIXES | SCENES | {*_OTHERS.split(), *_MEDIA.split()}
"""Suffixes of what is fetched: files that no system and no browser runs."""
_DEEPEST = 4


class IncompleteError(WorkflowError):
    """Files that a run saved, or parts of it, are missing here."""

    def __init__(self, said: str, saved: list[Path]) -> None:
        super().__init__(said)
        self.saved = saved


class SavedFile(Shape):
    """A file that a run wrote, as the server names it."""

    filename: shapes.NAME
    subfolder: shapes.TEXT = ""
    type: shapes.TEXT = "output"

    @property
    def name(self) -> str:
        folder = self.subfolder.replace("\\", "/")  # as a ComfyUI on Windows writes it
        return f"{folder}/{self.filename}" if folder else self.filename

    def below(self, folder: Path) -> Path:
        """Where it goes.

        Raises:
            WorkflowError: outside the folder, hidden in it, or of a kind that might be run.
        """
        plain = not set(self.filename) & set("/\\:") and self.name.isprintable()
        path = inside(folder, self.name) if plain else None
        if path is None or any(p.startswith(".") for p in Path(self.name).parts):
            raise WorkflowError(
                f"The server named a file outside {folder}: {shorten(self.name)}. It was not "
                "fetched."
            )
        if path.suffix.lower() not in _KINDS:
            raise WorkflowError(
                f"The run saved {shorten(self.name)}, which is no picture, video, sound, 3D model, "
                "text or other data by its name. It was not fetched; it lies in the server's "
                f"{shorten(self.type, 20)} folder."
            )
        return path


def fetch(
    server: Server, outputs: Mapping[str, Mapping[str, Any]], folder: Path, report: RunReport
) -> None:
    """Write what the run saved below `folder`. What cannot be had stops nothing else.

    Args:
        outputs: what each node told when it had run.
        report: gets the files in `saved`, and how many previews there were besides.

    Raises:
        IncompleteError: files were left out, after the others are there.
        UnreachableError: the server is gone.
    """
    server = replace(server, until=inf)  # what is ready is not given up
    refused: list[str] = []
    seen: set[tuple[str, str]] = set()
    for node_id, output in outputs.items():
        for told, certain in _told(output):
            try:
                file = checked(told, SavedFile, f"{server} about node {shorten(node_id)}")
                known, mark = file.type in {"temp", "input"}, (file.type, file.name)
                if known or mark in seen:
                    report.previews += file.type == "temp" and mark not in seen
                    seen.add(mark)
                    continue
                seen.add(mark)
                report.saved.append(_fetch_one(server, file, folder))
            except UnreachableError as error:
                raise UnreachableError(f"{error}{_rest(report, folder)}") from error
            except RefusedError as error:
                # A path in words may be that of a file elsewhere.
                (refused if certain else report.notes).append(str(error))
            except WorkflowError as error:
                refused.append(str(error))
    if refused:
        said = " ".join([*first_of(refused, most=5), *report.left_out])
        raise IncompleteError(said + _rest(report, folder), report.saved)


def _rest(report: RunReport, folder: Path) -> str:
    saved = len(report.saved)
    return f" The run's other files, {saved}, are in {folder}." if saved else ""


def _told(output: Mapping[str, Any]) -> Iterator[tuple[Any, bool]]:
    """Files that a node tells of, and whether it certainly means files of the server.

    Nodes call them what they like: `images`, `audio`, `latents`, `gifs`, `3d`, `files`. Nodes for
    3D models only tell the path, beside how the camera stands.
    """
    for key, value in output.items():
        if key == "images":
            yield from ((told, True) for told in _listed(value))
        elif key != "text":
            yield from _inside(value, _DEEPEST)


def _inside(value: Any, deep: int) -> Iterator[tuple[Any, bool]]:
    if isinstance(value, Mapping) and isinstance(value.get("filename"), str):
        yield value, True
    elif isinstance(value, Mapping | list | tuple) and deep:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _inside(part, deep - 1)
    elif isinstance(value, str):
        path = PurePosixPath(value.removesuffix(" [output]"))
        if path.suffix.lower() in SCENES and not path.is_absolute() and len(value) < 1024:
            folder = "" if path.parent == PurePosixPath() else str(path.parent)
            yield {"filename": path.name, "subfolder": folder}, False


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value] if value else ()


def _fetch_one(server: Server, file: SavedFile, folder: Path) -> Path:
    path = file.below(folder.resolve())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch_", dir=path.parent) as room:
            part = Path(room) / "part"
            patiently(server, lambda: _write(server, file, part))
            path = _free(path, part)
            os.replace(part, path)
    except OSError as error:
        raise WorkflowError(f"{shorten(path, 200)} cannot be written ({error}).") from error
    return path


def _write(server: Server, file: SavedFile, path: Path) -> None:
    pieces = view(server, file.model_dump())
    with path.open("wb") as target:
        target.writelines(pieces)


def _free(path: Path, part: Path) -> Path:
    """`path`, or with a number where another file has the name: servers count from 1 again."""
    candidate, numbers = path, itertools.count(2)
    while candidate.exists() and not (
        candidate.is_file() and filecmp.cmp(candidate, part, shallow=False)
    ):
        candidate = path.with_stem(f"{path.stem}{next(numbers)}")
    return candidate
