"""`facewright restore`: faces of pictures and videos made good."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.pipeline.options import RestoreOptions
from ._common import (
    OUT,
    AsJson,
    DiffusionMachine,
    app,
    check_choice,
    counted,
    exists,
    fail,
    inputs_argument,
    is_file,
    job_progress,
    path_option,
    path_or_name,
    say,
    tell,
    use_device,
    use_dtype,
    use_models,
    wrong_usage,
)
from ._failures import sentences
from ._methods import MethodCommand, method_options
from ._options import grouped
from ._workers import Overwrite, SharingModels, workers_option


@dataclass(frozen=True, kw_only=True)
class Weights(DiffusionMachine):
    """Which models restore, and where."""

    base: Annotated[
        Path | None,
        path_option(
            "SD 2.1-base where it has another name: a file or a diffusers folder.", callback=exists
        ),
    ] = None
    weights: Annotated[
        str | None, typer.Option(parser=path_or_name, help="The method and its weights.")
    ] = None
    analyzer: Annotated[
        str | None,
        typer.Option(
            help="Face detector: auto (the best one that is ready here, and that fits the albums), "
            "or one of mediapipe, facexlib, insightface, skimage; nano (rendered faces)."
        ),
    ] = None
    rotations: Annotated[
        bool,
        typer.Option(
            "--rotations",
            help="Look for faces that lie on their side or stand on their head, too (mediapipe "
            "alone can); takes longer.",
        ),
    ] = False

    def use(self) -> None:
        use_device(self.device)
        use_dtype(self.dtype)
        use_models(self.models, self.base)

    def chosen(self, given: str) -> str:
        """The name that `spec_of` knows; ends with exit code 2 where it cannot be meant.

        Args:
            given: the option that gives photographs of people; empty without any.
        """
        from ...core.errors import FacewrightError
        from ...core.faces import ANALYZERS
        from ...core.host import host
        from ...core.methods import DEFAULT, DEFAULT_WITH_PEOPLE, spec_of, specs

        check_choice("--analyzer", self.analyzer or ANALYZERS[0], ANALYZERS)
        try:
            spec = spec_of(self.weights or (DEFAULT_WITH_PEOPLE if given else DEFAULT))
        except FacewrightError as error:
            fail(f"{error}{host.folders.image_models()}", 2)
        name = spec.name
        if spec.any_file and self.dtype not in (None, "auto"):
            fail(
                f"--dtype is for methods with a diffusion model, and --weights {name} has none: it "
                "is computed in fp32. Leave --dtype out.",
                2,
            )
        if not given or spec.takes_people:
            return name
        if not spec.with_people:
            others = [other for other, of in specs().items() if of.takes_people]
            fail(
                f"{name} restores from the picture alone, so {given} has no use with --weights "
                f"{name}. Leave --weights out, which takes {DEFAULT_WITH_PEOPLE}, or choose one "
                f"of {', '.join(others)}.",
                2,
            )
        return spec.with_people


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Whose faces they are."""

    person: Annotated[
        list[str] | None,
        typer.Option(
            parser=path_or_name,
            help="An album of `facewright person make`: the face it shows is restored with its "
            "photos. Once for each person; strangers are restored without.",
        ),
    ] = None
    reference: Annotated[
        list[str] | None,
        typer.Option(
            parser=path_or_name,
            help="A photo, folder or pattern, for all faces alike; may be given several times.",
        ),
    ] = None

    assignments: Annotated[
        Path | None,
        path_option(
            "Whose face is whose in many files: a CSV table with picture, face and person, or what "
            "restore --json printed. What --assign says counts more.",
            callback=is_file,
        ),
    ] = None
    write_assignments: Annotated[
        Path | None,
        path_option(
            "Write who was who to this .csv or .json file, to be corrected and read by "
            "--assignments."
        ),
    ] = None

    @property
    def given(self) -> str:
        """The option that says whose photographs count, or nothing."""
        return "--person" if self.person else "--reference" if self.reference else ""

    def check(self, options: RestoreOptions) -> None:
        """Options that make no sense without or beside others are wrong usage."""
        if self.person and self.reference:
            fail(
                "--person and --reference both say whose photos count. Give --person for each "
                "person of the pictures, or --reference where all faces are one person's.",
                2,
            )
        if options.threshold is not None and not self.person:
            fail("--threshold tells the people of --person apart; give their albums, too.", 2)
        if options.margin is not None and not self.person:
            fail("--margin tells the people of --person apart; give their albums, too.", 2)
        for name, told in (
            ("--assign", options.assign),
            ("--assignments", self.assignments),
            ("--write-assignments", self.write_assignments),
        ):
            if told and not self.given:
                fail(f"{name} is about whose album a face gets; give these, too, by --person.", 2)
        plain = RestoreOptions()
        for name in ("mask_parts", "mask_grow", "mask_feather"):
            if options.mask == "none" and getattr(options, name) != getattr(plain, name):
                fail(f"--{name.replace('_', '-')} shapes a mask; choose one with --mask, too.", 2)
        if options.mask == "oval" and options.mask_parts != plain.mask_parts:
            fail("--mask-parts are recognized by --mask parsing; an oval has none.", 2)
        if options.on_drift and not options.held_back:
            fail(
                f"--on-drift {options.on_drift!r} needs to know how far is too far: give "
                "--max-drift or --false-match-rate.",
                2,
            )

    def told(self, options: RestoreOptions, run: Any) -> tuple[RestoreOptions, dict[str, Any]]:
        """The options without `assign`, and what is told of the faces of each file, for
        `RestoreFile`.

        Raises:
            FacewrightError: what is told cannot be meant.
        """
        if self.write_assignments and self.write_assignments.exists() and not run.overwrite:
            fail(
                f"{self.write_assignments} is there already. Choose another file for "
                "--write-assignments, or --overwrite to restore all again.",
                2,
            )
        if not options.assign and self.assignments is None:
            return options, {}
        from ..make.assignments import read_assignments, told_of_files

        rows = read_assignments(self.assignments) if self.assignments else []
        told, places, warnings = told_of_files(run.jobs, rows, options.assign)
        for line in warnings:
            say(line, "yellow")
        return replace(options, assign=()), {"told": told, "places": places}

    def read(self, options: RestoreOptions, out: Path, aside: Any) -> tuple[RestoreOptions, int]:
        """The options with albums and photographs, and how many of these cannot be read.

        Raises:
            FacewrightError: albums that cannot be used, or names that do not exist.
        """
        from ...core.errors import FacewrightError
        from ..jobs.batch import find_pictures
        from ..make.albums import find_album, warnings_of
        from ..make.people import read_albums, readable

        found = find_pictures(self.reference, out, aside) if self.reference else []
        photos, unread = readable([path for path, _ in found])
        albums = read_albums(self.person or ())
        for given, album in zip(self.person or (), albums, strict=True):
            for line in warnings_of(album, find_album(given)):
                say(line, "yellow")
        for why in unread.values():
            say(f"warning: {why}", "yellow")
        if self.reference and not photos.paths:
            raise FacewrightError("None of the files of --reference can be read.")
        return replace(options, people=albums, references=photos), len(unread)


