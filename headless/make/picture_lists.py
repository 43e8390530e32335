"""Lists of test sets: which damage each picture of a known set gets, for others to make again.

JSON lines in UTF-8. The first is the head, {"format": "facewright.test_set", "schema": 1, "preset",
"overrides", "base_seed", "pictures"}; every other tells of one picture:

    input      path of the good picture inside its folder, with slashes
    output     path of the degraded one
    copy       1, or the number of a further copy of the same good picture
    seed       what the recipe was drawn from
    recipe     what is done, step by step; without it the head's preset draws one from `seed`
    gt_pixels  SHA-256 of the good picture's RGB, 8 bits each, row by row
    lq_pixels  the same of the degraded one

The last two may be missing: then nothing is compared.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from torch import Tensor

from ...core.degradation import Degradation
from ...core.errors import FacewrightError, shorten
from ...core.files import shapes
from ...core.files.json_text import JsonError, parse_json
from ...core.files.shapes import Shape, fault
from ...core.images import to_array, write_atomic
from ..jobs.manifest import Record
from ..jobs.recorded import RecordedJob

FORMAT = "facewright.test_set"
SCHEMA = 1
KEPT = ("input", "output", "copy", "seed", "recipe", "gt_pixels", "lq_pixels")
_MOST_BYTES = 2**30


class _Head(Shape):
    format: shapes.TEXT
    schema_: shapes.WHOLE = Field(alias="schema")
    preset: shapes.TEXT
    overrides: shapes.FIELDS
    base_seed: shapes.COUNT | None = None


class _Line(Shape):
    input: shapes.TEXT
    output: shapes.TEXT | None = None
    copy_: shapes.COUNT = Field(alias="copy")
    seed: shapes.COUNT | None = None
    recipe: shapes.FIELDS | None = None
    gt_pixels: shapes.TEXT | None = None
    lq_pixels: shapes.TEXT | None = None


@dataclass(frozen=True)
class PictureList:
    """A list that was read."""

    settings: Record
    """preset, overrides and base_seed of its head."""
    records: list[Record]

    @property
    def degradation(self) -> Degradation:
        return Degradation.preset(self.settings["preset"], **self.settings["overrides"])


def pixel_hash(pixels: Tensor) -> str:
    """SHA-256 in hexadecimal of (3, h, w) in [0, 1], as 8 bit RGB row by row.

    The same as `hashlib.sha256(numpy.asarray(PIL.Image.open(path).convert("RGB")).tobytes())` of a
    file without alpha, turned upright.
    """
    return hashlib.sha256(to_array(pixels[:3]).tobytes()).hexdigest()


def is_list(path: Path) -> bool:
    """Whether a file begins like a list; other files and folders do not."""
    try:
        with path.open("rb") as file:
            head = parse_json(file.readline(2**16))
    except (OSError, JsonError):
        return False
    return isinstance(head, dict) and head.get("format") == FORMAT


def read_list(path: Path) -> PictureList:
    """Read a list; every line is checked.

    Raises:
        FacewrightError: the file cannot be read, is of a later schema, or a line of it is wrong.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FacewrightError(f"{path} is too large for a list of pictures.")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FacewrightError(f"{path} cannot be read ({error}).") from error
    head = _checked(path, 1, lines[0], _Head)
    if head["schema"] != SCHEMA:
        raise FacewrightError(
            f"{path} is a list of schema {head['schema']}, and this version reads {SCHEMA}. "
            "Get a version of facewright as new as the list."
        )
    settings = {key: head.get(key) for key in ("preset", "overrides", "base_seed")}
    records = [_checked(path, n, line, _Line) for n, line in enumerate(lines[1:], 2) if line]
    found = PictureList(settings, records)
    try:
        found.degradation  # noqa: B018 (a preset or override that this version does not know)
    except (FacewrightError, TypeError, LookupError, OverflowError) as error:
        why = shorten(error, 300)
        raise FacewrightError(f"The head of {path} does not say a degradation: {why}") from error
    for number, record in enumerate(records, 2):
        if record.get("recipe") is None and record.get("seed") is None:
            raise FacewrightError(
                f"Line {number} of {path} has neither a `recipe` nor a `seed` to draw one from."
            )
    return found


def _checked(path: Path, number: int, line: bytes, shape: type[Shape]) -> Record:
    try:
        record = parse_json(line, file_names=True)
        shape.model_validate(record)
    except (JsonError, ValidationError) as error:
        why = fault(error).removeprefix("is ") if isinstance(error, ValidationError) else error
        raise FacewrightError(
            f"Line {number} of {path} is not what a list of pictures holds ({shorten(why, 200)}). "
            "Get the file again, or mend the line."
        ) from error
    return record


def write_list(path: Path, records: Iterable[Record | None], settings: Record) -> int:
    """Write a list of what a run made; returns how many pictures it names.

    Args:
        records: of the manifest, in any order; None for a picture that has none.
        settings: preset, overrides and base_seed of the run.

    Raises:
        FacewrightError: a picture was made by a version that did not keep what a list needs.
        OSError: the file cannot be written.
    """
    kept: list[dict[str, Any]] = []
    for record in records:
        if record is None or "gt_pixels" not in record or "lq_pixels" not in record:
            raise FacewrightError(
                "A list needs what this version records of each picture, and some were made by an "
                "earlier one: make them again with --overwrite."
            )
        kept.append({key: record[key] for key in KEPT})
    kept.sort(key=lambda record: record["output"])
    head = {"format": FORMAT, "schema": SCHEMA, **settings, "pictures": len(kept)}
    lines = [json.dumps(line, separators=(",", ":")) for line in (head, *kept)]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    return len(kept)


def compare_good(job: RecordedJob, pixels: Tensor) -> str:
    """The hash of the good picture.

    Raises:
        FacewrightError: the list was made from another one.
    """
    found, wanted = pixel_hash(pixels), job.given.get("gt_pixels")
    if wanted not in (None, found):
        raise FacewrightError(
            f"{job.name} has other pixels than the picture that the list was made from: another "
            "crop, size or compression. Make the good pictures as the list's authors did."
        )
    return found


def compare_degraded(job: RecordedJob, pixels: Tensor) -> str:
    """The hash of the degraded picture.

    Raises:
        FacewrightError: the list has another one.
    """
    found, wanted = pixel_hash(pixels), job.given.get("lq_pixels")
    if wanted not in (None, found):
        raise FacewrightError(
            f"{job.name} came out with other pixels than the list says, though it began with the "
            "same: torch or Pillow's libjpeg round differently here. Use their versions of the "
            "list's authors, or take `lq_pixels` out of the list to accept what is made here."
        )
    return found
