"""Things that are known to go wrong between facewright and its neighbours."""

import importlib.metadata
import importlib.util
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from .machine import PACK, distribution_version
from .surroundings import Surroundings

NEEDS_COMFYUI, NEEDS_TORCH = (0, 3, 64), (2, 4)
_VENDORED = ("basicsr", "facelib", "facexlib", "insightface")
"""Packages that node packs bring along and put before the installed ones."""
_OVERRIDE = re.compile(
    r"""folder_names_and_paths\[\s*["'](checkpoints|loras|vae|facewright)["']\s*\]\s*=[^=]"""
)
_OUR_ID = re.compile(r"""["']Facewright[A-Z]\w+["']""")


def find_conflicts(around: Surroundings) -> list[str]:
    """A sentence for each; nothing is changed."""
    folders = [folder for folder in around.custom_nodes if folder.is_dir()]
    entries = [entry for folder in folders for entry in sorted(folder.iterdir())]
    packs = [entry for entry in entries if not entry.name.startswith((".", "__"))]
    return [
        *around.warnings,
        *_old(around),
        *_torch_and_numpy(),
        *_duplicates(packs),
        *_neighbours([pack for pack in packs if not _is_facewright(pack)]),
        *_shadowed(around),
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


def _old(around: Surroundings) -> Iterator[str]:
    yield from old_comfyui(around.version)
    if _numbers(torch.__version__) < NEEDS_TORCH:
        needed = ".".join(map(str, NEEDS_TORCH))
        yield f"torch is {torch.__version__}; facewright needs {needed} or newer."


def old_comfyui(version: str | None) -> Iterator[str]:
    """A sentence where a ComfyUI is too old for facewright."""
    if version and _numbers(version) < NEEDS_COMFYUI:
        needed = ".".join(map(str, NEEDS_COMFYUI))
        yield f"ComfyUI is {version}; facewright needs {needed} or newer. Update ComfyUI."


def _torch_and_numpy() -> Iterator[str]:
    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:
        yield (
            f"torch {torch.__version__} cannot use numpy {distribution_version('numpy')} "
            f"({error}). Install a torch and a numpy that belong together."
        )
    for name in ("torchvision", "torchaudio"):
        wanted = _pinned_torch(name)
        have = torch.__version__.split("+")[0]
        if wanted and wanted != have:
            yield (
                f"{name} {distribution_version(name)} was built for torch {wanted}, and torch is "
                f"{have}: what uses it will fail. Install the one that belongs to this torch."
            )


def _pinned_torch(name: str) -> str | None:
    try:
        requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (re.match(r"torch\s*\(?==\s*([\d.]+)", requirement) for requirement in requires)
    return next((match[1] for match in found if match), None)


def _is_facewright(pack: Path) -> bool:
    project = pack / "pyproject.toml"
    if not project.is_file():
        return False
    try:
        content = tomllib.loads(project.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False  # another pack's mistake
    return content.get("project", {}).get("name") == "facewright"


def _duplicates(packs: list[Path]) -> Iterator[str]:
    ours = [pack for pack in packs if _is_facewright(pack)]
    if len(ours) > 1:
        yield (
            f"facewright is in custom_nodes {len(ours)} times ({', '.join(p.name for p in ours)}): "
            "which one ComfyUI uses is chance. Keep one."
        )
    elif ours and ours[0].resolve() != PACK:
        yield (
            f"ComfyUI has facewright in {ours[0]}, and this command is the one in {PACK}: "
            "they may differ in version."
        )


def _neighbours(packs: list[Path]) -> Iterator[str]:
    vendored = defaultdict(list)
    for pack in packs:
        for name in _VENDORED:
            if (pack / name).is_dir():
                vendored[name].append(pack.name)
        sources = _sources(pack)
        folders = sorted({m[1] for text in sources for m in _OVERRIDE.finditer(text)})
        if folders:
            yield (
                f"The node pack {pack.name} replaces ComfyUI's list of folders for "
                f"{', '.join(folders)} instead of adding to it: files in other folders, those of "
                "extra_model_paths.yaml among them, may not be listed."
            )
        ids = sorted({i.strip("\"'") for text in sources for i in _OUR_ID.findall(text)})
        if ids:
            yield (
                f"The node pack {pack.name} names nodes of facewright ({', '.join(ids[:3])}). If "
                "it registers them, the pack that is loaded last wins."
            )
    for name, owners in vendored.items():
        if len(owners) > 1:
            yield (
                f"The node packs {', '.join(owners)} each bring a {name} of their own: the one "
                "that is loaded first serves them all, and others may fail. facewright brings none."
            )


def _sources(pack: Path) -> list[str]:
    files = sorted(pack.rglob("*.py")) if pack.is_dir() else [pack]
    return [f.read_text(encoding="utf-8", errors="replace") for f in files if f.suffix == ".py"]


def _shadowed(around: Surroundings) -> Iterator[str]:
    for name in ("facexlib", "insightface"):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            continue
        origin = Path(spec.origin).resolve()
        for folder in around.custom_nodes:
            if origin.is_relative_to(folder.resolve()):
                yield (
                    f"`import {name}` finds the copy in {origin.parent}, which a node pack put in "
                    "front of the installed one. facewright's face detector may fail with it."
                )
