"""Names of files that are written: they fit the system, stay below their folder, and are free."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from ..errors import FacewrightError, shorten

LONGEST = 255
"""Bytes of a file name that the usual file systems take."""
TEMPORARY = 14
"""Bytes that the temporary file of a result adds to its name."""
_UNNAMED = "ComfyUI"
"""What ComfyUI's own nodes call a file by default."""
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])")
"""Devices that Windows finds in every folder, whatever comes after a dot."""
_DATE = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
"""Parts of ComfyUI's %date:FORMAT%."""
_COUNTED = re.compile(r"0*\d{1,9}")


def bare(name: str) -> str:
    """A file's name without its folders, whichever system wrote it."""
    return name.replace("\\", "/").rpartition("/")[2]


def byte_length(name: str) -> int:
    """Of a file name as the system stores it."""
    return len(_bytes(name))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass" if os.name == "nt" else "surrogateescape")


def fit_name(name: str, most: int = LONGEST, *, keep: int = 0) -> str:
    """A file name of at most `most` bytes: a longer one loses its middle to a hash of the whole.

    Args:
        keep: bytes of the end that stay, at the least its suffix.
    """
    if byte_length(name) <= most:
        return name
    mark = "~" + hashlib.sha256(_bytes(name)).hexdigest()[:12]
    suffix = Path(name).suffix
    room = most - len(mark)
    end = name[len(name) - len(suffix) :] if byte_length(suffix) <= room // 2 else ""
    while keep and byte_length(end) < min(keep, room // 2):
        end = name[len(name) - len(end) - 1 :]
    head, left = [], room - byte_length(end)
    for character in name:
        left -= byte_length(character)
        if left < 0:
            break
        head.append(character)
    return "".join(head) + mark + end


def beside(path: Path, ending: str, *, stem: bool = False) -> Path:
    """A file named after `path`: `x.png` + `.receipts.json`, or with `stem` `x` + `_compare.png`.

    What it is stays readable at the end of a name that has to be shortened.
    """
    name = f"{path.stem if stem else path.name}{ending}"
    return path.with_name(fit_name(name, LONGEST - TEMPORARY, keep=len(ending)))


def same_place(path: Path) -> str:
    """Equal for two paths that are one file on some system: letters' case and accents' form do not
    count."""
    return unicodedata.normalize("NFC", os.path.normpath(os.path.abspath(path)).casefold())


def sized(prefix: str, height: int, width: int) -> str:
    """`prefix` with the sides of a picture for `%width%` and `%height%`, as ComfyUI fills in."""
    return prefix.replace("%width%", str(width)).replace("%height%", str(height))


def numbered(
    folder: Path, prefix: str, suffix: str, *, windows: bool = os.name == "nt"
) -> Iterator[Path]:
    """`<prefix>_00001_<suffix>` below `folder`, on from the highest that is there, always free.

    Both slashes divide folders on every system. `%year%`, `%date:yyyy-MM-dd%` and their like are
    filled in as ComfyUI does; what no file name can hold becomes "_".

    Args:
        prefix: file name, possibly with folders of its own; nothing is taken as a pattern. Where it
            names no file, ComfyUI's own default stands for it.
        windows: keep to the names that Windows takes.

    Raises:
        FacewrightError: `prefix` leaves the folder or is no text that a name can be made of.
        OSError: the folder cannot be read.
    """
    parent, stem = _located(folder, prefix, windows)
    # Room for the number and the temporary name, so that all of a row are shortened alike.
    stem = fit_name(stem, LONGEST - TEMPORARY - byte_length(f"_{10**9}_{suffix}"))
    highest = max(_numbers(parent, stem, suffix), default=0)
    index = 0
    while True:
        highest += 1
        named = stem.replace("%batch_num%", str(index))
        path = parent / f"{named}_{highest:05}_{suffix}"
        if not os.path.lexists(path):
            yield path
            index += 1


def _located(folder: Path, prefix: str, windows: bool) -> tuple[Path, str]:
    """The folder and the beginning of the names in it."""
    leaves = f"filename_prefix {shorten(prefix)!r} leaves the output folder."
    if "\0" in prefix:
        raise FacewrightError(
            f"filename_prefix {shorten(prefix)!r} holds a NUL character, which no name can."
        )
    top = folder.resolve()
    # ComfyUI puts folders into the texts of saved workflows with the slashes of their system.
    text = prefix.replace("\\", "/")
    if text.startswith("/") or re.match(r"[A-Za-z]:/", text):
        whole = os.path.normpath(text)
        if not Path(whole).is_relative_to(top):
            raise FacewrightError(f"{leaves} Give a name, or folders and a name, below it.")
        text = Path(whole).relative_to(top).as_posix()
    parts: list[str] = []
    for part in _filled_in(text).split("/"):
        if part == "..":
            if not parts:
                raise FacewrightError(f"{leaves} Give a name, or folders and a name, below it.")
            parts.pop()
        elif part not in ("", "."):
            parts.append(_writable(part, windows))
    *folders, stem = parts or [_UNNAMED]
    parent = top.joinpath(*(fit_name(part) for part in folders)).resolve()
    if not parent.is_relative_to(top):
        raise FacewrightError(f"{leaves} A folder in it is a link to elsewhere.")
    return parent, stem


def _filled_in(text: str) -> str:
    now = datetime.now()

    def date(match: re.Match[str]) -> str:
        return re.sub("|".join(_DATE), lambda m: now.strftime(_DATE[m[0]]), match[1])

    text = re.sub(r"%date:([^%/]*)%", date, text.replace("%date%", "%date:yyyyMMddhhmmss%"))
    for name in ("year", "month", "day", "hour", "minute", "second"):
        text = text.replace(f"%{name}%", f"{getattr(now, name):02}")
    return text


def _writable(part: str, windows: bool) -> str:
    """A part of a path with "_" for what it cannot hold."""
    unfit = r"[\x00-\x1f\x7f<>:\"|?*]" if windows else r"[\x00-\x1f\x7f]"
    name = re.sub(unfit, "_", part)
    # Halves of a character, as broken JSON may hold; on Linux some of them stand for bytes.
    name = "".join(c if _storable(c, windows) else "_" for c in name)
    if windows:
        name = re.sub(r"[. ]+$", lambda end: "_" * len(end[0]), name)
        if _RESERVED.fullmatch(name.partition(".")[0].rstrip(" ")):
            name = f"_{name}"
    return name


def _storable(character: str, windows: bool) -> bool:
    if not "\ud800" <= character <= "\udfff":
        return True
    return not windows and "\udc80" <= character <= "\udcff"


def _numbers(parent: Path, stem: str, suffix: str) -> Iterable[int]:
    """Numbers of the files that are there, whatever the case of their letters."""
    if not parent.is_dir():
        return
    parts = (re.escape(_folded(part)) for part in stem.split("%batch_num%"))
    wanted = re.compile(rf"{'[0-9]+'.join(parts)}_(?P<number>[0-9]+)_{re.escape(_folded(suffix))}")
    for entry in os.scandir(parent):
        found = wanted.fullmatch(_folded(entry.name))
        # Numbers that nobody counted to, such as a date, would run out of names.
        if found and _COUNTED.fullmatch(found["number"]):
            yield int(found["number"])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
