"""Workflows: turning the editor's form into the API form, and naming nodes.

ComfyUI has two JSON forms. The editor (UI) form lists nodes with positions and stores the values of
widgets by their order; the API form maps node ids to named inputs. Servers take the latter.
"""

import copy
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from ...core.errors import shorten
from ...core.files.editor_form import (
    BYPASSED,
    MUTED,
    VIRTUAL,
    definitions,
    described_groups,
    group_name,
)
from ...core.files.shapes import shown
from ...core.node_api import is_ui_form
from .graph import Node
from .loading import Opened, opened
from .origins import Held, Place, origin
from .pack_scripts import check_links
from .specs import DYNAMIC_COMBO, SEEDS, InputSpec, NodeSpec, Specs, UnknownNodeError, has_control
from .text_fields import SAVERS, chosen, replaced
from .widgets import Nothing, Widget, sent, wrapped
from .workflow_file import WorkflowError, read_workflow

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

_SCENE = ("pictures of its 3D scene or its camera", {"LOAD3D_CAMERA", "LOAD3D_MODEL_INFO"})
BROWSER: dict[str, tuple[str, set[str]]] = {
    "LOAD_3D": _SCENE,
    "LOAD_3D_ADVANCED": _SCENE,
    "WEBCAM": ("a picture of the camera", set()),
    "AUDIO_RECORD": ("a recording of the microphone", set()),
}
"""What widgets make, and outputs that viewers have of it."""
_MOST_NODES, _DEEPEST = 100_000, 100
"""Subgraphs within subgraphs can stand for any number."""


def node_kinds(workflow: Mapping[str, Any]) -> set[str]:
    """Node classes in a workflow of either form; what only the editor knows aside."""
    if is_ui_form(workflow):
        parts = [workflow, *definitions(workflow)]
        kinds = {n["type"] for part in parts for n in part.get("nodes") or []}
        for name, group in described_groups(workflow):
            if name in map(group_name, kinds):
                kinds |= {n["type"] for n in group}
        kinds -= {str(part.get("id")) for part in parts[1:]} | VIRTUAL
        return {kind for kind in kinds if group_name(kind) is None}
    return {n["class_type"] for n in workflow.values()}


def to_api(
    workflow: Mapping[str, Any], specs: Specs, notice: Callable[[str], None] = lambda text: None
) -> ApiWorkflow:
    """The API form of a workflow of either form, as the editor itself would send it.

    Subgraphs are taken apart (their nodes are numbered "12:3"), notes dropped, reroutes, primitives
    and named wires resolved, muted nodes left out and bypassed ones bridged. Nodes without a title
    of their own get the one that the editor shows.

    Args:
        notice: told in a sentence what is left out although nobody knows what it is.

    Raises:
        WorkflowError: what the editor would not send or only a browser can make, and links that
            lead nowhere or in a circle; an UnknownNodeError for node classes nobody has.
    """
    if not is_ui_form(workflow):
        api = {str(k): copy.deepcopy(v) for k, v in workflow.items()}
        for node in api.values():
            spec = specs(node["class_type"])
            if spec is not None and spec.title:
                node.setdefault("_meta", {}).setdefault("title", spec.title)
        return api
    return _Converter(opened(workflow, specs), notice).convert()


