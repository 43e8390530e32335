"""Many pictures degraded: one seed per picture, a manifest of recipes, and both played back."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ...core.degradation import Degradation
from ...core.errors import FacewrightError
from ...core.files import shapes
from ...core.files.json_text import JsonError, parse_json
from ...core.images import read_picture, write_picture
from ..jobs.manifest import AnyRecord, OwnRecord, Record, read_records
from ..jobs.planning import Job
from ..jobs.recorded import (
    MANIFEST,
    RecordedJob,
    RecordedRun,
    copy_name,
    picture_seed,
    recorded_job,
)
from .options import DegradeOptions
from .picture_lists import (
    PictureList,
    compare_degraded,
    compare_good,
    is_list,
    read_list,
    write_list,
)

_LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp", ".ppm"})
_SETTINGS = ("preset", "overrides", "base_seed")
"""What a record says about the run; the rest of it is about the picture."""


class _Degraded(OwnRecord):
    overrides: dict[str, Any] | None = None

    @field_validator("overrides")
    @classmethod
    def _noise(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        noise = (given or {}).get("noise", [])
        if not isinstance(noise, list) or not all(isinstance(v, int | float) for v in noise):
            raise PydanticCustomError("kind", "settings of `facewright degrade`")
        return given


class _PlayedBack(AnyRecord):
    input: shapes.TEXT = Field(default=...)
    copy_: shapes.COUNT = Field(alias="copy")
    recipe: shapes.FIELDS


class DegradeRun(RecordedRun):
    """What `facewright degrade` is about to do, checked before the first picture is opened."""

    def __init__(
        self,
        inputs: Sequence[str],
        out: Path,
        options: DegradeOptions,
        *,
        recipes: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        """
        Args:
            inputs: files, folders or patterns.
            out: folder, or a file for one picture; its record then lies beside it as .json.
            recipes: a list of a test set or a manifest, whose recipes are matched by the pictures'
                names, or a JSON file with one recipe for all; takes the place of `options`. Of a
                list both pictures are compared with its hashes, and those that differ fail.
            overwrite: make again what is there.

        Raises:
            FacewrightError: no pictures, wrong options, pictures without a recipe, or an output
                folder that holds pictures of another run or of no run.
        """
        degradation = Degradation.preset(options.preset, **options.overrides)
        self.settings = settings = _settings(options)
        self.missing: list[str] = []
        """Pictures of a list that are not among the inputs."""
        if recipes is None:
            make = _drawn(options, settings)
        elif is_list(recipes):
            listed = read_list(recipes)
            degradation, make = listed.degradation, _from_list(recipes, listed)
            self.missing = list(dict.fromkeys(record["input"] for record in listed.records))
        else:
            make = _played_back(recipes)
        super().__init__(
            inputs,
            out,
            make,
            _Degrade(degradation),
            suffix=lambda p: p.suffix if p.suffix.lower() in _LOSSLESS else ".png",
            settings=settings if recipes is None else None,
            as_options=_as_options,
            shape=_Degraded,
            overwrite=overwrite,
        )
        given = {job.name for job in self.jobs}
        self.missing = [name for name in self.missing if name not in given]

    def write_list(self, path: Path) -> int:
        """Write the list by which others make the same; returns how many pictures it names.

        Raises:
            FacewrightError: a picture was not made, or by a version that kept too little.
        """
        return write_list(path, (self.manifest.get(j.output) for j in self.jobs), self.settings)


@dataclass(frozen=True)
class _Degrade:
    """Makes one picture; goes to worker processes as it is."""

    degradation: Degradation

    def __call__(self, job: RecordedJob) -> dict[str, Any]:
        picture = read_picture(job.source)
        gt = picture.pixels[None, :3]
        hashes = {"gt_pixels": compare_good(job, gt[0])}
        recipe = job.given.get("recipe") or self.degradation.draw(job.seed or 0, *gt.shape[-2:])
        lq, alpha = Degradation.replay(gt, [recipe])[0], picture.pixels[3:]
        if len(alpha) and lq.shape[-2:] != alpha.shape[-2:]:
            raise FacewrightError(
                f"The recipe of {job.name} ends at {lq.shape[-1]} x {lq.shape[-2]} pixels, and its "
                f"alpha channel has {alpha.shape[-1]} x {alpha.shape[-2]}. Use the whole recipe, "
                "or a picture without alpha."
            )
        lq = torch.cat([lq, alpha]) if len(alpha) else lq
        hashes["lq_pixels"] = compare_degraded(job, lq)
        notes = write_picture(job.target, lq, picture, copy=True)
        facts: dict[str, Any] = {"record": {"recipe": recipe, **hashes}, "notes": notes}
        remark = self.degradation.settings.remark(*gt.shape[-2:])
        if remark and "recipe" not in job.given:
            facts["remark"] = remark
        if torch.equal(lq, picture.pixels):
            return facts
        if picture.grey:
            notes.append("stored without colour and kept so; noise in the colours became grey")
        elif picture.bits == 16:
            notes.append("16 bits per channel were kept, but degraded values have only 8")
        if job.target.suffix.lower() not in _LOSSLESS:
            notes.append(f"{job.target.suffix} files lose a little more; write PNG to be exact")
        return facts


def _settings(options: DegradeOptions) -> Record:
    values = (options.preset, json.loads(json.dumps(options.overrides)), options.seed)
    return dict(zip(_SETTINGS, values, strict=True))


def _drawn(
    options: DegradeOptions, settings: Record
) -> Callable[[Job, Path], Iterator[RecordedJob]]:
    """Jobs whose recipes are drawn: so many copies of each picture."""

    def make(job: Job, folder: Path) -> Iterator[RecordedJob]:
        for copy in range(1, options.copies + 1):
            seed = picture_seed(options.seed, job.name, copy)
            yield _job(job, folder, copy, settings=settings, seed=seed)

    return make


def _played_back(path: Path) -> Callable[[Job, Path], Iterator[RecordedJob]]:
    """Jobs whose recipes are in a file."""
    only = None if path.suffix == ".jsonl" else _only_recipe(path)
    known: dict[str, list[Record]] = {}
    for record in [] if only else read_records(path, _PlayedBack):
        known.setdefault(record["input"], []).append(record)

    def make(job: Job, folder: Path) -> Iterator[RecordedJob]:
        for record in [only] if only else known.get(job.name, []):
            copy = 1 if only else record["copy"]
            about = {"settings": {key: record.get(key) for key in _SETTINGS}}
            about |= {"seed": record.get("seed"), "given": {"recipe": record["recipe"]}}
            yield _job(job, folder, copy, **about)
        if not only and job.name not in known:
            raise FacewrightError(
                f"{path} has no recipe for {job.name}. Give the folder it was made from, so that "
                "names match, or only pictures that are in it."
            )

    return make


def _from_list(path: Path, listed: PictureList) -> Callable[[Job, Path], Iterator[RecordedJob]]:
    """Jobs of a list, which names what they begin and end with."""
    known: dict[str, list[Record]] = {}
    for record in listed.records:
        known.setdefault(record["input"], []).append(record)

    def make(job: Job, folder: Path) -> Iterator[RecordedJob]:
        for record in known.get(job.name, []):
            keys = ("recipe", "gt_pixels", "lq_pixels")
            given = {key: record[key] for key in keys if record.get(key) is not None}
            about = {"settings": listed.settings, "seed": record.get("seed"), "given": given}
            yield _job(job, folder, record["copy"], **about)
        if job.name not in known:
            raise FacewrightError(
                f"{path} does not list {job.name}. Give the folder that it was made from, so that "
                "names match, or only pictures that are in it."
            )

    return make


def _job(job: Job, folder: Path, copy: int, **about: Any) -> RecordedJob:
    name = job.target.name if copy == 1 else copy_name(job, copy)
    return recorded_job(job, folder, name, copy, **about)


def _only_recipe(path: Path) -> Record:
    """The recipe of a JSON file: as `facewright degrade` writes it, or bare, or in a list of one.

    Raises:
        FacewrightError: the file cannot be read, or holds anything else.
    """
    try:
        found = parse_json(path.read_bytes())
    except (OSError, JsonError) as error:
        raise FacewrightError(f"{path} cannot be read as JSON ({error}).") from error
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and "steps" in found:
        found = {"seed": found.get("seed"), "recipe": found}
    recipe = found.get("recipe") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(recipe, dict) or "steps" not in recipe:
        what = f"{len(found)} entries" if isinstance(found, list) else "something else"
        raise FacewrightError(
            f"{path} should hold one recipe, and holds {what}. Recipes of many pictures are read "
            f"from a {MANIFEST}."
        )
    return found


def _as_options(settings: Record) -> dict[str, str]:
    shown = {"--preset": settings.get("preset"), "--seed": settings.get("base_seed")}
    for name, value in (settings.get("overrides") or {}).items():
        if name == "noise":
            value = [round(255 * v, 6) for v in value]
        if isinstance(value, list):
            value = ":".join(f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in value)
        option = {"anisotropic": "aniso"}.get(name, name.replace("_", "-"))
        shown[f"--{option}"] = value
    return {name: str(value) for name, value in shown.items() if value is not None}
