"""The nodes of a workflow file of either form, with what the doctor asks about them.

The editor's form names no widgets in older files, and a subgraph or group node may hand values to
what is inside; what cannot be told without the node's class stays as the file has it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..files.editor_form import (
    BYPASSED,
    MUTED,
    PRIMITIVE,
    VIRTUAL,
    definitions,
    described_groups,
    group_name,
)
from ..files.json_text import as_fields, as_list
from ..node_api import is_ui_form
from .surroundings import Surroundings

_CONTROL = {"fixed", "increment", "decrement", "randomize"}
_INPUT = -10
"""What the links of a subgraph call its own inputs."""
_MOST_NODES = 100_000
_DEEPEST = 50


@dataclass(frozen=True)
class Download:
    """What a workflow says of a weight file: `models` of a node's properties."""

    name: str
    folder: str
    source: str


@dataclass(frozen=True)
class Node:
    """One node that takes part in a run, or holds values for those that do."""

    id: str
    kind: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of widgets, by their names, as far as these are known."""
    widgets: tuple[Any, ...] = ()
    """All values, in the order of widgets; () where all are named."""
    linked: frozenset[str] = frozenset()
    """Widgets whose values come from other nodes; what the file has stored is not sent."""
    pack: str | None = None
    """`cnr_id`, or the repository, of the pack that brings the class."""
    runs: bool = True
    """Whether a server has to have its class; else it only holds values."""
    downloads: tuple[Download, ...] = ()
    alone: bool = False
    """Linked to nothing: of a class that nobody knows it is a note or the like."""

    def value(self, name: str, position: int) -> Any:
        """Of a widget, by its name or its place."""
        if name in self.linked:
            return None
        if name in self.values or not self.widgets:
            return self.values.get(name)
        return self.widgets[position] if position < len(self.widgets) else None

    def entry(self, name: str) -> dict[str, Any]:
        """How the report's entry on one of its widgets begins."""
        return {"node": self.id, "title": self.title, "class": self.kind, "input": name}

    def all_values(self) -> Iterator[tuple[str, Any]]:
        """Each value once, with the name of its widget; "" where that is not known."""
        yield from self.values.items()
        if not self.values:
            yield from (("", value) for value in self.widgets)


def nodes_of(workflow: Mapping[str, Any], around: Surroundings) -> Iterator[Node]:
    """Nodes that are neither muted nor bypassed, those inside subgraphs and group nodes included.

    Ids are those of the editor: "12:3" is node 3 of what node 12 stands for.
    """
    if is_ui_form(workflow):
        yield from _Reader(workflow, around).nodes()
        return
    for node_id, node in workflow.items():
        kind = node["class_type"]
        title = (node.get("_meta") or {}).get("title") or around.title(kind) or kind
        yield Node(str(node_id), kind, title, node.get("inputs") or {})


def downloads_of(workflow: Mapping[str, Any], nodes: list[Node]) -> dict[str, Download]:
    """What the file says of weight files, by their names; nodes that do not run say nothing."""
    own = tuple(_downloads(workflow))
    return {d.name: d for d in (*own, *(d for node in nodes for d in node.downloads))}


