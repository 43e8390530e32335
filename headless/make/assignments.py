"""Whose face is whose over many files: told by options and tables, and written to tables."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError, counted, os_sentence, shorten
from ...core.files.json_text import JsonError, parse_json
from ...core.images import write_atomic
from ...core.people.by_hand import Told, parse_told
from ...core.people.person import NOBODY, base_name
from ..jobs.planning import Job
from .tables import read_rows, shielded

_MOST_BYTES = 64 << 20
_NUMBER = re.compile(r"[0-9]{1,9}(\.0+)?")
"""Of a face; programs for tables write 1.0, too."""
_MOST_SHOWN = 5
"""Problems of a file that are shown; the others are counted."""
_WANTED = ("picture", "face", "person")
_COLUMNS: tuple[str, ...] = (
    *_WANTED,
    "matched",
    "by_hand",
    "unsure",
    "likeness",
    "runner_up",
    "margin",
    "box",
)
_OVERLAP = 0.3
"""From which intersection over union on a face lies where a table says."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Row:
    """What a table says of one face."""

    place: str
    """Where it stands, such as "who.csv, line 3"."""
    told: Told
    """Its picture is the name of a file."""
    box: Box | None = None
    """Where the face was when the table was written, where it says so."""


@dataclass(frozen=True)
class Place:
    """Where a table says that a face is."""

    row: str
    """As `Row.place`."""
    box: Box


def read_assignments(path: Path) -> list[Row]:
    """The rows of a CSV or JSON file; those that leave it open who somebody is are none.

    CSV has a line of titles with picture, face and person among them, separated by commas,
    semicolons or tabs; an empty person leaves the face to the matching. JSON is what `restore
    --json` prints, or a list of objects with these three. A person that is as the matching said
    (`matched`, not `by_hand`) is not told: only what was changed, so that pictures without a change
    need not be made again. Where a row has the `box` of the face, it says which face is meant.

    Raises:
        FacewrightError: the file cannot be read, or lines of it cannot be used; each is named.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FacewrightError(f"{shorten(path)} is too large to be a table of faces.")
        content = path.read_bytes()
    except OSError as error:
        raise FacewrightError(os_sentence(error)) from error
    name = shorten(path.name)
    looks_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    if looks_json or path.suffix.lower() == ".json":
        found = _of_json(content, name)
    else:
        found = _of_csv(content, name)
    rows, problems = [], []
    for place, row in found:
        made = _row(place, row)
        if isinstance(made, str):
            problems.append(f"{place}: {made}")
        elif made is not None:
            rows.append(made)
    if problems:
        more = len(problems) - _MOST_SHOWN
        last = [f"and {more} more"] if more > 0 else []
        raise FacewrightError("\n".join([*problems[:_MOST_SHOWN], *last]))
    return rows


def told_of_files(
    jobs: Sequence[Job], rows: Iterable[Row], assign: Sequence[str]
) -> tuple[dict[Path, tuple[str, ...]], dict[Path, dict[int, Place]], list[str]]:
    """What is told of the faces of each file, as `RestoreOptions.assign` takes it.

    Args:
        rows: of tables; a picture is named by its path, or as much of it as says which it is.
        assign: of the command line, which counts more; a picture's name may be left out where there
            is one file.

    Returns:
        By the jobs' sources; by these and the faces' numbers where tables say that faces are, for
        `check_places`; and a warning for pictures of the tables that are not among them.

    Raises:
        FacewrightError: a name means several files, or one of `assign` none; two rows disagree.
    """
    names = _names(jobs)
    found: dict[Path, dict[int, Told]] = {}
    places: dict[Path, dict[int, Place]] = {}
    strange: dict[str, None] = {}
    first: dict[tuple[Path, int], str] = {}
    for row in rows:
        picture = str(row.told.picture)
        source = _source(names, picture, row.place)
        if source is None:
            strange[picture] = None
            continue
        before = found.setdefault(source, {}).setdefault(row.told.face, row.told)
        if before.person != row.told.person:
            raise FacewrightError(
                f"{row.place}: face {row.told.face} of {shorten(picture)} is "
                f"{shorten(row.told.person or NOBODY)}, but {first[source, row.told.face]} says "
                f"{shorten(before.person or NOBODY)}. Keep one of them."
            )
        first.setdefault((source, row.told.face), row.place)
        if row.box is not None:
            places.setdefault(source, {}).setdefault(row.told.face, Place(row.place, row.box))
    for told in parse_told(assign):
        if told.picture is None:
            if len(jobs) != 1:
                raise FacewrightError(
                    f"--assign {shorten(told)} does not say in which of {len(jobs)} files. Put its "
                    f"name before it, such as {shorten(jobs[0].name)}/{told}, or give a table with "
                    "--assignments."
                )
            source = jobs[0].source
        else:
            source = _source(names, told.picture, f"--assign {shorten(told)}")
        if source is None:
            raise FacewrightError(
                f"--assign {shorten(told)} names {shorten(told.picture)}, which is none of the "
                f"files given: {', '.join(shorten(job.name) for job in jobs[:5])}"
                + ("..." if len(jobs) > 5 else ".")
            )
        found.setdefault(source, {})[told.face] = told
        places.get(source, {}).pop(told.face, None)
    warnings = []
    if strange:
        listed = ", ".join(shorten(name) for name in list(strange)[:5])
        warnings.append(
            f"warning: --assignments tells of {counted(len(strange), 'picture')} that were not "
            f"given: {listed}{', ...' if len(strange) > 5 else ''}"
        )
    texts = {
        source: tuple(str(Told(t.face, t.person)) for t in faces.values())
        for source, faces in found.items()
    }
    return texts, places, warnings


def check_places(boxes: Sequence[Sequence[float]], places: Mapping[int, Place]) -> None:
    """Hold the faces of a picture, by number, against where tables say that they are.

    Raises:
        FacewrightError: a face lies elsewhere; numbers follow --order, --pick and sizes.
    """
    for face, place in places.items():
        if face >= len(boxes) or _overlap(boxes[face], place.box) >= _OVERLAP:
            continue
        now = [i for i, box in enumerate(boxes) if _overlap(box, place.box) >= _OVERLAP]
        where = f"which is face {now[0]} now" if now else "where there is no face now"
        raise FacewrightError(
            f"{place.row}: face {face} was at another place when the table was written, {where}. "
            "Restore with the same --order, --pick and sizes as then, or write the table anew with "
            "--write-assignments."
        )


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union."""
    sides = [max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1)]
    both = sides[0] * sides[1]
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both
    return both / union if union > 0 else 0.0


