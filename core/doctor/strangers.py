"""Nodes that facewright does not bring: who does, and whether they are there."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import shorten
from ..node_api import called
from .nodes import Node
from .surroundings import Surroundings

CORE = "comfy-core"
"""What a file calls the pack of ComfyUI's own nodes."""
_PAID = "comfy_api_nodes"
"""The folder of those of ComfyUI's nodes that compute at somebody else's."""
_SUFFIXES = {".py", ".js", ".mjs"}
"""Of sources; nodes that only the editor knows are in scripts."""


def strange_nodes(nodes: list[Node], around: Surroundings) -> list[dict[str, Any]]:
    """An entry for each node that cannot run here: where it can, or that it is nowhere."""
    text = cache(_text)
    found_in = cache(lambda kind: _in_sources(kind, around, text))
    return [
        _stranger(node, around, None if _asked(around) else found_in(node.kind))
        for node in nodes
        if not around.has_node(node.kind)
    ]


def _asked(around: Surroundings) -> bool:
    """Whether somebody was asked who knows all nodes."""
    return around.inside or around.server is not None


def _stranger(node: Node, around: Surroundings, found: tuple[str, bool] | None) -> dict[str, Any]:
    name, paid = found or (None, False)
    entry = {
        "node": node.id,
        "class": node.kind,
        "pack": node.pack,
        "found_in": name,
        "paid": paid,
    }
    # Without a ComfyUI here nobody can tell which of its nodes yours has.
    unknowable = node.pack == CORE and not _asked(around) and not around.comfyui
    return entry | {"problem": None if found or unknowable else _nowhere(node, around)}


def _nowhere(node: Node, around: Surroundings) -> str:
    is_a = f"{called(node.id, node.title)} is a {shorten(node.kind)}"
    server, version = around.server, around.version
    if server is not None:
        who, version = f"the ComfyUI at {server.url}", server.version
    else:
        who = f"the ComfyUI in {around.comfyui}" if around.comfyui else "this ComfyUI"
    if node.pack == CORE:
        which = f"{who} ({shorten(version)})" if version else who
        return (
            f"{is_a}, one of ComfyUI's own, which {which} does not have. Update it; nodes that "
            "need an account at comfy.org are also missing where it was started with "
            "--disable-api-nodes."
        )
    if not node.pack and not _asked(around) and not around.comfyui:
        return (
            f"{is_a}, which facewright does not bring, and no pack is named in the file. Whether "
            "your ComfyUI has it tells that ComfyUI while it runs: --server http://127.0.0.1:8188."
        )
    brings = (
        f"the pack {shorten(node.pack)} brings it" if node.pack else "no pack is named in the file"
    )
    where = f" in {who}" if server is not None else ""
    return (
        f"{is_a}, which is not installed{where}; {brings}. Install it with ComfyUI-Manager, or "
        "take the node out."
    )


def _in_sources(
    kind: str, around: Surroundings, text: Callable[[Path], str]
) -> tuple[str, bool] | None:
    """The ComfyUI or the node pack whose sources name a node class, and whether it is paid for."""
    quoted = re.compile(rf"""["']{re.escape(kind)}["']""")
    home = around.comfyui
    if home:
        files = [home / "nodes.py", *(home / "comfy_extras").glob("*.py")]
        if any(quoted.search(text(file)) for file in files):
            return "ComfyUI", False
        if any(quoted.search(text(file)) for file in (home / _PAID).glob("*.py")):
            return "ComfyUI", True
    for folder in (p for packs in around.custom_nodes for p in sorted(packs.glob("*"))):
        if any(quoted.search(text(file)) for file in _sources(folder)):
            return folder.name, False
    return None


def _sources(folder: Path) -> Iterator[Path]:
    files = folder.rglob("*") if folder.is_dir() else [folder]
    return (file for file in files if file.suffix in _SUFFIXES and "node_modules" not in file.parts)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    except OSError:
        return ""
