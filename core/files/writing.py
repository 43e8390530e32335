"""Files that are either complete or not there."""

import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FacewrightError
from .names import LONGEST, TEMPORARY, fit_name

_BLOCKS, _BLOCK = 256, 2**16
"""How many pieces of a large file are looked at, and their bytes."""
_PAUSES = (0.05, 0.2, 0.5, 1.0) if os.name == "nt" else ()
"""Seconds between attempts to replace a file: virus scanners and indexers of Windows open each new
one for a moment, and nothing can be put in its place meanwhile."""


@contextmanager
def written_whole(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces it when the block ends well.

    The folder is made; on any error, also an interrupt, the old file stays and the temporary one
    goes.

    Args:
        private: only the owner may read it (mode 600, where a system has modes), whatever the umask
            and whoever could read an older file of that name.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{_temporary(path.name)}.", suffix=".tmp"
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp makes files that only their owner can read.
        temporary.chmod(0o600 if private else 0o666 & ~umask)
        _put_in_place(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        number = _system_error(error)
        if number:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _put_in_place(temporary: Path, path: Path) -> None:
    for pause in _PAUSES:
        with suppress(PermissionError):
            temporary.replace(path)
            return
        time.sleep(pause)
    temporary.replace(path)


def _temporary(name: str) -> str:
    """A file's name as that of its temporary one holds it, which may be no longer than any."""
    return fit_name(name, LONGEST - TEMPORARY)


def _system_error(error: BaseException) -> int | None:
    """Which error of the operating system a library wrapped into one of its own, if any.

    safetensors puts the number into its text, and `torch.save` only says that it could not write:
    as good as always the disk is full.
    """
    if isinstance(error, OSError):
        return None
    wrapped = re.search(r"Os \{ code: (\d+)|\(os error (\d+)\)", str(error))
    if wrapped:
        return int(wrapped[1] or wrapped[2])
    could_not_write = "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error)
    return errno.ENOSPC if could_not_write else None


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Path with a leading `~` and any `$VAR` or `${VAR}` replaced, as a shell would.

    Raises:
        FacewrightError: an empty path, one with a NUL character, a variable that is not set, or a
            user whom this system does not know.
    """
    text = os.fspath(path)
    if not text.strip() or "\0" in text:
        raise FacewrightError(f"{text!r} is no path. Give the name of a file or folder.")
    expanded = os.path.expanduser(os.path.expandvars(text))
    if os.path.lexists(text):
        return Path(text)  # a file that is really called "$x" or "~"
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset:
        raise FacewrightError(
            f"The path {text} names the variable {unset[0]}, which is not set. Set it, or write "
            "the path out."
        )
    if expanded.startswith("~"):
        raise FacewrightError(
            f"The path {text} begins with a user's home folder that this system does not know. "
            "Write the path out; a file whose name begins with ~ is given as ./~name."
        )
    return Path(expanded)


def content_hash(path: Path) -> str:
    """Hexadecimal digits that change with any byte of the file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quick_mark(path: Path) -> str:
    """12 digits that tell weights, or a folder of them, apart without reading gigabytes.

    Of a large file its size and `_BLOCKS` blocks of its content count, spread evenly over it: what
    was trained on, merged or converted differs in all of them.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        name, size = file.relative_to(path).as_posix(), file.stat().st_size
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        whole = size <= _BLOCKS * _BLOCK
        with file.open("rb") as opened:
            for k in range(1 if whole else _BLOCKS):
                opened.seek(k * (size - _BLOCK) // (_BLOCKS - 1) if k else 0)
                digest.update(opened.read(size if whole else _BLOCK))
    return digest.hexdigest()[:12]


def remove_leftovers(
    paths: Iterable[Path], named_after: Callable[[str], str] = lambda name: name
) -> None:
    """Delete the temporary files beside `paths` that a process killed in `written_whole` left.

    Every folder is looked through once, however many of the paths lie in it; no other program's
    files are touched.

    Args:
        named_after: from the name of a file that is not among `paths` to the one that it is derived
            from, where a run decides on its way how many files it writes.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(_temporary(path.name))
    for folder, ours in names.items():
        for entry in os.scandir(folder) if folder.is_dir() else ():
            match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{4,8}\.tmp", entry.name, re.DOTALL)
            if match and (match[1] in ours or named_after(match[1]) in ours):
                Path(entry.path).unlink(missing_ok=True)