def write_assignments(path: Path, done: Iterable[Mapping[str, Any]]) -> int:
    """Who was who in the files of a run, as `read_assignments` takes it; returns the faces.

    Raises:
        OSError: it cannot be written.
    """
    rows = [
        {
            "picture": entry["input"],
            "face": match["face"],
            "person": match["person"] or ("" if match["unsure"] else NOBODY),
            "likeness": match["cosines"].get(match["person"], ""),
            "runner_up": match["runner_up"] or "",
            "margin": "" if match["margin"] is None else match["margin"],
            "unsure": " or ".join(match["unsure"]),
            "by_hand": "yes" if match["by_hand"] else "",
            "matched": "" if match["by_hand"] else match["matched"] or NOBODY,
            "box": " ".join(f"{side:g}" for side in match.get("box", ())),
        }
        for entry in done
        for match in entry.get("matches", ())
    ]
    if path.suffix.lower() == ".json":
        text = json.dumps(rows, indent=1)
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: shielded(str(value)) for key, value in row.items()} for row in rows)
        text = buffer.getvalue()
    write_atomic(path, text.encode("utf-8", "surrogateescape"))
    return len(rows)


def _of_csv(content: bytes, name: str) -> list[tuple[str, dict[str, Any]]]:
    table = read_rows(content, name)
    line, titles = table[0] if table else (1, [])
    keys = [title.lower() for title in titles]
    if any(keys.count(key) != 1 for key in _WANTED):
        came = ", ".join(titles) or "nothing"
        raise FacewrightError(
            f"{name}, line {line}: it should have the titles picture, face and person, each once; "
            f"came {shorten(came)!r}."
        )
    last = max(keys.index(key) for key in _WANTED)
    rows: list[tuple[str, dict[str, Any]]] = []
    for line, cells in table[1:]:
        row: dict[str, Any] = dict(zip(keys, cells, strict=False))
        row |= {"short": len(cells) <= last, "open": not row.get("person")}
        rows.append((f"{name}, line {line}", row))
    return rows


