"""What has to be known of workflow files of the editor, to convert them and to judge them."""

from collections.abc import Iterator, Mapping
from typing import Any

from .json_text import as_fields, as_list

MUTED, BYPASSED = 2, 4
"""States of nodes."""
NOTES = frozenset({"Note", "MarkdownNote"})
PRIMITIVE = "PrimitiveNode"
REROUTES = frozenset({"Reroute", "Reroute (rgthree)"})
SETTERS = frozenset({"SetNode", "easy setNode"})
GETTERS = frozenset({"GetNode", "easy getNode"})
_SWITCHES = frozenset(
    {
        *("Fast Muter (rgthree)", "Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)"),
        *("Fast Groups Bypasser (rgthree)", "Mute / Bypass Repeater (rgthree)"),
        *("Mute / Bypass Relay (rgthree)", "Node Collector (rgthree)", "Label (rgthree)"),
        *("Random Unmuter (rgthree)", "Fast Actions Button (rgthree)", "Bookmark (rgthree)"),
    }
)
"""They mute and bypass others, whose state the file keeps; they do nothing in a run."""
VIRTUAL = NOTES | REROUTES | SETTERS | GETTERS | _SWITCHES | {PRIMITIVE}
"""Not known to any server, and part of no run."""
_GROUP = ("workflow>", "workflow/")
"""How the class of a group node begins; its name follows."""
_FOLDERS = ("input", "output", "temp")


def definitions(holder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Subgraphs that a file defines, also within others."""
    for entry in as_list(as_fields(holder.get("definitions")).get("subgraphs")):
        if isinstance(entry, Mapping):
            yield entry
            yield from definitions(entry)


def group_name(kind: str) -> str | None:
    """The name of a group node by its class; None for other nodes."""
    return kind[len(_GROUP[0]) :] if kind.startswith(_GROUP) else None


def described_groups(
    workflow: Mapping[str, Any],
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Names of the group nodes that a file defines, and the nodes that they stand for."""
    groups = as_fields(as_fields(workflow.get("extra")).get("groupNodes"))
    for name, group in groups.items():
        nodes = map(as_fields, as_list(as_fields(group).get("nodes")))
        yield str(name), [n for n in nodes if isinstance(n.get("type"), str)]


def in_folder(value: str, usual: str = "input") -> tuple[str, str]:
    """Name and folder of a file as ComfyUI writes them in one: "sub/a.png [output]"."""
    for folder in _FOLDERS:
        if value.endswith(mark := f" [{folder}]"):
            return value.removesuffix(mark), folder
    return value, usual
