"""Inputs of a workflow set by name: `--set NODE.INPUT=VALUE`, and the same from Python."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.errors import listed, shorten
from ...core.files.json_text import JsonError, parse_json
from ...core.node_api import is_link
from .specs import InputSpec, Specs
from .workflow import ApiWorkflow, WorkflowError

_TRUTH = {"true": True, "yes": True, "on": True, "1": True}
_TRUTH |= {"false": False, "no": False, "off": False, "0": False}
_WANTED = {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}


_SHOWN = 40
"""Names that a sentence lists; a workflow may have thousands of nodes."""


def set_inputs(workflow: ApiWorkflow, inputs: Mapping[str, Any], specs: Specs) -> None:
    """Set inputs in place, each named "node.input" (node: id, title, or class if unique).

    Text becomes what the input takes: a number, true or false, an option of a combo. A link to the
    input is replaced.

    Raises:
        WorkflowError: no such node or input, or text that the input cannot take.
    """
    for key, value in inputs.items():
        if not isinstance(key, str):
            raise WorkflowError(f"Inputs are named by text, NODE.INPUT, got {shorten(key)}.")
        node_id, name = _place(workflow, key)
        node = workflow[node_id]
        spec = specs(node["class_type"])
        known = {i.name: i for i in spec.inputs} if spec else {}
        nested = spec.input(name, node["inputs"]) if spec else None
        if nested is not None:
            known[name] = nested
        # What stands in the file may be set too: some nodes make inputs as they are linked.
        if spec and name not in known and name not in node["inputs"]:
            raise WorkflowError(_no_such_input(_label(workflow, node_id), name, list(known)))
        if isinstance(value, str) and name in known:
            value = _from_text(value, known[name], key)
        node["inputs"][name] = value


def find_node(workflow: ApiWorkflow, name: str) -> str:
    """Node id for an id, a title or a class name that only one node has.

    What stands in brackets behind a title may be left out.

    Raises:
        WorkflowError: no such node, or several.
    """
    if name in workflow:
        return name
    matches = [i for i, node in workflow.items() if name in _all_names(node)]
    matches = matches or [i for i, node in workflow.items() if name == _short_title(node)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        which = listed(matches, _SHOWN, longest=40)
        raise WorkflowError(
            f"Several nodes are called {shorten(name)!r}. Name one by its number: {which}."
        )
    shown = [f"{shorten(i, 40)} ({_names(workflow[i])})" for i in workflow]
    nodes = listed(shown, _SHOWN, longest=240)
    raise WorkflowError(f"No node is called {shorten(name)!r}. Nodes: {nodes}.")


def _place(workflow: ApiWorkflow, key: str) -> tuple[str, str]:
    """Node id and input name of a "node.input", where either may have dots in it."""
    dots = [i for i, c in enumerate(key) if c == "." and 0 < i < len(key) - 1]
    if not dots:
        raise WorkflowError(f"Inputs are set as NODE.INPUT=VALUE, got {shorten(key)!r}.")
    called = set(workflow).union(*map(_all_names, workflow.values()))
    called |= set(map(_short_title, workflow.values()))
    dot = next((i for i in reversed(dots) if key[:i] in called), dots[-1])
    return find_node(workflow, key[:dot]), key[dot + 1 :]


def _all_names(node: Mapping[str, Any]) -> list[str]:
    title = (node.get("_meta") or {}).get("title")
    return [node["class_type"], *([title] if title else [])]


def _short_title(node: Mapping[str, Any]) -> str:
    return _all_names(node)[-1].partition(" (")[0]


def _names(node: Mapping[str, Any]) -> str:
    return ", ".join(shorten(name) for name in dict.fromkeys(reversed(_all_names(node))))


def _label(workflow: ApiWorkflow, node_id: str) -> str:
    return f"Node {shorten(node_id, 40)} ({_names(workflow[node_id])})"


def _no_such_input(label: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{label} has no input {shorten(name)!r}.{hint} It has: {', '.join(known) or 'none'}."


def _from_text(text: str, spec: InputSpec, key: str) -> Any:
    """The value that text on a command line stands for."""
    key, got = shorten(key), shorten(text)
    if not spec.has_widget:
        try:
            link = parse_json(text)
        except JsonError:
            link = None
        if is_link(link):
            return link
        raise WorkflowError(
            f"{key} takes {spec.io_type} from another node, so its value is a link, written "
            f'["NODE ID", OUTPUT NUMBER]; got {got!r}.'
        )
    if spec.io_type == "COMBO":
        return next((option for option in spec.options if str(option) == text), text)
    try:
        if spec.io_type == "BOOLEAN":
            return _TRUTH[text.strip().lower()]
        return {"INT": int, "FLOAT": float}.get(spec.io_type, str)(text)
    except (KeyError, ValueError) as error:
        raise WorkflowError(f"{key} takes {_WANTED[spec.io_type]}, got {got!r}.") from error