def _of_json(content: bytes, name: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        said = parse_json(content, file_names=True)
    except JsonError as error:
        raise FacewrightError(f"{name} cannot be used: {error}.") from error
    if isinstance(said, dict):
        said = said.get("done")
    if not isinstance(said, list):
        raise FacewrightError(
            f"{name} should be what `facewright restore --json` prints, or a list of objects with "
            "picture, face and person."
        )
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, entry in enumerate(said, 1):
        place = f"{name}, entry {number}"
        if not isinstance(entry, dict):
            rows.append((place, {"short": True}))
        elif "picture" in entry:
            short = "person" not in entry
            rows.append((place, {**entry, "short": short, "open": entry.get("person") == ""}))
        elif isinstance(entry.get("matches", []), list):
            for index, match in enumerate(entry.get("matches", [])):
                if not isinstance(match, dict):
                    rows.append((f"{place}, match {index}", {"short": True}))
                    continue
                more = {"picture": entry.get("input"), "short": False, "open": False}
                rows.append((f"{place}, match {index}", {**match, **more}))
        else:
            rows.append((place, {"short": True}))
    return rows


def _row(place: str, row: Mapping[str, Any]) -> Row | str | None:
    """What a row says, what is wrong with it, or None where it leaves it open."""
    if row.get("short"):
        return "it should have a picture, a face and a person."
    picture, face, person = (row.get(key) for key in _WANTED)
    if not isinstance(picture, str) or not picture.strip():
        return f"`picture` should name a file; came {shorten(repr(picture))}."
    digits = face
    if isinstance(face, str) and _NUMBER.fullmatch(face.strip()):
        digits = int(face.strip().partition(".")[0])
    elif isinstance(face, float) and face.is_integer():
        digits = int(face)
    if type(digits) is not int or not 0 <= digits < 10**9:
        return f"`face` should be its number, from 0; came {shorten(repr(face))}."
    if person is not None and not isinstance(person, str):
        return f"`person` should be a name or {NOBODY}; came {shorten(repr(person))}."
    named = _named(person)
    unchanged = "matched" in row and _named(row["matched"]) == named and not row.get("by_hand")
    if row.get("open") or unchanged:
        return None
    if not _is_one(Told(digits, named)):
        return (
            f"`person` {shorten(repr(person))} reads as several assignments. Rename the album "
            "(`facewright person rename`)."
        )
    box = _box(row.get("box"))
    if box is None and row.get("box") not in (None, "", []):
        return f"`box` should be four numbers, as it was written; came {shorten(repr(row['box']))}."
    return Row(place, Told(digits, named, picture.strip()), box)


def _is_one(told: Told) -> bool:
    """Whether its text says the same, which names with "2=" in them may not."""
    try:
        return parse_told([str(told)]) == [told]
    except FacewrightError:
        return False


def _box(value: Any) -> Box | None:
    """Four finite numbers with sides above 0."""
    parts = value.split() if isinstance(value, str) else value
    try:
        x0, y0, x1, y1 = (float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        return None
    good = all(map(math.isfinite, (x0, y0, x1, y1))) and x0 < x1 and y0 < y1
    return (x0, y0, x1, y1) if good else None


def _named(person: Any) -> str | None:
    """None for nobody."""
    name = str(person or "").strip()
    return None if name.casefold() in ("", NOBODY) else name


def _names(jobs: Sequence[Job]) -> list[dict[str, set[Path]]]:
    """What files may be called, the surest first."""
    names: list[dict[str, set[Path]]] = [{}, {}, {}]
    for job in jobs:
        whole = {str(job.source), job.source.as_posix(), str(job.source.absolute())}
        for level, keys in enumerate((whole, {job.name}, {job.source.name})):
            for key in keys:
                names[level].setdefault(key, set()).add(job.source)
    return names


def _source(names: list[dict[str, set[Path]]], picture: str, place: str) -> Path | None:
    given = [picture, picture, base_name(picture)]
    for level, key in zip(names, given, strict=True):
        found = level.get(key)
        if found and len(found) > 1:
            raise FacewrightError(
                f"{place}: {shorten(picture)} may be {' or '.join(sorted(map(str, found))[:2])}. "
                "Write its whole path."
            )
        if found:
            return next(iter(found))
    return None
