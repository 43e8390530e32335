"""One raw photo to aligned crops: its faces found, measured, and kept or left out with reasons."""

import functools
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ...core.devices import asked_device
from ...core.diffusion.text import read_caption
from ...core.errors import FacewrightError
from ...core.faces import (
    Face,
    FaceAnalyzer,
    choice_of,
    detect_faces,
    load_analyzer,
    select_faces,
)
from ...core.files import shapes
from ...core.files.search import model_roots
from ...core.files.shapes import Shape
from ...core.files.writing import content_hash
from ...core.geometry.align import box_points
from ...core.geometry.templates import template
from ...core.geometry.warp import fit_similarity, warp_square
from ...core.images import Picture, read_picture, write_atomic, write_picture
from ...core.people.curation import Reason, measure, reasons
from ..jobs.manifest import OwnRecord, Record
from ..jobs.planning import Job
from ..jobs.recorded import file_mark
from .options import AlignOptions

SUFFIXES = {"png": ".png", "jpg": ".jpg"}
DUPLICATE = "duplicate"


@dataclass(frozen=True)
class AlignJob(Job):
    """One photo."""

    output: str = ""
    """What the names of its crops begin with, within the output folder, slashes everywhere."""


def choose_analyzer(name: str) -> tuple[str, list[str]]:
    """A name of `core.faces.ANALYZERS`, and for "auto" which it is, why, and what is broken.

    Raises:
        FacewrightError: the one that was named cannot be loaded, or none can.
    """
    analyzer = ready_analyzer(name)
    return analyzer.name, choice_of(analyzer)


@dataclass(frozen=True)
class AlignPhoto:
    """Does one photo; goes to worker processes as it is, and loads the detector there."""

    options: AlignOptions
    out: Path

    def __call__(self, job: AlignJob) -> dict[str, Any]:
        picture = read_picture(job.source)
        pixels = picture.pixels[:3]
        notes = list(picture.notes)
        faces = detect_faces(ready_analyzer(self.options.analyzer), pixels, on_lost=notes.append)
        entries = self._entries(job, picture, faces)
        if len(picture.pixels) == 4:
            notes.append("the transparency was left out")
        record = {
            "input_bytes": job.source.stat().st_size,
            "input_sha256": file_mark(job.source),
            "width": pixels.shape[2],
            "height": pixels.shape[1],
            "faces": entries,
            "reasons": [] if faces else [Reason("no face", "no face was found", 0, 1).record()],
            "caption": None,
            "notes": notes,
        }
        if len(kept_faces(record)) == 1:
            record["caption"] = self._caption(job, kept_faces(record)[0]["output"], notes)
        return {"record": record}

    def _entries(self, job: AlignJob, picture: Picture, faces: list[Face]) -> list[Record]:
        """A record for each face; what is kept is written."""
        if self.options.faces == "all":
            ordered = select_faces(faces)
            return [
                self._entry(job, f"_{number}", picture, face)
                for number, face in enumerate(ordered, 1)
            ]
        ordered = select_faces(faces, order="size")
        sure = [face for face in ordered if face.score >= self.options.limits.min_score]
        largest = next(iter(sure or ordered), None)
        entries = [] if largest is None else [self._entry(job, "", picture, largest)]
        for face in ordered:
            if largest is not None and face is not largest:
                words = (
                    f"another face of the photo counts: it is {largest.size:.0f} pixels large, "
                    f"this one {face.size:.0f} (--faces largest)"
                )
                reason = Reason("not the largest", words, face.size, largest.size)
                entries.append(_place(face) | _left_out([reason]))
        return entries

    def _entry(self, job: AlignJob, number: str, picture: Picture, face: Face) -> Record:
        limits, place, pixels = self.options.limits, _place(face), picture.pixels[:3]
        points = torch.tensor(place["landmarks"], dtype=torch.float64)
        matrix = fit_similarity(points[None], template(self.options.size))[0]
        crop = warp_square(pixels, matrix, self.options.size)
        measured = measure(crop, matrix, (pixels.shape[1], pixels.shape[2]), face)
        against = reasons(measured, limits)
        entry = place | {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(measured).items()
            if name != "score"
        }
        if against:
            return entry | _left_out(against)
        target = job.target.with_name(f"{job.target.stem}{number}{job.target.suffix}")
        write_picture(target, crop, Picture(crop, icc=picture.icc), quality=self.options.quality)
        name = target.relative_to(self.out).as_posix()
        sha = content_hash(target)
        return entry | {"output": name, "sha256": sha, "kept": True, "reasons": []}

    def _caption(self, job: AlignJob, output: str, notes: list[str]) -> Record | None:
        """Copy the text file beside a photo to its only crop; one that is broken is a note."""
        try:
            text = read_caption(job.source)
        except FacewrightError as error:
            notes.append(f"the crop has no caption: {error}")
            return None
        if not text:
            return None
        target = (self.out / output).with_suffix(".txt")
        write_atomic(target, f"{text}\n".encode())
        name = target.relative_to(self.out).as_posix()
        return {"output": name, "sha256": content_hash(target)}


