"""SHA-256 of large files, worked out once for each state of a file."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..files.writing import written_whole

_PIECE = 1 << 22


def cache_file() -> Path:
    """Where hashes are kept between runs: a file in this user's cache folder."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "facewright" / "sha256.json"


class Hashes:
    """Hashes by path, size and time of change; what was hashed before is not read again."""

    def __init__(self, on_bytes: Callable[[Path, int, int], None]) -> None:
        """
        Args:
            on_bytes: called with a file, how much of it has been read, and its size.
        """
        self._on_bytes = on_bytes
        self._file = cache_file()
        self._known = self._read()
        self.problem: str | None = None
        """A sentence where the hashes could not be kept."""

    def of(self, path: Path) -> str:
        """Hexadecimal SHA-256.

        Raises:
            OSError: the file cannot be read.
        """
        stat = path.stat()
        key, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        found = self._known.get(key)
        if isinstance(found, list) and found[:2] == state:
            return found[2]
        digest, done = hashlib.sha256(), 0
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                self._on_bytes(path, done, stat.st_size)
        self._known[key] = [*state, digest.hexdigest()]
        self._write()  # at once: an interrupted run keeps what it has
        return digest.hexdigest()

    def _read(self) -> dict[str, list]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # not there yet, or broken: then everything is hashed anew
        return content if isinstance(content, dict) else {}

    def _write(self) -> None:
        try:
            with written_whole(self._file) as temporary:
                temporary.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        except OSError as error:
            self.problem = (
                f"The hashes could not be kept in {self._file} ({error}): the next run will work "
                "them out again."
            )
