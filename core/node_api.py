"""Stand-ins for the part of `comfy_api.latest` that our nodes use, for running without ComfyUI.

Names, keywords and defaults follow ComfyUI's V3 node API (v0.3.64; BoundingBox and search_aliases
are newer), so that the same node classes load in both hosts. An unknown keyword is a TypeError here
as it is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar, cast

from .errors import FacewrightError, shorten

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


@dataclass
class Input:
    """One input of a node; `io_type` tells what may be linked to it."""

    io_type: ClassVar[str] = ""

    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    extra_dict: dict[str, Any] = field(default_factory=dict)

    @property
    def has_widget(self) -> bool:
        """Whether the editor draws a widget for it, whose value then sits in `widgets_values`."""
        return self.io_type in WIDGET_TYPES and not getattr(self, "force_input", None)


@dataclass
class WidgetInput(Input):
    default: Any = None
    socketless: bool | None = None
    force_input: bool | None = None


@dataclass
class Output:
    """One output of a node."""

    io_type: ClassVar[str] = ""

    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


class NumberDisplay(Enum):
    number = "number"
    slider = "slider"


class Hidden(Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass
class _IntInput(WidgetInput):
    min: int | None = None
    max: int | None = None
    step: int | None = None
    control_after_generate: bool | None = None
    display_mode: NumberDisplay | None = None


@dataclass
class _FloatInput(WidgetInput):
    min: float | None = None
    max: float | None = None
    step: float | None = None
    round: float | None = None
    display_mode: NumberDisplay | None = None


@dataclass
class _StringInput(WidgetInput):
    multiline: bool = False
    placeholder: str | None = None
    dynamic_prompts: bool | None = None


@dataclass
class _BooleanInput(WidgetInput):
    label_on: str | None = None
    label_off: str | None = None


@dataclass
class _ComboInput(WidgetInput):
    options: list[str] = field(default_factory=list)
    control_after_generate: bool | None = None
    upload: Any = None


@dataclass
class _BoundingBoxInput(WidgetInput):
    component: str | None = None


AnInput = TypeVar("AnInput", bound=Input)


class Socket(Generic[AnInput]):
    """A type of values, with `.Input` and `.Output` classes, like `io.Image` in ComfyUI."""

    Type = Any

    def __init__(self, io_type: str, inputs: type[AnInput]) -> None:
        self.io_type = io_type
        self.Input = cast(type[AnInput], type("Input", (inputs,), {"io_type": io_type}))
        self.Output = cast(type[Output], type("Output", (Output,), {"io_type": io_type}))


@dataclass
class Schema:
    """What a node is: identity, place in the menu, inputs and outputs."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    has_intermediate_output: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False
    search_aliases: list[str] = field(default_factory=list)

    def validate(self) -> None:
        """Raise FacewrightError where an id is used twice among inputs and outputs together."""
        ids = [x.id for x in (*self.inputs, *self.outputs) if x.id is not None]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise FacewrightError(f"{self.node_id}: ids {twice} are used twice.")


class ComfyNode:
    """Base class of V3 nodes: class methods only, no state."""

    hidden: Any = None

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} defines no schema")

    @classmethod
    def execute(cls, **kwargs: Any) -> "NodeOutput":
        raise NotImplementedError(f"{cls.__name__} defines no execute")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802 (ComfyUI's name)
        schema = cls.define_schema()
        schema.validate()
        return schema


class NodeOutput:
    """Values of the outputs in order, and what an output node shows."""

    def __init__(
        self,
        *args: Any,
        ui: Any = None,
        expand: dict | None = None,
        block_execution: str | None = None,
    ) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple | None:
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class Blocked:
    """In place of a value: nodes that would take it do not run (ComfyUI's ExecutionBlocker)."""


class ComfyExtension:
    """Base class of the pack's entry point."""

    async def on_load(self) -> None:
        """Called once before the node list is asked for."""

    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError


class PreviewImage:
    """Keeps the picture (b, h, w, c) in [0, 1] for whoever asked for the run."""

    def __init__(self, image: Any, animated: bool = False, cls: type | None = None) -> None:
        self.image = image

    def as_dict(self) -> dict:
        return {"images": self.image}


class PreviewText:
    def __init__(self, value: str) -> None:
        self.value = value

    def as_dict(self) -> dict:
        return {"text": (self.value,)}


class io:  # noqa: N801 (ComfyUI's name)
    """Stands for `comfy_api.latest.io`."""

    Input = Input
    WidgetInput = WidgetInput
    Output = Output
    Schema = Schema
    ComfyNode = ComfyNode
    NodeOutput = NodeOutput
    Hidden = Hidden
    NumberDisplay = NumberDisplay
    Int = Socket("INT", _IntInput)
    Float = Socket("FLOAT", _FloatInput)
    String = Socket("STRING", _StringInput)
    Boolean = Socket("BOOLEAN", _BooleanInput)
    Combo = Socket("COMBO", _ComboInput)
    Image = Socket("IMAGE", Input)
    Video = Socket("VIDEO", Input)
    Mask = Socket("MASK", Input)
    Latent = Socket("LATENT", Input)
    Conditioning = Socket("CONDITIONING", Input)
    Model = Socket("MODEL", Input)
    Vae = Socket("VAE", Input)
    Clip = Socket("CLIP", Input)
    UpscaleModel = Socket("UPSCALE_MODEL", Input)
    Sampler = Socket("SAMPLER", Input)
    Sigmas = Socket("SIGMAS", Input)
    Noise = Socket("NOISE", Input)
    Guider = Socket("GUIDER", Input)
    BoundingBox = Socket("BOUNDING_BOX", _BoundingBoxInput)
    AnyType = Socket("*", Input)

    @staticmethod
    def Custom(io_type: str) -> Socket[Input]:  # noqa: N802
        return Socket(io_type, Input)


class ui:  # noqa: N801
    """Stands for `comfy_api.latest.ui`."""

    PreviewImage = PreviewImage
    PreviewText = PreviewText


def called(node_id: Any, title: Any) -> str:
    """What sentences call a node: "Node 5 (Load Image)"."""
    return f"Node {shorten(node_id, 40)} ({shorten(title, 60)})"


def is_ui_form(workflow: Mapping[str, Any]) -> bool:
    """Whether it is the editor's form."""
    return isinstance(workflow.get("nodes"), list)


def is_link(value: Any) -> bool:
    """Whether the value of an input is a link: [node id, output number]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and isinstance(value[1], int)
        and not isinstance(value[0], bool)
        and not isinstance(value[1], bool)
        and 0 <= value[1] < 2**31
    )


def sources(node: Mapping[str, Any]) -> set[str]:
    """Ids of the nodes that one of the API form is linked to."""
    return {str(value[0]) for value in node["inputs"].values() if is_link(value)}