def _place(face: Face) -> Record:
    """Where a face lies in its photo."""
    points = box_points(face) if face.points5 is None else face.points5
    return {
        "box": [round(float(v), 2) for v in face.box],
        "score": round(face.score, 4),
        "landmarks": [[round(v, 3) for v in point] for point in points.double().tolist()],
        "landmarks_from": "box" if face.points5 is None else "points",
    }


def _left_out(against: list[Reason]) -> Record:
    words = [reason.record() for reason in against]
    return {"output": None, "sha256": None, "kept": False, "reasons": words}


class _Reason(Shape):
    kind: shapes.TEXT
    words: shapes.TEXT


class _File(Shape):
    output: shapes.BELOW
    sha256: shapes.TEXT


class _Face(Shape):
    box: list[shapes.NUMBER] = Field(min_length=4, max_length=4)
    score: shapes.NUMBER
    landmarks: list[Annotated[list[shapes.NUMBER], Field(min_length=2, max_length=2)]] = Field(
        min_length=5, max_length=5
    )
    kept: bool
    output: shapes.BELOW | None
    sha256: shapes.TEXT | None
    reasons: list[_Reason]
    side: shapes.NUMBER | None = None
    sharpness: shapes.NUMBER | None = None
    hash: shapes.TEXT | None = None

    @model_validator(mode="after")
    def _may_be_kept(self) -> "_Face":
        """What has no reason against it but a better duplicate may be made again."""
        needed = (self.output, self.sha256, self.side, self.sharpness)
        good = None not in needed and re.fullmatch("[0-9a-f]{64}", self.hash or "")
        if not good and (self.kept or all(r.kind == DUPLICATE for r in self.reasons)):
            raise PydanticCustomError("kind", "a face with its crop and what was measured of it")
        return self


class Aligned(OwnRecord):
    """What the manifest holds of a photo."""

    input: shapes.TEXT = Field(default=...)
    input_bytes: shapes.COUNT
    options: shapes.FIELDS
    faces: list[_Face]
    reasons: list[_Reason]
    caption: _File | None
    notes: list[shapes.TEXT]


def kept_faces(record: Record) -> list[Record]:
    """Of a photo's record: the faces whose crops stay."""
    return [entry for entry in record["faces"] if entry["kept"]]


def files_of(record: Record) -> list[Record]:
    """What of a record should be on the disk: "output" and "sha256" of each."""
    kept = kept_faces(record)
    return [*kept, *([record["caption"]] if kept and record["caption"] else [])]


def ready_analyzer(name: str) -> FaceAnalyzer:
    """An analyzer of `core.faces`, loaded once in each process."""
    return loaded_analyzer(name, tuple(model_roots(None)), asked_device())


@functools.lru_cache(maxsize=1)
def loaded_analyzer(name: str, roots: tuple[Path, ...], device: str) -> FaceAnalyzer:
    """See `ready_analyzer`; other folders or another device are another analyzer."""
    return load_analyzer(name)


def face_of(entry: Record) -> Face:
    """The face of a record, to be aligned again exactly."""
    points = torch.tensor(entry["landmarks"])
    return Face(tuple(entry["box"]), entry["score"], points5=points)
