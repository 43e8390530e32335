"""Reading and writing weight files: no code from a file ever runs, nothing loads half.

A file is judged by its first bytes, never by its suffix.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, shorten
from ..files.json_text import JsonError, parse_json
from ..files.pickles import AGAIN, read_pickle
from ..files.writing import written_whole

FORMAT_KEY = "facewright.format"
CONFIG_KEY = "facewright.config"

_LONGEST_HEADER = 16 * 2**20
"""Bytes that describe the tensors of a safetensors file."""
_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model", "net")
"""Under what training programs put the weights: Lightning the first, BasicSR the next two."""
_PIECES = 16
"""In about so many parts a file of weights is read: what is mapped of it and no longer needed stays
small, and opening a pickle of Stable Diffusion anew takes a tenth of a second each time."""
_SLACK = 4
"""Times the size of its file that tensors may take: several may share their numbers."""


def read_tensors(
    path: str | os.PathLike[str], *, again: str = AGAIN, only: Collection[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file or of a torch pickle, onto the CPU.

    Args:
        path: the file, a pickle as `core.files.pickles` takes it. The
            tensors of a training program's file are taken from its "state_dict" or "params_ema".
        again: a sentence on how to get the file anew, for one that is damaged.
        only: names of those that are wanted, as far as they are there; None: all.

    Returns:
        tensors by name as stored (dtype kept; possibly memory-mapped, so copy before writing
        into them), and the safetensors metadata ({} for a pickle).

    Raises:
        CheckpointError: missing, empty, truncated, unsafe, or not a weight file at all.
    """
    path = Path(path)
    kind = _sniff(path, again)
    if kind == "safetensors":
        with _opened(path, again) as file:
            names = [key for key in file.keys() if only is None or key in only]  # noqa: SIM118
            return {key: file.get_tensor(key) for key in names}, file.metadata() or {}
    content = read_pickle(path, zipped=kind == "zip", again=again, mapped=True)
    found = _tensors_in(content, path)
    return {k: v for k, v in found.items() if only is None or k in only}, {}


def read_pieces(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Tensors that `read_tensors` gave, again and in parts.

    What has been read of a mapped file counts as memory in use until the last tensor of its mapping
    is gone. Every part has a mapping of its own, so that who copies or casts it, and lets it go
    before taking the next, never holds much of the file beside what was made of it.

    Args:
        path: the file.
        tensors: those that are wanted. Their values are not touched.

    Raises:
        CheckpointError: as `read_tensors`, or the file is another by now.
    """
    limit = sum(t.nbytes for t in tensors.values()) / _PIECES
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        names.append(name)
        size += tensor.nbytes
        if size > limit:
            yield _again(path, names, tensors)
            names, size = [], 0
    if names:
        yield _again(path, names, tensors)


def _again(
    path: str | os.PathLike[str], names: Collection[str], known: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    fresh, _ = read_tensors(path, only=names)
    if [_about(fresh.get(name)) for name in names] != [_about(known[name]) for name in names]:
        raise CheckpointError(
            f"{Path(path).name} was changed while it was being read. Wait until it is written, and "
            "try again."
        )
    return fresh


def _about(tensor: Tensor | None) -> tuple[object, ...]:
    return () if tensor is None else (tensor.shape, tensor.dtype)


def read_content(path: str | os.PathLike[str], *, again: str) -> object:
    """Whatever a file of `torch.save` holds, read as `read_tensors` reads it.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    kind = _sniff(path, again)
    if kind == "safetensors":
        raise CheckpointError(f"{path.name} is a safetensors file, which was not expected. {again}")
    return read_pickle(path, zipped=kind == "zip", again=again)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; {} for a pickle.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    if _sniff(path, AGAIN) != "safetensors":
        return {}
    with _opened(path, AGAIN) as file:
        return file.metadata() or {}


_METADATA = re.compile(rb'.{8}\s*{\s*"__metadata__"\s*:\s*', re.DOTALL)
_BEGINNING = 2**16


def quick_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `read_metadata` gives of files of ours, for telling many files apart.

    Only the beginning is read. {} for whatever has no entry of ours, is no safetensors file, cannot
    be read, or keeps its metadata elsewhere than at the beginning, where all programs we know write
    them.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_BEGINNING)
        found = _METADATA.match(head) if b'"facewright.' in head else None
        text = head[found.end() :].decode("utf-8", errors="replace") if found else "{}"
        content, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class _Shaped(NamedTuple):
    shape: tuple[int, ...]


class Header(NamedTuple):
    """What is known of a weight file before its tensors are read."""

    shapes: Mapping[str, Any]
    """Something with a `shape` by each tensor's name."""
    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    """Those few that were asked for, as far as they are there."""


