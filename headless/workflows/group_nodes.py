"""Group nodes of older files, which stand for several nodes kept in `extra.groupNodes`.

The editor of today turns each into a subgraph as it opens the file: the nodes get the next free
numbers, and the subgraph the one after. Here the nodes are put into the workflow under the names
that they have there, such as "25:22".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.files.editor_form import BYPASSED, MUTED, PRIMITIVE, REROUTES, group_name
from ...core.files.json_text import as_fields, as_list
from ...core.node_api import called
from .specs import DRAWN, InputSpec, NodeSpec, Specs
from .stored_values import put, restore
from .widgets import Nothing, drawn
from .workflow_file import WorkflowError


@dataclass
class _Group:
    """What a group node shows of the nodes it stands for."""

    nodes: list[Mapping[str, Any]]
    links: list[list[Any]]
    inputs: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Sockets: number and input of the node within, by the name outside."""
    widgets: dict[str, tuple[int, str]] = field(default_factory=dict)
    specs: dict[str, InputSpec] = field(default_factory=dict)
    """In the order in which the widgets are drawn."""
    outputs: list[tuple[int, int]] = field(default_factory=list)


def expanded(workflow: Mapping[str, Any], specs: Specs) -> Mapping[str, Any]:
    """The workflow with the nodes of its group nodes in their place.

    Muted and bypassed ones stay as they are: nothing of them runs.

    Raises:
        WorkflowError: a group node without a usable definition.
    """
    groups = as_fields(workflow.get("extra")).get("groupNodes")
    nodes = list(workflow["nodes"])
    found = [n for n in nodes if group_name(n["type"]) is not None]
    found = [n for n in found if (n.get("mode") or 0) not in {MUTED, BYPASSED}]
    if not found or not isinstance(groups, Mapping):
        return workflow
    links = [_as_list(link) for link in workflow.get("links") or ()]
    number = max(
        [last if isinstance(last := workflow.get("last_node_id"), int) else 0]
        + [int(n["id"]) for n in nodes if str(n["id"]).isdecimal()]
    )
    for node in found:
        group = _described(groups.get(group_name(node["type"])), node, specs)
        own = f"{number + len(group.nodes) + 1}"
        ids = [f"{own}:{number + 1 + i}" for i in range(len(group.nodes))]
        number += len(group.nodes) + 1
        nodes.remove(node)
        nodes += _inner(group, node, ids, links, specs)
    return {**workflow, "nodes": nodes, "links": links}


def _as_list(link: Any) -> list[Any]:
    if isinstance(link, list):
        return [*link, *[None] * (6 - len(link))]
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return [link.get(name) for name in names]


def _described(given: Any, node: Mapping[str, Any], specs: Specs) -> _Group:
    name = called(node["id"], node.get("title") or node["type"])
    given = as_fields(given)
    nodes, links = given.get("nodes"), given.get("links")
    whole = (
        isinstance(nodes, list)
        and nodes
        and all(isinstance(n, Mapping) and isinstance(n.get("type"), str) for n in nodes)
        and isinstance(links, list)
        and all(_is_link(link, len(nodes)) for link in links)
    )
    if not whole:
        raise WorkflowError(
            f"{name} is a group node, and the file does not say of which nodes. Take a copy of the "
            "file that still has them (extra.groupNodes), or put nodes in its place in the editor."
        )
    group = _Group([_clean(n) for n in nodes or ()], list(links or ()))
    external = [end[:2] for end in as_list(given.get("external")) if isinstance(end, list)]
    _Namer(group, specs, external, given.get("config")).run()
    return group


