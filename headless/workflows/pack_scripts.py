"""Widgets and links that the scripts of node packs add in the editor; `object_info` has none.

Values of such widgets are known where the file has them by name, as the editor of today saves them;
a server drops what its node does not take. Of the packs that most people have, also those that
older files keep by position.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...core.errors import shorten
from .bypass import fits_together
from .graph import Graph, Node, origin_type
from .widgets import Widget
from .workflow_file import WorkflowError

_LORAS = "Power Lora Loader (rgthree)"
_POSITIONS = {
    "Power Puter (rgthree)": ("outputs", "code"),
    "Power Primitive (rgthree)": ("type", "value"),
}
_NEVER_SENT = re.compile("control_after_generate|upload|choose .* to upload|.*preview")
_SEEDS = "Seed Everywhere"
_EVERYWHERE = {
    *("Anything Everywhere", "Anything Everywhere?", "Anything Everywhere3"),
    *("Prompts Everywhere", _SEEDS),
}


def add_widgets(node: Node) -> None:
    """Give a node of a pack the widgets that only the pack's script draws."""
    if node.spec is None or not node.spec.of_pack:
        return
    known = {w.name for w in node.form.widgets} | {s.name for s in node.form.inputs}
    for name, value in _stored(node):
        if name not in known and not _NEVER_SENT.fullmatch(name):
            node.form.widgets.append(Widget(name, value))
    if node.kind.startswith("VHS_") and isinstance(node.stored, Mapping):
        for name, value in _renewed(node.stored):
            if (widget := node.form.widget(name)) is not None:
                widget.value = value


def _renewed(stored: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the Video Helper Suite turns values of its older files into: 0 is as it comes."""
    if "save_image" in stored and "save_output" not in stored:
        yield "save_output", stored["save_image"]
    size, names = stored.get("force_size"), ("custom_width", "custom_height")
    if not isinstance(size, str):
        return
    if "x" in size:
        for name, part in zip(names, size.split("x"), strict=False):
            yield name, int(part) if part.isdecimal() and len(part) < 6 else 0
    for name, others in zip(names, ("Custom Height", "Custom Width"), strict=True):
        if size in {"Disabled", others}:
            yield name, 0


def _stored(node: Node) -> Iterator[tuple[str, Any]]:
    values = node.stored or []
    if node.kind == _LORAS:
        held = values.values() if isinstance(values, Mapping) else values
        loras = [v for v in held if isinstance(v, Mapping) and "lora" in v]
        both = node.properties.get("Show Strengths") == "Separate Model & Clip"
        for number, lora in enumerate(loras, 1):
            clip = 1 if lora.get("strengthTwo") is None else lora["strengthTwo"]
            rest = {k: v for k, v in lora.items() if k != "strengthTwo"}
            yield f"lora_{number}", rest | ({"strengthTwo": clip} if both else {})
    elif isinstance(values, Mapping) or node.named:
        yield from (values if isinstance(values, Mapping) else node.named).items()
    else:
        yield from zip(_POSITIONS.get(node.kind, ()), values, strict=False)


def check_links(running: Sequence[tuple[Graph, Node]]) -> None:
    """Refuse nodes that hand on to inputs nothing is linked to, which their script alone chooses.

    Args:
        running: nodes that run, with the graphs they are in.

    Raises:
        WorkflowError: there are such inputs.
    """
    everywhere = [(graph, node) for graph, node in running if node.kind in _EVERYWHERE]
    if not everywhere:
        return
    waiting = {  # one of each kind is enough to know
        ("seed" in slot.name and slot.io_type == "INT", slot.widget, slot.io_type): (slot, node)
        for _, node in running
        for slot in node.form.inputs
        if slot.link is None and node.kind not in _EVERYWHERE
    }
    for graph, node in everywhere:
        given = {origin_type(graph, slot.link) for slot in node.form.inputs if slot.link}
        for (seed, widget, io_type), (slot, other) in waiting.items():
            fits = not widget and any(fits_together(one, io_type) for one in given)
            if fits or (seed and node.kind == _SEEDS):
                raise WorkflowError(
                    f"{node.name} hands on to inputs that nothing is linked to, such as "
                    f"{shorten(slot.name)!r} of {other.name}; which ones, only its script in the "
                    "editor knows. Open the workflow there and export it in the API form."
                )
