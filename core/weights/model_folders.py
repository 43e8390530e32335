"""Where weight files lie on disk, and what to tell someone whose file is not there.

As ComfyUI's `folder_paths` finds them, which is only there inside ComfyUI.
"""

import configparser
import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint import identify, read_metadata
from ..checkpoint.identify import training_facts
from ..errors import CheckpointError, FacewrightError, listed, shorten
from ..files.known import (
    BASE,
    BASE_WITH_TEXT,
    IMAGE_MODELS,
    SUFFIXES,
    KnownFile,
    bundled_path,
)
from ..files.search import named_roots
from .known_files import known_file

ANALYZER_FOLDERS = ("insightface", "facexlib", "facedetection", "facewright", "detection")
"""Where the weights of optional face analyzers lie."""


def default_roots(*first: Path) -> list[Path]:
    """Models folders to search, first match first: `first`, and what is set up on this machine.

    `FACEWRIGHT_MODELS` (several, separated like PATH), ComfyUI's own (`COMFYUI_PATH`), and the
    workspace that comfy-cli makes.
    """
    roots = [*first, *named_roots()]
    comfyui = comfyui_path()
    if comfyui is not None:
        roots.append(comfyui / "models")
    return roots or [Path("models")]


def comfyui_path() -> Path | None:
    """A ComfyUI on this machine: `COMFYUI_PATH`, or comfy-cli's default workspace."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else _workspaces()
    return next((path for path in places if (path / "main.py").is_file()), None)


def _workspaces() -> Iterator[Path]:
    """Where comfy-cli keeps ComfyUI: its default, the one last used, and where it installs to."""
    config = configparser.ConfigParser(interpolation=None)
    home = Path.home()
    settings = {"win32": "AppData/Local", "darwin": "Library/Application Support"}
    file = home / settings.get(sys.platform, ".config") / "comfy-cli" / "config.ini"
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):  # no use to it
        config.read(file, encoding="utf-8")
    for key in ("default_workspace", "recent_workspace"):
        if noted := config["DEFAULT"].get(key):
            yield Path(noted)
    yield (home / "Documents" if sys.platform in settings else home) / "comfy" / "ComfyUI"


@dataclass(frozen=True)
class ExtraFolders:
    """Folders that ComfyUI's extra_model_paths.yaml adds, by the folder they add to."""

    before: dict[str, list[Path]] = field(default_factory=dict)
    """Of sections with `is_default: true`: searched before ComfyUI's own folder."""
    after: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, folder: str, path: Path, is_default: bool) -> None:
        """As ComfyUI does, where the last default comes first."""
        first, last = self.before.setdefault(folder, []), self.after.setdefault(folder, [])
        if is_default:
            for known in (first, last):
                if path in known:
                    known.remove(path)
            first.insert(0, path)
        elif path not in first and path not in last:
            last.append(path)


def extra_folders(comfyui: Path) -> ExtraFolders:
    """What extra_model_paths.yaml of a ComfyUI adds, read as that reads it.

    Paths are relative to `base_path`, or to the file itself.

    Raises:
        FacewrightError: the file is there and cannot be read.
    """
    file = comfyui / "extra_model_paths.yaml"
    if not file.is_file():
        return ExtraFolders()
    try:
        import yaml

        return _folders_of(yaml.safe_load(file.read_text(encoding="utf-8")), file.parent)
    except ImportError as error:
        raise FacewrightError(
            f"{file} names more model folders, and PyYAML, which reads it, is not installed: "
            "python -m pip install pyyaml"
        ) from error
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError, RecursionError) as why:
        raise FacewrightError(
            f"{file} cannot be read ({shorten(why, 200)}). Mend it: ComfyUI's "
            "extra_model_paths.yaml.example shows how it should look."
        ) from why


def _folders_of(sections: Mapping[str, Mapping[str, Any]] | None, home: Path) -> ExtraFolders:
    found = ExtraFolders()
    for section in filter(None, (sections or {}).values()):
        base = home / os.path.expandvars(Path(section.get("base_path", "")).expanduser())
        is_default = bool(section.get("is_default"))
        for folder, lines in section.items():
            if folder not in {"base_path", "is_default"}:
                for line in filter(None, lines.split("\n")):
                    found.add(folder, Path(os.path.normpath(base / line)), is_default)
    return found