class _Reader:
    def __init__(self, workflow: Mapping[str, Any], around: Surroundings) -> None:
        self.workflow, self.around = workflow, around
        self.left = _MOST_NODES
        self.graphs = {
            str(graph["id"]): graph
            for graph in definitions(workflow)
            if "id" in graph and isinstance(graph.get("nodes"), list)
        }
        self.groups = dict(described_groups(workflow))

    def nodes(self) -> Iterator[Node]:
        return self._inside(self.workflow, "", {}, 0)

    def _too_many(self, depth: int) -> bool:
        """Whether to stop: subgraphs within subgraphs can stand for any number of nodes."""
        self.left -= 1
        return self.left < 0 or depth > _DEEPEST

    def _inside(
        self, graph: Mapping[str, Any], prefix: str, given: Mapping[str, Any], depth: int
    ) -> Iterator[Node]:
        """`given`: what the subgraph's node hands to its inputs, by their names."""
        origins = dict(_origins(graph, given))
        for node in graph["nodes"]:
            if self._too_many(depth):
                return
            kind, node_id = node["type"], f"{prefix}{node['id']}"
            off = node.get("mode") in {MUTED, BYPASSED}
            inner = self.graphs.get(kind)
            # Inside subgraphs the editor looks at each node's own state only.
            if off and (inner is None or not prefix):
                continue
            found = self._node(node, node_id, origins)
            if inner is not None:
                yield found
                yield from self._inside(inner, f"{node_id}:", found.values, depth + 1)
            elif group := self.groups.get(group_name(kind) or ""):
                yield from self._grouped(group, found, depth + 1)
            elif kind not in VIRTUAL or kind == PRIMITIVE:
                yield found

    def _node(self, node: Mapping[str, Any], node_id: str, origins: Mapping[Any, Any]) -> Node:
        kind, about, outputs = node["type"], node.get("properties") or {}, node.get("outputs")
        widgets = node.get("widgets_values") or []
        named, linked = _named(node), set()
        for slot in node.get("inputs") or []:
            name, link = _widget_name(slot), slot.get("link")
            if name is None or link is None:
                continue
            if link not in origins:
                named.pop(name, None)
                linked.add(name)
            elif origins[link] is not _AS_STORED:
                named[name] = origins[link]
        return Node(
            node_id,
            kind,
            node.get("title") or self.around.title(kind) or self._graph_name(kind),
            named,
            () if isinstance(widgets, Mapping) or named else tuple(widgets),
            frozenset(linked),
            about.get("cnr_id") or about.get("aux_id"),
            kind not in self.graphs and kind != PRIMITIVE,
            tuple(_downloads(about)),
            not any(_linked(slot) for slot in (*as_list(node.get("inputs")), *as_list(outputs))),
        )

    def _graph_name(self, kind: str) -> str:
        graph = self.graphs.get(kind)
        return kind if graph is None else graph.get("name") or kind

    def _grouped(self, group: list[Mapping[str, Any]], whole: Node, depth: int) -> Iterator[Node]:
        """The nodes that a group node stands for; it stores their values one after the other."""
        sizes = [len(as_list(node.get("widgets_values"))) for node in group]
        shares = list(whole.widgets) if len(whole.widgets) == sum(sizes) else None
        for index, (node, size) in enumerate(zip(group, sizes, strict=True)):
            kind = node["type"]
            if self._too_many(depth) or kind in VIRTUAL - {PRIMITIVE}:
                continue
            held = as_list(node.get("widgets_values"))
            if shares is not None:
                held, shares = shares[:size], shares[size:]
            about = as_fields(node.get("properties"))
            found = Node(
                f"{whole.id}:{index}",
                kind,
                str(node.get("title") or self.around.title(kind) or kind),
                as_fields(node.get("widgets_values")),
                tuple(held),
                frozenset(),
                _text(about.get("cnr_id")) or _text(about.get("aux_id")) or whole.pack,
                kind != PRIMITIVE,
                (*_downloads(about), *whole.downloads),
            )
            inner = self.groups.get(group_name(kind) or "")
            yield from [found] if inner is None else self._grouped(inner, found, depth + 1)


def _named(node: Mapping[str, Any]) -> dict[str, Any]:
    """Values of widgets by their names; {} where the file does not tell which is which.

    Newer files list each widget among the inputs. Values of what steers a seed have no name.
    """
    stored = node.get("widgets_values") or []
    if isinstance(stored, Mapping):
        return dict(stored)
    names = [name for slot in node.get("inputs") or [] if (name := _widget_name(slot)) is not None]
    values = [
        value
        for before, value in zip([None, *stored], stored, strict=False)
        if not (isinstance(value, str) and value in _CONTROL and _is_number(before))
    ]
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}


_AS_STORED = object()


def _origins(graph: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Links that begin at the inputs of a subgraph, and the values these are given from outside.

    Where nothing is known to be given, a node inside keeps what it has stored.
    """
    names = [as_fields(entry).get("name") for entry in as_list(graph.get("inputs"))]
    for link in graph.get("links") or []:
        if isinstance(link, Mapping):
            number, origin, slot = (link.get(k) for k in ("id", "origin_id", "origin_slot"))
        else:
            number, origin, slot = link[:3]
        if origin == _INPUT and isinstance(slot, int) and 0 <= slot < len(names):
            name = names[slot]
            yield number, given.get(name, _AS_STORED) if isinstance(name, str) else _AS_STORED


def _linked(slot: Any) -> bool:
    return as_fields(slot).get("link") is not None or bool(as_fields(slot).get("links"))


def _widget_name(slot: Any) -> str | None:
    return _text(as_fields(as_fields(slot).get("widget")).get("name"))


def _downloads(about: Mapping[str, Any]) -> Iterator[Download]:
    for model in map(as_fields, as_list(about.get("models"))):
        name, folder = _text(model.get("name")), _text(model.get("directory"))
        if name and folder:
            yield Download(name, folder, _text(model.get("url")) or "")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
