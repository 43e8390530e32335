"""Graphs of a workflow file: their nodes and links, and the definitions of subgraphs."""

import graphlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import shorten
from ...core.files.editor_form import definitions
from ...core.files.json_text import as_fields, as_list
from ...core.node_api import called
from .specs import NodeSpec
from .widgets import Form, Slot, Widget
from .workflow_file import WorkflowError

INSIDE = "-10"
"""What links inside a subgraph have in place of a node where they come from its inputs."""


@dataclass(frozen=True)
class Link:
    number: int
    origin: str
    output: int
    target: str
    place: int
    """Number of the input it leads to, as the file counts them."""


@dataclass
class Port:
    """An input or output of a subgraph."""

    name: str
    io_type: str
    links: list[int]


@dataclass
class Node:
    id: str
    kind: str
    mode: int
    title: str | None
    stored: Any
    """Values of widgets, by position or by name."""
    named: Mapping[str, Any]
    """The same by name, where the file has both."""
    properties: Mapping[str, Any]
    slots: list[Mapping[str, Any]]
    outputs: list[Mapping[str, Any]]
    form: Form
    spec: NodeSpec | None = None
    inner: "Graph | None" = None
    promoted: dict[str, Widget] = field(default_factory=dict)
    """Of a subgraph: what its inputs hold where nothing is linked to them."""

    @property
    def name(self) -> str:
        """What sentences call it."""
        known = self.spec and self.spec.title
        inner = self.inner and self.inner.name
        return called(self.id, self.title or known or inner or self.kind)

    def output_type(self, number: int) -> str:
        """The type of an output, as far as anything tells it."""
        told = io_type(self.outputs[number].get("type")) if number < len(self.outputs) else "*"
        outputs = self.spec.outputs if self.spec else ()
        known = outputs[number] if number < len(outputs) else told
        return told if known.startswith("COMFY_") else known


@dataclass
class Graph:
    """A workflow or the inside of a subgraph."""

    id: str
    name: str
    nodes: dict[str, Node]
    links: dict[int, Link]
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    hosts: list[Node] = field(default_factory=list)
    """Nodes that stand for this graph, wherever they are."""

    def leading_from(self, origin: str, output: int | None = None) -> Iterator[Link]:
        """Links from a node, or from one of its outputs."""
        for link in self.links.values():
            if link.origin == origin and output in {None, link.output}:
                yield link

    def takers(self, links: Iterable[int]) -> Iterator[tuple[Node, Slot]]:
        """Nodes and inputs that links lead to, where both are there."""
        for number in links:
            link = self.links.get(number)
            node = self.nodes.get(link.target) if link else None
            slot = next((s for s in node.form.inputs if s.link == number), None) if node else None
            if node is not None and slot is not None:
                yield node, slot


def io_type(given: Any) -> str:
    """A type as a file gives it; old files have numbers for any."""
    if isinstance(given, list):
        return "COMBO"
    return given if isinstance(given, str) else "*"


def origin_type(graph: Graph, number: int | None) -> str:
    """The type of what a link brings; "*" where nothing tells it."""
    link = graph.links.get(number) if number is not None else None
    if link is None:
        return "*"
    node = graph.nodes.get(link.origin)
    if node is not None:
        if node.inner is not None:
            ports = node.inner.outputs
            return ports[link.output].io_type if link.output < len(ports) else "*"
        return node.output_type(link.output)
    return graph.inputs[link.output].io_type if link.output < len(graph.inputs) else "*"


