"""Where links really come from: through subgraphs, reroutes, named wires and bypassed nodes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import shorten
from ...core.files.editor_form import BYPASSED, GETTERS, MUTED, REROUTES, SETTERS, VIRTUAL
from .bypass import bypassed_to
from .editor_only import setter, wire_name
from .graph import INSIDE, Graph, Node
from .workflow_file import WorkflowError

_LONGEST = 1000
"""Nodes without a part in the run that a link may go through."""


@dataclass(frozen=True)
class Place:
    """A graph where it is used: the workflow itself, or a subgraph in one of its places."""

    graph: Graph
    host: Node | None = None
    around: "Place | None" = None
    path: str = ""

    def id(self, node: Node) -> str:
        return self.path + node.id

    def inside(self, host: Node) -> "Place":
        assert host.inner is not None
        return Place(host.inner, host, self, f"{self.id(host)}:")

    def outward(self) -> Iterator["Place"]:
        place: Place | None = self
        while place is not None:
            yield place
            place = place.around


@dataclass(frozen=True)
class Held:
    """A value in place of a link: that of a widget which a subgraph shows."""

    value: Any


@dataclass(frozen=True)
class _Step:
    place: Place
    node: Node
    number: int
    """Of an input, or of an output."""
    wanted: str | None
    """Type of the input that the link leads to in the end."""
    output: bool = False
    shown: bool = False
    """It comes from inside a subgraph, which sees the widgets that it shows."""


_Found = tuple[str, int] | Held | None


def origin(place: Place, node: Node, number: int) -> _Found:
    """Node and output that an input of a node takes, or the value it has; None for nothing.

    Raises:
        WorkflowError: the way there leads nowhere or in a circle.
    """
    step: _Step | _Found = _Step(place, node, number, None)
    seen: set[tuple[str, str, int, bool]] = set()
    while isinstance(step, _Step):
        key = (step.place.path, step.node.id, step.number, step.output)
        if key in seen:
            raise WorkflowError(
                f"A link to {node.name} goes in a circle, by way of {step.node.name}. Open the "
                "workflow and take it apart there."
            )
        seen.add(key)
        if len(seen) > _LONGEST:
            raise WorkflowError(
                f"A link to {node.name} goes through more than {_LONGEST} reroutes, subgraphs and "
                "bypassed nodes. Link it anew with fewer."
            )
        step = _before_output(step) if step.output else _before_input(step)
    return step


def _before_input(step: _Step) -> _Step | _Found:
    place, node = step.place, step.node
    inputs = node.form.inputs
    if step.number >= len(inputs):
        raise WorkflowError(
            f"{node.name} is linked at input {step.number}, and has {len(inputs)}. Open and save "
            "the workflow again."
        )
    slot = inputs[step.number]
    link = place.graph.links.get(slot.link) if slot.link is not None else None
    if link is None:
        held = node.promoted.get(slot.name) if step.shown else None
        return None if held is None else Held(held.value)
    if link.origin == INSIDE and place.host is not None and place.around is not None:
        return _Step(place.around, place.host, link.output, None, shown=True)
    before = place.graph.nodes.get(link.origin)
    if before is None:
        raise WorkflowError(
            f"Link {link.number} to {node.name} comes from node {shorten(link.origin, 40)}, which "
            "is not there. Open and save the workflow again."
        )
    return _Step(place, before, link.output, step.wanted or slot.io_type, output=True)


def _before_output(step: _Step) -> _Step | _Found:
    place, node = step.place, step.node
    if node.mode == MUTED:
        return None
    if node.mode == BYPASSED:
        return _around(step)
    if node.inner is not None:
        return _into(step)
    if node.kind in REROUTES:
        return replace(step, number=0, output=False) if node.form.inputs else None
    if node.kind in GETTERS:
        for outer in place.outward():
            found = setter(outer.graph.nodes.values(), node)
            if found is not None and found.form.inputs:
                return _Step(outer, found, 0, step.wanted)
        raise WorkflowError(
            f"{node.name} reads the wire {shorten(wire_name(node))!r}, which no other "
            "node fills. Open the workflow and link it anew."
        )
    if node.kind in SETTERS and node.form.inputs:
        return replace(step, number=0, output=False)
    if node.kind in VIRTUAL:
        return None
    return place.id(node), step.number


def _around(step: _Step) -> _Step | None:
    node = step.node
    outputs = _outputs(node)
    if step.number >= len(outputs):
        raise WorkflowError(
            f"{node.name} is linked at output {step.number}, and has {len(outputs)}. Open and save "
            "the workflow again."
        )
    types = [slot.io_type for slot in node.form.inputs]
    chosen = bypassed_to(types, step.number, outputs[step.number], step.wanted or "*")
    return None if chosen is None else _Step(step.place, node, chosen, None)


def _outputs(node: Node) -> list[str]:
    if node.inner is not None:
        return [port.io_type for port in node.inner.outputs]
    known = len(node.spec.outputs) if node.spec else 0
    return [node.output_type(n) for n in range(max(known, len(node.outputs)))]


def _into(step: _Step) -> _Step | _Found:
    """To the node within a subgraph that an output of it stands for."""
    node = step.node
    assert node.inner is not None
    graph = node.inner
    if step.number >= len(graph.outputs):
        raise WorkflowError(
            f"{node.name} is linked at output {step.number}, and has {len(graph.outputs)}. Open "
            "and save the workflow again."
        )
    numbers = graph.outputs[step.number].links
    link = next((graph.links[n] for n in numbers if n in graph.links), None)
    if link is None:
        return None
    if link.origin == INSIDE:  # straight through
        return _Step(step.place, node, link.output, step.wanted, shown=True)
    before = graph.nodes.get(link.origin)
    if before is None:
        raise WorkflowError(
            f"Output {step.number} of {node.name} comes from node {shorten(link.origin, 40)}, "
            "which is not in the subgraph. Open and save the workflow again."
        )
    return _Step(step.place.inside(node), before, link.output, step.wanted, output=True)
