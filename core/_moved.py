"""Module paths of earlier versions that programs import, leading to where the modules are now."""

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _Moved(ModuleType):
    """Stands where a module was; asked for a name, it takes that from the module's new place."""

    def __init__(self, path: str, place: str) -> None:
        super().__init__(path)
        self._place = place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self._place), name)


def keep_paths(package: str, moved: Mapping[str, str]) -> None:
    """Let `package`.old be imported for each old: new of `moved`, both relative to `package`."""
    for old, new in moved.items():
        path = f"{package}.{old}"
        sys.modules[path] = _Moved(path, f"{package}.{new}")
        setattr(sys.modules[package], old, sys.modules[path])
