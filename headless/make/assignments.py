"""Whose face is whose over many files: told by options and tables, and written to tables."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError, counted, os_sentence, shorten
from ...core.files.json_text import JsonError, parse_json
from ...core.images import write_atomic
from ...core.people.by_hand import NOBODY, Told, parse_told
from ...core.people.person import base_name
from ..jobs.planning import Job

_MOST_BYTES = 64 << 20
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
)


@dataclass(frozen=True)
class Row:
    """What a table says of one face."""

    place: str
    """Where it stands, such as "who.csv, line 3"."""
    told: Told
    """Its picture is the name of a file."""


def read_assignments(path: Path) -> list[Row]:
    """The rows of a CSV or JSON file; those that leave it open who somebody is are none.

    CSV has a line of titles with picture, face and person among them, separated by commas,
    semicolons or tabs; an empty person leaves the face to the matching. JSON is what `restore
    --json` prints, or a list of objects with these three. A person that is as the matching said
    (`matched`, not `by_hand`) is not told: only what was changed, so that pictures without a change
    need not be made again.

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
) -> tuple[dict[Path, tuple[str, ...]], list[str]]:
    """What is told of the faces of each file, as `RestoreOptions.assign` takes it.

    Args:
        rows: of tables; a picture is named by its path, or as much of it as says which it is.
        assign: of the command line, which counts more; a picture's name may be left out where there
            is one file.

    Returns:
        By the jobs' sources; and a warning for pictures of the tables that are not among them.

    Raises:
        FacewrightError: a name means several files, or one of `assign` none; two rows disagree.
    """
    names = _names(jobs)
    found: dict[Path, dict[int, Told]] = {}
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
    return texts, warnings


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
        writer.writerows(rows)
        text = buffer.getvalue()
    write_atomic(path, text.encode("utf-8", "surrogateescape"))
    return len(rows)


def _of_csv(content: bytes, name: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FacewrightError(
            f"{name}, line {line}: it should be UTF-8 text. Save it as CSV in UTF-8."
        ) from error
    titles = text.partition("\n")[0]
    separator = max(",;\t", key=titles.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[str, dict[str, Any]]] = []
    try:
        keys = [title.strip().lower() for title in next(reader, [])]
        missing = [key for key in _WANTED if key not in keys]
        twice = [key for key in _WANTED if keys.count(key) > 1]
        if missing or twice:
            raise FacewrightError(
                f"{name}, line 1: it should have the titles picture, face and person, each once; "
                f"came {shorten(titles.strip()) or 'nothing'!r}."
            )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                place = f"{name}, line {reader.line_num}"
                short = len(cells) < 1 + max(keys.index(key) for key in _WANTED)
                row: dict[str, Any] = dict(zip(keys, cells, strict=False)) | {"short": short}
                row["open"] = not str(row.get("person", "")).strip()
                rows.append((place, row))
    except csv.Error as error:
        raise FacewrightError(f"{name}, line {reader.line_num}: it is no CSV; {error}.") from error
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
            rows.append((place, {**entry, "short": False, "open": entry.get("person") == ""}))
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
    digits = face.strip() if isinstance(face, str) else face
    if isinstance(digits, str) and digits.isascii() and digits.isdecimal() and len(digits) < 10:
        digits = int(digits)
    if type(digits) is not int or not 0 <= digits < 10**9:
        return f"`face` should be its number, from 0; came {shorten(repr(face))}."
    if person is not None and not isinstance(person, str):
        return f"`person` should be a name or {NOBODY}; came {shorten(repr(person))}."
    named = _named(person)
    unchanged = "matched" in row and _named(row["matched"]) == named and not row.get("by_hand")
    if row.get("open") or unchanged:
        return None
    return Row(place, Told(digits, named, picture.strip()))


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
