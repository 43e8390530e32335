"""What a batch has made, one record per file, kept so that a killed run loses nothing finished."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...core.errors import FacewrightError, shorten
from ...core.files import shapes
from ...core.files.json_text import JsonError, parse_json
from ...core.files.shapes import Shape, fault
from ...core.files.writing import remove_leftovers
from ...core.images import write_atomic

Record = dict[str, Any]


class AnyRecord(Shape):
    """What every record has; commands ask for more."""

    output: shapes.TEXT
    input: shapes.TEXT | None = None


class OwnRecord(AnyRecord):
    """One whose output is a file of the folder; no record makes a command touch another."""

    output: shapes.BELOW
    input_sha256: shapes.TEXT | None = None


class Manifest:
    """Records of the files of a folder, one JSON object per line, found by their "output".

    A record is on the disk before `add` returns, so that whatever kills the process costs at most
    the line being written, and reading the file again leaves such a torn line out. Of two records
    with one output the later holds. Only one process may write.

    A path that ends in .json holds a single record instead, laid out for reading.
    """

    def __init__(
        self, path: Path, shape: type[OwnRecord] = OwnRecord, *, anew: bool = False
    ) -> None:
        """Read what is there, unless all is to be made `anew`; nothing is written before `start`.

        Args:
            shape: what the command's records hold.

        Raises:
            FacewrightError: the file cannot be read, or a line of it is no record.
        """
        self.path = path
        self.exists = path.exists()
        self._single = path.suffix == ".json"
        # Kept as text: of 100 000 pictures, parsed recipes would fill the memory.
        found = [] if anew else read_records(path, shape)
        self._lines = {record["output"]: _line(record) for record in found}

    def __iter__(self) -> Iterator[Record]:
        return map(json.loads, self._lines.values())

    def get(self, output: str) -> Record | None:
        return json.loads(self._lines[output]) if output in self._lines else None

    def put(self, record: Record) -> None:
        """Have a record written by the next `start` or `finish`."""
        self._lines[record["output"]] = _line(record)

    def drop(self, output: str) -> None:
        """Have a record left out by the next `start` or `finish`."""
        self._lines.pop(output, None)

    def start(self, forget: Iterable[str] = ()) -> None:
        """Make the file if it is not there, without the records of the outputs to `forget`."""
        remove_leftovers([self.path])
        for output in forget:
            self._lines.pop(output, None)
        if not self._single:
            self._write(list(self._lines))
        elif not self._lines:
            self.path.unlink(missing_ok=True)

    def add(self, record: Record) -> None:
        """Keep a record, now.

        Raises:
            FacewrightError: it could not be written, such as to a full disk.
        """
        line = self._lines[record["output"]] = _line(record)
        try:
            if self._single:
                write_atomic(self.path, (json.dumps(record, indent=2) + "\n").encode())
                return
            with self.path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
        except OSError as error:
            raise FacewrightError(
                f"{self.path} could not be written ({error}). Make room or check the folder's "
                "rights, and run the same command again to go on."
            ) from error

    def finish(self) -> None:
        """Order the lines by output: the same work gives the same file, whoever did it when."""
        remove_leftovers([self.path])
        if not self._single:
            self._write(sorted(self._lines))

    def _write(self, outputs: list[str]) -> None:
        data = b"".join(self._lines[output] for output in outputs)
        if not self.path.exists() or self.path.read_bytes() != data:
            write_atomic(self.path, data)


def read_records(path: Path, shape: type[AnyRecord] = AnyRecord) -> list[Record]:
    """Records of a manifest (.jsonl), or the one of a .json file; none where there is no file.

    Args:
        shape: what each has to hold; other entries are kept as they are.

    Raises:
        FacewrightError: what is there is no such record; the line is named.
    """
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FacewrightError(f"{path} cannot be read ({error}).") from error
    single = path.suffix == ".json"
    lines = [data] if single else data[: data.rfind(b"\n") + 1].splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line, file_names=True)
            shape.model_validate(record)
        except (JsonError, ValidationError) as error:
            why = fault(error).removeprefix("is ") if isinstance(error, ValidationError) else error
            if single:
                raise FacewrightError(
                    f"{path} is not the record of a picture ({why}). Give the result another name, "
                    "or --overwrite to replace both."
                ) from error
            raise FacewrightError(
                f"Line {number} of {path} is not the record of a picture ({shorten(why, 200)}). "
                "Delete that line and the result it tells of, which will be made again, or choose "
                "another output folder."
            ) from error
        records.append(record)
    return records


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
