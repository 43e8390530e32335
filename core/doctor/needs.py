"""What a workflow needs: weight files, packages and nodes, read off the file of either form."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import Identity, identify, read_metadata
from ..errors import CheckpointError, shorten
from ..faces import NEEDS
from ..files.confined import is_plain
from ..files.known import BISENET, IMAGE_MODELS, NANO_DIR, PARSENET, KnownFile
from ..metrics.registry import METRICS
from ..node_api import called, is_ui_form
from ..weights.known_files import known_file
from ..weights.model_folders import either_separator, is_there
from .detectors import lacking, lacks_of_auto
from .surroundings import Surroundings
from .weights import UNREADABLE, elsewhere, find_all

FILES = {
    "CheckpointLoaderSimple": {"ckpt_name": "checkpoints"},
    "ImageOnlyCheckpointLoader": {"ckpt_name": "checkpoints"},
    "LoraLoader": {"lora_name": "loras"},
    "LoraLoaderModelOnly": {"lora_name": "loras"},
    "VAELoader": {"vae_name": "vae"},
    "UNETLoader": {"unet_name": "diffusion_models"},
    "CLIPLoader": {"clip_name": "text_encoders"},
    "DualCLIPLoader": {"clip_name1": "text_encoders", "clip_name2": "text_encoders"},
    "ControlNetLoader": {"control_net_name": "controlnet"},
    "UpscaleModelLoader": {"model_name": "upscale_models"},
}
"""Inputs of ComfyUI's nodes that name weight files, their first widgets; of ours see
`Surroundings.files`."""
_BUILT_IN_VAES = {"taesd", "taesdxl", "taesd3", "taef1", "pixel_space"}
_DENSE = {
    "FacewrightIdentityGuard",
    "FacewrightLandmarkScore",
    "FacewrightLoadIDE",
    "FacewrightPerson",
}
"""Nodes that ask a face analyzer for dense landmarks."""
_DRAWN_BY_THE_EDITOR = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode", "GetNode", "SetNode"}
_ONE_STEP = {"FacewrightOneStepRestore", "FacewrightOneStepSampler", "FacewrightApplyBoostHub"}
_MUTED, _BYPASSED = 2, 4


@dataclass(frozen=True)
class _Node:
    id: str
    kind: str
    title: str
    widgets: Mapping[str, Any] | list[Any]
    pack: str | None
    """`cnr_id`, or the repository, of the pack that brings the class."""

    def value(self, name: str, position: int) -> Any:
        if isinstance(self.widgets, Mapping):
            return self.widgets.get(name)
        return self.widgets[position] if position < len(self.widgets) else None


def needs_of(workflow: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    """What a workflow of either form needs and lacks.

    Returns:
        "files", "nodes" (those that facewright does not bring) and "lacks", a sentence for each
        thing without which it cannot run; "ok" where there is none.
    """
    nodes = list(_nodes(workflow, around))
    files = [f for node in nodes for f in _files(node, around, _is_base(nodes))]
    strangers = [_stranger(node, around) for node in nodes if not around.has_node(node.kind)]
    dense = any(node.kind in _DENSE for node in nodes)
    lacks = [f["problem"] for f in files if f["problem"]]
    lacks += [n["problem"] for n in strangers if n["problem"]]
    lacks += [sentence for node in nodes for sentence in _packages(node, around, dense)]
    lacks = list(dict.fromkeys(lacks))
    return {"files": files, "nodes": strangers, "lacks": lacks, "ok": not lacks}


def _nodes(workflow: Mapping[str, Any], around: Surroundings) -> Iterator[_Node]:
    if not is_ui_form(workflow):
        for node_id, node in workflow.items():
            kind = node["class_type"]
            title = (node.get("_meta") or {}).get("title") or around.title(kind) or kind
            yield _Node(str(node_id), kind, title, node.get("inputs") or {}, None)
        return
    subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
    own = {graph["id"] for graph in subgraphs}
    for prefix, graph in (("", workflow), *((f"{g.get('name', g['id'])}:", g) for g in subgraphs)):
        for node in graph["nodes"]:
            kind = node["type"]
            if node.get("mode", 0) in {_MUTED, _BYPASSED} or kind in {*own, *_DRAWN_BY_THE_EDITOR}:
                continue
            about = node.get("properties") or {}
            pack = about.get("cnr_id") or about.get("aux_id")
            title = node.get("title") or around.title(kind) or kind
            widgets = node.get("widgets_values") or []
            yield _Node(f"{prefix}{node['id']}", kind, title, widgets, pack)


def _is_base(nodes: list[_Node]) -> bool:
    """Whether the one checkpoint of the workflow has to be SD 2.1-base."""
    kinds = [node.kind for node in nodes]
    return kinds.count("CheckpointLoaderSimple") == 1 and bool(_ONE_STEP & set(kinds))


def _files(node: _Node, around: Surroundings, base: bool) -> Iterator[dict[str, Any]]:
    inputs = FILES.get(node.kind) or around.files(node.kind)
    for position, (name, folder) in enumerate(inputs.items()):
        value = node.value(name, position)
        if not isinstance(value, str) or value == "none" or value in _BUILT_IN_VAES:
            continue
        check = base and node.kind == "CheckpointLoaderSimple"
        yield _file(node, name, folder, value, around, check)


def _file(
    node: _Node, name: str, folder: str, value: str, around: Surroundings, base: bool
) -> dict[str, Any]:
    places, known = around.places(folder), known_file(value)
    if folder in IMAGE_MODELS and not around.inside:  # where the embedded host looks, too
        places = [place for name in IMAGE_MODELS for place in around.places(name)]
    # A workflow may name files of the models folders; others are not even looked at.
    spellings = either_separator(value) if is_plain(value) else ()
    paths = [p / spelled for spelled in spellings for p in places]
    path = next(filter(is_there, paths), None)
    entry = {
        "node": node.id,
        "title": node.title,
        "class": node.kind,
        "input": name,
        "name": value,
        "folder": folder,
        "searched": [str(place) for place in places],
        "path": path and str(path),
        **{k: known and getattr(known, k) for k in ("what", "source", "licence", "commercial")},
    }
    where = called(node.id, node.title)
    if path is None:
        return {**entry, "problem": f"{where} {_missing(value, folder, places, known)}"}
    problem = None
    try:
        if base:
            identify(path).check_base()
        elif path.suffix == ".safetensors":
            _check_kind(identify(path), folder)
        elif path.is_file() and path.suffix not in UNREADABLE:
            read_metadata(path)
    except (CheckpointError, OSError) as error:
        problem = f"{where}: {error}"
    return {**entry, "problem": problem}


def _check_kind(found: Identity, folder: str) -> None:
    """Raise CheckpointError where a LoRA is asked for and this is something else, or vice versa."""
    if found.kind != "unknown" and (found.kind == "lora") != (folder == "loras"):
        wanted = "a LoRA" if folder == "loras" else f"a file of models/{folder}"
        raise found.unsuitable(f"{wanted} was expected. Choose another file in the node.")


def _missing(value: str, folder: str, places: list[Path], known: KnownFile | None) -> str:
    if value.startswith("(") or not value.strip():  # the entry of an empty combo
        return f"has no file chosen: put one into {places[0]} and choose it."
    if not is_plain(value):
        return f"names {shorten(value)}, which is no file in models/{folder}: choose one there."
    text = (
        f"needs {shorten(value)} in models/{folder}, which is not there: put it into {places[0]}."
    )
    if known is None:
        return text
    text = f"{text} It is {known.what}. Source: {known.source}. Licence: {known.licence}."
    others = find_all(places, known.names)
    if others:
        text += f" There is {others[0]}: choose that in the node instead."
    return text


def _packages(node: _Node, around: Surroundings, dense: bool) -> Iterator[str]:
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


def _stranger(node: _Node, around: Surroundings) -> dict[str, Any]:
    """A node that cannot run here: where it can, or that it is nowhere."""
    found = None if around.inside else _in_sources(node.kind, around)
    entry = {"node": node.id, "class": node.kind, "pack": node.pack, "found_in": found}
    if found or (node.pack == "comfy-core" and not around.inside):
        return {**entry, "problem": None}
    brings = (
        f"the pack {shorten(node.pack)} brings it" if node.pack else "no pack is named in the file"
    )
    return {
        **entry,
        "problem": f"{called(node.id, node.title)} is a {shorten(node.kind)}, which is not "
        f"installed; {brings}. Install it with ComfyUI-Manager, or take the node out.",
    }


def _in_sources(kind: str, around: Surroundings) -> str | None:
    """The ComfyUI or the node pack whose sources name a node class."""
    quoted = re.compile(rf"""["']{re.escape(kind)}["']""")
    if around.comfyui:
        files = [around.comfyui / "nodes.py", *(around.comfyui / "comfy_extras").glob("*.py")]
        if any(_mentions(file, quoted) for file in files):
            return "ComfyUI"
    for folder in (p for packs in around.custom_nodes for p in sorted(packs.glob("*"))):
        files = folder.rglob("*.py") if folder.is_dir() else [folder]
        if any(_mentions(file, quoted) for file in files if file.suffix == ".py"):
            return folder.name
    return None


def _mentions(file: Path, quoted: re.Pattern) -> bool:
    try:
        return quoted.search(file.read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False
