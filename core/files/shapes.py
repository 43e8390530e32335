"""Shapes of what comes from outside: JSON is checked against them once, before it is used.

pydantic walks through it; every fault becomes the end of a sentence that says where it is, what was
expected and what came.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from ..errors import shorten
from .confined import is_plain


class Shape(BaseModel):
    """Entries that are needed; whatever else stands beside them is nobody's business."""

    model_config = ConfigDict(strict=True, extra="ignore")


_BITS = 64
"""Of whole numbers; no counter of nodes, links or outputs comes near."""


def _kind(
    words: str, *types: type, may_be: Callable[[Any], bool] = lambda value: True
) -> PlainValidator:
    def check(value: Any) -> Any:
        fits = isinstance(value, types) and not isinstance(value, bool)
        if not fits or (isinstance(value, int) and value.bit_length() > _BITS) or not may_be(value):
            raise PydanticCustomError("kind", "{words}", {"words": words})
        return value

    return PlainValidator(check)


TEXT = Annotated[str, _kind("text", str)]
NAME = Annotated[
    str, _kind("text that is not empty", str, may_be=lambda value: bool(value.strip()))
]
WHOLE = Annotated[int, _kind("a whole number", int)]
COUNT = Annotated[int, _kind("a whole number from 0 on", int, may_be=lambda value: value >= 0)]
NUMBER = Annotated[int | float, _kind("a number", int, float)]
ID = Annotated[int | str, _kind("a whole number or text", int, str)]
BELOW = Annotated[str, _kind("the name of a file below the folder", str, may_be=is_plain)]
LIST = Annotated[list, _kind("a list", list)]
FIELDS = Annotated[dict, _kind("an object with entries", dict)]
LIST_OR_FIELDS = Annotated[list | dict, _kind("a list or an object", list, dict)]

_EXPECTED = {
    "list_type": "a list",
    "dict_type": "an object with entries",
    "model_type": "an object with entries",
    "bool_type": "true or false",
}


def fault(error: ValidationError, skip: int = 0) -> str:
    """The first fault as the end of a sentence: "lacks `type`", "has 5 in `type`, not text".

    Args:
        skip: steps at the start of the way to it that the sentence has told already.
    """
    first = error.errors(include_url=False)[0]
    *way, last = first["loc"] or ("it",)
    if first["type"] == "missing":
        return f"lacks {_place([*way[skip:], last])}"
    expected = _EXPECTED.get(first["type"], first["msg"])
    if len(first["loc"]) <= skip:
        return f"is {shown(first['input'])}, not {expected}"
    return f"has {shown(first['input'])} in {_place([*way[skip:], last])}, not {expected}"


def shown(value: Any) -> str:
    """A value from outside as a sentence can hold it."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"an object with {len(value)} entries"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of many digits"
    return repr(shorten(value, 60)) if isinstance(value, str) else shorten(repr(value), 60)


def _place(way: list[str | int]) -> str:
    return "`" + shorten(".".join(str(step) for step in way)) + "`"


def words(text: Any, most: int = 4000) -> str:
    """What others say, for a terminal: printable, and no longer than anybody would read."""
    lines = str(text).strip()[: most + 1]
    shown = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in lines
    )
    return shown if len(shown) <= most else f"{shown[:most]}..."
