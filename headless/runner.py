"""Runs a workflow file in this process: our nodes, and the core nodes of our workflows."""

import graphlib
import inspect
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..core.errors import FacewrightError, first_of, shorten
from ..core.files.shapes import shown, words
from ..core.host import find_host, running
from ..core.node_api import Blocked, Input, Schema, called, is_link, is_ui_form, sources
from ..core.weights.model_folders import ModelFolders
from .host.catalogue import input_specs, node_classes
from .host.host import HeadlessHost
from .host.saving import RunContext, context
from .workflows.assign import set_inputs
from .workflows.endings import MisnamedError, refusing
from .workflows.input_files import files_read, named_by_hand
from .workflows.workflow import ApiWorkflow, WorkflowError, node_title, to_api, unknown_node
from .workflows.workflow_file import read_workflow

_CASTS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class Outputs(tuple):
    """Values of a node's outputs in order."""

    ui: Any = None
    """What an output node shows."""
    seconds: float | None = None
    """How long the node took; None where its outputs were there before."""


def run_workflow(
    workflow: str | os.PathLike[str] | Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    *,
    input_dir: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] = "output",
    on_node: Callable[[str, int, int], None] = lambda title, done, total: None,
    on_text: Callable[[str, str, str], None] = lambda node_id, title, text: None,
    known: Mapping[str, Outputs] | None = None,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> dict[str, Outputs]:
    """Run a workflow without ComfyUI.

    Args:
        workflow: editor or API form, as a dict, JSON text, or the path of a file.
        inputs: values to set before, by "node.input" where node is an id, a title, or a class name
            that occurs once. LoadImage's `image` also takes a tensor (b, h, w, 3) in [0, 1].
        input_dir: where LoadImage finds pictures; default: the current folder. A workflow reads
            nothing outside it; a path among `inputs` may lie anywhere.
        output_dir: where SaveImage writes.
        on_node: called with a node's title, the number of nodes done and their total.
        on_text: called with id, title and text of each node that shows text.
        known: outputs of nodes that need not run again, from an earlier run of the same workflow
            whose inputs to them were the same.
        models: models folder, or several, for this run alone; default: those of this machine.

    Returns:
        The outputs of every node that ran, by node id. Nodes that only a lazy input asks for run
        where its node wants them; without what they would take (`standin.Blocked`) nodes are left
        out.

    Raises:
        WorkflowError: the file cannot run as it stands, or a node refused its inputs.
    """
    roots = [models] if isinstance(models, str | os.PathLike) else models
    with running(HeadlessHost(ModelFolders(roots)) if roots else find_host()):
        source = read_workflow(workflow)
        with refusing():
            api = to_api(source, input_specs)
        with refusing(MisnamedError):
            set_inputs(api, inputs or {}, input_specs)
        run = RunContext(
            input_dir=Path(input_dir) if input_dir is not None else Path.cwd(),
            output_dir=Path(output_dir),
            prompt={k: _without_tensors(v) for k, v in api.items()},
            workflow=source if is_ui_form(source) else None,
            named=named_by_hand(inputs or {}),
        )
        token = context.set(run)
        try:
            return _run(api, known or {}, on_node, on_text)
        finally:
            context.reset(token)


def _run(
    api: ApiWorkflow,
    known: Mapping[str, Outputs],
    on_node: Callable[[str, int, int], None],
    on_text: Callable[[str, str, str], None],
) -> dict[str, Outputs]:
    with refusing():
        order = check(api)
    results: dict[str, Outputs] = {k: _again(v) for k, v in known.items()}

    def bring(wanted: str) -> None:
        waiting = [wanted]
        while waiting:  # no recursion: chains may be thousands of nodes long
            node_id = waiting[-1]
            lacking = [_source(api, node_id, name) for name in _eager(api, node_id)]
            lacking = [k for k in lacking if k not in results]
            if not lacking and node_id not in results:
                lacking = [_source(api, node_id, k) for k in _wanted(api, node_id, results)]
                lacking = [k for k in lacking if k not in results]
            if lacking and node_id not in results:
                waiting += reversed(lacking)
                continue
            waiting.pop()
            if node_id in results:
                continue
            title = node_title(api, node_id)
            on_node(title, len(results), len(order))
            results[node_id] = _execute(api, node_id, results)
            for text in _texts(results[node_id].ui):
                on_text(node_id, title, text)

    needed = _needed(api, order)
    for node_id in order:
        if node_id in needed:
            bring(node_id)
    return {k: v for k, v in results.items() if Blocked not in map(type, v)}


def _again(outputs: Outputs) -> Outputs:
    again = Outputs(outputs)
    again.ui = outputs.ui
    return again


