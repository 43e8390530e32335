"""Workflow files: reading both forms, turning the editor's form into the API form, checking it.

ComfyUI has two JSON forms. The editor (UI) form lists nodes with positions and stores the values of
widgets by their order; the API form maps node ids to named inputs. Servers take the latter.
"""

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import FacewrightError

ApiWorkflow = dict[str, dict[str, Any]]
"""{node id: {"class_type": str, "inputs": {name: value or [node id, output index]}}}"""

_COMMENTS = {"Note", "MarkdownNote"}
_ROUTES = {"Reroute", "PrimitiveNode"}
_CONTROL = {"fixed", "increment", "decrement", "randomize"}
SEEDS = frozenset({"seed", "noise_seed"})
"""Names of inputs behind which the editor puts "control after generate"."""
_MUTED, _BYPASSED = 2, 4


class WorkflowError(FacewrightError):
    """A workflow that cannot run as it stands."""


@dataclass(frozen=True)
class InputSpec:
    """What the conversion has to know about one input of a node class."""

    name: str
    has_widget: bool
    has_control: bool = False
    """The editor puts "control after generate" behind it, whose value is stored too."""
    io_type: str = "*"
    options: tuple[Any, ...] = ()
    """What a combo offers, as far as it is known beforehand."""


@dataclass(frozen=True)
class NodeSpec:
    """What has to be known about a node class."""

    inputs: Sequence[InputSpec]
    """In the order of definition."""
    title: str | None = None
    """What the editor calls it where nobody gave it another name."""


Specs = Callable[[str], NodeSpec | None]
"""A node class by its id; None for an unknown one."""


def read_workflow(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A workflow in either form from a dict, JSON text, a JSON file or a PNG that ComfyUI saved.

    Raises:
        WorkflowError: no such file, no JSON, or JSON that is no workflow.
    """
    if isinstance(source, Mapping):
        content: Any = copy.deepcopy(dict(source))
    else:
        text, name = _text_of(source)
        try:
            content = json.loads(text)
        except ValueError as error:
            raise WorkflowError(f"{name} is not JSON ({error}). Export it again.") from error
    if not isinstance(content, dict) or not (is_ui_form(content) or _is_api_form(content)):
        raise WorkflowError(
            "This JSON is no ComfyUI workflow: expected the editor's form (with a list of nodes) "
            'or the API form ({"1": {"class_type": ..., "inputs": ...}}).'
        )
    return content


def _text_of(source: str | os.PathLike[str]) -> tuple[str, str]:
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source, "The text"
    path = Path(source)
    try:
        if path.suffix.lower() == ".png":
            from PIL import Image

            with Image.open(path) as image:
                text = image.info.get("prompt") or image.info.get("workflow")
            if text is None:
                raise WorkflowError(f"{path} carries no workflow in its metadata.")
            return text, str(path)
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(f"{path} cannot be read as a workflow ({error}).") from error


def is_ui_form(workflow: Mapping[str, Any]) -> bool:
    """Whether it is the editor's form."""
    return isinstance(workflow.get("nodes"), list)


def node_kinds(workflow: Mapping[str, Any]) -> set[str]:
    """Node classes in a workflow of either form; comments and what only routes links aside."""
    if is_ui_form(workflow):
        inside = (workflow.get("definitions") or {}).get("subgraphs") or []
        nodes = [n for part in (workflow, *inside) for n in part.get("nodes") or []]
        return {n["type"] for n in nodes} - _COMMENTS - _ROUTES
    return {n["class_type"] for n in workflow.values()}


def _is_api_form(workflow: Mapping[str, Any]) -> bool:
    return bool(workflow) and all(
        isinstance(n, dict) and "class_type" in n for n in workflow.values()
    )


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
        self.links = {link[0]: (str(link[1]), link[2]) for link in map(_as_list, workflow["links"])}
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
            origin = self._origin(slot["link"])
            if isinstance(origin, _Value):
                values[slot["name"]] = origin.value
            elif origin is not None:
                values[slot["name"]] = list(origin)
            else:
                values.pop(slot["name"], None)
        return values

    def _origin(self, link: int) -> "tuple[str, int] | _Value | None":
        """Where a link really comes from; None where that node is muted."""
        seen: set[int] = set()
        while True:
            if link not in self.links or link in seen:
                raise WorkflowError(f"Link {link} leads nowhere. Open and save the workflow again.")
            seen.add(link)
            node_id, slot = self.links[link]
            node = self.nodes.get(node_id)
            if node is None:
                raise WorkflowError(f"Link {link} comes from node {node_id}, which is not there.")
            if node["type"] == "PrimitiveNode":
                return _Value(node["widgets_values"][0])
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
        wanted = node["outputs"][slot]["type"]
        return next((i["link"] for i in inputs if i["type"] == wanted), None)


@dataclass(frozen=True)
class _Value:
    value: Any


def _as_list(link: Any) -> list[Any]:
    if isinstance(link, Mapping):
        return [link["id"], link["origin_id"], link["origin_slot"]]
    return list(link)


def _widget_values(
    node: Mapping[str, Any], specs: Sequence[InputSpec]
) -> Iterator[tuple[str, Any]]:
    stored = node.get("widgets_values") or []
    if isinstance(stored, Mapping):
        yield from ((s.name, stored[s.name]) for s in specs if s.name in stored)
        return
    position = 0
    for spec in specs:
        if not spec.has_widget:
            continue
        if position >= len(stored):
            return  # saved before the input existed; its default applies
        yield spec.name, stored[position]
        position += 1
        if spec.has_control and position < len(stored) and stored[position] in _CONTROL:
            position += 1


def has_control(io_type: str, name: str, control_after_generate: bool | None) -> bool:
    """Whether the editor stores a "control after generate" value behind this input."""
    return bool(control_after_generate) or (io_type == "INT" and name in SEEDS)


def unknown_node(node_id: str, kind: str) -> str:
    """The sentence for a node class that the embedded host does not have."""
    return (
        f"Node {node_id} is a {kind}, which facewright cannot run by itself: it knows its own "
        "nodes and the few core nodes of its shipped workflows. Run this file in a ComfyUI that "
        "has the node: --server http://127.0.0.1:8188."
    )


def node_title(workflow: ApiWorkflow, node_id: str) -> str:
    """What people call a node: its title, else its class."""
    node = workflow[node_id]
    return (node.get("_meta") or {}).get("title") or node["class_type"]
