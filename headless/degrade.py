"""Many pictures degraded: one seed per picture, a manifest of recipes, and both played back."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..core.degradation import Degradation
from ..core.errors import FacewrightError
from .batch import Job, Summary, check_targets, plan, run_jobs
from .images import read_picture, write_picture
from .manifest import Manifest, Record, read_records

MANIFEST = "manifest.jsonl"
_LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp", ".ppm"})
_SETTINGS = ("preset", "overrides", "base_seed")
"""What a record says about the run; the rest of it is about the picture."""


@dataclass(frozen=True, kw_only=True)
class DegradeOptions:
    """How to degrade; the fields are options of `facewright degrade`."""

    preset: str = "moderate"
    overrides: dict[str, Any] = field(default_factory=dict)
    """For `Degradation.preset`."""
    seed: int = 0
    copies: int = 1
    """Pictures to make of each."""


@dataclass(frozen=True)
class DegradeJob(Job):
    """One picture to make."""

    output: str = ""
    """Of the target within the output folder, with slashes on every system."""
    copy: int = 1
    settings: Record = field(default_factory=dict)
    seed: int | None = None
    recipe: Record | None = None
    """To be played back; None draws one from the seed."""


def picture_seed(seed: int, name: str, copy: int) -> int:
    """Seed of one picture: the first 48 bits of SHA-256 of "seed/copy/name".

    It knows nothing of the other pictures, so that adding, leaving out or reordering some changes
    none, and 48 bits survive every JSON reader.
    """
    digest = hashlib.sha256(f"{seed}/{copy}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


class DegradeRun:
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
            recipes: a manifest, whose recipes are matched by the pictures' names, or a JSON file
                with one recipe for all; takes the place of `options`.
            overwrite: make again what is there.

        Raises:
            FacewrightError: no pictures, wrong options, pictures without a recipe, or an output
                folder that holds pictures of another run or of no run.
        """
        self.degradation = Degradation.preset(options.preset, **options.overrides)
        if options.seed < 0 or options.copies < 1:
            raise FacewrightError(
                f"The seed should be 0 or more and copies 1 or more, got {options.seed} and "
                f"{options.copies}."
            )
        jobs = plan(inputs, out, lambda p: p.suffix if p.suffix.lower() in _LOSSLESS else ".png")
        single = jobs[0].target == out
        folder = out.parent if single else out
        make = _drawn(options) if recipes is None else _played_back(recipes)
        self.jobs = [job for one in jobs for job in make(one, folder)]
        if single and len(self.jobs) > 1:
            raise FacewrightError(f"{len(self.jobs)} copies cannot be written to one file {out}.")
        check_targets(self.jobs)
        path = out.with_suffix(".json") if single else folder / MANIFEST
        self.manifest = Manifest(path, anew=single and overwrite)
        self.overwrite = overwrite
        if not overwrite:
            self._refuse_others(None if recipes else self.jobs[0].settings, folder)

    def _refuse_others(self, settings: Record | None, folder: Path) -> None:
        """Never mix two runs, and never replace what no run made."""
        ours = {job.output: job for job in self.jobs}
        for record in self.manifest:
            job = ours.get(record["output"])
            wanted = job.settings if job else settings
            difference = _difference(record, wanted) if wanted is not None else ""
            if not difference and job and job.recipe not in (None, record["recipe"]):
                difference = "its recipe is not the one given now"
            if difference and (folder / record["output"]).exists():
                raise FacewrightError(
                    f"{folder / record['output']} was made with other settings: {difference}. "
                    "Choose another output folder, or --overwrite to make the pictures again."
                )
        if not self.manifest.exists:
            there = [job.target for job in self.jobs if job.target.exists()]
            if there:
                raise FacewrightError(
                    f"{there[0]} exists and {self.manifest.path} does not, so it was not made by "
                    "this command. Choose another output folder, or --overwrite to replace it."
                )

    def carry_out(
        self, *, workers: int = 1, on_job: Callable[[Job], None] = lambda job: None
    ) -> Summary:
        """Make the pictures that are not finished: whose file or whose record is missing.

        The pixels do not depend on `workers`; each works with one torch thread.
        """
        # Without their records the old pictures cannot pass for new ones if this is cut short.
        self.manifest.start(forget=[job.output for job in self.jobs] if self.overwrite else [])
        with _one_thread():
            summary = run_jobs(
                self.jobs,
                _Degrade(self.degradation),
                finished=lambda j: self.manifest.get(j.output) is not None and j.target.exists(),
                workers=workers,
                record=self._record,
                on_job=on_job,
            )
        self.manifest.finish()
        return summary

    def _record(self, job: DegradeJob, facts: dict[str, Any]) -> dict[str, Any]:
        recipe = facts.pop("recipe")
        about = {"input": job.name, "output": job.output, "copy": job.copy, **job.settings}
        about |= {"seed": job.seed, "version": _version(), "recipe": recipe}
        self.manifest.add(about)
        return {"copy": job.copy, "seed": job.seed, **facts}


