"""Sockets and widgets of a node as the editor draws them, and the values a file keeps for them.

Values are stored by position: in the order of the widgets, among them some that only the editor
has, such as "control after generate" behind a seed. A choice of a dynamic combo brings widgets of
its own, which follow it; sockets of a growing input may be widgets, too.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.files.json_text import as_fields
from .specs import AUTOGROW, DYNAMIC_COMBO, DYNAMIC_GROUP, MATCH, InputSpec, NodeSpec

_MOST = 1000
"""Rows or places of a growing input; no node has as many."""


class Nothing:
    """No value: what JSON would leave out, unlike null."""


@dataclass
class Slot:
    """An input that links can be made to."""

    name: str
    io_type: str
    widget: bool = False
    """A widget of the same name stands in it as long as nothing is linked."""
    link: int | None = None


@dataclass
class Widget:
    """A widget and what it holds."""

    name: str
    value: Any
    kind: str = "*"
    stored: bool = True
    """It takes a place among a node's stored values."""
    sent: bool = True
    """Its value goes into the API form."""
    spec: InputSpec | None = None


@dataclass
class Form:
    """What a node consists of, to look at."""

    node: str
    """Its class."""
    inputs: list[Slot] = field(default_factory=list)
    widgets: list[Widget] = field(default_factory=list)
    growing: dict[str, InputSpec] = field(default_factory=dict)
    """Growing inputs by the name that those of their places begin with."""
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    """Inputs of one common type: the types each allows, by the group's name and theirs."""

    def widget(self, name: str) -> Widget | None:
        return next((w for w in self.widgets if w.name == name), None)

    def slot(self, name: str) -> Slot | None:
        return next((s for s in self.inputs if s.name == name), None)


def drawn(kind: str, spec: NodeSpec) -> Form:
    """A new node of a class: all sockets first, then widgets, as the editor makes it."""
    form = Form(kind)
    inputs = [*spec.inputs, *uploads(kind, spec.inputs)]
    for one in inputs:
        _add_socket(form, one)
    for one in inputs:
        _add_widget(form, one)
    if kind == "CustomCombo":
        form.widgets.append(Widget("index", -1, kind="HIDDEN"))
        form.widgets.append(Widget("option1", "", kind="OPTION"))
    elif kind in {"PreviewAny", "SaveText"}:
        form.widgets.append(Widget("preview_text", "", stored=False, sent=False))
        form.widgets.append(Widget("preview_mode", False, stored=False, sent=False))
    elif kind == "WebcamCapture":
        form.widgets.append(Widget("waiting for camera...", None, sent=False))
    return form


_PLAYERS = frozenset(
    {
        *("LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus"),
        "SaveAudioAdvanced",
    }
)
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload")


def uploads(kind: str, inputs: Iterable[InputSpec]) -> Iterable[InputSpec]:
    """Players and upload buttons, which the editor adds to nodes of files; they are never sent."""
    required = [i for i in inputs if not i.optional]
    if kind in _PLAYERS:
        yield InputSpec("audioUI", True, io_type="AUDIO_UI")
    if any(i.kind == "COMBO" and i.details.get(k) is True for i in required for k in _UPLOADS):
        yield InputSpec("upload", True, io_type="IMAGEUPLOAD")
    if any(i.name == "audio" and i.details.get("audio_upload") is True for i in required):
        yield InputSpec("upload", True, io_type="AUDIOUPLOAD")
    if kind in {"SaveGLB", "Preview3D"}:
        yield InputSpec("image", True, io_type="PREVIEW_3D", default="")
    if kind == "Load3DAdvanced":
        yield InputSpec("viewport_state", True, io_type="LOAD_3D_ADVANCED", default="")


