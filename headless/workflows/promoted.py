"""Widgets that a subgraph shows on its outside, each with a value of its own.

What is linked to an input of a subgraph from within shows its widget there, as long as nothing is
linked from without. Older files list such widgets in `properties.proxyWidgets`, with the values in
that order, and the editor turns them into inputs as it opens the file.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .graph import INSIDE, Graph, Link, Node, Port
from .stored_values import offered, shown
from .widgets import Nothing, Slot, Widget
from .workflow_file import WorkflowError

_PREFIX = re.compile(r"^\s*(\d+)\s*:\s*(.+)$", re.DOTALL)
_PREVIEWS = frozenset({"PREVIEW", "AUDIO_UI", "IMAGECOMPARE"})
_DEEPEST = 100
_MOST = 1000
"""Widgets that one node of a subgraph may show; none has as many."""


def promote(host: Node) -> None:
    """Find the widgets that a subgraph shows, and give them the values stored for it."""
    assert host.inner is not None
    for port in host.inner.inputs:
        _show(host, port)
    stored = host.stored
    for number, widget in enumerate(host.promoted.values()):
        if isinstance(stored, Mapping):
            if widget.name in stored:
                _put(widget, stored[widget.name])
        elif number < len(stored or ()):
            _put(widget, stored[number])
    for entry in _listed(host.properties.get("proxyWidgetErrorQuarantine")):
        match entry:
            case {"originalEntry": ["-1", str(name), *_], "hostValue": value}:
                _set(host, name, value)


def _show(host: Node, port: Port) -> None:
    """Show the widget that an input of the subgraph leads to, if it does."""
    assert host.inner is not None
    source = _source(host.inner, port)
    if source is None:
        return
    node, widget = source
    spec = widget.spec
    if node.kind == "CustomCombo" and spec is not None:
        spec = replace(spec, options=offered(node.form))
    slot = host.form.slot(port.name)
    if slot is not None:
        slot.widget = True
        value = widget.value if widget.value is Nothing else copy.deepcopy(widget.value)
        host.promoted[port.name] = Widget(port.name, value, widget.kind, spec=spec)


def _source(graph: Graph, port: Port) -> tuple[Node, Widget] | None:
    """The first widget that an input of a subgraph is linked to."""
    for node, slot in graph.takers(port.links):
        if not slot.widget:
            continue
        widget = node.promoted.get(slot.name) if node.inner else node.form.widget(slot.name)
        if widget is not None:
            return node, widget
    return None


def _put(widget: Widget, value: Any) -> None:
    widget.value = copy.deepcopy(shown(widget, value))


@dataclass
class _Entry:
    node: str
    name: str
    source: str | None
    """Of a widget of a subgraph within: the node it belongs to."""
    value: Any
    plan: str = ""


def migrate(host: Node) -> None:
    """Turn the list of promoted widgets of older files into inputs with values.

    Raises:
        WorkflowError: the list is longer than any.
    """
    assert host.inner is not None
    listed = _listed(host.properties.get("proxyWidgets"))
    fits = all(
        isinstance(p, list) and 2 <= len(p) <= 3 and all(isinstance(t, str) for t in p)
        for p in listed
    )
    if not listed or not fits:
        return
    if len(listed) > _MOST:
        raise WorkflowError(
            f"{host.name} shows {len(listed)} widgets of its subgraph, at most {_MOST} are taken. "
            "Open and save the workflow again."
        )
    stored: Sequence[Any] = host.stored if isinstance(host.stored, list) else ()
    entries = []
    for number, (node, name, *more) in enumerate(listed):
        name, source = _named(host.inner, node, name, more[0] if more else None)
        value = stored[number] if number < len(stored) else Nothing
        entries.append(_Entry(node, name, source, value))
    for entry in entries:
        entry.plan = _plan(host, entry, entries)
    for entry in entries:
        if entry.plan == "new":
            _make_input(host, entry)
        elif entry.plan.startswith("="):
            _set(host, entry.plan[1:], entry.value)
        elif not entry.plan and entry.node == "-1":
            _set(host, entry.name, entry.value)
    for primitive in dict.fromkeys(e.node for e in entries if e.plan == "primitive"):
        _replace_primitive(host, [e for e in entries if e.node == primitive])


def _listed(given: Any) -> list[Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return []
    return given if isinstance(given, list) else []


def _named(graph: Graph, node: str, name: str, source: str | None) -> tuple[str, str | None]:
    """Name of a widget, where the file may have put numbers of nodes before it."""
    if _resolves(graph, node, name):
        return name, source
    while match := _PREFIX.match(name):
        source, name = match.groups()
    return name, source


def _resolves(graph: Graph, node: str, name: str) -> bool:
    for _ in range(_DEEPEST):
        found = graph.nodes.get(node)
        if found is None:
            return False
        if found.inner is None:
            return found.form.widget(name) is not None
        target = _target_of(found.inner, name)
        if target is None:
            return False
        graph, (node, name) = found.inner, target
    return False


def _target(graph: Graph, port: Port) -> tuple[str, str] | None:
    """Node and widget that an input of a subgraph stands for."""
    for node, slot in graph.takers(port.links):
        if node.inner is not None or (slot.widget and node.form.widget(slot.name)):
            return node.id, slot.name
    return None


def _target_of(graph: Graph, name: str) -> tuple[str, str] | None:
    """`_target` of an input by its name."""
    port = next((p for p in graph.inputs if p.name == name), None)
    return _target(graph, port) if port else None


def _plan(host: Node, entry: _Entry, entries: list[_Entry]) -> str:
    """What to do: "=NAME" for an input there is, "new", "primitive", or nothing."""
    assert host.inner is not None
    graph = host.inner
    for port in graph.inputs:
        if _target(graph, port) == (entry.node, entry.name):
            return f"={port.name}"
    node = graph.nodes.get(entry.node)
    if node is None:
        return ""
    if node.kind == "PrimitiveNode":
        done = node.properties.get("proxyBypassedToSubgraphInput")
        if isinstance(done, str) and host.form.slot(done):
            return f"={done}"
        linked = any(True for _ in graph.leading_from(node.id, 0))
        twice = sum(e.node == entry.node for e in entries) >= 2
        return "primitive" if linked or twice else ""
    found = _inner_slot(node, entry)
    if found is None or entry.name.startswith("$$"):
        return ""
    return "new"


def _inner_slot(node: Node, entry: _Entry) -> Slot | None:
    """The input behind a widget inside; None where it has none."""
    if node.inner is not None:
        for slot in node.form.inputs:
            target = _target_of(node.inner, slot.name)
            if entry.source:
                match = target == (entry.source, entry.name)
            else:
                match = slot.name == entry.name or (target or ("", ""))[1] == entry.name
            if match:
                return slot if slot.name in node.promoted else None
        return None
    slot = node.form.slot(entry.name)
    return slot if slot and slot.widget and node.form.widget(entry.name) else None


def _make_input(host: Node, entry: _Entry) -> None:
    assert host.inner is not None
    node = host.inner.nodes[entry.node]
    slot = _inner_slot(node, entry)
    if slot is not None:
        name = _new_input(host.inner, entry.name, slot.io_type, [(node, slot)])
        _set(host, name, entry.value)


def _new_input(graph: Graph, name: str, kind: str, takers: list[tuple[Node, Slot]]) -> str:
    """Add an input to a subgraph that leads to some within, everywhere it is used."""
    names = {p.name for p in graph.inputs}
    unique = next(
        n for i in range(len(names) + 1) if (n := f"{name}_{i}" if i else name) not in names
    )
    port = Port(unique, kind, [])
    number = max(graph.links, default=0)
    for node, slot in takers:
        number += 1
        if slot.link is not None:
            graph.links.pop(slot.link, None)
        slot.link = number
        port.links.append(number)
        graph.links[number] = Link(number, INSIDE, len(graph.inputs), node.id, -1)
    graph.inputs.append(port)
    for host in graph.hosts:
        if host.form.slot(unique) is None:
            host.form.inputs.append(Slot(unique, kind))
            _show(host, port)
    return unique


def _replace_primitive(host: Node, entries: list[_Entry]) -> None:
    """Let an input take the place of a primitive inside, with all that it fills."""
    assert host.inner is not None
    graph = host.inner
    node = graph.nodes[entries[0].node]
    links = list(graph.leading_from(node.id))
    takers = list(graph.takers(link.number for link in links))
    if len({e.name for e in entries}) > 1 or not takers or len(takers) < len(links):
        return
    kind = node.output_type(0)
    if not all(kind == "*" or slot.io_type in {kind, "*"} for _, slot in takers):
        return
    name = node.title if node.title and node.title != "PrimitiveNode" else entries[0].name
    unique = _new_input(graph, name, kind, takers)
    _set(host, unique, next((e.value for e in entries if e.value is not Nothing), Nothing))
    node.properties = {**node.properties, "proxyBypassedToSubgraphInput": unique}


def _set(host: Node, name: str, value: Any) -> None:
    widget = host.promoted.get(name)
    if widget is not None and value is not Nothing:
        _put(widget, value)
