"""Parts of a video that is being made, kept beside it so that an interrupted run can go on."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..checkpoint.values import as_json, load_values, save_values
from ..errors import CheckpointError, listed
from ..files.names import LONGEST, TEMPORARY, fit_name

T = TypeVar("T")

_KEY = "key"


def parts_folder(target: Path) -> Path:
    """Where the parts of a file lie: hidden, beside it."""
    return target.with_name(f".{fit_name(target.name, LONGEST - TEMPORARY)}.parts")


class Parts:
    """A folder of parts that all were made from the same with the same."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        """Keep what fits the key and remove the rest.

        Args:
            key: all that the result depends on; JSON.
        """
        self.folder = folder
        self.note = ""
        """A sentence on parts that were of no use."""
        linked = folder.is_symlink()
        self._key, before = as_json(key), None if linked else self.load(_KEY, dict[str, Any])
        self._begun = before == self._key
        if not self._begun and (linked or folder.is_dir()):
            others = [k for k in self._key if before.get(k) != self._key[k]] if before else ["key"]
            self.note = (
                "An interrupted run left parts of it that were made otherwise (other: "
                f"{listed(others, 9)}); it was begun anew."
            )
            self.remove()

    def load(self, name: str, kind: type[T] | Any) -> Any:
        """A part, where it is there, whole and of this kind; else None."""
        with suppress(CheckpointError):
            return load_values(self._path(name), kind)
        return None

    def save(self, name: str, value: Any) -> None:
        """Keep a part; the first makes the folder.

        Raises:
            OSError: it cannot be written.
        """
        if not self._begun:
            save_values(self._path(_KEY), self._key)
            self._begun = True
        save_values(self._path(name), value)

    def remove(self) -> None:
        """All of them, as they are no longer needed."""
        remove_parts(self.folder)
        self._begun = False

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def remove_parts(folder: Path) -> None:
    """What a run left, where there is any. A link is no folder of ours: it goes, not its target."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    elif folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
