"""`metrics.jsonl`: one line of JSON per logged step and per validation, never half a line."""

import errno
import json
import logging
import os
from pathlib import Path
from typing import TypeGuard

from ...core.files.writing import written_whole

log = logging.getLogger(__name__)


class Unwritten:
    """Tells, once for each thing, what could not be written; a run does not end for that."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def warn(self, what: str, error: Exception) -> None:
        if what not in self.said:
            self.said.add(what)
            log.warning("%s (%s). The run goes on; this is said once.", what, error)


def read_lines(path: Path) -> list[dict]:
    """Every whole line of a `metrics.jsonl`, also of a run that is under way or was killed.

    A line that no run writes, in a file that was edited, is left out with a warning.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return []
    found, strange = [], []
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, text in enumerate(texts, 1):
        if (line := _line(text)) is not None:
            found.append(line)
        elif text.strip() and number < len(texts):  # the last is of a run that was killed
            strange.append(number)
    if strange:
        log.warning(
            "%s: line %s is nothing that a run writes, and is left out.",
            path,
            f"{strange[0]} (and {len(strange) - 1} more)" if strange[1:] else strange[0],
        )
    return found


def _line(text: str) -> dict | None:
    """A logged line; None where a text is none."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    step, held_out = line.get("step"), line.get("held_out", {})
    if not (_is_number(step) and 0 <= step < 2**53 and step == int(step)):
        return None
    numbers = [v for k, v in line.items() if k != "held_out"]
    if not isinstance(held_out, dict) or not all(map(_is_number, [*numbers, *held_out.values()])):
        return None
    return line


def _is_number(value: object) -> TypeGuard[int | float]:
    """NaN and infinity are, too: a loss may be; numbers no float holds are not."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**63
    return isinstance(value, float)


def keep_lines(path: Path, step: int) -> list[dict]:
    """Cut a `metrics.jsonl` down to what was logged up to `step`, and return that.

    A run that was killed may have logged steps after its last checkpoint, the last line in part.
    The file is cut or exchanged as a whole, and only where there is something to cut.

    Raises:
        OSError: the file cannot be read or written.
    """
    kept = [line for line in read_lines(path) if line["step"] <= step]
    if not path.is_file():
        return kept
    written, whole = path.read_bytes(), b"".join(map(_as_bytes, kept))
    if written.startswith(whole):
        if written != whole:
            os.truncate(path, len(whole))  # needs no room on a disk that is full
    else:
        with written_whole(path) as temporary:
            temporary.write_bytes(whole)
    return kept


def loss_terms(line: dict) -> dict[str, list[str]]:
    """Keys of the terms of every phase's loss in a logged line, by phase.

    They stand before `<phase>/grad_norm`; what follows all of these is what a recipe monitors.
    """
    found: dict[str, list[str]] = {}
    before: list[str] = []
    for key in line:
        phase = key.removesuffix("/grad_norm")
        if phase == key:
            before.append(key)
        else:
            found[phase] = [k for k in before if k.startswith(f"{phase}/")]
            before = []
    return found


class LineFile:
    """Appends lines, each whole or not at all; what the disk refuses waits for the next write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: list[bytes] = []

    def write(self, line: dict) -> None:
        """Append `line` after all that wait.

        Raises:
            OSError: nothing could be written; the file is as it was, and the line waits.
        """
        self.waiting.append(_as_bytes(line))
        data = b"".join(self.waiting)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Opened each time and without a buffer: a full disk shows here, not in a later flush.
        with self.path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                file.truncate(end)
                raise
        self.waiting.clear()


def _as_bytes(line: dict) -> bytes:
    return (json.dumps(line) + "\n").encode()
