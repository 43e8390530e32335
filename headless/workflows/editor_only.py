"""Nodes that only the editor knows: notes, reroutes, primitives, named wires, switches."""

from collections.abc import Iterable
from typing import Any

from ...core.errors import shorten
from ...core.files.editor_form import PRIMITIVE, SETTERS
from .graph import Graph, Node
from .stored_values import put
from .text_fields import replaced
from .widgets import Nothing, Widget
from .workflow_file import WorkflowError


def wire_name(node: Node) -> Any:
    """The name under which a named wire is known."""
    stored = node.stored
    values = list(stored.values()) if isinstance(stored, dict) else stored or []
    return values[0] if values else None


def setter(nodes: Iterable[Node], getter: Node) -> Node | None:
    """The node that fills the wire which another one reads."""
    wanted = wire_name(getter)
    return next((n for n in nodes if n.kind in SETTERS and wire_name(n) == wanted), None)


def hand_out(graph: Graph, everything: Iterable[Node]) -> None:
    """Give widgets what the primitives linked to them hold."""
    for node in graph.nodes.values():
        if node.kind != PRIMITIVE:
            continue
        links = [link.number for link in graph.leading_from(node.id, 0)]
        found = [
            (taker, widget)
            for taker, slot in graph.takers(links)
            if slot.widget
            and (widget := taker.promoted.get(slot.name) or taker.form.widget(slot.name))
        ]
        if not found:
            continue
        value = _held(node, found[0][1])
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = _in_range(value, [widget for _, widget in found])
        if isinstance(value, str) and value and node.properties.get("Run widget replace on values"):
            value = replaced(value, everything)
        for taker, widget in found:
            put(taker.form, widget, value)


def _held(node: Node, widget: Widget) -> Any:
    """The value of a primitive; of a widget of another type than it was made for, its own."""
    told = node.outputs[0].get("type") if node.outputs else None
    kind = widget.kind if widget.kind != "*" else told
    stored = node.stored
    values = list(stored.values()) if isinstance(stored, dict) else stored or []
    if told is not None and told != kind:
        return widget.value
    if values:
        return values[0]
    if widget.value is Nothing:
        raise WorkflowError(
            f"{node.name} holds no value, and {shorten(widget.name)} has none of its own. Type one "
            "into it and save again."
        )
    return widget.value


def _in_range(value: float, widgets: Iterable[Widget]) -> int | float:
    """A number within the limits of all widgets that take it."""
    least, most = float("-inf"), float("inf")
    for widget in widgets:
        if widget.kind not in {"INT", "FLOAT"} or widget.spec is None or not widget.spec.details:
            continue
        low, high = (widget.spec.details.get(k, d) for k, d in (("min", 0), ("max", 2048)))
        if isinstance(low, int | float) and isinstance(high, int | float):
            if low > most or high < least:
                break
            least, most = max(least, low), min(most, high)
    return least if value < least else min(value, most)
