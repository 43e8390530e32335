"""Raw photos to training data: every face cut out aligned, judged, and kept or left out by name."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.doctor.machine import own_version
from ...core.errors import FacewrightError
from ...core.files.names import LONGEST, TEMPORARY, fit_name
from ...core.files.scan import LeftAside, pictures_in
from ...core.files.writing import content_hash, remove_leftovers
from ...core.images import PICTURE_SUFFIXES
from ...core.people.curation import ALIKE, HASH_BITS, Reason, find_duplicates
from ..jobs.batch import OnJob, Summary, run_jobs, unwatched
from ..jobs.manifest import Manifest, Record
from ..jobs.planning import distinct, find_pictures
from ..jobs.recorded import differing, one_thread
from .align_photo import (
    DUPLICATE,
    SUFFIXES,
    Aligned,
    AlignJob,
    AlignOptions,
    AlignPhoto,
    files_of,
    kept_faces,
    loaded_analyzer,
)

MANIFEST = "align_manifest.jsonl"
SHEET = "align_sheet.png"


class AlignRun:
    """What `facewright align` is about to do, checked before the first photo is opened.

    The manifest holds a record for each photo: what was found in it, and of each face where it
    lies, what was measured, and the crop's name and SHA-256 or the reasons against it. A photo is
    finished when its record was made with these options and the crops are there. Crops that other
    options kept and these do not are deleted, unless somebody changed them.
    """

    def __init__(self, inputs: Sequence[str], out: Path, options: AlignOptions) -> None:
        """
        Args:
            inputs: files, folders or patterns.
            out: folder for the crops; folders below an input folder are made below it, too.

        Raises:
            FacewrightError: no pictures, or an output folder that holds what this run did not and
                would not make.
        """
        if out.suffix.lower() in PICTURE_SUFFIXES and not out.is_dir():
            raise FacewrightError(f"{out} is the name of a picture. Give a folder for the crops.")
        self.out, self.options = out, options
        self.sheet = sheet_path(out)
        self._settings = options.settings()
        self.aside = LeftAside()
        """What was found and not taken."""
        self.jobs = _plan(inputs, out, self.sheet, SUFFIXES[options.format], self.aside)
        self._ours = {job.output: job for job in self.jobs}
        self.manifest = Manifest(out / MANIFEST, Aligned)
        self._refuse_others()

    def _refuse_others(self) -> None:
        strange = None
        if not self.manifest.exists and self.out.is_dir():
            strange = next(iter(pictures_in(self.out, LeftAside())), None)
        if strange:
            raise FacewrightError(
                f"{strange} lies in the output folder and {self.manifest.path} does not, so it was "
                "not made by this command, but training would take it for an aligned face. Choose "
                "an empty or a new folder."
            )
        for record in self.manifest:
            kept = [self.out / entry["output"] for entry in kept_faces(record)]
            there = next(filter(Path.exists, kept), None)
            job = self._ours.get(record["output"])
            if there is None:
                continue
            if job is None and (difference := self._difference(record)):
                raise FacewrightError(
                    f"{there} was made with other options ({difference}), and its photo "
                    f"{record['input']} is not among those given, so that it cannot be made again. "
                    "Give it, too, delete the crop, or choose another output folder."
                )
            if job and not _same_photo(record, job.source):
                raise FacewrightError(
                    f"{there} was made from another photo than {job.source}, or from an earlier "
                    "version of it. Delete the crop to have it made from this one, or choose "
                    "another output folder."
                )

    def _difference(self, record: Record) -> str:
        both = (record["options"], self._settings)
        return differing(*({k.replace("_", " "): v for k, v in of.items()} for of in both))

    def _photo_of(self, file: str) -> str:
        """From a face's or caption's name to what the photo's only face would be called."""
        suffix = SUFFIXES[self.options.format]
        return re.sub(r"(_[0-9]+)?(\.txt|\.png|\.jpg)$", suffix, file)

    def finished(self, job: AlignJob) -> bool:
        """Whether its record was made with these options and all its files are there."""
        record = self.manifest.get(job.output)
        if record is None or self._difference(record) or not _same_photo(record, job.source):
            return False
        return all((self.out / entry["output"]).exists() for entry in files_of(record))

    def carry_out(self, *, workers: int = 1, on_job: OnJob = unwatched) -> Summary:
        """Align the photos that are not finished, then settle which crops are duplicates.

        What is kept depends neither on `workers` nor on earlier runs that were cut short.
        """
        remove_leftovers([self.manifest.path, *(job.target for job in self.jobs)], self._photo_of)
        self.manifest.start()
        work = AlignPhoto(self.options, self.out)
        if workers > 1:
            loaded_analyzer.cache_clear()  # each worker has its own
        with one_thread():

            def run(jobs: Sequence[AlignJob], **more: Any) -> Summary:
                return run_jobs(
                    jobs,
                    work,
                    finished=self.finished,
                    workers=min(workers, len(jobs)),
                    record=self._record,
                    **more,
                )

            summary = run(self.jobs, on_job=on_job)
            while again := self._settle(summary):
                summary.failed |= run(again).failed
        self.manifest.finish()
        return summary

    def _record(self, job: AlignJob, facts: dict[str, Any]) -> dict[str, Any]:
        record = {"output": job.output, "input": job.name, **facts.pop("record")}
        record |= {"options": self._settings, "version": own_version()}
        names = {entry["output"] for entry in files_of(record)}
        before = self.manifest.get(job.output)
        for entry in files_of(before) if before else ():
            if entry["output"] not in names:
                self._delete(entry)
        self.manifest.add(record)
        return {**facts, "notes": record["notes"]}

    def _settle(self, summary: Summary) -> list[AlignJob]:
        """Leave out all but the best of near duplicates, of all records there are.

        Returns:
            Photos of which a crop is kept now that was a duplicate, and deleted, before.
        """
        can_be_made = {j.output for j in self.jobs if j.source not in summary.failed}
        standing = [
            (record, entry)
            for record in self.manifest
            for entry in record["faces"]
            if {reason["kind"] for reason in entry["reasons"]} <= {DUPLICATE}
            and (record["output"] in can_be_made or (self.out / entry["output"]).exists())
        ]
        standing.sort(key=lambda pair: _rank(pair[1], self.options.size))
        hashes = [entry["hash"] for _, entry in standing]
        gone = find_duplicates(hashes) if self.options.duplicates == "reject" else {}
        again = []
        for index, (record, entry) in enumerate(standing):
            before = entry["reasons"]
            entry["reasons"] = []
            if index in gone:
                other, bits = gone[index]
                entry["reasons"] = [_duplicate(standing[other][1]["output"], bits).record()]
            entry["kept"] = not entry["reasons"]
            if entry["reasons"] != before:
                self.manifest.add(record)  # before its file goes, so that nothing goes unnoticed
            if not entry["kept"]:
                self._delete(entry)
                if record["caption"] and not kept_faces(record):
                    self._delete(record["caption"])
            elif not (self.out / entry["output"]).exists():
                again.append(self._ours[record["output"]])
        return list(dict.fromkeys(again))

    def _delete(self, entry: Record) -> None:
        """Delete a file of ours, unless somebody changed it."""
        path = self.out / entry["output"]
        if path.is_file() and content_hash(path) == entry["sha256"]:
            path.unlink()

    def records(self) -> Iterator[tuple[AlignJob, Record]]:
        """The photos of this run with their records; those that failed have none."""
        for record in self.manifest:
            job = self._ours.get(record["output"])
            if job is not None and not self._difference(record):
                yield job, record


