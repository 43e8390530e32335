"""Where weights of optional analyzers may lie. Nothing is ever downloaded."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

_further: list[Callable[[], Iterable[Path]]] = []


def look_in(folders: Callable[[], Iterable[Path]]) -> None:
    """Have every search look in these folders as well, which are asked for each time."""
    _further.append(folders)


def model_roots(model_dir: str | Path | None, extra: Iterable[Path] = ()) -> list[Path]:
    """Folders to search: `model_dir` alone, or FACEWRIGHT_MODELS, ComfyUI's models and `extra`.

    What `look_in` added comes before `extra`.
    """
    if model_dir is not None:
        return [Path(model_dir)]
    roots = [Path(p) for p in os.environ.get("FACEWRIGHT_MODELS", "").split(os.pathsep) if p]
    comfyui = os.environ.get("COMFYUI_PATH")
    if comfyui:
        roots.append(Path(comfyui) / "models")
    return list(dict.fromkeys([*roots, *(p for ask in _further for p in ask()), *extra]))


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
