"""What web/js/results.js keeps with a workflow: the text that a node showed after its last run."""

from typing import Any

KEPT = "facewright_result"
"""The node's property that holds it, as in results.js."""


def without_results(request: Any) -> Any:
    """What ComfyUI is asked to run, its workflow without texts of earlier runs, in place.

    Pictures hold this workflow: the text would be about another picture than the one it is in, and
    may name people.
    """
    workflow = at(request, "extra_data", "extra_pnginfo", "workflow")
    for graph in [workflow, *_listed(workflow, "definitions", "subgraphs")]:
        for node in _listed(graph, "nodes"):
            properties = at(node, "properties")
            if isinstance(properties, dict):
                properties.pop(KEPT, None)
    return request


def at(content: Any, *names: str) -> Any:
    """What lies at a path of names in JSON; None where it does not go on."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _listed(content: Any, *names: str) -> list[Any]:
    found = at(content, *names)
    return found if isinstance(found, list) else []
