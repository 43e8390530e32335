"""Watches what a case does: sentences, code that runs, files outside the folder it may write to."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from facewright.core.errors import FacewrightError, os_sentence

MARK = "facewright_canary"
"""In every text and file name that only code from a file would use."""
_RUNS = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "pty.spawn", "subprocess.Popen", "webbrowser.open",
)  # fmt: skip
_CHANGES = {
    "os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.truncate": (0,), "os.chmod": (0,),
    "os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,), "shutil.rmtree": (0,),
}  # fmt: skip
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_LONGEST = 6000
"""Characters of a refusal; one that lists many faults of a config is the longest."""

ran: list[str] = []
"""What ran that should not have."""


def canary(*_: object) -> None:
    """Called by pickles."""
    ran.append("a function named in a pickle")


class Told(str):
    """The sentence that something was refused with."""


class Wrong(Exception):  # noqa: N818 - an outcome, not an error
    """A result that is not what it should be."""


class Room:
    """A folder for cases: `out`, where results go, `secret`, which nothing may open, and a rest
    that only the campaign itself changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.out = self.folder / "out"
        self.secret = self.folder / "secret"
        self.spare = self.folder / "tmp"
        self.given = self.folder / "in"
        for path in (self.out, self.secret, self.spare, self.given):
            path.mkdir(parents=True, exist_ok=True)
        self.outside: list[str] = []
        self._on = False
        sys.addaudithook(self._hook)

    def begin(self) -> None:
        """Before a case."""
        ran.clear()
        self.outside.clear()
        for entry in os.scandir(self.out):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    def watch(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What a function of the product returns, or the sentence it refused with.

        Raises:
            Wrong: the sentence is none, or a refusal left a temporary file.
            Exception: whatever else it raised.
        """
        before = self._tree()
        self._on = True
        try:
            result = function(*arguments, **named)
        except FacewrightError as error:
            result = Told(error)
        except OSError as error:
            if error.errno is None:
                raise
            result = Told(os_sentence(error))
        finally:
            self._on = False
            self.outside += sorted(p for p, _ in self._tree() ^ before)
        if isinstance(result, Told):
            _check_sentence(result)
            if left := [p.name for p in self.out.rglob("*.tmp")]:
                raise Wrong(f"left behind: {left}")
        return result

    def _tree(self) -> set[tuple[str, tuple[int, int]]]:
        """What lies in the room but outside the folder for results."""
        found = set()
        for at, folders, files in os.walk(self.folder):
            folders[:] = [f for f in folders if Path(at, f) not in (self.out, self.spare)]
            for name in files:
                with suppress(FileNotFoundError):
                    about = os.lstat(os.path.join(at, name))
                    found.add((os.path.join(at, name), (about.st_size, about.st_mtime_ns)))
        return found

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self._on:
            return
        self._on = False
        try:
            self._look(event, arguments)
        finally:
            self._on = True

    def _look(self, event: str, arguments: tuple) -> None:
        if event in _RUNS:
            ran.append(f"{event} {arguments!r}"[:200])
        elif event == "compile" and MARK.encode() in _as_bytes(arguments[0]):
            ran.append("a text of a file was compiled")
        elif event == "exec" and self._is_ours(getattr(arguments[0], "co_filename", "")):
            ran.append(f"code of {arguments[0].co_filename}")
        elif event == "open":
            path, mode, flags = arguments
            if isinstance(path, int) or path is None:
                return
            writes = any(c in "wax+" for c in mode or "") or bool((flags or 0) & _WRITE)
            place = _place(path)
            if place.startswith(f"{self.secret}{os.sep}") or (writes and not self._may(place)):
                self.outside.append(f"open {mode} {place}"[:200])
        elif event in _CHANGES:
            for number in _CHANGES[event]:
                place = _place(arguments[number])
                if not self._may(place):
                    self.outside.append(f"{event} {place}"[:200])
        elif event == "socket.connect":
            address = arguments[1]
            if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
                self.outside.append(f"a connection to {address}")

    def _is_ours(self, file: str) -> bool:
        return os.path.isabs(file) and _place(file).startswith(f"{self.folder}{os.sep}")

    def _may(self, place: str) -> bool:
        return place == os.devnull or any(
            place == str(top) or place.startswith(f"{top}{os.sep}")
            for top in (self.out, self.spare)
        )


def _as_bytes(source: object) -> bytes:
    if isinstance(source, str):
        return source.encode("utf-8", "surrogatepass")
    return bytes(source) if isinstance(source, bytes | bytearray) else b""


def _place(path: str | bytes) -> str:
    """Where something lies, links in its folders followed."""
    if isinstance(path, int):
        return os.devnull
    head, tail = os.path.split(os.path.abspath(os.fsdecode(path)))
    return os.path.join(os.path.realpath(head), tail)


def _check_sentence(text: str) -> None:
    """A refusal is for people: whole, printable and no longer than a page."""
    if not text.strip() or len(text) > _LONGEST:
        raise Wrong(f"a sentence of {len(text)} characters")
    if not all(c.isprintable() or c == "\n" for c in text):
        raise Wrong(f"a sentence with unprintable characters: {text[:300]!r}")
