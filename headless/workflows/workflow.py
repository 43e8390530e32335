"""Workflows: turning the editor's form into the API form, and naming nodes.

ComfyUI has two JSON forms. The editor (UI) form lists nodes with positions and stores the values of
widgets by their order; the API form maps node ids to named inputs. Servers take the latter.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import shorten
from ...core.node_api import called, is_ui_form
from .specs import SEEDS, InputSpec, NodeSpec, Specs, has_control
from .workflow_file import WorkflowError, link_parts, read_workflow

__all__ = [  # from here as well
    "SEEDS",
    "InputSpec",
    "NodeSpec",
    "Specs",
    "WorkflowError",
    "has_control",
    "is_ui_form",
    "read_workflow",
]

ApiWorkflow = dict[str, dict[str, Any]]
"""{node id: {"class_type": str, "inputs": {name: value or [node id, output index]}}}"""

_COMMENTS = {"Note", "MarkdownNote"}
_ROUTES = {"Reroute", "PrimitiveNode"}
_CONTROL = {"fixed", "increment", "decrement", "randomize"}
_MUTED, _BYPASSED = 2, 4


def node_kinds(workflow: Mapping[str, Any]) -> set[str]:
    """Node classes in a workflow of either form; comments and what only routes links aside."""
    if is_ui_form(workflow):
        inside = (workflow.get("definitions") or {}).get("subgraphs") or []
        nodes = [n for part in (workflow, *inside) for n in part.get("nodes") or []]
        return {n["type"] for n in nodes} - _COMMENTS - _ROUTES
    return {n["class_type"] for n in workflow.values()}


def to_api(workflow: Mapping[str, Any], specs: Specs) -> ApiWorkflow:
    """The API form of a workflow of either form.

    Notes are dropped, reroutes and primitives resolved, muted nodes left out and bypassed ones
    bridged. Nodes without a title of their own get the one that the editor shows.

    Raises:
        WorkflowError: unknown node classes, subgraphs, or links that lead nowhere.
    """
    if not is_ui_form(workflow):
        api = {str(k): copy.deepcopy(v) for k, v in workflow.items()}
        for node in api.values():
            spec = specs(node["class_type"])
            if spec is not None and spec.title:
                node.setdefault("_meta", {}).setdefault("title", spec.title)
        return api
    if (workflow.get("definitions") or {}).get("subgraphs"):
        raise WorkflowError(
            "This workflow contains subgraphs. Unpack them in the editor, or export the API form "
            "(File > Export (API))."
        )
    return _Converter(workflow, specs).convert()


class _Converter:
    def __init__(self, workflow: Mapping[str, Any], specs: Specs) -> None:
        self.nodes = {str(n["id"]): n for n in workflow["nodes"]}
        parts = map(link_parts, workflow.get("links") or [])
        self.links = {link: (origin, slot) for link, origin, slot in parts}
        self.specs = specs

    def convert(self) -> ApiWorkflow:
        api: ApiWorkflow = {}
        for node_id, node in self.nodes.items():
            kind = node["type"]
            if kind in _COMMENTS | _ROUTES:
                continue
            if node.get("mode", 0) in {_MUTED, _BYPASSED}:
                continue
            spec = self.specs(kind)
            if spec is None:
                raise WorkflowError(unknown_node(node_id, kind))
            api[node_id] = {
                "class_type": kind,
                "inputs": self._inputs(node, spec.inputs),
                "_meta": {"title": node.get("title") or spec.title or kind},
            }
        return api

    def _inputs(self, node: Mapping[str, Any], specs: Sequence[InputSpec]) -> dict[str, Any]:
        values = dict(_widget_values(node, specs))
        for slot in node.get("inputs") or []:
            if slot.get("link") is None:
                continue
            origin = self._origin(slot["link"], node)
            if isinstance(origin, _Value):
                values[slot["name"]] = origin.value
            elif origin is not None:
                values[slot["name"]] = list(origin)
            else:
                values.pop(slot["name"], None)
        return values

    def _origin(self, link: int, taker: Mapping[str, Any]) -> "tuple[str, int] | _Value | None":
        """Where a link really comes from; None where that node is muted."""
        seen: set[int] = set()
        while True:
            if link not in self.links or link in seen:
                raise WorkflowError(
                    f"Link {link} leads nowhere, and {_named(taker)} takes it. Open and save the "
                    "workflow again."
                )
            seen.add(link)
            node_id, slot = self.links[link]
            node = self.nodes.get(node_id)
            if node is None:
                raise WorkflowError(
                    f"Link {link} to {_named(taker)} comes from node {shorten(node_id, 40)}, which "
                    "is not there. Open and save the workflow again."
                )
            if node["type"] == "PrimitiveNode":
                return _Value(_held(node))
            if node.get("mode", 0) == _MUTED:
                return None
            if node["type"] != "Reroute" and node.get("mode", 0) != _BYPASSED:
                return node_id, slot
            following = self._passed_through(node, slot)
            if following is None:
                return None
            link = following

    def _passed_through(self, node: Mapping[str, Any], slot: int) -> int | None:
        """The link into a reroute or a bypassed node that takes the place of its output."""
        inputs = [i for i in node.get("inputs") or [] if i.get("link") is not None]
        if node["type"] == "Reroute":
            return inputs[0]["link"] if inputs else None
        outputs = node.get("outputs") or []
        if slot >= len(outputs):
            raise WorkflowError(
                f"{_named(node)} is linked at output {slot}, and has {len(outputs)}. Open and save "
                "the workflow again."
            )
        wanted = outputs[slot].get("type")
        return next((i["link"] for i in inputs if i.get("type") == wanted), None)


@dataclass(frozen=True)
class _Value:
    value: Any


def _named(node: Mapping[str, Any]) -> str:
    return called(node["id"], node.get("title") or node["type"])


def _held(node: Mapping[str, Any]) -> Any:
    """The value of a primitive node."""
    stored = node.get("widgets_values") or []
    values = list(stored.values()) if isinstance(stored, Mapping) else stored
    if not values:
        raise WorkflowError(f"{_named(node)} holds no value. Type one into it and save again.")
    return values[0]


def _widget_values(
    node: Mapping[str, Any], specs: Sequence[InputSpec]
) -> Iterator[tuple[str, Any]]:
    """Values of a node's widgets; where none is stored, what the editor would put there."""
    stored = node.get("widgets_values") or []
    by_name = isinstance(stored, Mapping)
    position = 0
    for spec in specs:
        if not spec.has_widget:
            continue
        if by_name and spec.name in stored:
            yield spec.name, stored[spec.name]
        elif not by_name and position < len(stored):
            yield spec.name, stored[position]
            position += 1
            if spec.has_control and position < len(stored) and _is_control(stored[position]):
                position += 1
        elif spec.default is not None:
            yield spec.name, copy.deepcopy(spec.default)


def _is_control(value: Any) -> bool:
    return isinstance(value, str) and value in _CONTROL


def unknown_node(node_id: str, kind: str) -> str:
    """The sentence for a node class that the embedded host does not have."""
    return (
        f"Node {shorten(node_id, 40)} is a {shorten(kind)}, which facewright cannot run by itself: "
        "it knows its own nodes and the few core nodes of its shipped workflows. Run this file in "
        "a ComfyUI that has the node: --server http://127.0.0.1:8188."
    )


def node_title(workflow: ApiWorkflow, node_id: str) -> str:
    """What people call a node: its title, else its class."""
    node = workflow[node_id]
    return shorten((node.get("_meta") or {}).get("title") or node["class_type"])
