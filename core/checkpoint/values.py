"""Dataclasses, lists and tensors in each other, written to a file and read back by their types.

A file of these holds numbers and text alone. What is read is held against the type that is
expected, field by field, so that a file that was cut off, changed, or made by somebody else is told
from one of ours before anything is done with it.
"""

import functools
import hashlib
import json
import math
import types
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ..errors import CheckpointError, shorten
from ..files.json_text import JsonError, parse_json
from ..files.writing import written_whole
from .files import read_tensors

_TEXT = "text"
_SUM = "facewright.sha256"
_NOT_FINITE = ("nan", "inf", "-inf")
_AGAIN = "Delete it; what it holds is made again."


class _OtherError(Exception):
    """A value is of another type; the message is a clause."""


@dataclass
class _Rows:
    """Tensors of one kind and width behind each other: there may be hundreds of thousands."""

    number: int
    parts: list[Tensor] = field(default_factory=list)
    count: int = 0

    def add(self, rows: Tensor) -> int:
        start, self.count = self.count, self.count + len(rows)
        self.parts.append(rows)
        return start


_Groups = dict[tuple[torch.dtype, tuple[int, ...]], _Rows]


def save_values(path: Path, value: Any) -> None:
    """Write a file that is complete or not there.

    Args:
        value: None, numbers, text, tensors, and lists, tuples, dicts and dataclasses of these.

    Raises:
        OSError: it cannot be written.
        TypeError: something else is in there.
    """
    from safetensors.torch import save

    groups: _Groups = {}
    text = json.dumps(_packed(value, groups), separators=(",", ":"), allow_nan=False).encode()
    tensors = {str(rows.number): torch.cat(rows.parts) for rows in groups.values()}
    tensors[_TEXT] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    data = save(tensors, {_SUM: _sum(tensors)})
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


def load_values(path: Path, expected: Any) -> Any:
    """What `save_values` wrote, if it is of the type `expected`.

    Args:
        expected: a type as annotations spell it: a dataclass, `list[Tensor]`, `int | None`.

    Raises:
        CheckpointError: missing, cut off, changed, or of another type.
    """
    tensors, metadata = read_tensors(path, again=_AGAIN)
    # Windows neither replaces nor deletes a file that something still has mapped.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    wrong = f"{path.name} cannot be used: {{}}. {_AGAIN}"
    text = tensors.get(_TEXT)
    if text is None or text.dtype != torch.uint8 or metadata.get(_SUM) != _sum(tensors):
        raise CheckpointError(wrong.format("it is not as it was written"))
    try:
        return _read(expected, parse_json(bytes(text.flatten().numpy())), tensors)
    except (JsonError, _OtherError) as error:
        raise CheckpointError(wrong.format(error)) from error


def as_json(value: Any) -> Any:
    """A value without tensors as `load_values` finds it in a file, to be compared with that."""
    return json.loads(json.dumps(_packed(value, {}), allow_nan=False))


def _sum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed(value: Any, groups: _Groups) -> Any:
    """For JSON; a tensor is where its rows are: [group, first, count], -1 for a single number."""
    if isinstance(value, Tensor):
        whole = value.detach().cpu().contiguous()
        rows = whole if whole.dim() else whole[None]
        group = groups.setdefault((rows.dtype, tuple(rows.shape[1:])), _Rows(len(groups)))
        return [group.number, group.add(rows), len(rows) if whole.dim() else -1]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _packed(getattr(value, f.name), groups) for f in fields(value)}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _packed(item, groups) for key, item in value.items()}
        return [[_packed(k, groups), _packed(v, groups)] for k, v in value.items()]
    if isinstance(value, Sequence):
        return [_packed(item, groups) for item in value]
    raise TypeError(f"no file holds a {type(value).__name__}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _read(expected: Any, value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """
    Raises:
        _OtherError: it is something else.
    """
    kind, inner = get_origin(expected) or expected, get_args(expected)
    if expected is Any:
        return value
    if kind in (Union, types.UnionType):
        for choice in inner:
            try:
                return _read(choice, value, tensors)
            except _OtherError:
                continue
    elif kind is Literal:
        if value in inner:
            return value
    elif expected is None or expected is types.NoneType:
        if value is None:
            return None
    elif kind is float:
        if type(value) in (int, float) or (isinstance(value, str) and value in _NOT_FINITE):
            return float(value)
    elif kind in (bool, int, str):
        if type(value) is kind:
            return value
    elif kind is Tensor:
        return _rows(value, tensors)
    elif isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind, value, tensors)
    elif isinstance(kind, type) and issubclass(kind, Mapping):
        key, item = (inner[0], int) if issubclass(kind, Counter) else inner
        pairs = list(value.items()) if isinstance(value, dict) else value
        if isinstance(pairs, list):
            read = dict(
                _tuple((key, item), list(pair) if isinstance(pair, tuple) else pair, tensors)
                for pair in pairs
            )
            return Counter(read) if issubclass(kind, Counter) else read
    elif isinstance(value, list) and isinstance(kind, type):
        if issubclass(kind, tuple):
            return _tuple(inner, value, tensors)
        if issubclass(kind, Sequence):
            return [_read(inner[0], item, tensors) for item in value]
    raise _OtherError(f"{shorten(repr(value), 40)} is no {getattr(expected, '__name__', expected)}")


def _tuple(inner: Sequence[Any], value: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
    if len(inner) == 2 and inner[1] is Ellipsis and isinstance(value, list):
        return tuple(_read(inner[0], item, tensors) for item in value)
    if not isinstance(value, list) or len(value) != len(inner):
        raise _OtherError(f"{shorten(repr(value), 40)} has not {len(inner)} parts")
    return tuple(_read(kind, item, tensors) for kind, item in zip(inner, value, strict=True))


def _dataclass(kind: type, value: Any, tensors: Mapping[str, Tensor]) -> Any:
    hints = _hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise _OtherError(f"{shorten(repr(value), 40)} has not the entries of {kind.__name__}")
    made = object.__new__(kind)
    for name, hint in hints.items():
        object.__setattr__(made, name, _read(hint, value[name], tensors))
    return made


def _rows(value: Any, tensors: Mapping[str, Tensor]) -> Tensor:
    if isinstance(value, list) and len(value) == 3 and all(type(n) is int for n in value):
        number, start, count = value
        rows = tensors.get(str(number))
        if rows is not None and 0 <= start <= len(rows) - abs(count):
            return rows[start].clone() if count < 0 else rows[start : start + count].clone()
    raise _OtherError(f"{shorten(repr(value), 40)} is no place of numbers")
