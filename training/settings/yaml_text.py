"""YAML as people write it: plain data with the line of every value, or a sentence that says where.

What a reader of YAML does silently is refused or read as meant: of two equal keys the last would
win, `1:30` would be 90, `1e-4` a text, a date no text, and a few lines of aliases can stand for
billions of values.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ...core.errors import shorten
from .strict import ConfigError

MOST_BYTES = 2**20
"""Of a file; the longest config that came along has 5,000."""
MOST_VALUES, DEEPEST = 20_000, 40
"""Values with all aliases written out, and sections within sections."""

Lines = dict[tuple, int]
"""Place of a value, as ("data", "size"), -> its line, from 1."""


class _Loader(yaml.SafeLoader):
    """SafeLoader whose numbers are YAML 1.2's, and which knows no dates."""


_FOUND_OTHERWISE = ("int", "float", "timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, p) for tag, p in found if tag.rpartition(":")[2] not in _FOUND_OTHERWISE]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)\Z"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """What a file holds.

    Raises:
        ConfigError: it cannot be read, is no UTF-8 or no YAML, or larger than any config.
    """
    name = f"The training config {shorten(path, 200)} could not be read"
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{name}: it is no file. Give the name of a YAML file.")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{name}: it is larger than {MOST_BYTES} bytes, which no config is.")
    return parse_yaml(_decoded(data, name), name)


def _decoded(data: bytes, name: str) -> str:
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(
            f"{name}: it is no UTF-8 text, but UTF-16 (as Notepad's `Unicode`) or no text at all. "
            "Save it as UTF-8."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{name}: line {line} holds a byte ({data[error.start]:#04x}) that is no UTF-8; an old "
            "editor may have saved it as Latin-1. Save it as UTF-8."
        ) from error


def parse_yaml(text: str, name: str) -> tuple[Any, Lines]:
    """What a text holds.

    Args:
        name: begins the sentence of an error, such as "The config x could not be read".

    Raises:
        ConfigError: it is no YAML, or holds two equal keys, too many values or too deep ones.
    """
    lines: Lines = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, lines
        for place, inner in _walk(node, name):
            lines.setdefault(place, inner.start_mark.line + 1)
        return loader.construct_document(node), lines
    except RecursionError as error:
        raise ConfigError(f"{name}: its sections lie in one another too deep.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = ", ".join(filter(None, (error.context, error.problem)))
        tab = " Indent with spaces, not with tabs." if "'\\t'" in what else ""
        raise ConfigError(f"{name}: {where}{shorten(what, 200)}.{tab}") from error
    except ConfigError:
        raise
    except Exception as error:  # a value with another's tag leads its reader anywhere
        raise ConfigError(f"{name}: {shorten(' '.join(str(error).split()), 200)}.") from error


def _walk(root: yaml.Node, name: str) -> Iterator[tuple[tuple, yaml.Node]]:
    """Every value with its place, aliases written out."""
    left: list[tuple[tuple, yaml.Node]] = [((), root)]
    count = 0
    while left:
        place, node = left.pop()
        count += 1
        if count > MOST_VALUES or len(place) > DEEPEST:
            many = f"more than {MOST_VALUES} values" if count > MOST_VALUES else "sections too deep"
            raise ConfigError(
                f"{name}: it holds {many}, aliases (*name) written out, around line "
                f"{node.start_mark.line + 1}. No config does."
            )
        yield place, node
        if isinstance(node, yaml.SequenceNode):
            left += [((*place, i), item) for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            seen: dict[tuple, yaml.Node] = {}
            for key, value in node.value:
                told = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
                if told in seen:
                    raise ConfigError(
                        f"{name}: line {key.start_mark.line + 1}: `{shorten(key.value)}` stands "
                        f"there for the second time, first in line "
                        f"{seen[told].start_mark.line + 1}. Keep one of the two."
                    )
                if told:
                    seen[told] = key
                else:  # a list or mapping as key
                    left.append(((*place, "?"), key))
                left.append(((*place, str(key.value) if told else "?"), value))
