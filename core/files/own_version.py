"""Which facewright this is."""

import functools
import importlib.metadata
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]


@functools.cache
def own_version() -> str | None:
    """From the sources where they are there, which they are inside ComfyUI."""
    import tomllib  # here: ComfyUI's start does not need it

    project = PACK / "pyproject.toml"
    if project.is_file():
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return distribution_version("facewright")


def distribution_version(name: str) -> str | None:
    """Of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