def sheet_path(out: Path) -> Path:
    """Where the contact sheet goes: beside the output folder, where no training takes it for a
    face."""
    whole = out.resolve()
    name = fit_name(f"{whole.name}_{SHEET}", LONGEST - TEMPORARY, keep=len(SHEET) + 1)
    return whole.with_name(name) if whole.name else whole / SHEET


def _same_photo(record: Record, source: Path) -> bool:
    """By its length in bytes: reading every photo to the end would take as long as the work."""
    # What cannot be read is a fault of that photo, found when its turn comes.
    return not source.is_file() or source.stat().st_size == record["input_bytes"]


def left_out(record: Record) -> list[Record]:
    """The reasons of a record, of the photo itself and of its faces."""
    return record["reasons"] + [r for entry in record["faces"] for r in entry["reasons"]]


def _rank(entry: Record, size: int) -> tuple[float, float, str]:
    """Best first: what was enlarged least, then the sharpest, then by name."""
    return -min(entry["side"], size), -entry["sharpness"], entry["output"]


def _duplicate(other: str, bits: int) -> Reason:
    words = (
        f"nearly the same as {other}: {bits} of {HASH_BITS} bits of their hashes differ, "
        f"duplicates in at most {ALIKE}"
    )
    return Reason(DUPLICATE, words, bits, ALIKE)


def _plan(
    inputs: Sequence[str], out: Path, sheet: Path, suffix: str, aside: LeftAside
) -> list[AlignJob]:
    """A job per photo. Names that differ in their suffix only keep it: a_jpg.png and a_png.png."""
    found = [(s, name) for s, name in find_pictures(inputs, out, aside) if s.resolve() != sheet]
    suffixes: dict[Path, set[str]] = {}
    for _, name in found:
        suffixes.setdefault(name.with_suffix(""), set()).add(name.suffix)
    jobs = []
    for source, name in found:
        stem = name.with_suffix("")
        if len(suffixes[stem]) > 1:
            stem = stem.with_name(f"{stem.name}_{name.suffix[1:]}")
        # Room for the number of a face and for the temporary name.
        stem = stem.with_name(fit_name(stem.name, LONGEST - TEMPORARY - len("_10000.png")))
        target = out / stem.with_name(f"{stem.name}{suffix}")
        jobs.append(_moved(AlignJob(source, target, name.as_posix()), target, out))
    return distinct(jobs, moved=lambda job, target: _moved(job, target, out))


def _moved(job: AlignJob, target: Path, out: Path) -> AlignJob:
    output = target.relative_to(out)
    name = output.with_name(target.name.removesuffix(target.suffix)).as_posix()
    return replace(job, target=target, output=name)
