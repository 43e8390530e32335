"""What has to be known about node classes to work with a workflow file; `object_info` tells it.

`object_info` is what a ComfyUI says of its node classes: of each input `[type, details]`, where a
combo of older nodes has the list of what it offers in place of the type.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from ...core.errors import shorten
from ...core.files import shapes
from ...core.files.json_text import as_fields, as_list
from ...core.files.shapes import Shape, fault
from ...core.node_api import WIDGET_TYPES
from .workflow_file import WorkflowError

SEEDS = frozenset({"seed", "noise_seed"})
"""Names of inputs behind which the editor puts "control after generate"."""
DYNAMIC_COMBO, AUTOGROW, MATCH = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3"
DYNAMIC_GROUP = "COMFY_DYNAMICGROUP_V3"
DRAWN = WIDGET_TYPES | {
    *("MARKDOWN", "IMAGEUPLOAD", "COLOR", "IMAGECOMPARE", "BOUNDING_BOX", "CHART", "GALLERIA"),
    *("PAINTER", "COMPOSITOR", "TEXTAREA", "CURVE", "RANGE", "VIDEO_EDIT", "RESOLUTION_PREVIEW"),
    *("BOUNDING_BOXES", "LIGHT_INFO_PREVIEW", "COLORS", "AUDIO_UI", "AUDIOUPLOAD", "AUDIO_RECORD"),
    *("WEBCAM", "LOAD_3D", "LOAD_3D_ADVANCED", "PREVIEW_3D", "CAMERA_ANGLE_VIEW"),
    *("CAMERA_INFO_STATE", DYNAMIC_COMBO, DYNAMIC_GROUP),
}
"""Types that the editor draws a widget for; all others are sockets only."""


class UnknownNodeError(WorkflowError):
    """A node class that is not known where the workflow is to run."""


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
    """What the editor puts where the file stores nothing; None where that is nothing."""
    optional: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else `object_info` says of it."""

    @property
    def kind(self) -> str:
        """The type of its widget, which may be narrower than what may be linked to it."""
        return str(self.details.get("widgetType") or self.io_type)

    @property
    def is_upload(self) -> bool:
        """Whether it takes files of the input folder, also those that are not listed."""
        return any(str(key).endswith("_upload") and on for key, on in self.details.items())

    @property
    def takes_several(self) -> bool:
        """Whether several of what a combo offers may be chosen."""
        return bool(self.details.get("multiselect") or self.details.get("multi_select"))

    def nested(self, value: Any) -> Iterator["InputSpec"]:
        """Inputs that belong to a choice of a dynamic combo; their names begin with its own."""
        for option in self.details.get("options") or ():
            if isinstance(option, Mapping) and option.get("key") == value:
                yield from input_specs(option.get("inputs"), f"{self.name}.")

    def template(self) -> list["InputSpec"]:
        """What one more place of a growing input, or one row of a group, consists of."""
        template = self.details.get("template")
        if not isinstance(template, Mapping):
            return []
        return list(input_specs(template.get("input", template)))


@dataclass(frozen=True)
class NodeSpec:
    """What has to be known about a node class."""

    inputs: Sequence[InputSpec]
    """In the order of definition."""
    title: str | None = None
    """What the editor calls it where nobody gave it another name."""
    outputs: tuple[str, ...] = ()
    """Types, as far as known."""
    matches: tuple[str | None, ...] = ()
    """For each output the group of inputs whose common type is its own."""
    is_output: bool = False
    """It shows or saves something: what is linked to it is what runs."""
    paid: bool = False
    """It sends its inputs to somebody else, who takes credits of comfy.org for it."""
    of_pack: bool = False
    """It is none of ComfyUI's own: a script may draw more widgets than are told of."""

    def with_nested(self, values: Mapping[str, Any]) -> Iterator[InputSpec]:
        """All inputs; behind each those that its choice, or its places in `values`, bring along."""
        waiting = list(self.inputs)
        while waiting:
            first = waiting.pop(0)
            yield first
            if first.kind == DYNAMIC_COMBO:
                waiting[:0] = first.nested(values.get(first.name))
            elif first.kind == AUTOGROW:
                grown = [name for name in values if name.startswith(f"{first.name}.")]
                for place in first.template()[:1]:
                    waiting[:0] = [replace(place, name=name) for name in grown]

    def input(self, name: str, values: Mapping[str, Any]) -> InputSpec | None:
        """An input by its name, also one that the choices in `values` bring along."""
        return next((spec for spec in self.with_nested(values) if spec.name == name), None)


Specs = Callable[[str], NodeSpec | None]
"""A node class by its id; of an unknown one None, or an UnknownNodeError that says more."""