class _Converter:
    def __init__(self, workflow: Opened, notice: Callable[[str], None]) -> None:
        self.workflow = workflow
        self.everything = workflow.everything()
        self.notice = notice
        self.met = 0

    def convert(self) -> ApiWorkflow:
        api: ApiWorkflow = {}
        unknown: list[tuple[Place, Node]] = []
        running = list(self._running(Place(self.workflow.root)))
        check_links([(place.graph, node) for place, node in running])
        for place, node in running:
            if node.spec is None:
                unknown.append((place, node))
                continue
            api[place.id(node)] = {
                "class_type": node.kind,
                "inputs": self._inputs(place, node),
                "_meta": {"title": node.title or node.spec.title or node.kind},
            }
        if unknown and not api:
            raise self._unknown(*unknown[0])
        for place, node in unknown:
            self._leave_out(place, node, api)
        for entry in api.values():
            entry["inputs"] = {
                name: value
                for name, value in entry["inputs"].items()
                if not isinstance(value, list) or value[0] in api
            }
        return api

    def _running(self, place: Place) -> Iterator[tuple[Place, Node]]:
        """Nodes that are not muted, bypassed or the editor's own, those of subgraphs included."""
        self.met += len(place.graph.nodes)
        if self.met > _MOST_NODES or place.path.count(":") > _DEEPEST:
            raise WorkflowError(
                f"Taken apart, this workflow has more than {_MOST_NODES} nodes, or subgraphs lie "
                f"in each other more than {_DEEPEST} deep. Put fewer into each other."
            )
        for node in place.graph.nodes.values():
            off = node.mode in {MUTED, BYPASSED}
            if node.inner is not None:
                # Inside subgraphs each node's own state counts, as the editor has it.
                if not off or place.host is not None:
                    yield from self._running(place.inside(node))
            elif not off and node.kind not in VIRTUAL:
                yield place, node

    def _inputs(self, place: Place, node: Node) -> dict[str, Any]:
        self._check_drawn(place, node)
        _check_choices(node)
        values = sent(node.form, lambda widget: self._serialized(node, widget))
        for number, slot in enumerate(node.form.inputs):
            if slot.link is None:
                continue
            found = origin(place, node, number)
            if isinstance(found, Held):
                if found.value is Nothing:
                    values.pop(slot.name, None)
                else:
                    values[slot.name] = wrapped(found.value)
            elif found is not None:
                values[slot.name] = list(found)
        if node.kind == "CustomCombo":
            offered = [w.value for w in node.form.widgets if w.kind == "OPTION"]
            choice = values.get("choice")
            if isinstance(choice, list) and (widget := node.form.widget("choice")):
                choice = widget.value
            values["index"] = offered.index(choice) if choice in offered else -1
        return values

    def _check_drawn(self, place: Place, node: Node) -> None:
        """Refuse what only a browser can make: pictures of scenes and of cameras, recordings."""
        kinds = {w.kind for w in node.form.widgets if w.kind in BROWSER}
        if not kinds:
            return
        linked = {node.output_type(k.output) for k in place.graph.leading_from(node.id)}
        for kind in kinds:
            what, needed = BROWSER[kind]
            viewer = node.form.widget("viewport_state") is not None
            if not viewer or linked & needed:
                raise WorkflowError(
                    f"{node.name} hands on {what}, which only the editor makes, in a browser, as "
                    "it sends the workflow. Queue it there, or put a node that loads a file in "
                    "its place."
                )

    def _serialized(self, node: Node, widget: Widget) -> Any:
        value = widget.value
        if isinstance(value, str):
            if widget.spec is not None and widget.spec.details.get("dynamicPrompts") is True:
                return chosen(value)
            if widget.name == "filename_prefix" and node.kind in SAVERS:
                return replaced(value, self.everything)
        return value

    def _leave_out(self, place: Place, node: Node, running: Container[str]) -> None:
        """Leave out a node that no server knows where nothing that runs is linked to it.

        Raises:
            WorkflowError: something is.
        """
        seen, waiting = {node.id}, [node]
        while waiting:
            one = waiting.pop()
            near = {link.target for link in place.graph.leading_from(one.id)}
            taken = {s.link for s in one.form.inputs}
            near |= {k.origin for n, k in place.graph.links.items() if n in taken}
            for other in near - seen:
                seen.add(other)
                found = place.graph.nodes.get(other)
                if found is None or found.inner is not None or place.id(found) in running:
                    raise self._unknown(place, node)
                waiting.append(found)
        self.notice(
            f"{node.name} was left out: no node is known by the name {shorten(node.kind)}, and "
            "nothing that runs is linked to it."
        )

    def _unknown(self, place: Place, node: Node) -> UnknownNodeError:
        told = self.workflow.unknown.get(node.kind)
        return told or UnknownNodeError(unknown_node(place.id(node), node.kind))


def _check_choices(node: Node) -> None:
    """Refuse links to what a choice brings along, where the choice itself is not offered.

    Raises:
        WorkflowError: so it is, and it is open what the links are for.
    """
    for widget in node.form.widgets:
        if widget.kind != DYNAMIC_COMBO or widget.spec is None or not widget.spec.options:
            continue
        before = f"{widget.name}."
        linked = any(
            slot.get("link") is not None and str(slot.get("name")).startswith(before)
            for slot in node.slots
        )
        if linked and widget.value not in widget.spec.options:
            raise WorkflowError(
                f"{node.name} has {shown(widget.value)} in {shorten(widget.name)}, which is not "
                "offered where it is to run, and what is linked to it belongs to that choice. "
                "Update ComfyUI and its node packs, or choose anew in the editor."
            )


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
