"""Where weights of optional analyzers may lie. Nothing is ever downloaded."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..host import find_host


def named_roots() -> list[Path]:
    """Models folders that the user names in FACEWRIGHT_MODELS, separated like PATH."""
    return [Path(p) for p in os.environ.get("FACEWRIGHT_MODELS", "").split(os.pathsep) if p]


def model_roots(model_dir: str | Path | None, extra: Iterable[Path] = ()) -> list[Path]:
    """Folders to search: `model_dir` alone, or those of the host of this run and `extra`."""
    if model_dir is not None:
        return [Path(model_dir)]
    if (host := find_host()) is not None:
        roots = host.search_roots()
    else:
        comfyui = os.environ.get("COMFYUI_PATH")
        roots = [*named_roots(), *([Path(comfyui) / "models"] if comfyui else [])]
    return list(dict.fromkeys([*roots, *extra]))


def find_file(
    roots: Iterable[Path], folders: Iterable[str], patterns: Iterable[str]
) -> Path | None:
    """First match of a pattern directly in a root or anywhere below one of its `folders`."""
    for root in roots:
        for pattern in patterns:
            direct = sorted(root.glob(pattern)) if root.is_dir() else []
            below = [p for f in folders for p in sorted((root / f).rglob(pattern))]
            for path in [*direct, *below]:
                if path.is_file():
                    return path
    return None
