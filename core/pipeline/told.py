"""With what faces were restored, as their receipts say it."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..files.json_text import strict
from ..files.writing import content_hash
from .options import RestoreOptions

_ALWAYS = ("strength", "color", "feather", "detail", "mask")
_MASKED = ("mask_parts", "mask_grow", "mask_feather")
_ENLARGED = ("upscale_by",)
_OF_VIDEOS = ("smoothing", "fill_gaps", "fade", "cut_threshold", "crf")


def told(options: RestoreOptions, side: int, *, video: bool = False) -> dict[str, Any]:
    """What decides the pixels of a face, by the names that the command line knows.

    Args:
        side: of the crops in pixels.
        video: also what is said of frames.
    """
    names = [*_ALWAYS, *(_MASKED if options.mask != "none" else ())]
    names += [*(_ENLARGED if options.upscale else ()), *(_OF_VIDEOS if video else ())]
    names += ["aligned"] if options.aligned else []
    found = {"size": side, **{name: getattr(options, name) for name in names}}
    found["upscale"] = Path(options.upscale).name if options.upscale else None
    found["seed"] = options.seed
    if is_dataclass(options.method) and not isinstance(options.method, type):
        found |= {f.name: getattr(options.method, f.name) for f in fields(options.method)}
    return strict({k: v if isinstance(v, int | float | str | None) else str(v)
                   for k, v in found.items()})  # fmt: skip


def hashed(files: Iterable[Path]) -> list[Mapping[str, str]]:
    """Name and SHA-256 of weight files; each is read once in a process.

    Raises:
        OSError: one is no longer there.
    """
    paths = dict.fromkeys(files)
    return [{"name": p.name, "sha256": _hash(p, p.stat().st_mtime_ns)} for p in paths]


@lru_cache
def _hash(path: Path, changed: int) -> str:
    return content_hash(path)
