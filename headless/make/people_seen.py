"""What was seen on each photograph of a folder of strangers: kept, so that it is looked at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import torch
from torch import Tensor

from ...core.checkpoint import (
    make_metadata,
    read_config,
    read_metadata,
    read_tensors,
    save_safetensors,
)
from ...core.errors import CheckpointError, shorten
from .people_table import FILE as TABLE

FILE = "faces.safetensors"
FORMAT = "people"
VERSION = 1
_AGAIN = (
    "Delete it and give the photos again: they are looked at anew, and what people.csv says of the "
    "faces stays."
)
_COUNT = 10**9


@dataclass(frozen=True)
class Faces:
    """f faces of one photograph, from left to right."""

    embeddings: Tensor
    """(f, d) float32 of length 1."""
    boxes: Tensor
    """(f, 4) float32 x0, y0, x1, y1 in pixels of the photo."""
    points: Tensor
    """(f, 5, 2) float32, by which they are cut out."""
    sharpness: Tensor
    """(f,) float32 in [0, 1]."""

    def __len__(self) -> int:
        return len(self.embeddings)


_PARTS = {"embeddings": (-1,), "boxes": (4,), "points": (5, 2), "sharpness": ()}


@dataclass(frozen=True)
class Photo:
    """A photograph by its content."""

    path: Path
    """Where it was last."""
    name: str
    """For people: its path within the folder that was given."""
    faces: Faces
    told: bool = False
    """Whether people.csv had a row for each of its faces: one that is missing was deleted."""


@dataclass
class Seen:
    """All that was seen, by the SHA-256 of the photos."""

    recogniser: str
    analyzer: str
    given: dict[str, str] = field(default_factory=dict)
    """How recogniser and analyzer were called on the command line."""
    next_face: int = 1
    next_person: int = 1
    sheets: list[str] = field(default_factory=list)
    """Pictures that were drawn of it, by their names in the folder."""
    photos: dict[str, Photo] = field(default_factory=dict)

    def fitting(self, dim: int) -> "Seen":
        """Itself, if its embeddings have `dim` numbers.

        Raises:
            CheckpointError: they have others.
        """
        for photo in self.photos.values():
            if photo.faces.embeddings.shape[1] != dim:
                raise CheckpointError(
                    f"{FILE} cannot be used: its embeddings have "
                    f"{photo.faces.embeddings.shape[1]} numbers, those of {self.recogniser} have "
                    f"{dim}. {_AGAIN}"
                )
        return self

    def save(self, folder: Path) -> None:
        """Write it, for its owner alone.

        Raises:
            OSError: the folder cannot be written.
        """
        entries = [
            {
                "sha256": sha256,
                "path": quote_from_bytes(os.fsencode(_told_from(folder, photo.path))),
                "name": quote_from_bytes(os.fsencode(photo.name)),
                "faces": len(photo.faces),
                "told": photo.told,
            }
            for sha256, photo in sorted(self.photos.items())
        ]
        faces = [photo.faces for _, photo in sorted(self.photos.items())]
        width = next((f.embeddings.shape[1] for f in faces), 1)
        tensors = {
            part: torch.cat(
                [torch.zeros(0, *((width,) if rest == (-1,) else rest))]
                + [getattr(f, part) for f in faces if len(f)]
            )
            for part, rest in _PARTS.items()
        }
        config = {
            "version": VERSION,
            "recogniser": self.recogniser,
            "analyzer": self.analyzer,
            "given": self.given,
            "next": [self.next_face, self.next_person],
            "sheets": self.sheets,
            "photos": entries,
        }
        save_safetensors(folder / FILE, tensors, make_metadata(FORMAT, config), private=True)


def read_seen(folder: Path) -> Seen | None:
    """What `Seen.save` wrote into a folder; None where there is nothing.

    Raises:
        CheckpointError: it is damaged or something else.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    tensors, metadata = read_tensors(path, again=_AGAIN)
    config = read_config(metadata, FORMAT, source=path.name, otherwise=_AGAIN)
    wrong = _wrong(config, tensors)
    if wrong:
        raise CheckpointError(f"{path.name} cannot be used: {wrong} {_AGAIN}")
    seen = Seen(config["recogniser"], config["analyzer"], config["given"])
    seen.next_face, seen.next_person = config["next"]
    seen.sheets = config["sheets"]
    start = 0
    for entry in config["photos"]:
        end = start + entry["faces"]
        faces = Faces(**{part: tensors[part][start:end].clone() for part in _PARTS})
        where = Path(os.path.normpath(folder / _path(entry["path"])))
        name = _path(entry["name"])
        seen.photos[entry["sha256"]] = Photo(where, name, faces, entry.get("told") is True)
        start = end
    return seen


def given_before(folder: Path) -> dict[str, str]:
    """How recogniser and analyzer were called in the run before; empty where that is not known.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        config = read_config(read_metadata(path), FORMAT, source=path.name)
    except CheckpointError:
        read_seen(folder)  # says what is wrong, and what to do
        return {}
    given = config.get("given")
    if not isinstance(given, dict) or not all(map(_is_text, given.values())):
        return {}
    # A file from somebody else may name weights that lie in the models folder, and no others.
    return {key: text for key, text in given.items() if Path(text).name == text}


def is_folder_of_people(folder: Path) -> bool:
    """Whether an earlier run wrote into a folder."""
    return any((folder / name).is_file() for name in (FILE, TABLE))


def _told_from(folder: Path, path: Path) -> str:
    """A path as it is found from the folder, so that both can be moved together."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive
        return os.path.abspath(path)


def _path(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text))


def _wrong(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """What is wrong with the content of a file, or None."""
    if config.get("version") != VERSION:
        version = shorten(repr(config.get("version")), 40)
        return f"it is of version {version}, and this facewright reads {VERSION}."
    photos, numbers, given = config.get("photos"), config.get("next"), config.get("given")
    sheets = config.get("sheets")
    if not (
        all(_is_text(config.get(name)) for name in ("recogniser", "analyzer"))
        and isinstance(given, dict)
        and all(_is_text(text) for text in given.values())
        and isinstance(sheets, list)
        and all(map(_is_text, sheets))
        and isinstance(numbers, list)
        and len(numbers) == 2
        and all(_is_count(number) and number for number in numbers)
        and isinstance(photos, list)
        and all(map(_is_photo, photos))
        and len({entry["sha256"] for entry in photos}) == len(photos)
    ):
        return "its description is wrong."
    count = sum(entry["faces"] for entry in photos)
    for part, rest in _PARTS.items():
        tensor = tensors.get(part)
        if (
            tensor is None
            or tensor.dtype != torch.float32
            or tensor.ndim != 1 + len(rest)
            or len(tensor) != count
            or (rest != (-1,) and tuple(tensor.shape[1:]) != rest)
            or not bool(tensor.isfinite().all())
        ):
            return f"`{part}` is not that of {count} faces."
    if bool(((tensors["embeddings"].norm(dim=1) - 1).abs() > 1e-3).any()):
        return "`embeddings` are not of length 1."
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _COUNT


def _is_photo(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    mark = entry.get("sha256")
    return (
        isinstance(mark, str)
        and len(mark) == 64
        and set(mark) <= set("0123456789abcdef")
        and all(
            isinstance(entry.get(name), str)
            and 0 < len(entry[name]) < 20_000
            and b"\0" not in unquote_to_bytes(entry[name])
            for name in ("path", "name")
        )
        and _is_count(entry.get("faces"))
    )