def _clean(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node of a definition with entries of the right kinds only."""
    kinds = {
        "inputs": list,
        "outputs": list,
        "properties": Mapping,
        "mode": int,
        "title": str,
        "widgets_values": list | Mapping,
    }
    clean = {k: node[k] for k, kind in kinds.items() if isinstance(node.get(k), kind)}
    for side in ("inputs", "outputs"):
        clean[side] = [slot for slot in clean.get(side, ()) if isinstance(slot, Mapping)]
    return clean | {"type": node["type"]}


def _is_link(link: Any, most: int) -> bool:
    if not isinstance(link, list) or len(link) < 4:
        return False
    origin, output, target, place = link[:4]
    ends = (output, target, place, origin if origin is not None else 0)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in ends):
        return False
    return target < most and (origin is None or origin < most)


class _Namer:
    """Names of what a group node shows, as the editor makes them up."""

    def __init__(self, group: _Group, specs: Specs, external: Any, config: Any) -> None:
        self.group, self.specs, self.external, self.config = group, specs, external, config
        self.seen: dict[str, int] = {}
        self.late: list[tuple[int, str, InputSpec]] = []
        self.fed = {(k[2], k[3]) for k in group.links if k[0] is not None}
        self.fills = {(k[0], k[1]) for k in group.links if k[0] is not None}

    def run(self) -> None:
        for number, node in enumerate(self.group.nodes):
            spec = self._spec(number, node)
            if spec is None:
                continue
            self._inputs(number, node, spec)
            for output in range(len(spec.outputs)):
                inside = (number, output) in self.fills and [number, output] not in self.external
                if self._chosen(number, "output", str(output)).get("visible", not inside):
                    self.group.outputs.append((number, output))
        for number, name, spec in self.late:
            self._show(number, name, spec)

    def _spec(self, number: int, node: Mapping[str, Any]) -> NodeSpec | None:
        kind = node["type"]
        if kind == PRIMITIVE:
            if not any(origin == number for origin, _ in self.fills):
                return None
            link = next(k for k in self.group.links if k[0] == number)
            io_type = str(link[5]) if len(link) > 5 else "*"
            return NodeSpec(
                [InputSpec("value", io_type in DRAWN, io_type=io_type)], None, (io_type,)
            )
        if kind in REROUTES:
            inner = (number, 0) in self.fed and (number, 0) in self.fills
            if inner and [number, 0] not in self.external:
                return None
            return NodeSpec([InputSpec(self._routed(number), False)], None, ("*",))
        return self.specs(kind)

    def _routed(self, number: int) -> str:
        """The type of what goes through a reroute, by which a group node calls its input."""
        for origin, _, target, place, *_ in self.group.links:
            slots = self.group.nodes[target]["inputs"]
            if (
                origin == number
                and place < len(slots)
                and slots[place].get("type") not in {None, "*"}
            ):
                return str(slots[place]["type"])
        into = (k for k in self.group.links if k[2] == number and len(k) > 5)
        return next((str(k[5]) for k in into), "*")

    def _inputs(self, number: int, node: Mapping[str, Any], spec: NodeSpec) -> None:
        slots = node["inputs"]
        sockets = []
        for one in spec.inputs:
            if not one.has_widget:
                sockets.append(one)
            elif any(s.get("name") == one.name and s.get("widget") for s in slots):
                place = next(i for i, s in enumerate(slots) if s.get("name") == one.name)
                if (number, place) not in self.fed:
                    self.late.append((number, one.name, one))
            else:
                self._show(number, one.name, one)
        for at, one in enumerate(sockets):
            named = (i for i, s in enumerate(slots) if s.get("name") == one.name)
            if (number, next(named, at)) not in self.fed:
                self._show(number, one.name, one)

    def _show(self, number: int, inner: str, spec: InputSpec) -> None:
        node = self.group.nodes[number]
        chosen = self._chosen(number, "input", inner)
        label = next((s.get("label") for s in node["inputs"] if s.get("name") == inner), None)
        name = str(chosen.get("name") or label or inner)
        key = name
        if (node["type"] == PRIMITIVE and node.get("title")) or name in self.seen:
            prefix = f"{node.get('title') or node['type']} "
            key = name = f"{prefix}{inner}"
            if name in self.seen:
                name = f"{prefix}{self.seen[name]} {inner}"
        self.seen[key] = self.seen.get(key, 1) + 1
        if chosen.get("visible") is False and not spec.has_widget:
            return
        # A reroute's own input has no name.
        self.group.inputs[name] = (number, "" if node["type"] in REROUTES else inner)
        if spec.has_widget:
            self.group.widgets[name] = (number, inner)
            self.group.specs[name] = InputSpec(
                *(name, True, spec.has_control, spec.io_type, spec.options, spec.default),
                details={k: v for k, v in spec.details.items() if k != "forceInput"},
            )

    def _chosen(self, number: int, side: str, name: str) -> Mapping[str, Any]:
        way: Any = self.config
        for key in (str(number), side, name):
            way = as_fields(way).get(key)
        return as_fields(way)


def _inner(
    group: _Group,
    host: Mapping[str, Any],
    ids: Sequence[str],
    links: list[list[Any]],
    specs: Specs,
) -> Iterator[dict[str, Any]]:
    """The nodes of a group, with what its node holds, and their links added to the workflow's."""
    nodes = [
        {
            **{k: v for k, v in node.items() if k in _KEPT},
            "id": ids[number],
            "inputs": [{**s, "link": None} for s in node["inputs"] if _named(s)],
            "widgets_values": _values(group, number, host, specs),
        }
        for number, node in enumerate(group.nodes)
    ]
    top = max((link[0] for link in links), default=0)
    own = str(host["id"])
    for slot in host.get("inputs") or ():
        number, name = group.inputs.get(str(slot.get("name")), (-1, ""))
        link = next((k for k in links if k[0] == slot.get("link")), None)
        if link is not None and number >= 0:
            _slot(nodes[number], name)["link"] = link[0]
            link[3] = ids[number]
    for link in links:
        if str(link[1]) == own and 0 <= link[2] < len(group.outputs):
            number, output = group.outputs[link[2]]
            link[1], link[2] = ids[number], output
    for origin, output, target, place, *more in group.links:
        if origin is None:
            continue
        top += 1
        given = group.nodes[target]["inputs"]
        spec = specs(group.nodes[target]["type"]) if not given else None
        names = [s.get("name") for s in given if _named(s)] or [
            i.name for i in (spec.inputs if spec else ()) if not i.has_widget
        ]
        if place < len(names):
            _slot(nodes[target], str(names[place]))["link"] = top
            kind = more[1] if len(more) > 1 else "*"
            links.append([top, ids[origin], output, ids[target], place, kind])
    yield from nodes


_KEPT = frozenset({"type", "title", "mode", "outputs", "properties"})


def _named(slot: Any) -> bool:
    return isinstance(slot, Mapping) and isinstance(slot.get("name"), str)


def _slot(node: dict[str, Any], name: str) -> dict[str, Any]:
    for slot in node["inputs"]:
        if slot["name"] == name:
            return slot
    node["inputs"].append({"name": name, "link": None})
    return node["inputs"][-1]


def _values(group: _Group, number: int, host: Mapping[str, Any], specs: Specs) -> Any:
    """Values of a node within, by name; those that the group node holds come first."""
    outside = NodeSpec(list(group.specs.values()))
    form = drawn(str(host["type"]), outside)
    restore(form, outside, host.get("widgets_values"))
    held = {
        inner: widget.value
        for name, (where, inner) in group.widgets.items()
        if where == number and (widget := form.widget(name)) and widget.value is not Nothing
    }
    node = group.nodes[number]
    if node["type"] == PRIMITIVE:
        return [held["value"]] if "value" in held else node.get("widgets_values")
    spec = specs(node["type"])
    if spec is None:
        return node.get("widgets_values")
    inside = drawn(node["type"], spec)
    restore(inside, spec, node.get("widgets_values"))
    for name, value in held.items():
        if (widget := inside.widget(name)) is not None:
            put(inside, widget, value)
    return {w.name: w.value for w in inside.widgets if w.value is not Nothing and w.stored}