def _add_socket(form: Form, spec: InputSpec) -> None:
    if spec.has_widget:
        return
    if spec.io_type == AUTOGROW:
        form.growing[spec.name] = spec
        least = _whole(as_fields(spec.details.get("template")).get("min"), 1)
        for place in range(max(1, min(least, _MOST) + 1)):
            grow(form, spec.name, place)
        return
    io_type = spec.io_type
    if io_type == MATCH:
        template = as_fields(spec.details.get("template"))
        io_type = str(template.get("allowed_types") or "*")
        group = form.groups.setdefault(str(template.get("template_id")), {})
        group[spec.name] = io_type
    form.inputs.append(Slot(spec.name, io_type))


def _add_widget(form: Form, spec: InputSpec) -> None:
    if not spec.has_widget:
        return
    name, kind = spec.name, spec.kind
    value = Nothing if spec.default is None else copy.deepcopy(spec.default)
    if kind in {"AUDIO_UI", "RESOLUTION_PREVIEW", "CAMERA_INFO_STATE"}:
        form.widgets.append(Widget(name, value, kind, stored=False, sent=False))
    elif kind in {"IMAGEUPLOAD", "AUDIOUPLOAD", "CAMERA_ANGLE_VIEW"}:
        form.widgets.append(Widget(name, value, kind, sent=False))
    elif kind == "IMAGECOMPARE":
        form.widgets.append(Widget(name, value, kind, stored=False))
    elif kind == "AUDIO_RECORD":
        form.widgets.append(Widget(name, "", "AUDIO_UI", stored=False))
        form.widgets.append(Widget(name, "", kind, sent=False))
    elif kind == DYNAMIC_GROUP:
        least = _whole(spec.details.get("min"), 0)
        form.widgets.append(Widget(name, least, kind, sent=False, spec=spec))
        lay_out_rows(form, form.widgets[-1])
    else:
        if kind == "LOAD_3D":
            if form.widget("model_file"):
                for label, held in _BUTTONS:
                    form.widgets.append(Widget(label, held, "BUTTON"))
            name = "viewport_state" if form.node in _VIEWERS else "image"
        form.widgets.append(Widget(name, value, kind, spec=spec))
        form.widgets += _behind(spec)
        if kind == DYNAMIC_COMBO:
            lay_out_choice(form, form.widgets[-1])
    if not spec.details.get("socketless") and kind != DYNAMIC_GROUP:
        form.inputs.append(Slot(spec.name, spec.io_type, widget=True))


def _behind(spec: InputSpec) -> Iterator[Widget]:
    """What the editor puts behind a widget by itself."""
    kind, remote = spec.kind, spec.details.get("remote")
    if spec.has_control:
        yield Widget("control_after_generate", "randomize", "CONTROL", sent=False)
        if kind == "COMBO":
            yield Widget("control_filter_list", "", "CONTROL", sent=False)
    if kind == "BOUNDING_BOX":
        yield from (Widget(part, None, sent=False) for part in ("x", "y", "width", "height"))
    if kind == "COMBO" and isinstance(remote, Mapping):
        yield Widget("Auto-refresh after generation", False, sent=False)
        if remote.get("refresh_button"):
            yield Widget("refresh", "refresh", "BUTTON")


_BUTTONS = (
    ("upload 3d model", "upload3dmodel"),
    ("upload extra resources", "uploadExtraResources"),
    ("clear", "clear"),
)
_VIEWERS = frozenset(
    {
        *("Preview3DAdvanced", "Save3DAdvanced", "PreviewGaussianSplat", "PreviewPointCloud"),
        *("SaveGaussianSplat", "SavePointCloud"),
    }
)


def lay_out_choice(form: Form, widget: Widget) -> None:
    """Put sockets and widgets of what a dynamic combo has chosen in the place of the others."""
    assert widget.spec is not None
    before = widget.name + "."
    linked = {s.name: s.link for s in form.inputs if s.name.startswith(before)}
    form.inputs[:] = [s for s in form.inputs if not s.name.startswith(before)]
    form.widgets[:] = [w for w in form.widgets if not w.name.startswith(before)]
    for name in [name for name in form.growing if name.startswith(before)]:
        del form.growing[name]
    widgets, inputs = len(form.widgets), len(form.inputs)
    for one in widget.spec.nested(widget.value):
        _add_socket(form, one)
        _add_widget(form, one)
    _move(form.widgets, widgets, form.widgets.index(widget) + 1)
    own = form.slot(widget.name)
    if own is not None:
        _move(form.inputs, inputs, form.inputs.index(own) + 1)
    for name, link in linked.items():
        if link is not None:
            attach(form, name, link)


