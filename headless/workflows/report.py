"""What came out of a run of a workflow, wherever it ran."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .specs import SEEDS
from .workflow import ApiWorkflow, node_title


@dataclass
class NodeReport:
    id: str
    title: str
    seconds: float | None
    """None: it ran before, with the same inputs, or nobody told."""
    cached: bool = False


@dataclass
class RunReport:
    """What a run saved and showed; `as_dict` is what `--json` writes."""

    saved: list[Path] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """What nodes showed as text, by node id."""
    nodes: list[NodeReport] = field(default_factory=list)
    """In the order they ran in."""
    seeds: dict[str, int] = field(default_factory=dict)
    """Seeds in use, each under the name that `--set` takes."""
    seconds: float = 0.0
    previews: int = 0
    """Files that nodes showed without saving them."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing of what came out; not that anything failed."""
    left_out: list[str] = field(default_factory=list)
    """Nodes that did not run although the workflow wants them, and why."""

    def add_text(self, node_id: str, text: str) -> None:
        before = self.texts.get(node_id)
        self.texts[node_id] = text if before is None else f"{before}\n{text}"

    def as_dict(self) -> dict[str, Any]:
        nodes = [
            {"id": n.id, "title": n.title, "seconds": _rounded(n.seconds), "cached": n.cached}
            for n in self.nodes
        ]
        return {
            "saved": [str(p) for p in self.saved],
            "texts": self.texts,
            "seeds": self.seeds,
            "nodes": nodes,
            "seconds": _rounded(self.seconds),
            "previews": self.previews,
            "notes": self.notes,
            "left_out": self.left_out,
        }


def node_reports(
    api: ApiWorkflow, seconds: Mapping[str, float | None], cached: frozenset[str] = frozenset()
) -> list[NodeReport]:
    """Reports of the nodes whose time is known, then of those that need not run again."""
    ran = [
        NodeReport(i, node_title(api, i) if i in api else i, s, s is None)
        for i, s in seconds.items()
    ]
    kept = [i for i in api if i in cached and i not in seconds]
    return ran + [NodeReport(i, node_title(api, i), None, True) for i in kept]


def seeds_of(api: ApiWorkflow) -> dict[str, int]:
    """Every seed that stands in a workflow, by "id.input"."""
    return {
        f"{node_id}.{name}": value
        for node_id, node in api.items()
        for name, value in node["inputs"].items()
        if name in SEEDS and isinstance(value, int)
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
