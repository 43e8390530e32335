"""Tables that people correct in spreadsheets: CSV of any usual separator, nothing to compute."""

import csv
import io
import re

from ...core.errors import FacewrightError, shorten

_SEPARATOR = re.compile(r"\s*sep=(.)[ \t]*\r?\n", re.IGNORECASE)
"""A line by which spreadsheets tell each other."""
_FORMULA = re.compile(r"[=+\-@\t\r']")
"""What cells begin with that spreadsheets compute, or hide."""
_SHIELDED = re.compile(r"'['=+\-@\t\r]")


def read_rows(content: bytes, name: str, *, again: str = "") -> list[tuple[int, list[str]]]:
    """Lines that hold something, with their numbers; of cells what `shielded` was given.

    Commas, semicolons and tabs are told apart by the first line.

    Args:
        name: of the file, for sentences.
        again: what to do with one that cannot be read.

    Raises:
        FacewrightError: it is no UTF-8 or no CSV; the sentence names the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FacewrightError(
            f'{name}, line {line}: it is no UTF-8 text. In the spreadsheet, save it as "CSV UTF-8".'
        ) from None
    first, found = 0, _SEPARATOR.match(text)
    if found:
        first, text = found[0].count("\n"), text[found.end() :]
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = found[1] if found else max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(first + reader.line_num, [_plain(cell) for cell in cells]) for cells in reader]
    except csv.Error as error:
        why = f"it is no CSV: {shorten(error, 160)}."
        raise FacewrightError(
            f"{name}, line {first + reader.line_num}: {why} {again}".rstrip()
        ) from error
    return [(line, cells) for line, cells in rows if any(cells)]


def shielded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before it where needed."""
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(cell: str) -> str:
    cell = cell.strip()
    return cell[1:] if _SHIELDED.match(cell) else cell
