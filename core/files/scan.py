"""Pictures in a folder and everything below it, and what lies there that is not taken."""

import functools
import importlib
import os
import stat
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import first_of, shorten

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".dib",
     ".gif", ".tga", ".ppm", ".pgm", ".pnm", ".pbm", ".jp2", ".j2k", ".avif"}
)  # fmt: skip
"""What counts as a picture when a folder is searched, beside what plug-ins of Pillow read."""

_HEIF = ("pillow_heif", "pillow-heif", "register_heif_opener")
_PLUGINS = {
    ".heic": _HEIF,
    ".heif": _HEIF,
    ".hif": _HEIF,
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin", None),
    ".avif": ("pillow_avif", "pillow-avif-plugin", None),
}
"""Suffix -> module, package, and what of it has to be called."""

_OTHERS = {
    "a camera's raw file: export it as TIFF or PNG": ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq "
    ".kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f",
    "a video": ".3gp .avi .flv .gifv .insv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts "
    ".vob .webm .wmv",
    "no reader: export it as PNG": ".ai .bpg .cin .dds .dpx .emf .eps .exr .fits .fpx .hdr .ico "
    ".icns .jbig2 .jls .jxr .kra .pcx .pdf .psb .psd .ptx .qoi .sgi .svg .svgz .vtf .wdp .wmf .xcf",
}
VIDEO_SUFFIXES = frozenset(_OTHERS["a video"].split())
_REASONS = {suffix: why for why, listed in _OTHERS.items() for suffix in listed.split()}
_NO_PICTURE = "no picture"
_HIDDEN = "hidden"
_FOREIGN = "kept by another program"

_SILENT = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
"""What file managers put into every folder of pictures."""
_FOREIGN_FOLDERS = frozenset(
    {"@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin", "lost+found",
     "system volume information", "__pycache__"}
)  # fmt: skip
_NAMED = 5
"""Files named in one sentence; the JSON lists all."""


@dataclass
class LeftAside:
    """What was found and not taken: by suffix and reason, and by name where it should be known."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(suffix, why) -> how many; a folder's suffix is its name and a slash."""
    named: dict[Path, str] = field(default_factory=dict)
    """What the user may believe to be a picture or a folder of them -> why it is not."""

    def __bool__(self) -> bool:
        return bool(self.counts or self.named)

    def entries(self) -> list[dict[str, Any]]:
        """For JSON, sorted."""
        counted = [
            {"suffix": suffix, "reason": why, "count": count}
            for (suffix, why), count in sorted(self.counts.items())
        ]
        files: dict[tuple[str, str], list[str]] = {}
        for path, why in sorted(self.named.items()):
            files.setdefault((path.suffix.lower(), why), []).append(str(path))
        return counted + [
            {"suffix": suffix, "reason": why, "count": len(paths), "files": paths}
            for (suffix, why), paths in sorted(files.items())
        ]

    def sentence(self) -> str:
        """All of it in one line; empty where there is nothing."""
        parts = [
            f"{count} {shorten(suffix, 40) or 'without a suffix'} ({why})"
            for (suffix, why), count in sorted(self.counts.items())
        ]
        named = [f"{shorten(path, 160)} ({why})" for path, why in sorted(self.named.items())]
        parts += first_of(named, "{} more of the kind, which --json lists", _NAMED)
        return f"Left aside: {', '.join(parts)}." if parts else ""


@functools.cache
def why_unread(suffix: str) -> str:
    """Why files of a suffix (in lower case) are not taken for pictures; empty for those that are.

    Makes Pillow know the formats of its plug-ins that are installed.
    """
    if suffix in _PLUGINS and not _reader(suffix):
        return f"no reader: install {_PLUGINS[suffix][1]}"
    if suffix in PICTURE_SUFFIXES or suffix in _PLUGINS:
        return ""
    return _REASONS.get(suffix, _NO_PICTURE)


def _reader(suffix: str) -> bool:
    from PIL import features

    if suffix == ".avif" and features.check("avif"):
        return True
    module, _, register = _PLUGINS[suffix]
    try:
        plugin = importlib.import_module(module)
        if register:
            getattr(plugin, register)()
    except Exception:  # noqa: BLE001 (not there, or built for another Pillow: it reads nothing)
        return False
    return True


