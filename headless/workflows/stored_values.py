"""Values that files keep for widgets, and what follows from setting one."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from .specs import DYNAMIC_COMBO, DYNAMIC_GROUP, NodeSpec
from .widgets import Form, Widget, lay_out_choice, lay_out_rows, uploads

CONTROLS = {"fixed", "increment", "decrement", "randomize", "increment-wrap"}

_SAMPLERS = {"KSampler", "KSamplerAdvanced"}


def restore(form: Form, spec: NodeSpec, stored: Any) -> None:
    """Give widgets the values of a file."""
    if isinstance(stored, Mapping):
        done: set[str] = set()
        while waiting := [w for w in form.widgets if w.name in stored and w.name not in done]:
            done.add(waiting[0].name)
            put(form, waiting[0], stored[waiting[0].name])
        return
    values = _without_forced(form, spec, list(stored or ()))
    number = place = 0
    while number < len(form.widgets):
        widget = form.widgets[number]
        number += 1
        if not widget.stored:
            continue
        if place < len(values):
            value = values[place]
            if widget.kind == "CONTROL" and not _is_control(value) and _without(form, values):
                continue
            put(form, widget, value)
        place += 1
    choice = form.widget("choice") if form.node == "CustomCombo" else None
    if choice is not None and choice.value is None:
        choice.value = next(iter(offered(form)), None)


def offered(form: Form) -> tuple[Any, ...]:
    """What the combo offers that people fill themselves."""
    return tuple(w.value for w in form.widgets if w.kind == "OPTION" and w.value)


def _without(form: Form, values: Sequence[Any]) -> bool:
    """Whether a program wrote the values, which leaves out what only the editor has."""
    if any(isinstance(value, str) and value in CONTROLS for value in values):
        return False
    controls = sum(w.kind == "CONTROL" for w in form.widgets)
    return len(values) <= sum(w.stored for w in form.widgets) - controls


def put(form: Form, widget: Widget, value: Any) -> None:
    """Set a widget, with what follows from it."""
    widget.value = copy.deepcopy(shown(widget, value))
    if widget.kind == DYNAMIC_COMBO:
        lay_out_choice(form, widget)
    elif widget.kind == DYNAMIC_GROUP:
        lay_out_rows(form, widget)
    elif widget.kind == "OPTION" and value and widget is form.widgets[-1]:
        form.widgets.append(Widget(f"option{len(form.widgets) - 1}", "", kind="OPTION"))
    elif widget.name == "sampler_name" and form.node in _SAMPLERS and isinstance(value, str):
        widget.value = value.removeprefix("sample_")  # as the first versions of it called them
    elif widget.kind == "STRING" and widget.spec and widget.spec.details.get("multiline"):
        widget.value = value if isinstance(value, str) else as_text(value)


def shown(widget: Widget, value: Any) -> Any:
    """A value as the widget takes it: combos put their first choice in the place of null."""
    combo = widget.kind in {"COMBO", DYNAMIC_COMBO}
    first = widget.spec.options if combo and widget.spec else ()
    return first[0] if value is None and first else value


def as_text(value: Any) -> str:
    """A value as a text field shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, list):
        return ",".join(as_text(v) for v in value)
    return "[object Object]" if isinstance(value, Mapping) else str(value)


def _is_control(value: Any) -> bool:
    return (
        value is None or isinstance(value, bool) or (isinstance(value, str) and value in CONTROLS)
    )


def _without_forced(form: Form, spec: NodeSpec, values: list[Any]) -> list[Any]:
    """Values without those of inputs that were widgets once and are sockets by now.

    Files keep a value for them; that it is so shows in the number of values.
    """
    required = [i for i in spec.inputs if not i.optional]
    optional = [i for i in spec.inputs if i.optional]
    forced: list[bool] = []
    for one in (*required, *uploads(form.node, spec.inputs), *optional):
        force = not one.has_widget and any(
            one.details.get(k) for k in ("forceInput", *(["defaultInput"] * one.optional))
        )
        widget = form.widget(one.name)
        if not force and (widget is None or not widget.stored):
            continue
        control = one.details.get("control_after_generate")
        forced += [force, False] if control else [force]
    if not any(forced) and len(values) == sum(w.stored for w in form.widgets):
        return values
    kept = [v for i, v in enumerate(values) if i >= len(form.widgets) or form.widgets[i].stored]
    for candidate in (kept, values):
        if len(candidate) == len(forced):
            return [v for v, force in zip(candidate, forced, strict=True) if not force]
    return values
