"""Tar shards by pattern, on a disk of this machine: those from a URL are copied there first.

Why copies, and not byte ranges over the network: sample n of a run is whatever its number says, on
whichever shard it lies, so the first few batches already touch all shards, and later rounds would
fetch everything again each time. A copy is fetched once, a broken connection stops a run before
its first step and never changes a sample in its middle, and servers without byte ranges do as well.
The price is disk space for the whole set.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import listed, shorten
from ...core.files.names import fit_name
from ...core.files.writing import remove_leftovers, written_whole
from ..settings.strict import ConfigError

MOST_SHARDS = 100_000
"""That a pattern may name."""
_STAMPS = ("size", "ETag", "etag", "md5Hash", "Content-MD5", "mtime", "LastModified",
           "last_modified", "Last-Modified", "updated")  # fmt: skip
"""What file systems call that which changes with a file."""


class ShardFile(NamedTuple):
    """A tar on this machine."""

    name: str
    """Stem of its name where it came from."""
    path: Path


class _Remote(NamedTuple):
    filesystem: Any
    path: str
    size: int | None
    copy: Path


def expand_braces(pattern: str) -> list[str]:
    """`a-{08..11}.tar` -> a-08.tar to a-11.tar; `{x,y}` -> x, y; as bash does.

    Raises:
        ConfigError: they are more than any set has.
    """
    found = re.search(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}", pattern)
    if not found:
        return [pattern]
    first, last, listed = found.groups()
    if listed is not None:
        middles = listed.split(",")
    else:
        padded = any(len(n) > 1 and n.startswith("0") for n in (first, last))
        width = max(len(first), len(last)) if padded else 0
        step = 1 if int(first) <= int(last) else -1
        _refuse_many(pattern, abs(int(last) - int(first)))
        middles = [f"{n:0{width}}" for n in range(int(first), int(last) + step, step)]
    before, after = pattern[: found.start()], pattern[found.end() :]
    names: dict[str, None] = {}  # an outer pair may come to the same in two ways
    for middle in middles:
        names |= dict.fromkeys(expand_braces(before + middle + after))
        _refuse_many(pattern, len(names))
    return list(names)


def _refuse_many(pattern: str, count: int) -> None:
    if count > MOST_SHARDS:
        raise ConfigError(
            f"The pattern {shorten(pattern)} in `data.shards` names more than {MOST_SHARDS} "
            "shards. Name those that there are; `folder/*.tar` takes all of a folder."
        )


def shard_files(patterns: Iterable[str], cache: Path) -> list[ShardFile]:
    """Every shard that the patterns name, local ones where they lie, others copied to `cache`.

    Args:
        patterns: paths or URLs with `{00..69}`, `{a,b}` and `*`.

    Raises:
        ConfigError: a shard is not there or cannot be copied.
    """
    from fsspec.implementations.local import LocalFileSystem

    found: dict[str, ShardFile | _Remote] = {}
    named = set()
    missing = []
    for text in (whole for pattern in patterns for whole in _expanded(pattern)):
        for filesystem, path in _located(text):
            url = filesystem.unstrip_protocol(path)
            named.add(url)
            if not isinstance(filesystem, LocalFileSystem):
                entry = _remote(filesystem, path, url, cache)
            else:
                entry = ShardFile(Path(path).stem, Path(path)) if Path(path).is_file() else None
            if entry is None:
                missing.append(text)
            else:
                found[url] = entry
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(named)} shards in `data.shards` are not there: "
            f"{listed(missing)}. Name files that exist; `folder/*.tar` takes all of a "
            "folder."
        )
    _copy([entry for entry in found.values() if isinstance(entry, _Remote)], cache)
    return [
        entry if isinstance(entry, ShardFile) else ShardFile(Path(entry.path).stem, entry.copy)
        for entry in found.values()
    ]


def _expanded(pattern: str) -> list[str]:
    """A file that is really called like a pattern is meant itself."""
    return [pattern] if os.path.isfile(pattern) else expand_braces(pattern)


def _located(text: str) -> list[tuple[Any, str]]:
    """File system and path of a shard, or of all that a pattern with `*` finds."""
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(text)
        # Only a star is a pattern here: a question mark begins the query of a signed URL, and
        # folders may be called [like this].
        star = "*" in path and not os.path.isfile(text)
        paths = sorted(filesystem.glob(re.sub(r"[\[?]", r"[\g<0>]", path))) if star else [path]
    except Exception as error:  # missing packages, unknown protocols, network trouble of any kind
        raise ConfigError(f"The shards {text} cannot be looked up: {error}.") from error
    if not paths:
        raise ConfigError(f"`data.shards`: no file fits {text}.")
    return [(filesystem, path) for path in paths]


def _remote(filesystem: Any, path: str, url: str, cache: Path) -> _Remote | None:
    """A shard behind a URL and where its copy belongs; None where there is none."""
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # each protocol has errors of its own
        raise ConfigError(f"The shard {url} cannot be looked up: {error}.") from error
    # A shard that changes behind its URL gets another copy.
    stamps = [str(info[key]) for key in _STAMPS if info.get(key) is not None]
    key = hashlib.sha256("\0".join([url, *stamps]).encode()).hexdigest()[:16]
    return _Remote(
        filesystem,
        path,
        info.get("size"),
        cache / fit_name(f"{Path(path).stem}-{key}.tar", keep=21),
    )


def _copy(shards: list[_Remote], cache: Path) -> None:
    """Copy what has no copy yet; each is complete or not there."""
    from fsspec.callbacks import Callback
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    wanted = [shard for shard in shards if not shard.copy.is_file()]
    if not wanted:
        return
    total = sum(shard.size or 0 for shard in wanted)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if total > free:
        raise ConfigError(
            f"Copies of {len(wanted)} shards take {total / 1e9:.1f} GB, and {cache} has "
            f"{free / 1e9:.1f} free. Make room, or set `data.cache` to a folder on another disk."
        )
    columns = ("Copying shards", DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total or None)

        class Shown(Callback):
            def relative_update(self, inc: int = 1) -> None:
                bar.advance(task, inc)

        for shard in wanted:
            try:
                remove_leftovers([shard.copy])
                with written_whole(shard.copy) as temporary:
                    shard.filesystem.get_file(shard.path, str(temporary), callback=Shown())
                    came = temporary.stat().st_size
                    if shard.size is not None and came != shard.size:
                        raise OSError(f"{came} of {shard.size} bytes came")
            except Exception as error:  # each protocol has errors of its own
                raise ConfigError(
                    f"The shard {shard.path} could not be copied to {cache} ({error}). Those "
                    "copied before stay: the same command goes on with this one."
                ) from error
