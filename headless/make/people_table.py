"""people.csv: the faces of a folder of strangers, as the user looks at them and corrects them.

A row per face. Whatever stands in `person` counts, whoever wrote it; `nobody` leaves the face out;
an empty cell leaves it to the next run. A row that is deleted comes back as nobody's. Rows may
stand in any order.
"""

import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from ...core.errors import FacewrightError, shorten
from ...core.files.writing import written_whole
from ...core.people.person import NOBODY
from .tables import read_rows, shielded

FILE = "people.csv"
COLUMNS = ("number", "photo", "face", "person", "sure", "maybe", "note", "left", "top", "right",
           "bottom", "sha256")  # fmt: skip
_SIDES = ("left", "top", "right", "bottom")
_NEEDED = ("number", "person", *_SIDES, "sha256")
_LARGEST = 256 * 2**20
LONGEST = 100
"""Characters of a name."""
UNNAMED = re.compile(r"person (\d{1,6})")
"""Names of people to whom nobody gave one."""
_AGAIN = (
    "Mend it, or delete the file: the next run writes it anew, without what was corrected in it."
)


@dataclass(kw_only=True)
class Row:
    """One face."""

    number: int
    """Of the face, for ever."""
    photo: str
    """Name of the file, for people."""
    face: int
    """From the left of the photo, from 0."""
    person: str = ""
    """"" where it is left open."""
    sure: str = ""
    """ "yes", "no", or "by hand" where the user decided what was unsure."""
    maybe: str = ""
    """Whom an unsure face may show, in words."""
    note: str = ""
    box: tuple[float, float, float, float]
    sha256: str
    """Of the photo."""
    more: dict[str, str] = field(default_factory=dict)
    """Columns of the user's own."""


def read_table(path: Path) -> list[Row]:
    """Rows of a table as `write_table` or a spreadsheet wrote it; none where there is no file.

    Raises:
        FacewrightError: it cannot be understood; the sentence names the line.
    """
    if not path.is_file():
        return []
    if path.stat().st_size > _LARGEST:
        raise FacewrightError(f"{path.name} is larger than any table of faces. {_AGAIN}")
    lines = read_rows(path.read_bytes(), path.name, again=_AGAIN)
    # Spreadsheets like to add empty columns at the end.
    width = max((len(cells) - _empty_at_end(cells) for _, cells in lines), default=0)
    table = [(line, [*cells, *[""] * width][:width]) for line, cells in lines]
    names = [name.strip() for name in (table.pop(0)[1] if table else [])]
    names = [name or f"column {i}" for i, name in enumerate(names, 1)]
    missing = [name for name in _NEEDED if name not in names]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if missing or twice:
        wrong = f"the column {missing[0]}" if missing else f"{shorten(twice[0])} once only"
        raise FacewrightError(f"{path.name} needs {wrong} in its first line. {_AGAIN}")
    rows = [
        _row(dict(zip(names, cells, strict=True)), f"{path.name}, line {line}")
        for line, cells in table
    ]
    numbers = Counter(row.number for row in rows)
    again = [number for number, count in numbers.items() if count > 1]
    if again:
        raise FacewrightError(f"{path.name} has face {again[0]} more than once. {_AGAIN}")
    return rows


def _empty_at_end(cells: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda cell: not cell, reversed(cells)))


def _row(cells: Mapping[str, str], where: str) -> Row:
    number, face = cells["number"], cells.get("face", "0")
    if not re.fullmatch(r"[0-9]{1,9}", number) or not re.fullmatch(r"[0-9]{1,9}", face):
        raise FacewrightError(f"{where}: `number` and `face` are whole numbers. {_AGAIN}")
    if not re.fullmatch(r"[0-9a-f]{64}", cells["sha256"]):
        raise FacewrightError(f"{where}: `sha256` has 64 hexadecimal digits. {_AGAIN}")
    try:
        box = tuple(float(cells[side].replace(",", ".")) for side in _SIDES)
    except ValueError:
        box = (math.nan,) * 4
    if not all(map(math.isfinite, box)):
        raise FacewrightError(f"{where}: left, top, right and bottom are pixels. {_AGAIN}")
    return Row(
        number=int(number),
        photo=cells.get("photo", ""),
        face=int(face),
        person=check_name(cells["person"], where),
        sure=cells.get("sure", ""),
        maybe=cells.get("maybe", ""),
        note=cells.get("note", ""),
        box=(box[0], box[1], box[2], box[3]),
        sha256=cells["sha256"],
        more={name: text for name, text in cells.items() if name not in COLUMNS},
    )


def check_name(text: str, where: str) -> str:
    """A person's name without spaces around and twice inside; "nobody" and "person 3" however they
    are written.

    Raises:
        FacewrightError: it is too long or cannot be shown.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if len(name) > LONGEST or not name.isprintable():
        raise FacewrightError(
            f"{where}: {shorten(name)!r} is no name of a person. Write at most {LONGEST} letters "
            "that can be shown."
        )
    if number := UNNAMED.fullmatch(name.casefold()):
        return unnamed(int(number[1]))
    return NOBODY if name.casefold() == NOBODY else name


def unnamed(number: int) -> str:
    """What somebody is called to whom nobody gave a name."""
    return f"person {number:02}"


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write the table for its owner alone; complete or not there.

    Raises:
        OSError: the folder cannot be written.
    """
    rows = sorted(rows, key=lambda row: row.number)
    extra = list(dict.fromkeys(name for row in rows for name in row.more))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*COLUMNS, *map(_safe, extra)])
    for row in rows:
        box = [f"{side:.0f}" for side in row.box]
        about = [row.person, row.sure, row.maybe, row.note]
        cells = [row.number, _safe(row.photo), row.face, *map(_safe, about), *box, row.sha256]
        writer.writerow([*cells, *(_safe(row.more.get(name, "")) for name in extra)])
    # What is no Unicode in a file's name is shown by a mark: photos are found by their content.
    data = text.getvalue().encode("utf-8-sig", "replace")
    with written_whole(path.resolve(), private=True) as temporary:
        temporary.write_bytes(data)


def _safe(text: str) -> str:
    """A cell on one line."""
    return shielded("".join(c if c.isprintable() else " " for c in text))
