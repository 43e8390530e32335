"""What has to be known about node classes to work with a workflow file; `object_info` tells it.

`object_info` is what a ComfyUI says of its node classes: of each input `[type, details]`, where a
combo of older nodes has the list of what it offers in place of the type.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ...core.errors import shorten
from ...core.files import shapes
from ...core.files.shapes import Shape, fault
from ...core.node_api import WIDGET_TYPES
from .workflow_file import WorkflowError

SEEDS = frozenset({"seed", "noise_seed"})
"""Names of inputs behind which the editor puts "control after generate"."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class."""

    name: str
    has_widget: bool
    has_control: bool = False
    """The editor puts "control after generate" behind it, whose value is stored too."""
    io_type: str = "*"
    options: tuple[Any, ...] = ()
    """What a combo offers, as far as it is known beforehand."""
    default: Any = None
    """What the editor puts where the file stores nothing; None where that may be left out."""
    optional: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else `object_info` says of it."""


@dataclass(frozen=True)
class NodeSpec:
    """What has to be known about a node class."""

    inputs: Sequence[InputSpec]
    """In the order of definition."""
    title: str | None = None
    """What the editor calls it where nobody gave it another name."""


Specs = Callable[[str], NodeSpec | None]
"""A node class by its id; None for an unknown one."""


class _Inputs(Shape):
    """Of a node class, each [type, details]."""

    required: dict[str, shapes.LIST] | None = None
    optional: dict[str, shapes.LIST] | None = None


class Described(Shape):
    """A node class in `object_info`."""

    input: _Inputs
    display_name: shapes.TEXT | None = None

    def spec(self) -> NodeSpec:
        """What it says, as the conversion needs it."""
        inputs = [
            input_spec(name, entry, optional=group == "optional")
            for group in ("required", "optional")
            for name, entry in (getattr(self.input, group) or {}).items()
            if entry
        ]
        return NodeSpec(inputs, self.display_name)


def specs_of(object_info: Mapping[str, Any], source: str = "object_info") -> Specs:
    """Node classes by an `object_info` that is at hand, such as one kept in a file.

    Raises:
        WorkflowError: on asking for a class whose description is none; `source` is named.
    """

    def spec(kind: str) -> NodeSpec | None:
        if kind not in object_info:
            return None
        try:
            return Described.model_validate(object_info[kind]).spec()
        except ValidationError as error:
            raise WorkflowError(f"{source} on {shorten(kind)} {fault(error)}.") from error

    return spec


_EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
"""What the editor puts into a widget whose node names no default."""


def input_spec(name: str, entry: Sequence[Any], *, optional: bool) -> InputSpec:
    """An input by its entry in `object_info`, which has at least one element."""
    kind = entry[0]
    details = entry[1] if len(entry) > 1 and isinstance(entry[1], dict) else {}
    io_type = "COMBO" if isinstance(kind, list) else str(kind)
    has_widget = io_type in WIDGET_TYPES and not details.get("forceInput")
    control = has_control(io_type, name, bool(details.get("control_after_generate")))
    offered = kind if isinstance(kind, list) else details.get("options")
    offered = tuple(offered) if io_type == "COMBO" and isinstance(offered, list) else ()
    empty = offered[0] if offered else _EMPTY.get(io_type)
    default = None if optional else details.get("default", empty)
    control = has_widget and control
    return InputSpec(name, has_widget, control, io_type, offered, default, optional, details)


def has_control(io_type: str, name: str, control_after_generate: bool | None) -> bool:
    """Whether the editor stores a "control after generate" value behind this input."""
    return bool(control_after_generate) or (io_type == "INT" and name in SEEDS)