def read_graph(entry: Mapping[str, Any]) -> Graph:
    """A graph of a file that `read_workflow` let pass."""
    links = {link.number: link for link in map(_link, entry.get("links") or ())}
    nodes = {}
    for given in entry.get("nodes") or ():
        node = Node(
            id=str(given["id"]),
            kind=given["type"],
            mode=given.get("mode") or 0,
            title=given.get("title"),
            stored=given.get("widgets_values"),
            named=as_fields(given.get("widgets_values_named")),
            properties=as_fields(given.get("properties")),
            slots=_entries(given.get("inputs")),
            outputs=_entries(given.get("outputs")),
            form=Form(given["type"]),
        )
        nodes[node.id] = node
    graph = Graph(str(entry.get("id")), str(entry.get("name") or ""), nodes, links)
    for ports, key in ((graph.inputs, "inputs"), (graph.outputs, "outputs")):
        ports += [_port(p) for p in _entries(entry.get(key))]
    for link in links.values():  # what lists of links leave out
        for ports, end, number in (
            (graph.inputs, link.origin == INSIDE, link.output),
            (graph.outputs, link.target == "-20", link.place),
        ):
            if end and 0 <= number < len(ports) and link.number not in ports[number].links:
                ports[number].links.append(link.number)
    return graph


def _link(entry: Any) -> Link:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    if isinstance(entry, Mapping):
        entry = [entry.get(name) for name in names]
    number, origin, output, target, place, *_ = [*entry, None, None]
    place = place if isinstance(place, int) else -1
    return Link(number, str(origin), output, str(target), place)


def _port(given: Mapping[str, Any]) -> Port:
    links = [n for n in as_list(given.get("linkIds")) if isinstance(n, int)]
    return Port(str(given.get("name") or ""), io_type(given.get("type")), links)


def _entries(given: Any) -> list[Mapping[str, Any]]:
    return [as_fields(entry) for entry in as_list(given)]


def read_graphs(workflow: Mapping[str, Any]) -> tuple[Graph, dict[str, Graph]]:
    """A workflow's own graph, and its subgraphs by id: those that others stand on come first.

    Nodes inside subgraphs get other numbers where theirs are taken, as the editor does it.

    Raises:
        WorkflowError: a subgraph contains itself.
    """
    root = read_graph(workflow)
    graphs: dict[str, Graph] = {}
    for graph in map(read_graph, definitions(workflow)):
        graphs.setdefault(graph.id, graph)
    _renumber(workflow, root, list(graphs.values()))
    return root, _sorted(graphs)


def _renumber(workflow: Mapping[str, Any], root: Graph, graphs: list[Graph]) -> None:
    taken = set(root.nodes)
    given = workflow.get("last_node_id", as_fields(workflow.get("state")).get("lastNodeId"))
    last = given if isinstance(given, int) and 0 <= given < 2**53 else 0
    for graph in graphs:
        renamed: dict[str, str] = {}
        for node in graph.nodes.values():
            if node.id in taken:
                last += 1
                while str(last) in taken:
                    last += 1
                renamed[node.id] = str(last)
            elif node.id.isdecimal():
                last = max(last, int(node.id))
            taken.add(renamed.get(node.id, node.id))
        if not renamed:
            continue
        for old, new in renamed.items():
            graph.nodes[old].id = new
        graph.nodes = {node.id: node for node in graph.nodes.values()}
        graph.links = {
            n: Link(
                n,
                renamed.get(k.origin, k.origin),
                k.output,
                renamed.get(k.target, k.target),
                k.place,
            )
            for n, k in graph.links.items()
        }
        for holder in (root, *graphs):
            for node in holder.nodes.values():
                if node.kind == graph.id:
                    node.properties = {**node.properties, **_patched(node.properties, renamed)}


def _patched(properties: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Promoted widgets by the new numbers of their nodes."""
    proxies = properties.get("proxyWidgets")
    if not isinstance(proxies, list):
        return {}
    return {
        "proxyWidgets": [
            [renamed.get(str(p[0]), p[0]), *p[1:]] if isinstance(p, list) and p else p
            for p in proxies
        ]
    }


def _sorted(graphs: dict[str, Graph]) -> dict[str, Graph]:
    needs = {
        key: {node.kind for node in graph.nodes.values()} & graphs.keys()
        for key, graph in graphs.items()
    }
    try:
        return {key: graphs[key] for key in graphlib.TopologicalSorter(needs).static_order()}
    except graphlib.CycleError as error:
        graph = graphs[error.args[1][0]]
        raise WorkflowError(
            f"The subgraph {shorten(graph.name or graph.id)} contains itself, directly or by way "
            "of others, so that it has no end. Take it out of itself in the editor."
        ) from error
