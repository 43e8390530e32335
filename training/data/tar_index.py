"""What a tar shard contains and where, so that any member can be read without the others."""

import hashlib
import json
import logging
import tarfile
from pathlib import Path
from typing import NamedTuple

from ...core.files.names import fit_name
from ...core.files.writing import remove_leftovers, written_whole
from ..settings.strict import ConfigError

log = logging.getLogger(__name__)

INDEX_VERSION = 1
"""Raised when an index says other things about the same shard, so that none in a cache is stale."""

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
"""First bytes -> (name, command that unpacks)."""


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int
    """Of its content, in bytes from the start of the tar."""
    size: int
    """In bytes."""


class TarIndex(NamedTuple):
    """The files in a tar, in their order."""

    members: list[Member]
    damage: str
    """Why some may be missing; empty for a whole tar."""


def read_index(shard: Path, cache: Path) -> TarIndex:
    """Index of a tar file, from `cache` where it lies there for this very file.

    Raises:
        ConfigError: the tar is compressed.
        OSError: it cannot be opened.
    """
    file = _index_file(shard, cache)
    saved = _saved(file, shard.stat().st_size)
    if saved is not None:
        return saved
    index = scan(shard)
    try:
        remove_leftovers([file])
        with written_whole(file) as temporary:
            temporary.write_text(json.dumps(index._asdict()), encoding="utf-8")
    except OSError as error:
        log.warning(
            "%s could not be written (%s): the next start reads %s again", file, error, shard
        )
    return index


def _saved(file: Path, size: int) -> TarIndex | None:
    """An index in the cache; None where there is none yet, or it is not one of ours.

    Args:
        size: of the tar.
    """
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        index = TarIndex([Member(*entry) for entry in saved["members"]], saved["damage"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    whole = isinstance(index.damage, str) and all(
        isinstance(m.name, str)
        and type(m.offset) is type(m.size) is int
        and m.offset >= 0 <= m.size <= size - m.offset
        for m in index.members
    )
    return index if whole else None


def _index_file(shard: Path, cache: Path) -> Path:
    stat = shard.stat()
    what = f"{INDEX_VERSION} {shard.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    digest = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache / fit_name(f"{shard.stem}-{digest}.json", keep=22)


def scan(shard: Path) -> TarIndex:
    """Read the headers of a tar; what comes before damage is kept.

    Raises:
        ConfigError, OSError: as `read_index`.
    """
    members: list[Member] = []
    damage = ""
    with shard.open("rb") as file:
        _refuse_compressed(shard, file.read(6))
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for info in tar:
                    if info.isreg() and not info.issparse():
                        members.append(Member(info.name, info.offset_data, info.size))
                # tarfile takes a broken header for the end; the real end is a block of zeros.
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    damage = "it is cut off or damaged"
        except Exception as error:  # noqa: BLE001 (garbage leads readers anywhere)
            damage = f"it is cut off, damaged or no tar ({error})"
        length = file.seek(0, 2)
    whole = [m for m in members if m.offset + m.size <= length]
    if damage:
        damage = f"{damage}; {len(whole)} whole files stand before that"
    return TarIndex(whole, damage)


def _refuse_compressed(shard: Path, start: bytes) -> None:
    for magic, (name, command) in _COMPRESSED.items():
        if start.startswith(magic):
            raise ConfigError(
                f"The shard {shard} is compressed ({name}). Training reads single pictures from "
                f"its middle, which takes a plain tar: unpack it with `{command}`. Pictures are "
                "compressed themselves, so it hardly grows."
            )
