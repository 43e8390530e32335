"""`facewright doctor`: what is there, what a workflow lacks, and where to get it.

Looks and tells; nothing is downloaded, changed or deleted.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .conflicts import find_conflicts
from .detectors import detectors
from .hashes import Hashes
from .machine import devices, dtypes, packages, versions
from .needs import needs_of
from .surroundings import Surroundings
from .weights import all_weights, restorers
from .words import report_lines

__all__ = ["SCHEMA", "Surroundings", "diagnose", "report_lines"]

SCHEMA = 1
"""Version of the report's keys: it rises when one goes or changes its meaning."""


def diagnose(
    around: Surroundings,
    workflow: Mapping[str, Any] | None = None,
    *,
    hash_files: bool = True,
    on_bytes: Callable[[Path, int, int], None] = lambda path, done, total: None,
) -> dict[str, Any]:
    """Everything there is to know, ready for JSON.

    Args:
        workflow: of either form; what it needs is looked at too.
        hash_files: work out SHA-256 of every weight file; known ones are kept between runs.
        on_bytes: called with a file that is being hashed, how much of it was read, and its size.

    Returns:
        "schema", "ok" (False where the workflow lacks something), "versions", "devices", "dtypes",
        "packages", "weights", "workflow" (None without one), "warnings", "restorers" (what
        each choice of `facewright restore --weights` lacks) and "detectors" (what each face
        detector lacks, and which of them the analyzer "auto" takes).
    """
    hashes = Hashes(on_bytes) if hash_files else None
    found = all_weights(around, hashes)
    needed = None if workflow is None else needs_of(workflow, around)
    warnings = [*find_conflicts(around), *_differing(found)]
    if hashes and hashes.problem:
        warnings.append(hashes.problem)
    return {
        "schema": SCHEMA,
        "ok": needed is None or needed["ok"],
        "versions": versions(around),
        "devices": devices(),
        "dtypes": dtypes(around),
        "packages": packages(),
        "weights": found,
        "workflow": needed,
        "warnings": warnings,
        "restorers": restorers(around),
        "detectors": detectors(around),
    }


def _differing(found: list[dict[str, Any]]) -> list[str]:
    return [
        f"{copy['path']} is not the file its publisher made: its SHA-256 should begin with "
        f"{entry['sha256_begins']}, and begins with {copy['files'][0]['sha256'][:8]}. It may be "
        "another version, or damaged; it is left as it is."
        for entry in found
        for copy in entry["copies"]
        if copy["sha256_matches"] is False
    ]