def _texts(ui: Any) -> tuple[str, ...]:
    shown = ui.as_dict() if hasattr(ui, "as_dict") else ui
    return tuple(shown.get("text", ())) if isinstance(shown, Mapping) else ()


def _without_tensors(node: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {k: v for k, v in node["inputs"].items() if not isinstance(v, torch.Tensor)}
    return {**node, "inputs": inputs}


def check(api: ApiWorkflow) -> list[str]:
    """Check a workflow as ComfyUI does before running it; values are cast in place.

    Returns:
        Node ids in an order that respects the links: output nodes and what they need.

    Raises:
        WorkflowError: naming every problem at once.
    """
    problems: list[str] = []
    # Before nodes without the need to run are left out: people want to know of all of them.
    for node_id, node in api.items():
        if node["class_type"] not in node_classes():
            raise WorkflowError(unknown_node(node_id, node["class_type"]))
    schemas = {k: node_classes()[v["class_type"]].GET_SCHEMA() for k, v in api.items()}
    order = _order(api, schemas)
    for node_id in order:
        label = called(node_id, api[node_id]["class_type"])
        own = checks_itself(api[node_id]["class_type"])
        for i in schemas[node_id].inputs:
            problem = _check_input(api, schemas, node_id, i, in_range=i.id not in own)
            if problem:
                problems.append(f"{label}: {problem}")
    if not problems:
        problems = [p for node_id in order if (p := _ask_node(api, node_id))]
    if problems:
        said = " ".join(first_of(problems))
        raise WorkflowError(f"This workflow cannot run. {said}")
    return order


def check_here(api: ApiWorkflow, input_dir: Path, inputs: Mapping[str, Any]) -> None:
    """Check a workflow as far as that goes without running it, its pictures included.

    Args:
        inputs: what was set in it: the files it names may lie anywhere.

    Raises:
        UnfitError: it would not run, or some of its nodes cannot be had.
    """
    with refusing():
        order = check(api)
        read = {k: api[k] for k in order}
        for node_id, at, path in files_read(read, input_dir, named_by_hand(inputs)):
            if path is None:
                title, name = node_title(api, node_id), read[node_id]["inputs"][at]
                raise WorkflowError(
                    f"{called(node_id, title)}: There is no file {shorten(name)} in {input_dir}."
                )


def _order(api: ApiWorkflow, schemas: Mapping[str, Schema]) -> list[str]:
    needed = [k for k in api if schemas[k].is_output_node]
    if not needed:
        raise WorkflowError("This workflow has no output node; add Save Image or Compare.")
    graph: dict[str, set[str]] = {}
    while needed:
        node_id = needed.pop()
        if node_id in graph:
            continue
        linked = sources(api[node_id])
        absent = linked - api.keys()
        if absent:
            raise WorkflowError(
                f"{called(node_id, api[node_id]['class_type'])} is linked to node "
                f"{shorten(min(absent), 40)}, which is absent."
            )
        graph[node_id] = linked
        needed.extend(linked)
    position = {k: i for i, k in enumerate(api)}
    try:
        sorter = graphlib.TopologicalSorter(graph)
        sorter.prepare()
        order: list[str] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=position.__getitem__)
            order += ready
            sorter.done(*ready)
        return order
    except graphlib.CycleError as error:
        circle = [shorten(node_id, 40) for node_id in error.args[1][:12]]
        more = " -> ..." if len(error.args[1]) > 12 else ""
        raise WorkflowError(f"Nodes {' -> '.join(circle)}{more} feed each other.") from error


def _eager(api: ApiWorkflow, node_id: str) -> list[str]:
    """Linked inputs that are there whenever a node is asked for."""
    lazy = {i.id for i in _schema(api, node_id).inputs if i.lazy}
    return [k for k, v in api[node_id]["inputs"].items() if is_link(v) and k not in lazy]


def _source(api: ApiWorkflow, node_id: str, name: str) -> str:
    return str(api[node_id]["inputs"][name][0])


def _schema(api: ApiWorkflow, node_id: str) -> Schema:
    return node_classes()[api[node_id]["class_type"]].GET_SCHEMA()


def _needed(api: ApiWorkflow, order: list[str]) -> set[str]:
    """Nodes that run whatever lazy inputs turn out to want."""
    needed = {node_id for node_id in order if _schema(api, node_id).is_output_node}
    for node_id in reversed(order):
        if node_id in needed:
            needed |= {_source(api, node_id, name) for name in _eager(api, node_id)}
    return needed


def _wanted(api: ApiWorkflow, node_id: str, results: Mapping[str, Outputs]) -> list[str]:
    """Lazy inputs that a node asks for, having seen the others."""
    ask = getattr(node_classes()[api[node_id]["class_type"]], "check_lazy_status", None)
    given = _arguments(api, node_id, results)
    if ask is None or _blocked(given):
        return []
    return [name for name in ask(**given) if is_link(api[node_id]["inputs"].get(name))]