def read_header(path: str | os.PathLike[str], wanted: Iterable[str] = ()) -> Header:
    """Names and shapes in a weight file, its metadata, and the tensors called as in `wanted`.

    Of safetensors nothing else is read.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    if _sniff(path, AGAIN) != "safetensors":
        tensors, metadata = read_tensors(path)
        return Header(tensors, metadata, {k: tensors[k] for k in wanted if k in tensors})
    with _opened(path, AGAIN) as file:
        shapes = {k: _Shaped(tuple(file.get_slice(k).get_shape())) for k in file.keys()}  # noqa: SIM118
        few = {k: file.get_tensor(k) for k in wanted if k in shapes}
        return Header(shapes, file.metadata() or {}, few)


@contextmanager
def _opened(path: Path, again: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, AttributeError, KeyError, RuntimeError, ValueError) as error:
        # A kind of number that this torch does not have raises whatever torch makes of it.
        raise CheckpointError(
            f"{path.name} starts like a safetensors file but cannot be read "
            f"({shorten(error, 160)}). It is probably incomplete. {again}"
        ) from error


def check_is_a_file(path: Path, again: str) -> bytes:
    """The first bytes of a weight file of any kind.

    Raises:
        CheckpointError: no file, an empty one, or what a failed download leaves behind.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a weight file was expected.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f"{path.name} is empty (0 bytes). {again}")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer, not the file itself. Run `git lfs pull` in the "
            "repository it came from, or download the file from its web page."
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            f"{path.name} is a web page: the download gave an error or a login page. "
            "Open the link in a browser and save the file itself."
        )
    return head


def _sniff(path: Path, again: str) -> str:
    """ "safetensors", "zip" or "pickle"; anything else is refused with its own sentence."""
    head = check_is_a_file(path, again)
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length > _LONGEST_HEADER:
            raise CheckpointError(
                f"{path.name} starts like a safetensors file, but its list of tensors would be "
                f"{length / 2**20:.0f} MB long; that of the largest models is 1 MB. {again}"
            )
        return "safetensors"
    if head[0] == 0x80:
        return "pickle"
    raise CheckpointError(
        f"{path.name} is neither a safetensors file nor a PyTorch checkpoint "
        f"(it starts with {head[:8]!r}). Check that it is the right file. {again}"
    )


def _tensors_in(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        inner = (content.get(key) for key in _WRAPPERS)
        content = next((c for c in inner if isinstance(c, Mapping)), content)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}; a mapping of named tensors was "
            "expected. Save the model's state_dict() instead."
        )
    tensors = {k: v.detach() for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path.name} holds no tensors. Check that it is a weight file.")
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path.name} holds a tensor under the {type(name).__name__} "
                f"{shorten(repr(name))}; names are text. Save the model's state_dict() instead."
            )
        if not _is_plain(tensor):
            raise CheckpointError(
                f"{path.name} holds {shorten(name)} of {shorten(tuple(tensor.shape))} in a form "
                "that takes no room in the file (sparse, quantised, repeated or without numbers). "
                "Save dense tensors instead."
            )
    if sum(t.numel() * t.element_size() for t in tensors.values()) > _room(path):
        raise CheckpointError(
            f"{path.name} holds tensors that take more than {_SLACK} times the room of the file: "
            "they were made to overlap. Save each tensor by itself, preferably as safetensors."
        )
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    """Whether every number of a tensor lies in memory that was read from the file."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _room(path: Path) -> int:
    return _SLACK * path.stat().st_size + 2**20


def save_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    private: bool = False,
) -> None:
    """Write a safetensors file that is either complete or not there (temporary file, rename).

    Args:
        private: only the owner may read it, see `written_whole`.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    plain, seen = {}, set()
    for key, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        # safetensors refuses two names for one memory; a copy keeps both names.
        storage = flat.untyped_storage().data_ptr()
        plain[key] = flat.clone() if storage in seen else flat
        seen.add(storage)
    with written_whole(path, private=private) as temporary:
        try:
            save_file(plain, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(f"{path} could not be written: {error}") from error


def make_metadata(name: str, config: Mapping[str, Any], **extra: str) -> dict[str, str]:
    """Metadata of a file of ours: its format name and the architecture as JSON."""
    return {FORMAT_KEY: name, CONFIG_KEY: json.dumps(config), **extra}


def read_config(
    metadata: Mapping[str, str],
    name: str,
    *,
    source: str,
    otherwise: str = "Choose the right file or convert it (facewright convert).",
) -> dict[str, Any]:
    """The architecture stored with a file of ours, which must be of format `name`.

    Args:
        otherwise: a sentence on what to do about a file of another format.

    Raises:
        CheckpointError: another format, or no readable configuration.
    """
    found = metadata.get(FORMAT_KEY)
    if found != name:
        raise CheckpointError(
            f'{source} should be a facewright file of format "{name}"; its metadata says '
            f"{shorten(json.dumps(found))}. {otherwise}"
        )
    try:
        config = parse_json(metadata[CONFIG_KEY])
    except (KeyError, JsonError) as error:
        raise CheckpointError(
            f"{source} lacks a readable {CONFIG_KEY} in its metadata; it was changed by another "
            "program. Use the original file."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{source}: {CONFIG_KEY} should be a JSON object, got {shorten(repr(config))}."
        )
    return config
