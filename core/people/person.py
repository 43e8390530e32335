"""An album of one person: aligned photographs and what recognisers and landmarkers said of them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoint import make_metadata, read_config, read_tensors, save_safetensors
from ..errors import CheckpointError, FacewrightError, counted, listed, shorten

NOBODY = "nobody"
"""What is said of a face that is no album's; no album can be given by this name."""
FORMAT = "person"
VERSION = 1
SUFFIX = ".person"

_LONGEST = 100
_LONGEST_TEXT = 1000
"""Characters of a name; all of it stands in sentences and on pictures."""
_RESERVED = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)")
"""Names of devices, which Windows gives to no file."""
_AGAIN = "Copy it again from where it came from, or make it again from the photos."
_OTHERWISE = "Choose a file that Save Person or `facewright person make` wrote."
_CONFIG = {"version": int, "name": str, "recogniser": str, "sources": list}


@dataclass(frozen=True, kw_only=True)
class Person:
    """n >= 1 photographs of one person, FFHQ-aligned."""

    name: str
    crops: Tensor
    """(n, 3, s, s) in [0, 1] float32."""
    embeddings: Tensor
    """(n, d) float32 of length 1, of the recogniser named by `recogniser`."""
    landmarks: Tensor
    """(n, k, 2) float32 in pixels of the crops; k is 68 (iBUG) or 98 (WFLW)."""
    quality: Tensor
    """(n,) float32 in [0, 1]: how much a photograph tells, by size and sharpness."""
    recogniser: str
    """`Recogniser.id` of who made the embeddings."""
    sources: tuple[str, ...]
    """Where each photograph came from, for people: a file's name or "photo 3"; no paths."""

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def template(self) -> Tensor:
        """(d,) of length 1: the mean of the embeddings, weighted by quality.

        Where no photograph has any quality all count alike.
        """
        weights = self.quality if bool(self.quality.any()) else torch.ones_like(self.quality)
        return F.normalize(weights @ self.embeddings, dim=0)

    @property
    def info(self) -> str:
        """One line: name, photographs, their size and landmarks, and the recogniser."""
        count = counted(len(self), "photograph")
        return (
            f"{shorten(self.name)}: {count} at {self.crops.shape[-1]} px, "
            f"{self.landmarks.shape[1]} landmarks, embeddings of {shorten(self.recogniser)}"
        )

    def check_fits(self, recogniser: str, points: int | None = None) -> None:
        """Raise FacewrightError unless faces that are read so can be compared with the album.

        Args:
            recogniser: `Recogniser.id` of who reads them.
            points: landmarks per face, where these are compared too.
        """
        if self.recogniser != recogniser:
            raise FacewrightError(
                f"The album of {shorten(self.name)} was made with the recogniser "
                f"{shorten(self.recogniser)}, but the faces are compared by {recogniser}, and "
                "numbers of two recognisers say nothing about each other. Connect that recogniser, "
                "or make the album again with this one."
            )
        if points is not None and self.landmarks.shape[1] != points:
            raise FacewrightError(
                f"The album of {shorten(self.name)} holds {self.landmarks.shape[1]} landmarks per "
                f"photo, but the face analyzer gives {points}. Use the analyzer that the album was "
                "made with, or make it again."
            )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Person":
        """Read a file written by `save`; nothing in it is executed.

        Raises:
            CheckpointError: the file is missing, empty, cut off, something else or of another
                version, or what it holds does not belong together; the sentence names it.
        """
        path = Path(path)
        tensors, metadata = read_tensors(path, again=_AGAIN)
        config = read_config(metadata, FORMAT, source=path.name, otherwise=_OTHERWISE)
        problem = _config_problem(config) or _problem(tensors, len(config["sources"]))
        if problem:
            raise CheckpointError(f"{path.name} is no album that can be used: {problem}")
        return cls(
            name=config["name"],
            crops=tensors["crops"].float() / 255,
            embeddings=tensors["embeddings"].clone(),
            landmarks=tensors["landmarks"].clone(),
            quality=tensors["quality"].clone(),
            recogniser=config["recogniser"],
            sources=tuple(base_name(source) for source in config["sources"]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file that is complete or not there, and that only its owner may read.

        Crops are stored as 8-bit numbers, which is what `make_person` rounded them to, so
        everything comes back bit by bit. Of the sources only base names are stored.

        Raises:
            FacewrightError: the parts of the album do not belong together.
            OSError: the folder cannot be written.
        """
        tensors = {
            "crops": to_bytes(self.crops),
            "embeddings": self.embeddings.float().cpu(),
            "landmarks": self.landmarks.float().cpu(),
            "quality": self.quality.float().cpu(),
        }
        config = {
            "version": VERSION,
            "name": self.name,
            "recogniser": self.recogniser,
            "sources": [base_name(source) for source in self.sources],
        }
        # What `from_file` would refuse must not take the place of what it reads.
        problem = _config_problem(config) or _problem(tensors, len(self.sources))
        if problem:
            raise FacewrightError(f"The album of {shorten(self.name)} cannot be saved: {problem}")
        save_safetensors(path, tensors, make_metadata(FORMAT, config), private=True)


def to_bytes(crops: Tensor) -> Tensor:
    """[0, 1] -> uint8, rounded; exact for multiples of 1/255."""
    return (crops.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)


def check_name(name: str) -> str:
    """The name of a person without spaces around it.

    Raises:
        FacewrightError: nothing is left, it is longer than a file may hold, or it is `NOBODY`.
    """
    name = name.strip()
    if name.casefold() == NOBODY:
        raise FacewrightError(
            f'"{name}" is what faces without an album are called, so no album can bear that name. '
            "Give the person another."
        )
    if not name:
        raise FacewrightError("An album needs the name of the person, and this one is empty.")
    if len(name) > _LONGEST_TEXT:
        raise FacewrightError(
            f"The name of a person has at most {_LONGEST_TEXT} characters; this one has {len(name)}"
            f": {shorten(name)}"
        )
    return name


def base_name(source: str) -> str:
    """The last part of a path of any system; a name that is no path stays as it is."""
    return re.split(r"[\\/]", source.rstrip("\\/"))[-1]


def file_name(text: str) -> str:
    """`text` as the name of a .person file that every system can store.

    Raises:
        FacewrightError: nothing is left of it.
    """
    stem = text.strip().removesuffix(SUFFIX)
    stem = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", stem).strip(" .")[:_LONGEST].rstrip(" .")
    if not stem:
        raise FacewrightError(f"{text!r} cannot be the name of a file; use letters or digits.")
    if _RESERVED.fullmatch(stem.split(".")[0]):
        stem = f"_{stem}"
    return stem + SUFFIX


def save_person(
    person: Person, folder: Path, *, filename: str = "", overwrite: bool = False
) -> tuple[Path, str]:
    """Write an album into a folder under a safe name.

    Args:
        filename: with or without ".person"; empty takes the person's name.
        overwrite: replace another album of that file name.

    Returns:
        Where it is, and a sentence on what was done. The same album again is left as it is.

    Raises:
        FacewrightError: the file is there, holds something else and may not be replaced.
        OSError: the folder cannot be written.
    """
    path = folder / file_name(filename.strip() or person.name)
    if path.exists() and not overwrite:
        if not holds(path, person):
            raise FacewrightError(
                f"There already is another {path.name} in {folder}. Switch `overwrite` on to "
                "replace it, or choose another `filename`."
            )
        return path, f"{path.name} was there already, just so"
    person.save(path)
    return path, f"saved as {path.name}: {person.info}"


def holds(path: Path, person: Person) -> bool:
    """Whether a file is just this album."""
    try:
        stored = Person.from_file(path)
    except CheckpointError:
        return False
    texts = (stored.name, stored.recogniser, stored.sources)
    return texts == (person.name, person.recogniser, person.sources) and all(
        torch.equal(getattr(stored, key), getattr(person, key).cpu())
        for key in ("crops", "embeddings", "landmarks", "quality")
    )


def check_names(people: list[Person]) -> None:
    """Raise FacewrightError where two albums bear one name."""
    names = [person.name for person in people]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FacewrightError(
            f"There is more than one album with the name {listed(twice)}. Give each person a "
            "name of their own, or put all photos of one person into one album."
        )


def join_people(person: Person, people: list[Person] | None) -> list[Person]:
    """The chain of albums with one more; the given chain stays as it is.

    Raises:
        FacewrightError: an album of that name is in the chain already.
    """
    joined = [*(people or []), person]
    check_names(joined)
    return joined


def _config_problem(config: Mapping[str, Any]) -> str | None:
    version = config.get("version")
    if type(version) is not int or version != VERSION:
        return (
            f"it is of format version {shorten(repr(version), 40)}, and this facewright reads "
            f"version {VERSION}. Update facewright, or make the album again from the photos."
        )
    wrong = [k for k, kind in _CONFIG.items() if not isinstance(config.get(k), kind)]
    wrong += [k for k in ("name", "recogniser") if len(str(config.get(k))) > _LONGEST_TEXT]
    wrong += [k for k in config if k not in _CONFIG]
    if not wrong and not all(isinstance(source, str) for source in config["sources"]):
        wrong = ["sources"]
    if wrong:
        return f"its description is wrong at {listed(wrong)}. Make it again from the photos."
    return None


def _problem(tensors: Mapping[str, Tensor], n: int) -> str | None:
    """What is wrong with the stored tensors of an album with `n` sources, or None."""
    again = "Make it again from the photos."
    expected = {
        "crops": (torch.uint8, "(n, 3, s, s)"),
        "embeddings": (torch.float32, "(n, d)"),
        "landmarks": (torch.float32, "(n, 68 or 98, 2)"),
        "quality": (torch.float32, "(n,)"),
    }
    missing = [k for k in expected if k not in tensors]
    if missing:
        return f"it lacks {listed(missing)}. {again}"
    extra = [k for k in tensors if k not in expected]
    if extra:
        return f"it holds {listed(extra)}, which no album has. {again}"
    shapes = {k: tuple(t.shape) for k, t in tensors.items()}
    fits = {
        "crops": len(shapes["crops"]) == 4 and shapes["crops"][1:2] == (3,)
        and shapes["crops"][2] == shapes["crops"][3] > 0,
        "embeddings": len(shapes["embeddings"]) == 2 and shapes["embeddings"][1] > 0,
        "landmarks": shapes["landmarks"][1:] in {(68, 2), (98, 2)},
        "quality": len(shapes["quality"]) == 1,
    }  # fmt: skip
    for key, (dtype, shape) in expected.items():
        if not fits[key] or tensors[key].dtype != dtype or shapes[key][0] != n or n == 0:
            return (
                f"`{key}` should be {shape} {str(dtype)[6:]} for its {n} photos, got "
                f"{shapes[key]} {str(tensors[key].dtype)[6:]}. {again}"
            )
    broken = [k for k, t in tensors.items() if not t.isfinite().all()]
    if broken:
        return f"{listed(broken)} holds NaN or infinity. {again}"
    if bool(((tensors["embeddings"].norm(dim=1) - 1).abs() > 1e-3).any()):
        return f"`embeddings` are not of length 1. {again}"
    quality = tensors["quality"]
    if bool((quality < 0).any() or (quality > 1).any()):
        return f"`quality` leaves [0, 1]. {again}"
    return None