def _check_input(
    api: ApiWorkflow, schemas: Mapping[str, Schema], node_id: str, i: Input, *, in_range: bool
) -> str | None:
    values = api[node_id]["inputs"]
    if i.id not in values:
        return None if i.optional else f"its input {i.id!r} is missing."
    value = values[i.id]
    if is_link(value):
        outputs, source = schemas[str(value[0])].outputs, shorten(value[0], 40)
        if value[1] >= len(outputs):
            return f"{i.id!r} is linked to output {value[1]} of node {source}, which has fewer."
        given = outputs[value[1]].io_type
        if "*" not in {given, i.io_type} and given != i.io_type:
            return f"{i.id!r} takes {i.io_type}, but is linked to {given}."
        return None
    if isinstance(value, torch.Tensor):
        return None
    if isinstance(value, list | tuple | dict):
        return f'{i.id!r} is {shown(value)}; a link is ["NODE ID", OUTPUT NUMBER].'
    if not i.has_widget:
        return f"{i.id!r} has to be linked."
    if isinstance(value, Path):
        return None
    try:
        values[i.id] = value = _cast(i.io_type, value)
    except (TypeError, ValueError, OverflowError):
        return f"{i.id!r} should be {i.io_type}, got {shown(value)}."
    if not in_range:
        return None
    low, high = getattr(i, "min", None), getattr(i, "max", None)
    if (low is not None and value < low) or (high is not None and value > high):
        return f"{i.id!r} should lie between {low} and {high}, got {shown(value)}."
    options = getattr(i, "options", None)
    if options is not None and value not in options:
        offered = ", ".join(map(str, options[:20]))
        return f"{i.id!r} is {shown(value)}; it has to be one of: {offered}."
    return None


def _cast(io_type: str, value: Any) -> Any:
    """The value as an input of this kind takes it, as ComfyUI casts it.

    Raises:
        TypeError, ValueError, OverflowError: it cannot be that.
    """
    if not isinstance(value, str | int | float):
        raise TypeError
    cast = _CASTS.get(io_type)
    value = value if cast is None else cast(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise OverflowError
    return value


def checks_itself(kind: str) -> set[str]:
    """Inputs that a node's own `validate_inputs` takes; ComfyUI leaves their range to the node."""
    validate = getattr(node_classes()[kind], "validate_inputs", None)
    return set(inspect.signature(validate).parameters) if validate else set()


def _ask_node(api: ApiWorkflow, node_id: str) -> str | None:
    """A node's own `validate_inputs`, which sees the values that are not linked."""
    node = node_classes()[api[node_id]["class_type"]]
    validate = getattr(node, "validate_inputs", None)
    if validate is None:
        return None
    values = {k: None if is_link(v) else v for k, v in api[node_id]["inputs"].items()}
    names = checks_itself(api[node_id]["class_type"])
    verdict = validate(**{k: v for k, v in values.items() if k in names})
    if verdict is True:
        return None
    return f"{called(node_id, api[node_id]['class_type'])}: {verdict}"


def _arguments(api: ApiWorkflow, node_id: str, results: Mapping[str, Outputs]) -> dict[str, Any]:
    """Values of a node's inputs, as far as they are there."""
    known = {i.id for i in _schema(api, node_id).inputs}
    return {
        name: results[str(value[0])][value[1]] if is_link(value) else value
        for name, value in api[node_id]["inputs"].items()
        # ComfyUI ignores inputs that a node does not have.
        if name in known and not (is_link(value) and str(value[0]) not in results)
    }


def _blocked(arguments: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Blocked) for value in arguments.values())


def _execute(api: ApiWorkflow, node_id: str, results: Mapping[str, Outputs]) -> Outputs:
    node, arguments = node_classes()[api[node_id]["class_type"]], _arguments(api, node_id, results)
    if _blocked(arguments):
        return Outputs(Blocked() for _ in range(max(len(_schema(api, node_id).outputs), 1)))
    if _schema(api, node_id).is_input_list:
        # No node here gives lists, so each input is a list of one.
        arguments = {name: [value] for name, value in arguments.items()}
    started = time.perf_counter()
    try:
        with torch.no_grad():
            result = node.execute(**arguments)
    except Exception as error:
        said = words(error) or "it gave no reason"
        if not isinstance(error, FacewrightError):
            said = f"it failed with {type(error).__name__}: {said}"
        raise WorkflowError(f"{called(node_id, node_title(api, node_id))}: {said}") from error
    outputs = Outputs(result.args)
    outputs.ui = result.ui
    outputs.seconds = time.perf_counter() - started
    return outputs
