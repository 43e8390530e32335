"""Whether a ComfyUI would run a workflow, by what it says of its nodes.

The checks are those of ComfyUI's `execution.validate_prompt`, for the nodes that an output node
needs. What only a node's own code knows (`VALIDATE_INPUTS`) is not among them.
"""

import graphlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ...core.errors import listed, shorten
from ...core.files.shapes import shown
from ...core.node_api import called, is_link, sources
from ...core.weights.model_folders import either_separator
from .specs import AUTOGROW, DYNAMIC_COMBO, DYNAMIC_GROUP, InputSpec, NodeSpec, Specs
from .workflow import ApiWorkflow, node_title
from .workflow_file import WorkflowError

_CASTS: Mapping[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float}
_OFFERED = 12
_JUDGED = {"CustomCombo": {"choice"}, "LoadLatent": {"latent"}}
"""Core nodes that judge a combo themselves: more is allowed than they list."""


def problems(
    api: ApiWorkflow, specs: Specs, own: Callable[[str], Collection[str]] = lambda kind: ()
) -> list[str]:
    """Why the workflow would not run, a sentence each; none where nothing speaks against it.

    Args:
        own: inputs of a class that takes names of files in the spelling of any system.
    """
    found: list[str] = []
    known: dict[str, NodeSpec] = {}
    for node_id, node in api.items():
        try:
            spec = specs(node["class_type"])
        except WorkflowError as error:
            if hasattr(error, "exit_code"):
                raise  # nobody answers
            found.append(str(error))
        else:
            if spec is not None:
                known[node_id] = spec
    found = list(dict.fromkeys(found))
    if found:
        return found
    running, found = _needed(api, known)
    for node_id in running:
        name = called(node_id, node_title(api, node_id))
        kind = api[node_id]["class_type"]
        judged = _JUDGED.get(kind, ())
        values = dict(api[node_id]["inputs"])
        for spec in known[node_id].with_nested(values):
            if spec.name in own(kind) and isinstance(values.get(spec.name), str):
                spellings = either_separator(values[spec.name])
                values[spec.name] = next((s for s in spellings if s in spec.options), spellings[0])
            wrong = _wrong(values, spec, known, judged=spec.name in judged)
            if wrong:
                found.append(f"{name}: {wrong}")
    return found


def needed(api: ApiWorkflow, specs: Specs) -> set[str]:
    """Nodes that run: output nodes and what they need."""
    known = {k: spec for k, node in api.items() if (spec := specs(node["class_type"]))}
    return set(_needed(api, known)[0])


def _needed(api: ApiWorkflow, known: Mapping[str, NodeSpec]) -> tuple[list[str], list[str]]:
    """Output nodes and what they need, in the order of the file; and what is wrong with that."""
    waiting = [node_id for node_id in api if node_id in known and known[node_id].is_output]
    if not waiting:
        return [], ["This workflow has no output node. Add one, such as Save Image."]
    graph: dict[str, set[str]] = {}
    wrong: list[str] = []
    while waiting:
        node_id = waiting.pop()
        if node_id in graph:
            continue
        links = sources(api[node_id])
        graph[node_id] = links & api.keys()
        waiting += graph[node_id]
        name = called(node_id, node_title(api, node_id))
        wrong += [
            f"{name} is linked to node {shorten(absent, 40)}, which is absent."
            for absent in sorted(links - api.keys())
        ]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        wrong.append(f"Nodes {listed(error.args[1], 12, between=' -> ')} feed each other.")
    return [node_id for node_id in api if node_id in graph], wrong


def _wrong(
    values: Mapping[str, Any], spec: InputSpec, known: Mapping[str, NodeSpec], *, judged: bool
) -> str:
    """The end of a sentence on one input; empty where nothing is wrong."""
    shown_name = repr(shorten(spec.name))
    if spec.name not in values:
        # A choice within a choice may be left out; what the node does then is its own matter.
        left_open = spec.kind == DYNAMIC_COMBO and "." in spec.name
        grows = spec.kind in {AUTOGROW, DYNAMIC_GROUP}
        return "" if spec.optional or grows or left_open else f"its input {shown_name} is missing."
    value = values[spec.name]
    if isinstance(value, list):
        if not is_link(value):
            return f'{shown_name} is {shown(value)}; a link is ["NODE ID", OUTPUT NUMBER].'
        return _wrong_link(value, spec, known, shown_name)
    if isinstance(value, Mapping) and "__value__" in value:
        value = value["__value__"]
    try:
        value = _CASTS.get(spec.kind, lambda same: same)(value)
    except (TypeError, ValueError, OverflowError):
        return f"{shown_name} should be {spec.kind}, got {shown(value)}."
    if judged:
        return ""
    low, high = spec.details.get("min"), spec.details.get("max")
    if spec.kind in _CASTS and not _limit(low, -1) <= value <= _limit(high, 1):
        return f"{shown_name} should lie between {low} and {high}, got {shown(value)}."
    return _not_offered(value, spec, shown_name)


def _limit(given: Any, sign: int) -> float:
    return given if isinstance(given, int | float) else sign * math.inf


def _wrong_link(
    link: list[Any], spec: InputSpec, known: Mapping[str, NodeSpec], shown_name: str
) -> str:
    source = known.get(str(link[0]))
    if source is None:
        return ""  # told already
    if link[1] >= len(source.outputs):
        return (
            f"{shown_name} is linked to output {link[1]} of node {shorten(link[0], 40)}, which "
            f"has {len(source.outputs)}."
        )
    given = source.outputs[link[1]]
    takes, gives = _types(spec.io_type), _types(given)
    if takes & gives or "*" in takes | gives or any(t.startswith("COMFY_") for t in takes | gives):
        return ""
    return f"{shown_name} takes {shorten(spec.io_type)}, but is linked to {shorten(given)}."


def _types(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


def _not_offered(value: Any, spec: InputSpec, shown_name: str) -> str:
    listed_elsewhere = spec.is_upload or "remote" in spec.details or "remote_combo" in spec.details
    if spec.kind not in {"COMBO", DYNAMIC_COMBO} or listed_elsewhere:
        return ""
    chosen = value if spec.takes_several and isinstance(value, list) else [value]
    if all(one in spec.options for one in chosen):
        return ""
    offered = listed(spec.options, _OFFERED, longest=60) or "nothing"
    return f"{shown_name} is {shown(value)}; the ComfyUI offers: {offered}."