@dataclass(frozen=True)
class _Degrade:
    """Makes one picture; goes to worker processes as it is."""

    degradation: Degradation

    def __call__(self, job: DegradeJob) -> dict[str, Any]:
        picture = read_picture(job.source)
        gt = picture.pixels[None, :3]
        recipe = job.recipe or self.degradation.draw(job.seed, *gt.shape[-2:])
        picture.pixels[:3] = Degradation.replay(gt, [recipe])[0]
        notes = list(picture.notes)
        if picture.grey:
            notes.append("stored without colour and kept so; noise in the colours became grey")
        elif picture.bits == 16:
            notes.append("16 bits per channel were kept, but degraded values have only 8")
        if job.target.suffix.lower() not in _LOSSLESS:
            notes.append(f"{job.target.suffix} files lose a little more; write PNG to be exact")
        write_picture(job.target, picture.pixels, picture)
        return {"recipe": recipe, "notes": notes}


def _drawn(options: DegradeOptions) -> Callable[[Job, Path], Iterator[DegradeJob]]:
    """Jobs whose recipes are drawn: so many copies of each picture."""
    values = (options.preset, json.loads(json.dumps(options.overrides)), options.seed)
    settings = dict(zip(_SETTINGS, values, strict=True))

    def make(job: Job, folder: Path) -> Iterator[DegradeJob]:
        for copy in range(1, options.copies + 1):
            seed = picture_seed(options.seed, job.name, copy)
            yield _degrade_job(job, folder, copy, settings, seed)

    return make


def _played_back(path: Path) -> Callable[[Job, Path], Iterator[DegradeJob]]:
    """Jobs whose recipes are in a file."""
    only = None if path.suffix == ".jsonl" else _only_recipe(path)
    known: dict[str, list[Record]] = {}
    for record in [] if only else read_records(path):
        if not {"input", "recipe"} <= record.keys() or not isinstance(record.get("copy"), int):
            raise FacewrightError(
                f"The record of {record['output']} in {path} is not one of `facewright degrade`: "
                "it has no input, copy or recipe."
            )
        known.setdefault(record["input"], []).append(record)

    def make(job: Job, folder: Path) -> Iterator[DegradeJob]:
        for record in [only] if only else known.get(job.name, []):
            settings = {key: record.get(key) for key in _SETTINGS}
            copy = 1 if only else record["copy"]
            about = (copy, settings, record.get("seed"), record["recipe"])
            yield _degrade_job(job, folder, *about)
        if not only and job.name not in known:
            raise FacewrightError(
                f"{path} has no recipe for {job.name}. Give the folder it was made from, so that "
                "names match, or only pictures that are in it."
            )

    return make


def _degrade_job(
    job: Job,
    folder: Path,
    copy: int,
    settings: Record,
    seed: int | None,
    recipe: Record | None = None,
) -> DegradeJob:
    name = job.target.name if copy == 1 else f"{job.target.stem}_{copy}{job.target.suffix}"
    target = job.target.with_name(name)
    output = target.relative_to(folder).as_posix()
    return DegradeJob(job.source, target, job.name, output, copy, settings, seed, recipe)


def _only_recipe(path: Path) -> Record:
    """The recipe of a JSON file: as `facewright degrade` writes it, or bare, or in a list of one.

    Raises:
        FacewrightError: the file cannot be read, or holds anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FacewrightError(f"{path} cannot be read as JSON ({error}).") from error
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and "steps" in found:
        found = {"seed": found.get("seed"), "recipe": found}
    if not isinstance(found, dict) or "steps" not in (found.get("recipe") or {}):
        what = f"{len(found)} entries" if isinstance(found, list) else "something else"
        raise FacewrightError(
            f"{path} should hold one recipe, and holds {what}. Recipes of many pictures are read "
            f"from a {MANIFEST}."
        )
    return found


def _difference(record: Record, wanted: Record) -> str:
    """What two settings differ in, as options of the command; empty where they agree."""
    there, now = _as_options(record), _as_options(wanted)
    parts = [
        f"{name} {there.get(name, 'not given')} there, {now.get(name, 'not given')} now"
        for name in dict.fromkeys([*there, *now])
        if there.get(name) != now.get(name)
    ]
    return "; ".join(parts)


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


@cache
def _version() -> str | None:
    try:
        return version("facewright")
    except PackageNotFoundError:  # run from a folder that was never installed
        return None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are ordered by the number of threads; with one they are the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