def pictures_in(
    folder: Path,
    aside: LeftAside,
    *,
    without: Path | None = None,
    also: Collection[str] = frozenset(),
) -> list[Path]:
    """Pictures below a folder, sorted by their paths.

    Links to folders are followed; none is searched twice. Hidden files and folders and those of
    other programs are left aside, and so is everything that is neither file nor folder: opening a
    named pipe waits for ever.

    Args:
        aside: told of what was not taken; captions (`a.txt` beside `a.png`) are no part of it.
        without: file or folder that is left aside with all that lies in it.
        also: suffixes, in lower case, of other files that are taken.
    """
    kept = None if without is None else Path(os.path.realpath(without))
    search = _Search(folder, aside, kept, also)
    return sorted(search.run())


class _Search:
    def __init__(
        self, top: Path, aside: LeftAside, without: Path | None, also: Collection[str]
    ) -> None:
        self.top, self.aside, self.without, self.also = top, aside, without, also
        self.real_top = Path(os.path.realpath(top))
        self.seen: set[tuple[int, int]] = set()
        # Folders come before links to them, so that names do not depend on how links are called.
        self.folders, self.links = [top], deque[Path]()
        self.found: list[Path] = []

    def run(self) -> list[Path]:
        while self.folders or self.links:
            folder = self.folders.pop() if self.folders else self.links.popleft()
            try:
                self._enter(folder)
            except OSError as error:
                self.aside.named[folder] = f"cannot be searched: {error.strerror or error}"
        return self.found

    def _enter(self, folder: Path) -> None:
        status, real = folder.stat(), Path(os.path.realpath(folder))
        mark = (status.st_dev, status.st_ino)
        if mark in self.seen or (folder != self.top and self.real_top.is_relative_to(real)):
            self.aside.named[folder] = "a link to a folder that is searched anyway"
            return
        self.seen.add(mark)
        if self.without is not None and real.is_relative_to(self.without):
            self.aside.counts[f"{real.name}/", "the output folder"] += 1
            return
        stems, texts = set(), []
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = folder / entry.name
                suffix = path.suffix.lower()
                if self._takes(entry, path, suffix, real):
                    self.found.append(path)
                    stems.add(path.stem)
                    stems.add(path.name)
                elif suffix == ".txt" and entry.is_file():
                    texts.append(path.stem)
        # Captions belong to their pictures.
        if alone := sum(text not in stems for text in texts):
            self.aside.counts[".txt", _NO_PICTURE] += alone

    def _takes(self, entry: os.DirEntry, path: Path, suffix: str, real: Path) -> bool:
        """Whether it is a picture; folders are kept for later, and others reported."""
        if self._hidden(entry, suffix):
            return False
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            lost = isinstance(error, FileNotFoundError)
            self.aside.named[path] = "a link to nothing" if lost else f"{error.strerror or error}"
            return False
        if stat.S_ISDIR(mode):
            (self.links if entry.is_symlink() else self.folders).append(path)
            return False
        if not stat.S_ISREG(mode):
            self.aside.named[path] = _kind(mode)
            return False
        if self.without is not None:
            whole = Path(os.path.realpath(path)) if entry.is_symlink() else real / entry.name
            if whole.is_relative_to(self.without):
                self.aside.counts[suffix, "the output"] += 1
                return False
        why = "" if suffix in self.also else why_unread(suffix)
        if why and suffix != ".txt":
            self.aside.counts[suffix, why] += 1
        return not why

    def _hidden(self, entry: os.DirEntry, suffix: str) -> bool:
        name = entry.name.lower()
        if name in _SILENT:
            return True
        foreign = name in _FOREIGN_FOLDERS
        if not foreign and not name.startswith("."):
            return False
        if entry.is_dir():
            self.aside.counts[f"{entry.name}/", _FOREIGN if foreign else _HIDDEN] += 1
        elif foreign:
            return False
        elif why_unread(suffix) != _NO_PICTURE:
            self.aside.counts[suffix, _HIDDEN] += 1
        return True


def _kind(mode: int) -> str:
    kinds = {
        "a named pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a device": lambda m: stat.S_ISCHR(m) or stat.S_ISBLK(m),
    }
    kind = next((kind for kind, is_one in kinds.items() if is_one(mode)), "something else")
    return f"{kind}, no file"


def why_special(path: Path) -> str:
    """What a path is that is neither a file nor a folder nor missing; else empty."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else _kind(mode)
