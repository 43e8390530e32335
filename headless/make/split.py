"""A data set of people divided into people to train on and people to test with."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError, counted, listed, os_sentence
from ...core.files.scan import LeftAside, pictures_in
from ...core.files.writing import written_whole

RECORD = "split.json"
"""Who is on which side; written before the first picture."""
TRAIN, TEST = "train", "test"


@dataclass
class Split:
    """Who is tested with, and the pictures of everybody."""

    folder: Path
    test: list[str]
    train: list[str]
    pictures: dict[str, list[Path]]
    """Person -> pictures and their captions."""
    loose: list[Path]
    """Pictures in no person's folder: on neither side."""
    aside: LeftAside

    def as_dict(self) -> dict[str, list[str]]:
        return {TEST: self.test, TRAIN: self.train}


@dataclass
class Divided:
    """What `divide` has done."""

    made: dict[str, int] = field(default_factory=lambda: {TEST: 0, TRAIN: 0})
    """Side -> pictures, captions not counted."""
    failed: dict[str, str] = field(default_factory=dict)
    """File -> why."""


def plan_split(
    folder: Path, *, first: int | None = None, last: int | None = None, names: Path | None = None
) -> Split:
    """Choose the people to test with; all others are trained on.

    People are the subfolders of `folder` that hold pictures, in the order of the numbers in their
    names, and of their letters: 2 before 10.

    Args:
        first: so many people at the beginning are tested with.
        last: so many at the end.
        names: a text file, one person's folder on each line.

    Raises:
        FacewrightError: nobody is left on one of the sides, or a name is no folder there.
    """
    aside = LeftAside()
    found: dict[str, list[Path]] = {}
    loose: list[Path] = []
    for file in pictures_in(folder, aside):
        parts = file.relative_to(folder).parts
        if len(parts) == 1:
            loose.append(file)
            continue
        caption = file.with_suffix(".txt")
        found.setdefault(parts[0], []).extend([file, *([caption] if caption.is_file() else [])])
    people = sorted(found, key=_in_numbers)
    if names is not None:
        test = _named(names, people, folder)
    else:
        test = people[:first] if last is None else people[-last:]
    chosen = set(test)
    train = [person for person in people if person not in chosen]
    if not test or not train:
        raise FacewrightError(
            f"{folder} holds {counted(len(people), 'folder')} with pictures, of which {len(test)} "
            f"would be tested with and {len(train)} trained on. Give a folder of people, a "
            "subfolder each, and leave somebody on both sides."
        )
    return Split(folder, test, train, found, loose, aside)


def _in_numbers(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts]


def _named(file: Path, people: Sequence[str], folder: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FacewrightError(
            f"{file} cannot be read ({error}). Give a text file in UTF-8, one folder's name a line."
        ) from error
    wanted = dict.fromkeys(line.strip() for line in lines if line.strip())
    if unknown := [name for name in wanted if name not in set(people)]:
        raise FacewrightError(
            f"{counted(len(unknown), 'name')} in {file} are no folders with pictures in {folder}: "
            f"{listed(unknown)}. Mend or remove those lines."
        )
    return [person for person in people if person in wanted]


def divide(
    split: Split, out: Path, on_person: Callable[[str, int], None] = lambda name, done: None
) -> Divided:
    """Put everybody's pictures into `out`/test or `out`/train, a folder for each person.

    Files are linked where the disk allows, which takes no room, and copied elsewhere. What is there
    already stays, so that an interrupted run goes on.

    Raises:
        FacewrightError: `out` holds another split, or other files.
        OSError: `out` cannot be written.
    """
    _claim(split, out)
    done = Divided()
    sides = ((TEST, split.test), (TRAIN, split.train))
    everybody = [(side, person) for side, people in sides for person in people]
    for number, (side, person) in enumerate(everybody):
        for file in split.pictures[person]:
            try:
                _put(file, out / side / file.relative_to(split.folder))
                done.made[side] += file.suffix != ".txt"
            except OSError as error:
                done.failed[str(file)] = os_sentence(error)
        on_person(person, number + 1)
    return done


def _claim(split: Split, out: Path) -> None:
    record = out / RECORD
    wanted = split.as_dict()
    if record.is_file():
        try:
            before = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != wanted:
            raise FacewrightError(
                f"{out} holds another split ({record}): with both in one folder people to test "
                "with would be trained on. Choose another folder, or remove this one."
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise FacewrightError(
            f"{out} holds other files, and no {RECORD}. Choose a folder that is new or empty."
        )
    with written_whole(record) as temporary:
        # In ASCII: names of folders may be any bytes.
        temporary.write_text(json.dumps(wanted, indent=1), encoding="ascii")


def _put(file: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or a system without such links
        with written_whole(target) as temporary:
            shutil.copyfile(file, temporary)


def facts_of(split: Split, out: Path, done: Divided) -> dict[str, Any]:
    """For JSON: both sides with their folders, people and numbers of pictures."""

    def side(name: str, people: Iterable[str]) -> dict[str, Any]:
        return {"folder": str(out / name), "people": list(people), "pictures": done.made[name]}

    return {
        TEST: side(TEST, split.test),
        TRAIN: side(TRAIN, split.train),
        "failed": done.failed,
        "loose": [str(file) for file in split.loose],
        "left_aside": split.aside.entries(),
    }
