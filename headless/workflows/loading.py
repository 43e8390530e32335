"""A workflow file as the editor opens it: nodes with their sockets, widgets, links and values."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...core.errors import shorten
from ...core.files.editor_form import VIRTUAL
from . import promoted
from .editor_only import hand_out
from .graph import Graph, Link, Node, io_type, origin_type, read_graphs
from .group_nodes import expanded
from .pack_scripts import add_widgets
from .specs import NodeSpec, Specs, UnknownNodeError
from .stored_values import restore
from .widgets import Slot, attach, drawn, types_in_common
from .workflow_file import WorkflowError


@dataclass
class Opened:
    """A workflow, ready to be sent."""

    root: Graph
    graphs: dict[str, Graph]
    unknown: dict[str, UnknownNodeError]
    """What specs said of node classes that they do not know."""

    def everything(self) -> list[Node]:
        return [n for g in (self.root, *self.graphs.values()) for n in g.nodes.values()]


def opened(workflow: Mapping[str, Any], specs: Specs) -> Opened:
    """Load a workflow of the editor's form.

    Raises:
        WorkflowError: links that lead nowhere, subgraphs within themselves, or group nodes that
            the file does not describe.
    """
    unknown: dict[str, UnknownNodeError] = {}

    @cache
    def known(kind: str) -> NodeSpec | None:
        try:
            return specs(kind)
        except UnknownNodeError as error:
            unknown[kind] = error
            return None

    root, graphs = read_graphs(expanded(workflow, known))
    result = Opened(root, graphs, unknown)
    for graph in (*graphs.values(), root):
        for node in graph.nodes.values():
            node.inner = graphs.get(node.kind)
            if node.inner is not None:
                node.inner.hosts.append(node)
            elif node.kind not in VIRTUAL:
                node.spec = known(node.kind)
        for node in graph.nodes.values():
            _configure(graph, node)
        _told_by_links(graph)
        for node in graph.nodes.values():
            if node.inner is not None:
                promoted.migrate(node)
    everything = result.everything()
    for graph in (*graphs.values(), root):
        for node in graph.nodes.values():
            _settle(graph, node)
        hand_out(graph, everything)
    return result


def _configure(graph: Graph, node: Node) -> None:
    if node.spec is not None:
        node.form = drawn(node.kind, node.spec)
    elif node.inner is not None:
        node.form.inputs = [Slot(p.name, p.io_type) for p in node.inner.inputs]
    for name, link, made in _linked(graph, node):
        attach(node.form, name, link, made)
    if node.inner is not None:
        promoted.promote(node)
    elif node.spec is not None:
        restore(node.form, node.spec, node.stored)
        add_widgets(node)
        # A widget that is no more takes its socket along.
        names = {w.name for w in node.form.widgets}
        node.form.inputs[:] = [s for s in node.form.inputs if not s.widget or s.name in names]


def _linked(graph: Graph, node: Node) -> list[tuple[str, int, Slot | None]]:
    """Inputs with their links, and the socket to make where the class does not have it."""
    found: list[tuple[str, int, Slot | None]] = []
    for slot in node.slots:
        name, link = str(slot.get("name") or ""), slot.get("link")
        if link is None:
            continue
        if link not in graph.links:
            raise WorkflowError(
                f"Link {shorten(link, 40)} leads nowhere, and {node.name} takes it. Open and save "
                "the workflow again."
            )
        if not _belongs(graph, node, link):
            continue
        made = Slot(name, io_type(slot.get("type")), isinstance(slot.get("widget"), Mapping))
        found.append((name, link, made if node.inner is None else None))
    return found


def _told_by_links(graph: Graph) -> None:
    """Attach links that the input they lead to does not tell of, as programs write them."""
    told = {slot.get("link") for node in graph.nodes.values() for slot in node.slots}
    for link in graph.links.values():
        node = graph.nodes.get(link.target)
        if node is None or link.number in told or link.place < 0 or not _goes_out(graph, link):
            continue
        if not node.slots:
            slot = node.form.inputs[link.place] if link.place < len(node.form.inputs) else None
        else:
            given = node.slots[link.place] if link.place < len(node.slots) else {}
            slot = node.form.slot(str(given.get("name")))
        if slot is not None and slot.link is None:
            attach(node.form, slot.name, link.number)


def _goes_out(graph: Graph, link: Link) -> bool:
    """Whether the output where a link starts tells of it, or of none at all."""
    origin = graph.nodes.get(link.origin)
    if origin is None or link.output >= len(origin.outputs):
        return origin is not None
    numbers = origin.outputs[link.output].get("links")
    return not isinstance(numbers, list) or link.number in numbers


def _belongs(graph: Graph, node: Node, link: int) -> bool:
    """Whether a link is this node's: copies of nodes may name one that is another's."""
    other = graph.nodes.get(graph.links[link].target)
    if other is None or other is node:
        return True
    return not any(slot.get("link") == link for slot in other.slots)


def _settle(graph: Graph, node: Node) -> None:
    """Give inputs of one common type that of what is linked to the others."""
    for group in node.form.groups.values():
        members = [s for s in node.form.inputs if s.name in group]
        types = [origin_type(graph, s.link) for s in members]
        for number, slot in enumerate(members):
            others = [t for i, t in enumerate(types) if i != number]
            slot.io_type = types_in_common([*others, group[slot.name]])
