"""A folder of pictures as tar shards that `source: shards` reads as it would read the folder."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from ...core.errors import FacewrightError
from ...core.files.names import LONGEST, TEMPORARY, fit_name
from ...core.files.scan import LeftAside
from ...core.files.writing import written_whole
from .files import AGAIN, SUFFIXES, picture_folder, size_of
from .pairing import FoundPairs

MANIFEST = "manifest.jsonl"
"""Which file became which member of which shard, one JSON object a line; written last."""


class _Entry(NamedTuple):
    file: Path
    member: str


class _Sample(NamedTuple):
    entries: list[_Entry]
    """The picture first."""
    size: int
    """In the tar, in bytes."""


@dataclass
class Packed:
    """What `pack` has done."""

    shards: list[Path] = field(default_factory=list)
    pictures: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    """File -> why."""
    aside: LeftAside = field(default_factory=LeftAside)
    """What was found and is no picture."""
    others: list[Path] = field(default_factory=list)
    """Pictures that belong to neither side of the pairs."""


def pack(
    folder: Path,
    out: Path,
    *,
    megabytes: float,
    pairs: FoundPairs | None = None,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Write `<folder's name>-000000.tar` and so on, each complete or not there, and `MANIFEST`.

    Members keep their paths below the folder, so that `identity: parent` finds the same people;
    dots in a picture's own name become underscores, because WebDataset's names end at the first.
    Captions `<name>.txt` and degraded counterparts `<name>.lq.<ending>` go along. The same files
    give the same bytes.

    Args:
        folder: pictures; subfolders are searched.
        out: folder for the shards.
        megabytes: size of a shard, about, in 10^6 bytes; a larger picture has one of its own.
        pairs: take these of the folder, each good picture with its degraded one as `.lq` member.
        on_shard: called with how many shards are written, and of how many.

    Raises:
        FacewrightError: no pictures, or `out` holds other shards.
        OSError: `out` cannot be written.
    """
    packed = Packed()
    plan = list(_shards(_samples(folder, packed, pairs), megabytes * 1e6))
    if not plan:
        raise FacewrightError(
            f"There are no pictures in {folder}. They end in {', '.join(SUFFIXES)}; subfolders are "
            f"searched. {packed.aside.sentence()}".rstrip()
        )
    base = fit_name(folder.resolve().name, LONGEST - TEMPORARY - len("-000000.tar"))
    packed.shards = [out / f"{base}-{i:06d}.tar" for i in range(len(plan))]
    _check_room(out, packed.shards)
    lines: list[str] = []
    for path, samples in zip(packed.shards, plan, strict=True):
        with written_whole(path) as temporary, tarfile.open(temporary, "w") as tar:
            for sample in samples:
                lines += _add(tar, sample, folder, path.name, packed)
        on_shard(packed.shards.index(path) + 1, len(plan))
    with written_whole(out / MANIFEST) as temporary:
        # JSON's own spelling for what is no character: names of files may be any bytes.
        temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    return packed


def _samples(folder: Path, packed: Packed, pairs: FoundPairs | None) -> Iterator[_Sample]:
    """Pictures with what goes with them, in the order of the folder."""
    taken: dict[str, str] = {}
    for file, lq, person, key in _found(folder, packed, pairs):
        name, number = key, 1
        while name in taken:
            number += 1
            # A person's further picture, or somebody else who would be called the same.
            name = f"{key}{AGAIN if taken[key] == person else '-'}{number}"
        taken[name] = person
        entries = [_Entry(file, f"{name}{file.suffix}")]
        if (caption := file.with_suffix(".txt")).is_file():
            entries.append(_Entry(caption, f"{name}.txt"))
        if lq:
            entries.append(_Entry(lq, f"{name}.lq{lq.suffix}"))
        # A header block each, and content filled up to whole blocks.
        size = sum(1024 + max(0, size_of(e.file)) for e in entries)
        yield _Sample(entries, size)


def _found(
    folder: Path, packed: Packed, pairs: FoundPairs | None
) -> Iterator[tuple[Path, Path | None, str, str]]:
    """Picture, its degraded one, who is on it, and the name of its members before the dot."""
    if pairs is None:
        found = picture_folder(folder)
        packed.left_out |= found.lost
        packed.aside = found.aside
        for file, lq, person in found.samples:
            yield file, lq, person, _key(file.relative_to(folder).with_suffix(""))
        return
    packed.left_out |= {str(file): "it has no counterpart" for file in pairs.alone}
    packed.aside, packed.others = pairs.aside, pairs.others
    for name, (file, lq) in pairs.pairs.items():
        yield file, lq, name, _key(PurePosixPath(name))


def _key(path: PurePath) -> str:
    return (path.parent / path.name.replace(".", "_")).as_posix()


def _shards(samples: Iterator[_Sample], most: float) -> Iterator[list[_Sample]]:
    shard: list[_Sample] = []
    size = 0
    for sample in samples:
        if shard and size + sample.size > most:
            yield shard
            shard, size = [], 0
        shard.append(sample)
        size += sample.size
    if shard:
        yield shard


def _check_room(out: Path, shards: list[Path]) -> None:
    others = sorted(set(out.glob("*.tar")) - set(shards)) if out.is_dir() else []
    finished = out / MANIFEST
    if finished.exists() or others:
        raise FacewrightError(
            f"{out} already holds {finished.name if finished.exists() else others[0].name}. Choose "
            "another folder, or remove the shards in it, so that two sets do not mix."
        )


def _add(
    tar: tarfile.TarFile, sample: _Sample, folder: Path, shard: str, packed: Packed
) -> list[str]:
    """Lines of the manifest."""
    contents = []
    for entry in sample.entries:
        try:
            contents.append(entry.file.read_bytes())
        except OSError as error:  # without one of its parts it is another sample: none of it
            packed.left_out[str(entry.file)] = str(error)
            return []
    lines = []
    for entry, data in zip(sample.entries, contents, strict=True):
        info = tarfile.TarInfo(entry.member)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        file = entry.file.relative_to(folder).as_posix()
        line = {"file": file, "shard": shard, "member": entry.member}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    packed.pictures += 1
    return lines
