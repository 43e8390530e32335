"""A contact sheet of an alignment: samples of what was kept, and of what was left out with why."""

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...core.drawing.paint import GREEN, RED, plate
from ...core.drawing.sheet import GAP, contact_sheet, stacked, within
from ...core.errors import FacewrightError
from ...core.geometry.align import align_faces
from ...core.images import Picture, read_picture, write_picture
from ..jobs.manifest import Record
from .align_photo import AlignJob, face_of

SAMPLES = 24
"""Pictures of each kind on the sheet, at most."""
_CELL = 192
_COLUMNS = 8
_LINES, _LETTERS = 6, 31
_FONT, _LINE = 11, 14
_INK = (20, 20, 20)
_WIDTH = _COLUMNS * (_CELL + GAP) - GAP

Sample = tuple[AlignJob, Record, Record | None]
"""A photo, its record, and the face of it that is meant; None where it has none."""


def write_sheet(path: Path, records: Iterable[tuple[AlignJob, Record]], out: Path) -> None:
    """Write the sheet as PNG: kept crops first, then rejects, each with its name and the reasons.

    Samples are spread evenly over the photos, rejects over the kinds of reasons, so that a rare
    one is seen. Rejected faces are cut out of their photos again.

    Args:
        records: of a run's photos (`AlignRun.records`), at least one.
        out: the run's output folder.

    Raises:
        OSError: the file cannot be written.
    """
    kept: list[Sample] = []
    rejects: dict[str, list[Sample]] = defaultdict(list)
    for job, record in sorted(records, key=lambda pair: pair[0].output):
        for reason in record["reasons"][:1]:
            rejects[reason["kind"]].append((job, record, None))
        for entry in record["faces"]:
            if entry["kept"]:
                kept.append((job, record, entry))
            else:
                rejects[entry["reasons"][0]["kind"]].append((job, record, entry))
    left_out = sum(map(len, rejects.values()))
    shown = _each_kind(list(rejects.values()), SAMPLES)
    parts = []
    for samples, total, title, color in (
        (_spread(kept, SAMPLES), len(kept), "kept", GREEN),
        (shown, left_out, "left out", RED),
    ):
        heading = f"{title}: {len(samples)} of {total} shown"
        parts.append(plate(heading, _WIDTH, 28, 16, at=(8, 5), ground=color))
        if samples:
            words = [_words(sample) for sample in samples]
            lines = max(map(len, words))
            cells = [_cell(_crop(s, out), w, lines) for s, w in zip(samples, words, strict=True)]
            parts.append(contact_sheet(cells, [""] * len(cells), _COLUMNS))
    sheet = stacked(parts)
    write_picture(path, sheet, Picture(sheet))


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` of them at even distances, or all."""
    step = max(1.0, len(samples) / count)
    return [samples[int(i * step)] for i in range(min(count, len(samples)))]


def _each_kind(kinds: list[list[Sample]], count: int) -> list[Sample]:
    """As many of each kind as there is room for, the rare ones in full."""
    shown: list[Sample] = []
    for done, samples in enumerate(sorted(kinds, key=len)):
        shown += _spread(samples, max(1, (count - len(shown)) // (len(kinds) - done)))
    return shown[:count]


def _crop(sample: Sample, out: Path) -> Tensor:
    """(3, `_CELL`, `_CELL`); grey where the file is gone."""
    job, _, entry = sample
    try:
        if entry is not None and entry["kept"]:
            return _fitted(read_picture(out / entry["output"]).pixels[:3])
        photo = read_picture(job.source).pixels[:3]
        if entry is None:
            return _fitted(photo)
        return align_faces([photo], [[face_of(entry)]], _CELL).pixels[0]
    except FacewrightError:
        return torch.full((3, _CELL, _CELL), 0.5)


def _fitted(picture: Tensor) -> Tensor:
    """The whole picture within a square cell."""
    small = within(picture, _CELL)
    height, width = small.shape[-2:]
    cell = torch.full((3, _CELL, _CELL), 0.9)
    top, left = (_CELL - height) // 2, (_CELL - width) // 2
    cell[:, top : top + height, left : left + width] = small
    return cell


def _words(sample: Sample) -> list[str]:
    """The lines under a picture: its name, and the reasons."""
    job, record, entry = sample
    if entry is not None and entry["kept"]:
        name, text = entry["output"], f"{entry['side']:.0f} px, sharpness {entry['sharpness']:.2f}"
        if entry["landmarks_from"] == "box":
            text += ", aligned by its box"
    else:
        name = job.name
        text = "; ".join(r["words"] for r in (record if entry is None else entry)["reasons"])
    if len(name) > _LETTERS:
        name = f"...{name[3 - _LETTERS :]}"
    body = textwrap.wrap(text, _LETTERS)
    if len(body) > _LINES - 1:
        body = [*body[: _LINES - 2], f"{body[_LINES - 2][: _LETTERS - 3]}..."]
    return [name, *body]


def _cell(crop: Tensor, words: list[str], lines: int) -> Tensor:
    words = words + [""] * (lines - len(words))
    plates = [plate(line, _CELL, _LINE, _FONT, at=(2, 2), color=_INK) for line in words]
    return stacked([crop, *plates, torch.ones(3, 4, _CELL)])