def check_name(name: object) -> None:
    """Raise CheckpointError unless a workflow's value for a file is text; hosts let others by."""
    if not isinstance(name, str):
        raise CheckpointError(
            f"The name of a file should be text, got {shorten(repr(name))}. Choose a file from the "
            "list."
        )


def either_separator(name: str) -> tuple[str, ...]:
    """A file name as it is, and as this system writes what was chosen on Windows."""
    return tuple(dict.fromkeys((name, name.replace("\\", "/"))))


def is_there(path: Path) -> bool:
    """Whether it exists; a name that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def find_known(file: KnownFile, places: Callable[[str], list[Path]]) -> Path | None:
    """Where a known file lies: under one of its names, or as training exported it.

    Args:
        places: folders searched for the files of a models folder, first match first.

    Raises:
        CheckpointError: training exported several, or a bundled file is missing from this
            installation.
    """
    paths = (p / n for f in file.folders for n in file.names for p in places(f))
    exact = None if file.bundled else next(filter(is_there, paths), None)
    # What somebody trained goes before the bundled files, which are always there.
    found = exact or _exported(file, places(file.folder))
    return bundled_path(file) if found is None and file.bundled else found


def _exported(file: KnownFile, places: Iterable[Path]) -> Path | None:
    """What training wrote as this file, whatever name people gave it."""
    if not file.stage:
        return None
    found = [
        path
        for place in places
        for path in sorted(place.glob(f"*_{file.part}.safetensors"))
        if _trained_by(path) == (file.stage, "nano" if file.bundled else "sd")
    ]
    if len(found) > 1:
        raise CheckpointError(
            f"Training wrote several files that may be {file.what}: {listed(map(str, found))}. "
            f"Rename the right one to {file.names[0]}, or name a folder with one of them by "
            "--models."
        )
    return found[0] if found else None


def _trained_by(path: Path) -> tuple[str, str] | None:
    """Stage and kind of base ("sd", "nano") of a file that training wrote; None for any other."""
    try:
        facts = training_facts(read_metadata(path))
        return facts["stage"], facts["base"]["kind"]
    except (CheckpointError, LookupError, OSError, TypeError):
        return None


class ModelFolders:
    """Looks weight files up by name in ComfyUI's folder layout, or loose in one folder."""

    def __init__(
        self,
        roots: Iterable[str | os.PathLike[str]] | None = None,
        *,
        first: Path | None = None,
        base: Path | None = None,
    ) -> None:
        """
        Args:
            roots: models folders; by default `default_roots` and, after them, `extra_folders`.
            first: one that comes before those of this machine.
            base: the base model, a single file or a diffusers folder, wherever it lies; by default
                what `FACEWRIGHT_BASE` names.
        """
        own = default_roots(*[first] if first else [])
        self.roots = [Path(r).expanduser() for r in roots] if roots else own
        self._comfyui = None if roots else comfyui_path()
        self._base = base or os.environ.get("FACEWRIGHT_BASE")

    @property
    def base(self) -> Path | None:
        """Where the base model is said to be, whatever its name.

        Raises:
            CheckpointError: it is not there.
        """
        path = Path(self._base).expanduser() if self._base else None
        if path and not path.exists():
            raise CheckpointError(f"FACEWRIGHT_BASE names {path}, which is not there.")
        return path

    @functools.cached_property
    def extra(self) -> ExtraFolders:
        """Folders that ComfyUI's extra_model_paths.yaml adds; none where roots were named."""
        # Only read where something is looked for: a broken file is nothing to the rest.
        return extra_folders(self._comfyui) if self._comfyui else ExtraFolders()

    def folders(self, folder: str) -> list[Path]:
        """Where the files of a folder ("facewright", "loras", ...) lie, first match first."""
        return list(self._places(folder, lambda root: [root / folder]))

    def places(self, folder: str) -> list[Path]:
        """As `folders`; but files lying loose in a root are found too."""
        return list(self._places(folder, lambda root: [root / folder, root]))

    def _places(self, folder: str, own: Callable[[Path], list[Path]]) -> Iterator[Path]:
        for root in self.roots:
            if self._comfyui and root == self._comfyui / "models":
                yield from self.extra.before.get(folder, ())
            yield from own(root)
        yield from self.extra.after.get(folder, ())

    def everywhere(self) -> list[Path]:
        """Folders below which any weight file may lie."""
        more = [*self.extra.before.values(), *self.extra.after.values()]
        return list(dict.fromkeys([*self.roots, *itertools.chain(*more)]))

    def search_roots(self) -> list[Path]:
        """Where weights of optional face analyzers and scores are searched, first match first."""
        return [*self.roots, *(path for f in ANALYZER_FOLDERS for path in self.folders(f))]

    def names(self, folder: str, suffixes: Collection[str] = SUFFIXES) -> list[str]:
        """Files in a folder ("facewright", "loras", "checkpoints", "vae", ...), sorted.

        Args:
            suffixes: of weights by default.
        """
        found = {
            path.relative_to(place).as_posix()
            for place in self.folders(folder)
            if place.is_dir()
            for path in place.rglob("*")
            if path.suffix.lower() in suffixes and path.is_file()
        }
        loose = {
            p.name
            for root in self.roots
            if root.is_dir()
            for p in root.iterdir()
            if p.suffix.lower() in suffixes and p.is_file()
        }
        return sorted(found | loose)

    def find(self, folder: str, *names: str) -> Path | None:
        """The first of several names that exists, or None. Either separator of folders will do."""
        for name in itertools.chain(*map(either_separator, names)):
            if Path(name).is_absolute() and is_there(Path(name)):
                return Path(name)
            for place in self.places(folder):
                if is_there(place / name):
                    return place / name
        return None

    def path(self, folder: str, name: str) -> Path:
        """The file called `name` in `folder`.

        Raises:
            CheckpointError: not there; the sentence says what to put where.
        """
        found = self.find(folder, name)
        if found is None:
            raise CheckpointError(self.missing(folder, name))
        return found

    def known(self, file: KnownFile) -> Path:
        """A known file, under any of its names; the base model also where `base` is.

        Raises:
            CheckpointError: not there; the sentence says source, folder and licence.
        """
        base = self.base if file in (BASE, BASE_WITH_TEXT) else None
        found = base or find_known(file, self.places)
        if found is None:
            raise CheckpointError(self._lacks(file))
        return found

    def missing(self, folder: str, name: str) -> str:
        """A sentence for a file that is not there."""
        file = known_file(name)
        if file is not None:
            return self._lacks(file)
        return (
            f"There is no {shorten(name)} in the {folder} folder of {self._searched(folder)}. Put "
            f"it into {self.roots[0] / folder}, or name another models folder with --models or "
            "FACEWRIGHT_MODELS."
        )

    def _lacks(self, file: KnownFile) -> str:
        return (
            f"{file.what} is missing: put {' or '.join(file.names)} into "
            f"{self.roots[0] / file.folder}. Source: {file.source}. Licence: {file.licence}. "
            f"Searched: {self._searched(file.folder)}; another models "
            f"folder can be named with --models or FACEWRIGHT_MODELS.{self._look_alikes(file)}"
        )

    def _searched(self, folder: str) -> str:
        return ", ".join(map(str, self._places(folder, lambda root: [root])))

    def _look_alikes(self, file: KnownFile) -> str:
        """A sentence on files of other names that may be the base model, or a network as well."""
        if file.folder in IMAGE_MODELS:
            return self.image_models()
        if file is not BASE:
            return ""
        found = [path for folder in file.folders for path in self._bases(folder)]
        if not found:
            return ""
        return (
            f" {listed(map(str, found))}: of the same architecture. Where one is {file.what}, "
            "name it with --base or FACEWRIGHT_BASE."
        )

    def image_models(self) -> str:
        """A sentence on the files of upscalers and face restorers that are there, if any."""
        there = {name for folder in IMAGE_MODELS for name in self.names(folder)}
        return f" There are {listed(sorted(there), 10)}." if there else ""

    def _bases(self, folder: str) -> Iterator[Path]:
        for place in self.folders(folder):
            for path in sorted(place.glob("*")):
                if path.suffix == ".safetensors" or (path / "unet").is_dir():
                    with contextlib.suppress(CheckpointError):
                        identify(path).check_base()
                        yield path
