"""Names that others wrote (in a workflow, a record, a server's answer), kept inside a folder."""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

_LONGEST = 1024


def is_plain(name: str) -> bool:
    """Whether a name, taken below a folder, cannot leave it on any system.

    Symbolic links that lie in the folder aside: `inside` knows those.
    """
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    return (
        bool(posix.parts and windows.parts)
        and len(name) <= _LONGEST
        and not (windows.anchor or posix.anchor)
        and ".." not in windows.parts  # both separators count as one there
        and "\0" not in name
    )


def inside(folder: Path, name: str | os.PathLike[str]) -> Path | None:
    """The path of `name` below `folder`, links followed; None where it leaves the folder."""
    if not is_plain(os.fspath(name)):
        return None
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # too long, or links that lead in a circle
        return None
