"""Lists of weight files to choose from: what a loader takes comes first."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.files import FORMAT_KEY, quick_metadata
from ..checkpoint.identify import TRAINING_KEY
from ..errors import CheckpointError
from ..files.names import bare

LORA = "lora"
"""Format of a LoRA that `facewright train` exported; those of others say nothing of themselves."""
_FRESH_SECONDS = 2.0
"""How long a listing is taken for true: an editor asks for all loaders in one go."""
_MOST_SECONDS = 0.03
"""Spent on opening files at a time. A slow disk with hundreds of new ones holds up nobody: the
rest is looked at when the list is asked for again."""

_formats: dict[str, tuple[tuple[int, int], str]] = {}
"""Size, time of change and format of each file that was opened."""
_listed: dict[str, tuple[float, list[str], Path, dict[str, str]]] = {}
"""The latest listing of each folder: until when it is true, of which names, and their formats."""


@dataclass(frozen=True)
class Fits:
    """Which weight files a loader takes, as far as names and metadata tell."""

    names: tuple[str, ...] = ()
    """Of known files: nodes cannot take them from the methods, which load only when one runs."""
    formats: tuple[str, ...] = ()
    """`facewright.format` of what it takes, or `LORA`."""

    def split(
        self, folder: str, names: Sequence[str], path_of: Callable[[str], Path]
    ) -> tuple[list[str], list[str]]:
        """The names that fit, best known first, and the rest in the order given.

        All fit where nothing is said.

        Args:
            folder: of the models folder, for which lists are kept.
            path_of: the file behind a name; CheckpointError where it is gone.
        """
        if not self.names and not self.formats:
            return list(names), []
        ranks = {n: self.names.index(bare(n)) for n in names if bare(n) in self.names}
        formats = _formats_in(folder, names, path_of) if self.formats else {}
        ranks |= {
            name: len(self.names)
            for name in names
            if name not in ranks and formats.get(name) in self.formats
        }
        return sorted(ranks, key=lambda name: (ranks[name], name)), [
            name for name in names if name not in ranks
        ]


def is_hint(value: Any) -> bool:
    """Whether it is what an empty combo of ours says, of this version or an older one."""
    return isinstance(value, str) and value.startswith("(") and value.endswith("press R)")


def _formats_in(
    folder: str, names: Sequence[str], path_of: Callable[[str], Path]
) -> dict[str, str]:
    """Formats of the safetensors files among `names`, as far as they are known by now."""
    names = [name for name in names if name.lower().endswith(".safetensors")]
    started, found = time.monotonic(), {}
    try:
        place = path_of(names[0]) if names else Path()
    except CheckpointError:
        return {}
    until, listed, where, formats = _listed.get(folder, (0.0, [], None, {}))
    if started < until and listed == names and where == place:
        return formats
    late, root = False, str(place).removesuffix(names[0] if names else "")
    for name in names:
        late = late or time.monotonic() - started > _MOST_SECONDS
        try:
            found[name] = _format(f"{root}{name}", late)
        except OSError:
            with contextlib.suppress(CheckpointError, OSError):  # gone, or not for us to read
                found[name] = _format(str(path_of(name)), late)  # of another folder
    fresh = _FRESH_SECONDS / 10 if late else _FRESH_SECONDS
    _listed[folder] = (time.monotonic() + fresh, names, place, found)
    return found


def _format(path: str, late: bool) -> str:
    stat = os.stat(path)
    state = stat.st_size, stat.st_mtime_ns
    seen = _formats.get(path)
    if seen is not None and seen[0] == state:
        return seen[1]
    if late:
        return ""
    metadata = quick_metadata(path)
    said = metadata.get(FORMAT_KEY, LORA if TRAINING_KEY in metadata else "")
    _formats[path] = state, said if isinstance(said, str) else ""
    return _formats[path][1]
