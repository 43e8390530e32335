"""What a workflow of either form needs: weight files, pictures, packages and nodes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..faces import NEEDS
from ..files.known import BISENET, NANO_DIR, PARSENET, KnownFile
from ..metrics.registry import METRICS
from ..node_api import called
from .detectors import lacking, lacks_of_auto
from .files import Files
from .inputs import Inputs
from .nodes import Node, downloads_of, nodes_of
from .on_server import OnServer
from .strangers import strange_nodes
from .surroundings import Surroundings
from .weights import elsewhere, find_all

_DENSE = {
    "FacewrightIdentityGuard",
    "FacewrightLandmarkScore",
    "FacewrightLoadIDE",
    "FacewrightPerson",
}
"""Nodes that ask a face analyzer for dense landmarks."""
_ONE_STEP = {"FacewrightOneStepRestore", "FacewrightOneStepSampler", "FacewrightApplyBoostHub"}


def needs_of(
    workflow: Mapping[str, Any],
    around: Surroundings,
    sent: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a workflow of either form needs and lacks.

    Args:
        sent: its API form, where a server is asked; nodes that the server does not have included.

    Returns:
        "files", "inputs" (pictures and the like, and values that a server does not offer), "nodes"
        (those that facewright does not bring), "notes" (sentences on what is worth knowing) and
        "lacks", a sentence for each thing without which it cannot run; "ok" where there is none.
    """
    told = list(nodes_of(workflow, around))
    nodes = told if sent is None else _completed(list(nodes_of(sent, around)), told, around)
    running = [node for node in nodes if node.runs and not _is_note(node, around)]
    files = Files(around, downloads_of(workflow, told), _is_base(running))
    inputs = Inputs(around.inputs, sent=around.server is not None)
    entries: dict[str, list[dict[str, Any]]] = {"files": [], "inputs": []}
    if around.server is not None:
        judge = OnServer(around, around.server, files, inputs)
        for kind, entry in (found for node in running for found in judge.judged(node)):
            entries[kind].append(entry)
    else:
        named = [file for node in nodes for file in files.named(node)]
        loaded = {file.name for file in named if file.node.runs}
        # What a subgraph or a primitive hands to a loader is said of the loader.
        entries["files"] = [files.look(f) for f in named if f.node.runs or f.name not in loaded]
        entries["inputs"] = [entry for node in running if (entry := inputs.look(node))]
    strangers = strange_nodes(running, around)
    dense = any(node.kind in _DENSE for node in running)
    lacks = [e["problem"] for e in (*entries["files"], *entries["inputs"], *strangers)]
    if around.server is None:
        lacks += [sentence for node in running for sentence in _packages(node, around, dense)]
    lacks = list(dict.fromkeys(filter(None, lacks)))
    notes = list(dict.fromkeys(_notes(running, strangers, around)))
    return {**entries, "nodes": strangers, "notes": notes, "lacks": lacks, "ok": not lacks}


def _completed(nodes: list[Node], told: list[Node], around: Surroundings) -> list[Node]:
    """`nodes` of the API form with what only the editor's form says.

    Those are packs, and values of widgets whose node class nobody knows.
    """
    packs = {node.kind: node.pack for node in told if node.pack}
    by_id = {(node.id, node.kind): node for node in told}
    found = []
    for node in nodes:
        also = None if around.has_node(node.kind) else by_id.get((node.id, node.kind))
        if also is not None:
            node = replace(also, title=node.title)
        found.append(replace(node, pack=packs.get(node.kind)))
    return found


def _is_note(node: Node, around: Surroundings) -> bool:
    """Whether a server that has no such class is never sent it."""
    return around.server is not None and node.alone and not around.has_node(node.kind)


def _is_base(nodes: list[Node]) -> bool:
    """Whether the one checkpoint of the workflow has to be SD 2.1-base."""
    kinds = [node.kind for node in nodes]
    return kinds.count("CheckpointLoaderSimple") == 1 and bool(_ONE_STEP & set(kinds))


def _notes(
    nodes: list[Node], strangers: list[dict[str, Any]], around: Surroundings
) -> Iterator[str]:
    paid = {entry["node"] for entry in strangers if entry["paid"]}
    server = around.server
    for node in nodes:
        if node.id in paid or (server is not None and server.is_paid(node.kind)):
            yield (
                f"{called(node.id, node.title)} computes at somebody else's: it sends its inputs "
                "there and needs an account at comfy.org with credits."
            )
    if server is not None and any(n.kind == "FacewrightLoadFaceAnalyzer" for n in nodes):
        yield (
            f"Which face detectors the ComfyUI at {server.url} has it does not say from outside: "
            "put the node Doctor into the workflow and run it there."
        )


def _packages(node: Node, around: Surroundings, dense: bool) -> Iterator[str]:
    """A sentence for each package, and what belongs to it, that a node of ours lacks."""
    where = called(node.id, node.title)
    backend = str(node.value("backend", 0))
    if node.kind == "FacewrightLoadFaceAnalyzer" and backend == "auto":
        yield from (f"{where} {sentence}" for sentence in lacks_of_auto(around, dense))
    elif node.kind == "FacewrightLoadFaceAnalyzer" and backend in NEEDS:
        needs = NEEDS[backend]
        if not needs.packaged:
            yield f"{where} needs a package: python -m pip install {needs.install}"
        file = needs.weights
        if file is not None and not _copies(file, around):
            yield f"{where} {lacking(file, around.places(file.folder)[0])}"
    elif node.kind == "FacewrightFaceMask" and node.value("mode", 0) == "parsing":
        # Either file does.
        if not any(_copies(file, around) for file in (PARSENET, BISENET)):
            yield f"{where} {lacking(PARSENET, around.places(PARSENET.folder)[0])}"
    elif node.kind == "FacewrightImageScore":
        names = str(node.value("metrics", 0) or "")
        for metric in (METRICS.get(n.strip()) for n in names.split(",")):
            if metric and metric.missing():
                yield f"{where}: {metric.missing()}"
    elif node.kind.startswith("FacewrightLoadNano") and not any(NANO_DIR.glob("*.safetensors")):
        yield f"{where} needs the bundled models, which are not in {NANO_DIR}: install anew."


def _copies(file: KnownFile, around: Surroundings) -> list[Path]:
    places = [p for f in file.folders for p in around.places(f)]
    return find_all([*places, *elsewhere(file)], file.names)