class _Inputs(Shape):
    """Of a node class, each [type, details]."""

    required: dict[str, shapes.LIST] | None = None
    optional: dict[str, shapes.LIST] | None = None


class Described(Shape):
    """A node class in `object_info`."""

    input: _Inputs
    display_name: shapes.TEXT | None = None
    # What packs get wrong here, ComfyUI and its editor put up with.
    input_order: Any = None
    output: Any = None
    output_matchtypes: Any = None
    output_node: bool | None = None
    api_node: bool | None = None
    python_module: Any = None

    def spec(self) -> NodeSpec:
        """What it says, as the conversion needs it."""
        given = input_specs(self.input.model_dump(), order=self.input_order)
        outputs = tuple("COMBO" if isinstance(o, list) else str(o) for o in as_list(self.output))
        groups = (g if isinstance(g, str) else None for g in as_list(self.output_matchtypes))
        shows, paid = bool(self.output_node), bool(self.api_node)
        pack = str(self.python_module).startswith("custom_nodes.")
        return NodeSpec(tuple(given), self.display_name, outputs, tuple(groups), shows, paid, pack)


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


_EMPTY: dict[str, Any] = {
    "INT": 0,
    "FLOAT": 0,
    "STRING": "",
    "BOOLEAN": False,
    "COLOR": "#000000",
    "TEXTAREA": "",
    "COMPOSITOR": {},
    "BOUNDING_BOXES": [],
    "COLORS": [],
    "LIGHT_INFO_PREVIEW": [],
    "BOUNDING_BOX": {"x": 0, "y": 0, "width": 512, "height": 512},
    "MARKDOWN": "",
    "RANGE": {"min": 0.0, "max": 1.0},
    "IMAGECOMPARE": ["", ""],
    "GALLERIA": [],
    "CURVE": {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"},
    "VIDEO_EDIT": {
        "trim": {"start_time": 0, "duration": 0},
        "crop": {"x": 0, "y": 0, "width": 0, "height": 0},
    },
    **dict.fromkeys(("LOAD_3D", "LOAD_3D_ADVANCED", "PREVIEW_3D", "WEBCAM"), ""),
}
"""What the editor puts into a widget whose node names no default."""


def input_specs(given: Any, prefix: str = "", *, order: Any = None) -> Iterator[InputSpec]:
    """Inputs by {"required": {name: entry}, "optional": ...}, in the order they are drawn in."""
    for group in ("required", "optional"):
        entries = as_fields(as_fields(given).get(group))
        listed = as_list(as_fields(order).get(group))
        first = [name for name in listed if isinstance(name, str) and name in entries]
        for name in dict.fromkeys([*first, *entries]):
            entry = entries[name]
            if isinstance(entry, list) and entry:
                yield input_spec(f"{prefix}{name}", entry, optional=group == "optional")


def input_spec(name: str, entry: Sequence[Any], *, optional: bool) -> InputSpec:
    """An input by its entry in `object_info`, which has at least one element."""
    details = entry[1] if len(entry) > 1 and isinstance(entry[1], dict) else {}
    io_type = "COMBO" if isinstance(entry[0], list) else str(entry[0])
    kind = str(details.get("widgetType") or io_type)
    # In old nodes the default may be to show an optional input as a socket.
    forced = details.get("forceInput") or (optional and details.get("defaultInput"))
    drawn = kind in DRAWN or (kind != io_type and io_type in WIDGET_TYPES)  # by a pack's script
    has_widget = drawn and not forced
    control = has_control(kind, name, details.get("control_after_generate"))
    offered = entry[0] if isinstance(entry[0], list) else details.get("options")
    offered = as_list(offered)
    if kind == DYNAMIC_COMBO:
        offered = [option.get("key") for option in offered if isinstance(option, Mapping)]
    elif kind != "COMBO":
        offered = []
    default = details.get("default")
    if default is None or (kind in {"COMBO", DYNAMIC_COMBO} and not default):
        default = offered[0] if offered else _EMPTY.get(kind)
    if kind == "COMBO" and details.get("multi_select"):
        default = []
    return InputSpec(
        name,
        has_widget,
        has_widget and control,
        io_type,
        tuple(offered),
        default,
        optional,
        details,
    )


def has_control(io_type: str, name: str, control_after_generate: Any) -> bool:
    """Whether the editor stores a "control after generate" value behind this input."""
    if io_type not in {"INT", "FLOAT", "COMBO"}:
        return False
    if control_after_generate is None:
        return io_type == "INT" and name in SEEDS
    return bool(control_after_generate)
