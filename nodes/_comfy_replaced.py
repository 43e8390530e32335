"""Nodes that others took the place of, for ComfyUIs that replace them in old workflows (0.33)."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import ComfyAPI, io


async def offer(replaced: Sequence[dict[str, Any]]) -> None:
    """Tell ComfyUI of nodes such as `nodes._all.REPLACED`."""
    for one in replaced:
        await ComfyAPI().node_replacement.register(io.NodeReplace(**one))
