"""Words that artists search a node by, beside its name."""

from typing import Any

from ._host import io

_KNOWN = "search_aliases" in io.Schema.__dataclass_fields__  # since ComfyUI 0.10

RESTORE = (
    *("face restoration", "restore face", "face enhance", "face enhancer", "fix blurry face"),
    *("repair bad face", "face detailer", "upscale face", "deblur face"),
    *("unblur and sharpen face", "old photo", "restore old photo", "photo restoration"),
)
"""What every node that restores faces is searched by."""
GUARD = ("keep identity", "preserve identity", "keep likeness", "identity drift", "same person")
"""What every node that guards who somebody is is searched by."""


def found_by(*phrases: str) -> dict[str, Any]:
    """The schema's argument for phrases that the editor's search takes for a node's name as well.

    All words of a search have to be in the name or in one phrase, in any order. Nodes whose names
    have them come first, and editors before 1.49 search names alone: what most people type belongs
    into the name. An `essentials_category` none of the nodes has: it is for nodes of ComfyUI
    itself, and one of a pack would be missing where the editor lists what packs brought.
    """
    return {"search_aliases": list(phrases)} if _KNOWN else {}
