"""Every weight file that facewright knows: where it was looked for, what lies there, its terms."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import identify, read_metadata
from ..errors import CheckpointError
from ..faces import NEEDS
from ..files.known import (
    ARCFACE,
    BASE,
    BASE_WITH_TEXT,
    BISENET,
    FAN,
    INSIGHTFACE,
    NANO_BASE,
    NANO_DIR,
    PARSENET,
    RETINAFACE,
    VGG,
    KnownFile,
)
from ..files.names import bare
from ..methods import specs
from ..people.limits import limits_beside, limits_file
from ..tflite import load_tflite, read_task, read_tflite
from ..weights.known_files import ALEXNET, INCEPTION, INCEPTION_BASICSR, known_files
from ..weights.model_folders import SUFFIXES, find_known
from .hashes import Hashes
from .surroundings import Surroundings

UNREADABLE = {".onnx", ".pt"}
"""Not opened: `read_metadata` knows other kinds only."""


def all_weights(around: Surroundings, hashes: Hashes | None) -> list[dict[str, Any]]:
    """An entry for each of `known_files`, and one for the bundled models."""
    return [_entry(file, around, hashes) for file in known_files()] + [_bundled(hashes)]


def restorers(around: Surroundings) -> list[dict[str, Any]]:
    """Which `--weights` can be used here, and what the others lack."""
    found = []
    for spec in specs().values():
        try:
            spec.find(_Places(around))
            lacks = []
        except CheckpointError as error:
            lacks = str(error).split("\n")
        found.append({"name": spec.name, "about": spec.help, "lacks": lacks})
    return found


@dataclass(frozen=True)
class _Places:
    """A `core.methods.FileSource` that says in few words what is missing."""

    around: Surroundings

    def known(self, file: KnownFile) -> Path:
        base = self.around.base if file in (BASE, BASE_WITH_TEXT) else None
        found = base or find_known(file, self.around.places)
        if found is None:
            raise CheckpointError(file.what)
        return found


def _entry(file: KnownFile, around: Surroundings, hashes: Hashes | None) -> dict[str, Any]:
    places = [*(p for f in file.folders for p in around.places(f)), *elsewhere(file)]
    places = list(dict.fromkeys(places))
    named = [around.base] if around.base and file is BASE else []
    copies = [_copy(path, file, hashes) for path in (*named, *find_all(places, file.names))]
    return _told(file, places, copies)


def listed_weights(listing: Callable[[str], Collection[str]]) -> list[dict[str, Any]]:
    """As `all_weights`, of a ComfyUI that says which files it lists, and nothing else of them.

    Files and folders that no such list has are left out.

    Args:
        listing: names of the files in a models folder.
    """
    found = []
    for file in known_files():
        names = tuple(name for name in file.names if Path(name).suffix in SUFFIXES)
        copies = [
            {
                "path": f"models/{folder}/{there}",
                "bytes": None,
                "files": [],
                "problem": None,
                "sha256_matches": None,
                "limits": None,
            }
            for folder in file.folders
            for there in listing(folder)
            if bare(there) in names
        ]
        if names:
            found.append(_told(file, [Path("models") / f for f in file.folders], copies))
    return found


def _bundled(hashes: Hashes | None) -> dict[str, Any]:
    what = "the bundled nano models, for rendered faces"
    file = replace(NANO_BASE, names=("nano",), folder="weights", what=what)
    found = any(NANO_DIR.glob("*.safetensors"))
    return _told(file, [NANO_DIR], [_copy(NANO_DIR, None, hashes)] if found else [])


def _told(file: KnownFile, places: list[Path], copies: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "what": file.what,
        "names": list(file.names),
        "folder": file.folder,
        "searched": [str(place) for place in places],
        "found": bool(copies),
        "copies": copies,
        "sha256_begins": file.sha256 or None,
        "licence": file.licence,
        "commercial": file.commercial,
        "source": file.source,
    }


def find_all(places: list[Path], names: tuple[str, ...]) -> list[Path]:
    """Every file or folder of one of the names, first match first: in a place or anywhere below.

    A models folder itself, where files may lie loose, is not searched below.
    """
    found = [place / name for name in names for place in places if (place / name).exists()]
    for place in places:
        loose = any(other != place and other.is_relative_to(place) for other in places)
        if place.is_dir() and not loose:
            found += [path for name in names for path in sorted(place.rglob(name))]
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def elsewhere(file: KnownFile) -> list[Path]:
    """Where the package that uses a file keeps it."""
    if file is INSIGHTFACE:
        return [*NEEDS["insightface"].own()]
    if file in (RETINAFACE, FAN, PARSENET, BISENET):
        return [*NEEDS["facexlib"].own()]
    if file in (ALEXNET, VGG, INCEPTION, INCEPTION_BASICSR):
        return [Path(torch.hub.get_dir()) / "checkpoints"]
    return []


def _copy(path: Path, known: KnownFile | None, hashes: Hashes | None) -> dict[str, Any]:
    files = [_file(part, hashes) for part in _parts(path)]
    begins = known.sha256 if known else ""
    differs = [f for f in files if begins and f["sha256"] and not f["sha256"].startswith(begins)]
    return {
        "path": str(path),
        "bytes": sum(f["bytes"] for f in files),
        "files": files,
        "problem": _problem(path, known, files) or _limits_problem(path, known),
        "sha256_matches": None if not begins or not hashes or not files else not differs,
        "limits": _limits(path, known),
    }


def _limits(path: Path, known: KnownFile | None) -> str | None:
    """What the limit of a recogniser means, and where that was found; None of other files.

    Whether what lies beside is of these very weights shows when they are loaded.
    """
    if known is not ARCFACE:
        return None
    beside = limits_file(path)
    where = beside.name if beside.is_file() else "as shipped"
    try:
        limits = limits_beside(path, "arcface", checked=False)
    except CheckpointError:
        return None
    return f"{limits.told(limits.same_person)} ({where})"


def _limits_problem(path: Path, known: KnownFile | None) -> str | None:
    try:
        if known is ARCFACE:
            limits_beside(path, "arcface", checked=False)
    except CheckpointError as error:
        return str(error)
    return None


def _parts(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    # Of a diffusers folder only these parts are used.
    parts = [path / part for part in ("unet", "vae") if (path / part).is_dir()] or [path]
    for part in parts:
        yield from (p for p in sorted(part.rglob("*")) if p.suffix in {*SUFFIXES, ".onnx"})


def _file(path: Path, hashes: Hashes | None) -> dict[str, Any]:
    digest = hashes.of(path) if hashes else None
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest}


def read_header(path: Path) -> None:
    """Raise CheckpointError where the first bytes of a weight file are not those of one."""
    if path.suffix == ".task":
        read_task(path)
    elif path.suffix == ".tflite":
        load_tflite(read_tflite(path), source=str(path))
    elif path.suffix not in UNREADABLE:
        read_metadata(path)


def _problem(path: Path, known: KnownFile | None, files: list[dict[str, Any]]) -> str | None:
    """Why a file cannot be used, as far as its first bytes and its header tell."""
    try:
        if known is BASE:
            identify(path).check_base()
        elif not files:
            return f"{path} holds no weights."
        for file in files:
            read_header(Path(file["path"]))
    except (CheckpointError, OSError) as error:
        return str(error)
    return None
