"""With what results are made, as their records say it, and what that differs in from now."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.devices import AUTO, asked_format
from ...core.diffusion.source import DiffusersModels
from ...core.errors import CheckpointError, listed, shorten
from ...core.faces.needs import NEEDS, find_weights, home_of
from ...core.faces.parsing import find_parser
from ...core.files.known import ARCFACE
from ...core.files.writing import quick_mark
from ...core.host import host
from ...core.methods import spec_of
from ...core.people.limits import limits_file
from ...core.people.person import Person
from ...core.pipeline.options import RestoreOptions
from ...core.pipeline.upscale import find_upscaler
from ..jobs.manifest import Record
from ..jobs.recorded import file_mark
from .restore_files import RestorerChoice

FILES, PEOPLE, REFERENCES = "files", "people", "references"
"""Entries of a record that are marks of contents, not values of options."""
_NO_PART = frozenset({"faces_at_once", "upscale_tile", "receipts", "method", "person", PEOPLE})
"""Fields of `RestoreOptions` that change no result, or are told otherwise."""
_OF_VIDEOS = frozenset({"smoothing", "fill_gaps", "fade", "cut_threshold", "crf"})


class Settings:
    """What decides results besides their sources; weights and photographs by marks of them."""

    def __init__(self, choice: RestorerChoice, options: RestoreOptions) -> None:
        """
        Args:
            options: as they were given: references not yet made into an album.
        """
        self._defaults = _values(RestoreOptions())
        found = _values(options)
        if kind := spec_of(choice.name).options:
            self._defaults |= _values(kind())
            found |= _values(options.method or kind())
        about: Record = {"weights": Path(choice.name).name, "analyzer": _analyzer(choice)}
        about |= {"rotations": True} if choice.rotations else {}
        self._defaults["dtype"], dtype = AUTO, asked_format()
        if dtype != AUTO and not spec_of(choice.name).any_file:  # which has no diffusion model
            about["dtype"] = dtype
        if options.upscale:
            found["upscale"] = Path(options.upscale).name
        about |= {k: v for k, v in found.items() if v != self._defaults[k]}
        marks = _files(choice, options)
        about |= {FILES: marks} if marks else {}
        albums = [*options.people, *([options.person] if options.person else [])]
        if albums:
            about[PEOPLE] = {album.name: album_mark(album) for album in albums}
        if len(options.references):
            about[REFERENCES] = _photos_mark(options.references)
        self._about = json.loads(json.dumps(about))

    def of(self, *, video: bool, told: Sequence[str] = ()) -> Record:
        """What a record of a result says; options that are as by default are not mentioned.

        Args:
            told: what is told by hand of the faces of this file.
        """
        about = {k: v for k, v in self._about.items() if video or k not in _OF_VIDEOS}
        return {**about, "assign": sorted(told)} if told else about

    def differing(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
        """What a result was made with, where that is not what is asked for now; else empty.

        Args:
            before: of a record, which anybody may have written.
        """
        parts = []
        for key in dict.fromkeys([*now, *before]):
            was, is_now = (at.get(key, self._defaults.get(key)) for at in (before, now))
            if was == is_now or (key == FILES and not now.get(FILES)):
                continue  # what is not here is missed by who loads it
            if key in (FILES, PEOPLE):
                parts += _contents(key, was, is_now)
            elif key == REFERENCES:
                parts.append("the photographs of --reference are others")
            else:
                name = shorten(key.replace("_", "-"), 40)
                parts.append(f"--{name} was {_shown(was)}, is {_shown(is_now)}")
        return "; ".join(parts)


def _values(options: Any) -> dict[str, Any]:
    found = {f.name: getattr(options, f.name) for f in fields(options) if _is_value(f.name)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}  # as JSON has it


def _is_value(name: str) -> bool:
    return name not in _NO_PART and name != REFERENCES


def _analyzer(choice: RestorerChoice) -> str:
    """Who finds faces; of "auto" also which one is ready, as far as its files tell."""
    spec = spec_of(choice.name)
    name = choice.analyzer or spec.analyzer
    if name != "auto":
        return name
    dense = choice.measured or spec.takes_people
    for each, needs in NEEDS.items():
        lacks = needs.lacks(find_weights(each), home_of(each))
        if not lacks and (needs.dense or not dense):
            return f"auto ({each})"
    return name


def _files(choice: RestorerChoice, options: RestoreOptions) -> dict[str, str]:
    """Marks of the files that decide pixels, by their names; those that are not here are not in."""
    spec, source = spec_of(choice.name), DiffusersModels(host.folders)
    paths: list[Path] = []
    with suppress(CheckpointError):
        paths += spec.find(source).values()
        if options.held_back and not spec.takes_people and not spec.bundled:
            paths.append(source.known(ARCFACE))
    if options.held_back or options.people:  # what `person calibrate` wrote counts, too
        paths += [beside for path in paths if (beside := limits_file(path)).is_file()]
    with suppress(CheckpointError):
        paths += [find_upscaler(options.upscale)] if options.upscale else []
    with suppress(CheckpointError):
        paths += [find_parser()[0]] if options.mask == "parsing" else []
    marks = {}
    for path in paths:
        with suppress(OSError):  # told by who loads it
            marks[path.name] = quick_mark(path)
    return dict(sorted(marks.items()))


def album_mark(album: Person) -> str:
    """12 digits that change with any photograph of an album, and with who read them."""
    digest = hashlib.sha256(f"{album.name}\0{album.recogniser}".encode("utf-8", "surrogatepass"))
    for part in (album.crops, album.embeddings, album.landmarks, album.quality):
        digest.update(f"{tuple(part.shape)}".encode())
        digest.update(part.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _photos_mark(photos: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for path in getattr(photos, "paths", ()):
        digest.update(file_mark(path).encode())
    for photo in () if hasattr(photos, "paths") else photos:
        digest.update(f"{tuple(photo.shape)}".encode())
        digest.update(photo.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _contents(key: str, was: Any, now: Any) -> list[str]:
    """What changed among files or albums, whose marks are told by their names."""
    before, after = (at if isinstance(at, dict) else {} for at in (was, now))
    what = "the file {}" if key == FILES else "the album of {}"
    named = {
        "is another now": [n for n in after if n in before and before[n] != after[n]],
        "was not there": [n for n in after if n not in before],
        "is not there now": [n for n in before if n not in after],
    }
    return [
        f"{what.format(listed([shorten(n, 40) for n in names]))} {verb}"
        for verb, names in named.items()
        if names
    ]


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "not given", True: "on", False: "off"}[value]
    if isinstance(value, list | tuple):
        return shorten(", ".join(map(str, value)) or "not given", 60)
    return shorten(str(value), 60) or "not given"
