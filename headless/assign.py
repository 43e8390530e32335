"""Inputs of a workflow set by name: `--set NODE.INPUT=VALUE`, and the same from Python."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .workflow import ApiWorkflow, InputSpec, Specs, WorkflowError

_TRUTH = {"true": True, "yes": True, "on": True, "1": True}
_TRUTH |= {"false": False, "no": False, "off": False, "0": False}
_WANTED = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "BOOLEAN": "true or false",
}


def set_inputs(workflow: ApiWorkflow, inputs: Mapping[str, Any], specs: Specs) -> None:
    """Set inputs in place, each named "node.input" (node: id, title, or class if unique).

    Text becomes what the input takes: a number, true or false, an option of a combo. A link to the
    input is replaced.

    Raises:
        WorkflowError: no such node or input, or text that the input cannot take.
    """
    for key, value in inputs.items():
        node_id, name = _place(workflow, key)
        node = workflow[node_id]
        spec = specs(node["class_type"])
        known = {i.name: i for i in spec.inputs} if spec else {}
        # What stands in the file may be set too: some nodes make inputs as they are linked.
        if spec and name not in known and name not in node["inputs"]:
            raise WorkflowError(_no_such_input(_label(workflow, node_id), name, list(known)))
        if isinstance(value, str) and name in known:
            value = _from_text(value, known[name], key)
        node["inputs"][name] = value


def find_node(workflow: ApiWorkflow, name: str) -> str:
    """Node id for an id, a title or a class name that only one node has.

    Raises:
        WorkflowError: no such node, or several.
    """
    if name in workflow:
        return name
    matches = [node_id for node_id, node in workflow.items() if name in _all_names(node)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        which = ", ".join(matches)
        raise WorkflowError(f"Several nodes are called {name!r}. Name one by its number: {which}.")
    known = ", ".join(f"{i} ({_names(n)})" for i, n in workflow.items())
    raise WorkflowError(f"No node is called {name!r}. Nodes: {known}.")


def _place(workflow: ApiWorkflow, key: str) -> tuple[str, str]:
    """Node id and input name of a "node.input", where either may have dots in it."""
    dots = [i for i, c in enumerate(key) if c == "." and 0 < i < len(key) - 1]
    if not dots:
        raise WorkflowError(f"Inputs are set as NODE.INPUT=VALUE, got {key!r}.")
    called = set(workflow).union(*map(_all_names, workflow.values()))
    dot = next((i for i in reversed(dots) if key[:i] in called), dots[-1])
    return find_node(workflow, key[:dot]), key[dot + 1 :]


def _all_names(node: Mapping[str, Any]) -> list[str]:
    title = (node.get("_meta") or {}).get("title")
    return [node["class_type"], *([title] if title else [])]


def _names(node: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(reversed(_all_names(node))))


def _label(workflow: ApiWorkflow, node_id: str) -> str:
    return f"Node {node_id} ({_names(workflow[node_id])})"


def _no_such_input(label: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{label} has no input {name!r}.{hint} It has: {', '.join(known) or 'none'}."


def _from_text(text: str, spec: InputSpec, key: str) -> Any:
    """The value that text on a command line stands for."""
    if not spec.has_widget:
        try:
            link = json.loads(text)
        except ValueError:
            link = None
        if isinstance(link, list) and len(link) == 2:
            return link
        raise WorkflowError(
            f"{key} takes {spec.io_type} from another node, so its value is a link, written "
            f'["NODE ID", OUTPUT NUMBER]; got {text!r}.'
        )
    if spec.io_type == "COMBO":
        return next((option for option in spec.options if str(option) == text), text)
    try:
        if spec.io_type == "BOOLEAN":
            return _TRUTH[text.strip().lower()]
        return {"INT": int, "FLOAT": float}.get(spec.io_type, str)(text)
    except (KeyError, ValueError) as error:
        raise WorkflowError(f"{key} takes {_WANTED[spec.io_type]}, got {text!r}.") from error