def lay_out_rows(form: Form, widget: Widget) -> None:
    """Widgets of the rows of a group, as many as its number says."""
    assert widget.spec is not None
    before = widget.name + "."
    form.inputs[:] = [s for s in form.inputs if s.link or not s.name.startswith(before)]
    form.widgets[:] = [w for w in form.widgets if not w.name.startswith(before)]
    start = len(form.widgets)
    for row in range(min(_whole(widget.value, 0), _MOST)):
        for one in widget.spec.template():
            _add_widget(form, replace(one, name=f"{before}{row}.{one.name}"))
    _move(form.widgets, start, form.widgets.index(widget) + 1)


def grow(form: Form, name: str, place: int) -> None:
    """Make sure that a growing input has a place."""
    template = as_fields(form.growing[name].details.get("template"))
    names = template.get("names")
    names = names if isinstance(names, list) and names else None
    most = len(names) if names else _whole(template.get("max"), 100)
    if place >= min(most, _MOST):
        return
    parts = form.growing[name].template()
    for one in parts:
        stem = str(template.get("prefix") or "") if len(parts) == 1 else one.name
        new = replace(one, name=f"{name}.{names[place] if names else f'{stem}{place}'}")
        if form.slot(new.name) is None:
            _add_socket(form, new)
            _add_widget(form, new)


def attach(form: Form, name: str, link: int, made: Slot | None = None) -> None:
    """Link an input; growing ones get one more place behind it.

    Args:
        made: the input to make where there is none of that name; without it the link is dropped.
    """
    group, _, last = name.rpartition(".")
    if group in form.growing and form.slot(name) is None:
        grow(form, group, _place(form.growing[group], last))
    slot = form.slot(name)
    if slot is None and (made or group in form.growing):
        slot = made or Slot(name, "*")
        form.inputs.append(slot)
    if slot is not None:
        slot.link = link
        if group in form.growing:
            grow(form, group, _place(form.growing[group], last) + 1)


def _place(spec: InputSpec, last: str) -> int:
    names = as_fields(spec.details.get("template")).get("names")
    if isinstance(names, list) and names:
        return names.index(last) if last in names else _MOST
    digits = last[len(last.rstrip("0123456789")) :]
    return int(digits) if digits and len(digits) < 6 else _MOST


def _whole(value: Any, otherwise: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return otherwise
    return int(max(0, min(value, 10**6)))


def _move(items: list[Any], start: int, to: int) -> None:
    """Bring the items from `start` on to another place."""
    new = items[start:]
    del items[start:]
    items[to:to] = new


def sent(form: Form, serialized: Callable[[Widget], Any]) -> dict[str, Any]:
    """Values as the API form has them: lists are wrapped, since bare ones would be links."""
    found: dict[str, Any] = {}
    for widget in form.widgets:
        if not widget.sent or not widget.name:
            continue
        value = serialized(widget)
        if value is not Nothing:
            found[widget.name] = wrapped(value, widget.kind)
    return found


def wrapped(value: Any, kind: str = "*") -> Any:
    """A value that can stand beside links."""
    if kind == "CURVE" and value is not None:
        return {"__type__": "CURVE", "__value__": value}
    return {"__value__": value} if isinstance(value, list) else value


def types_in_common(types: Sequence[str]) -> str:
    """The type that all of these allow; "*" where they leave it open."""
    lists = [t.split(",") for t in types if t != "*"]
    if not lists:
        return "*"
    return ",".join(t for t in lists[0] if all(t in other for other in lists[1:])) or "*"