@dataclass(frozen=True, kw_only=True)
class SharingFiles(SharingModels):
    """Who restores the files."""

    workers: Annotated[
        int | None,
        workers_option(
            "Processes that share the files, each with the models and one thread: any number "
            "gives the same bytes. By default one file at a time, with all cores.",
            default=True,
        ),
    ] = None


@app.command(cls=MethodCommand)
@sentences
@grouped
def restore(
    *,
    ctx: typer.Context,
    inputs: Annotated[
        list[str], inputs_argument("Pictures, videos, folders, or patterns like *.jpg.", None)
    ],
    out: Annotated[Path, path_option("Folder, or a file for one input.", *OUT)],
    weights: Weights,
    faces: Faces,
    options: RestoreOptions,
    compare: Annotated[bool, typer.Option(help="Also write before/after pictures.")] = False,
    sharing: SharingFiles,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Restore the faces of pictures and videos. Interrupted runs go on where they stopped.

    A video becomes an MP4 with its sound; it is gone through twice, a few frames at a time.
    """
    faces.check(options)
    weights.use()
    name = weights.chosen(faces.given)
    options = replace(options, method=method_options(ctx, name))

    from ...core.faces import choice_of
    from ...core.faces.selection import parse_pick
    from ..make.people import points_of
    from ..make.restore_files import RestoreFile, RestorerChoice, endings
    from ..make.restore_run import RestoreRun

    with wrong_usage():
        parse_pick(options.pick)
        run = RestoreRun(inputs, out, endings(options, compare), overwrite=overwrite)
        options, told = faces.told(options, run)
        options, unread = faces.read(options, out, run.aside)
    choice = RestorerChoice(
        name,
        weights.analyzer,
        options.measured,
        points_of(options.people),
        rotations=weights.rotations,
    )
    work = RestoreFile(choice, options, compare, **told)
    for line in run.hold_against(work):
        say(line)
    team = sharing.team((job.source for job in run.jobs), run.folder)
    said: list[str] = []
    with sharing.threads:
        if not run.ready:
            work = _ready(work)
            restorer = work.models.restorer
            said = [*choice_of(restorer.analyzer), *restorer.alike(work.options)]
        with job_progress("Restoring", len(run.jobs), as_json, team) as on_job:
            work = replace(work, watch=on_job.within) if team == 1 else work.unloaded()
            summary = run.carry_out(work, workers=team, on_job=on_job)
    if faces.write_assignments:
        from ..make.assignments import write_assignments

        write_assignments(faces.write_assignments, summary.done)
        if summary.skipped:
            say(
                f"warning: {faces.write_assignments} lacks "
                f"{counted(len(summary.skipped), 'file')} finished before, whose faces were not "
                "looked at again; with --overwrite they are.",
                "yellow",
            )
    made = f"{_made(summary)} written to {out}"
    about = partial(_about, said=said)
    tell(summary, len(run.jobs), run.aside, made, as_json, noun=run.noun, about=about)
    if unread:
        fail(f"{counted(unread, 'reference')} could not be read; see above.")


def _ready(work: Any) -> Any:
    """The same work with its models loaded, and an album made of the photographs.

    What is missing or does not go together is no fault of a picture, and shows here.
    """
    from ...core.faces import choice_of
    from ..make.restore import check_albums

    with wrong_usage():
        check_albums(work.models.name, work.options.people)
    restorer = work.models.restorer
    for line in choice_of(restorer.analyzer)[:1]:  # what is broken was warned of
        say(line)
    photos = work.options.references
    with wrong_usage():
        options, report = restorer.settled(work.options, [p.name for p in photos.paths])
    for line in [*report, *restorer.alike(options)]:
        say(line, "yellow" if line.startswith("warning") else None)
    return replace(work, options=options)


def _made(summary: Any) -> str:
    from ..make.restore_files import is_video

    faces = sum(entry["faces"] for entry in summary.done)
    videos = sum(is_video(Path(entry["input"])) for entry in summary.done)
    pictures = len(summary.done) - videos
    text = counted(pictures, "picture") if pictures or not videos else ""
    text += " and " * bool(text and videos) + (counted(videos, "video") if videos else "")
    return f"{text} with {counted(faces, 'face')}"


def _about(entry: dict[str, Any], said: Collection[str] = ()) -> list[str]:
    """What is to be known of a file, without what was said of all."""
    report = [line for line in entry["report"].splitlines() if line not in said]
    joined = " ".join(line if line.endswith(".") else f"{line};" for line in report)
    warnings = [line for line in report if line.startswith("warning: ")]
    lines = warnings if entry["faces"] else [joined.removesuffix(";")]
    return [*entry["notes"], *lines, *entry.get("who", []), *entry.get("held_back", [])]
