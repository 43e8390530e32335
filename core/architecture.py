"""Networks from files: their description is checked first, then their tensors' names and shapes.

The description of a network is JSON in its file's metadata. It is validated against the dataclass
that holds it, by its annotations, so that no file makes facewright build for minutes or allocate
what the file does not hold.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from .checkpoint import (
    broken_in,
    check_fits,
    load_strict,
    make_metadata,
    read_config,
    read_tensors,
    refuse_broken,
    save_safetensors,
)
from .errors import CheckpointError, listed, shorten

_C = TypeVar("_C")
_M = TypeVar("_M", bound=nn.Module)

CLOSED = {"extra": "forbid", "strict": True}
"""`__pydantic_config__` of a dataclass whose fields are all there may be."""
OPEN = {"extra": "ignore", "strict": True}
"""The same where others write the file, and more into it than is looked at."""
_PLAIN = {"missing": "is missing", "unexpected_keyword_argument": "is no part of it"}
"""Words for kinds of error whose own are for programmers."""


class Between:
    """In `Annotated`: bounds of a number, or of how many items a list, text or table has."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict]) -> dict:
        schema = handler(source)
        keys = ("ge", "le") if schema["type"] in {"int", "float"} else ("min_length", "max_length")
        return {**schema, **dict(zip(keys, (self.low, self.high), strict=True))}


def describe(cls: type[_C], values: Mapping[str, Any], *, source: str, what: str) -> _C:
    """A dataclass from the values a file gives for it.

    Args:
        cls: its annotations say what is allowed, its `__post_init__` what goes together.
        values: as `json.loads` gives them.
        what: that is described, such as "a face encoder".

    Raises:
        CheckpointError: naming the fields that are wrong.
    """
    from pydantic import ValidationError
    from pydantic_core import PydanticSerializationError, to_json

    try:
        # As JSON, where lists stand for tuples, and in strict mode nothing else for anything.
        return _adapter(cls).validate_json(to_json(values))
    except (PydanticSerializationError, RecursionError) as error:
        raise CheckpointError(
            f"{source} describes {what} by what is no text or is nested without end. Use the "
            "original file."
        ) from error
    except ValidationError as error:
        wrong = [_wrong(e) for e in error.errors(include_url=False, include_context=False)]
        raise CheckpointError(
            f"{source} describes {what} that this version does not know: "
            f"{listed(wrong, between='; ')}. Update facewright if a newer "
            "version wrote it; otherwise use the original file."
        ) from error


@cache
def _adapter(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _wrong(error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] in _PLAIN:
        return f"`{shorten(place, 60)}` {_PLAIN[error['type']]}"
    said = error["msg"].removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    if not place or error["type"] == "value_error":
        return shorten(f"`{place}`: {said}" if place else said, 200)
    return f"`{shorten(place, 60)}`: {said}, got {shorten(repr(error['input']), 40)}"


def build(
    make: Callable[[], _M],
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    load: Callable[[_M], nn.Module] = lambda module: module,
    place: Callable[[Tensor], Tensor] | None = None,
    pieces: Iterable[Mapping[str, Tensor]] | None = None,
    frozen: bool = True,
) -> _M:
    """What `make` makes, with a file's tensors in it: in float32 on the CPU, or placed elsewhere.

    It is made without memory first: only where all names and shapes are the file's is there room
    for it. All its state has to be in the file.

    Args:
        load: the part of it whose tensors these are.
        place: brings a tensor where and how it is to be; what it leaves as it is stays shared.
        pieces: the same tensors in parts (`core.checkpoint.read_pieces`), each let go before the
            next is taken, for `place` alone; of `tensors` no value is touched then. None: at once.
        frozen: without gradients and in evaluation mode; else as `make` makes it, for training.

    Raises:
        CheckpointError: it cannot be made, or the file holds other tensors.
    """
    try:
        with torch.device("meta"):
            module = make()
    except CheckpointError:
        raise
    except Exception as error:  # whatever libraries make of values that do not go together
        raise CheckpointError(
            f"{source} describes a network that cannot be built ({shorten(error, 160)}). Use the "
            "original file."
        ) from error
    part = load(module)
    check_fits(part, tensors, source=source)
    if place is None:
        part.to_empty(device="cpu")
        load_strict(part, tensors, source=source)
    else:
        placed, broken = {}, []
        for piece in [tensors] if pieces is None else pieces:
            broken += broken_in(piece)
            placed |= {k: place(v) for k, v in piece.items()}
            del piece  # before the next one is read
        refuse_broken(broken, len(tensors), source=source)
        part.load_state_dict(placed, assign=True)
    return module.eval().requires_grad_(False) if frozen else module


class SavedNetwork(nn.Module):
    """A network of ours: its file holds all weights and, in the metadata, how to build it."""

    format: ClassVar[str]
    """`facewright.format` of its files."""
    config_type: ClassVar[type]
    """The dataclass that `config` is."""
    what: ClassVar[str]
    """In messages, such as "a face encoder"."""
    stored: ClassVar[torch.dtype | None] = None
    """Number format of the weights in files; None: as they are."""
    config: Any

    def save(
        self, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **extra: str
    ) -> None:
        """Write one safetensors file that `from_file` reads.

        Args:
            dtype: of floating-point weights; None for `stored`.
            extra: more metadata.
        """
        dtype = dtype or self.stored
        tensors = {
            k: v.to(dtype) if dtype and v.is_floating_point() else v
            for k, v in self.named_tensors().items()
        }
        save_safetensors(path, tensors, make_metadata(self.format, asdict(self.config), **extra))

    def named_tensors(self) -> dict[str, Tensor]:
        """All weights, as files name them."""
        return self.state_dict()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Load a file written by `save`: in float32 on the CPU, frozen, in evaluation mode.

        Raises:
            CheckpointError: the file is missing, something else, incomplete, or newer than this
                version.
        """
        return cls.from_tensors(*read_tensors(path), source=str(path))

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, str],
        *,
        source: str,
        frozen: bool = True,
    ) -> Self:
        """What `from_file` makes of a file; see `build`."""
        values = read_config(metadata, cls.format, source=source)
        config = describe(cls.config_type, values, source=source, what=cls.what)
        return build(lambda: cls(config), tensors, source=source, frozen=frozen)
