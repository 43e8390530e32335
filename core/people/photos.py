"""Which photograph of an album is meant: by its number, counted from 0, or by its source."""

import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..errors import FacewrightError, counted, listed, shorten
from .person import Person

_NUMBER = re.compile(r"#?(\d{1,9})")


def labels(person: Person) -> list[str]:
    """What each photograph is called in sentences: its source, with its number where two share it.

    Whatever a file says they are called, they fit on a line.
    """
    names = [shorten(source) for source in person.sources]
    count = Counter(names)
    return [f"{n} (number {i})" if count[n] > 1 else n for i, n in enumerate(names)]


def handles(person: Person, photos: Iterable[int]) -> list[str]:
    """What `find_photos` takes for these: sources where they are plain, else numbers."""
    return [_handle(person, i) for i in photos]


def _handle(person: Person, number: int) -> str:
    source = person.sources[number]
    plain = source == shorten(source) and source[:1] not in ("", "-", "#", "~")
    plain = plain and not re.search(r"[,$*?\[\]{}\\/]|^\s|\s$", source)
    if plain and not _NUMBER.fullmatch(source) and person.sources.count(source) == 1:
        return source
    return f"#{number}" if str(number) in person.sources else str(number)


def find_photos(person: Person, given: Sequence[str]) -> list[int]:
    """The photographs that are meant, in the order of the album, each once.

    Args:
        given: sources, or numbers as `facewright person show` counts them; "#2" is always a number,
            whatever photographs are called.

    Raises:
        FacewrightError: there is none of that number or source, or more than one.
    """
    return sorted({_find(person, text.strip()) for text in given})


def _find(person: Person, text: str) -> int:
    number = _NUMBER.fullmatch(text)
    meant = {int(number[1])} if number and int(number[1]) < len(person) else set()
    if not (number and text.startswith("#")):
        meant |= {i for i, source in enumerate(person.sources) if source == text}
    if len(meant) == 1:
        return meant.pop()
    if meant:
        which = listed(
            (f"#{i} ({shorten(person.sources[i])})" for i in sorted(meant)), between=" or "
        )
        raise FacewrightError(
            f"{shorten(text)!r} may be more than one photo of the album of {shorten(person.name)}: "
            f"say {which}."
        )
    raise FacewrightError(
        f"The album of {shorten(person.name)} has no photo {shorten(text)!r}. Its "
        f"{counted(len(person), 'photo')}: {listed(_numbered(person), 8)}. "
        "Give a source or a number."
    )


def _numbered(person: Person) -> list[str]:
    return [f"{i}: {shorten(source)}" for i, source in enumerate(person.sources)]


def subset(person: Person, photos: Sequence[int]) -> Person:
    """An album of these photographs alone, at least one, in this order."""
    index = list(photos)
    return replace(
        person,
        crops=person.crops[index],
        embeddings=person.embeddings[index],
        landmarks=person.landmarks[index],
        quality=person.quality[index],
        sources=tuple(person.sources[i] for i in index),
    )


def command(*words: str) -> str:
    """`facewright ...` as somebody types it into the shell of this system."""
    parts = ["facewright", *map(str, words)]
    return subprocess.list2cmdline(parts) if os.name == "nt" else shlex.join(parts)
