"""The doctor of a ComfyUI that is asked over HTTP: what it has, and what a workflow lacks there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from ...core.doctor import SCHEMA, Surroundings
from ...core.doctor.conflicts import old_comfyui
from ...core.doctor.machine import versions
from ...core.doctor.needs import needs_of
from ...core.doctor.surroundings import Choice
from ...core.doctor.surroundings import Server as Asked
from ...core.doctor.weights import listed_weights
from ...core.errors import shorten
from ...core.files import shapes
from ...core.files.confined import is_plain
from ...core.files.shapes import Shape
from ...core.node_api import is_ui_form, sources
from ..host.catalogue import own_files
from ..workflows.input_files import loaded
from ..workflows.specs import DYNAMIC_COMBO, NodeSpec, Specs, specs_of
from ..workflows.workflow import BROWSER, ApiWorkflow, to_api
from ..workflows.workflow_file import WorkflowError
from .address import Server
from .http_client import RefusedError, get, has

_OURS = "Facewright"
"""How the ids of our nodes begin."""


class _System(Shape):
    comfyui_version: shapes.TEXT | None = None


class _Device(Shape):
    name: shapes.TEXT = ""
    type: shapes.TEXT = ""
    index: shapes.WHOLE | None = None
    vram_total: shapes.WHOLE | None = None


class _Stats(Shape):
    system: _System = Field(default_factory=_System)
    devices: list[_Device] = Field(default_factory=list)


def diagnose_there(
    at: Server, workflow: Mapping[str, Any] | None = None, inputs: Path | None = None
) -> dict[str, Any]:
    """What `core.doctor.diagnose` says of this machine, of a ComfyUI elsewhere.

    It is asked what it is, which nodes it has and what their combos offer, nothing else; nothing
    is sent, run or changed there.

    Args:
        workflow: of either form.
        inputs: a folder of this machine whose pictures would be sent along with a run.

    Returns:
        the same keys, and "server": its address. What cannot be seen from outside is None or empty.

    Raises:
        WorkflowError: nobody answers, or not as a ComfyUI does.
    """
    info = get(at, "/object_info", dict[str, Any], timeout=60)
    stats = get(at, "/system_stats", _Stats)
    specs = _checked(specs_of(info, f"{at}/object_info"))
    around = _surroundings(at, stats.system.comfyui_version, info, specs, inputs)
    needed = None
    if workflow is not None:
        sent, notes, problems = _sent(workflow, info, specs)
        needed = needs_of(workflow, around, sent)
        lacks = [*needed["lacks"], *problems]
        needed |= {"notes": [*needed["notes"], *notes], "lacks": lacks, "ok": not lacks}
    return {
        "schema": SCHEMA,
        "ok": needed is None or needed["ok"],
        "server": at.url,
        "versions": versions(around)
        | {"comfyui": {"version": stats.system.comfyui_version, "path": at.url}},
        "devices": [_device(device) for device in stats.devices],
        "dtypes": None,
        "packages": [],
        "weights": listed_weights(lambda folder: _listing(at, folder)),
        "workflow": needed,
        "warnings": [*old_comfyui(stats.system.comfyui_version), *_lacks_us(at, info)],
        "restorers": [],
        "detectors": None,
    }


def _surroundings(
    at: Server, version: str | None, info: Mapping[str, Any], specs: Specs, inputs: Path | None
) -> Surroundings:
    def title(kind: str) -> str | None:
        spec = specs(kind)
        return spec.title if spec else None

    def choices(kind: str, values: Mapping[str, Any]) -> dict[str, Choice]:
        spec = specs(kind)
        sent = loaded({"class_type": kind, "inputs": values}, specs)
        return {
            one.name: Choice(one.options, one.is_upload or one.name in sent, one.takes_several)
            for one in (spec.with_nested(values) if spec else ())
            if one.kind in {"COMBO", DYNAMIC_COMBO}
        }

    def is_paid(kind: str) -> bool:
        spec = specs(kind)
        return spec is not None and spec.paid

    @cache
    def listing(folder: str) -> list[str]:
        return _listing(at, folder)

    @cache
    def folders() -> list[str]:
        told = get(at, "/models", list[shapes.TEXT])
        return [name for name in told if is_plain(name)]

    def folder_of(options: Sequence[Any]) -> str | None:
        wanted = sorted(o for o in options if isinstance(o, str))
        return next((f for f in folders() if wanted and sorted(listing(f)) == wanted), None)

    def lists(folder: str | None, name: str) -> bool:
        return any(name in listing(one) for one in (folders() if folder is None else [folder]))

    return Surroundings(
        places=lambda folder: [],
        has_node=info.__contains__,
        title=title,
        files=own_files,
        inputs=inputs,
        server=Asked(
            url=at.url,
            version=version,
            choices=choices,
            folder_of=folder_of,
            lists=lists,
            has_input=lambda name: has(at, name),
            is_paid=is_paid,
        ),
    )


def _checked(specs: Specs) -> Specs:
    """A class that is described wrongly counts as one without inputs: the rest can be told."""

    @cache
    def spec(kind: str) -> NodeSpec | None:
        try:
            return specs(kind)
        except WorkflowError:
            return NodeSpec(())

    return spec


def _sent(
    workflow: Mapping[str, Any], info: Mapping[str, Any], specs: Specs
) -> tuple[ApiWorkflow | None, list[str], list[str]]:
    """The API form, with the nodes that the server lacks; what is left out; why there is none."""
    notes: list[str] = []
    try:
        return to_api(workflow, specs, notes.append), notes, []
    except WorkflowError as error:
        refusal = str(error)
    try:
        whole = to_api(workflow, lambda kind: _without_scenes(specs(kind)) or NodeSpec(()))
    except WorkflowError as error:
        return None, [], [str(error)]
    linked = {i for node in whole.values() for i in sources(node)}
    linked |= {i for i, node in whole.items() if sources(node)}
    # Alone in the editor's form, an unknown node is a note or the like, which is never sent.
    kept = {
        node_id: node
        for node_id, node in whole.items()
        if node["class_type"] in info or node_id in linked or not is_ui_form(workflow)
    }
    unknown = [node_id for node_id, node in kept.items() if node["class_type"] not in info]
    if any(":" in node_id for node_id in unknown):
        # Which value is whose in a subgraph is told by the widgets of all nodes inside.
        return None, [], []
    return kept, [] if unknown else [refusal], []


def _without_scenes(spec: NodeSpec | None) -> NodeSpec | None:
    """A node class without the widgets whose values only a browser makes; nothing lacks there."""
    if spec is None:
        return None
    return replace(spec, inputs=[i for i in spec.inputs if i.kind not in BROWSER])


def _listing(at: Server, folder: str) -> list[str]:
    try:
        return get(at, f"/models/{quote(folder, safe='')}", list[shapes.TEXT])
    except RefusedError as refused:
        if refused.by_login:
            raise
        return []  # it has no such folder


def _device(device: _Device) -> dict[str, Any]:
    number = "" if device.index is None else f":{device.index}"
    return {
        "device": shorten(f"{device.type}{number}"),
        "name": shorten(device.name),
        "memory_bytes": device.vram_total,
        "bfloat16": None,
        "float16": None,
    }


def _lacks_us(at: Server, info: Mapping[str, Any]) -> Iterator[str]:
    if not any(kind.startswith(_OURS) for kind in info):
        yield (
            f"The ComfyUI at {at} has no node of facewright: put this package into its "
            "custom_nodes and restart it."
        )
