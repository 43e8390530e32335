"""`facewright restore`: faces of pictures made good."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    Device,
    Models,
    app,
    check_choice,
    counted,
    exists,
    fail,
    fail_for,
    file_or_folder,
    job_progress,
    path_or_name,
    say,
    say_aside,
    use_device,
    use_models,
    write_json,
)
from ._failures import sentences
from ._workers import GpusPerWorker, Ray, chosen_workers


@app.command()
@sentences
def restore(
    inputs: Annotated[
        list[str],
        typer.Argument(parser=path_or_name, help="Pictures, folders, or patterns like *.jpg."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", parser=file_or_folder, help="Folder, or a file for one picture."
        ),
    ],
    models: Models = None,
    device: Device = None,
    base: Annotated[
        Path | None,
        typer.Option(
            parser=file_or_folder,
            help="SD 2.1-base where it has another name: a file or a diffusers folder.",
            callback=exists,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="osdface; honestface, which looks at photos of the same person (the default with "
            "--person or --reference); or nano (demo models for rendered faces)."
        ),
    ] = None,
    person: Annotated[
        list[str] | None,
        typer.Option(
            parser=path_or_name,
            help="An album of `facewright person make`: the face it shows is restored with its "
            "photos. Once for each person; strangers are restored without.",
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            parser=path_or_name,
            help="A photo, folder or pattern, for all faces alike; may be given several times.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Cosine from which a face is a --person; 0 or none: what suits the recogniser.",
        ),
    ] = None,
    max_drift: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=2,
            help="Hold back faces that drift farther from who they are: 1 - cosine to their "
            "photos, or to the input where there are none. 0: no change; 1: as far as a stranger.",
        ),
    ] = None,
    on_drift: Annotated[
        str | None,
        typer.Option(
            help="What becomes of them: lower strength (until they are within; the default), "
            "fall back (to the input) or report only."
        ),
    ] = None,
    receipts: Annotated[
        bool,
        typer.Option(
            "--receipts",
            help="Write what changed in each face to PICTURE.receipts.json, and into PNGs.",
        ),
    ] = False,
    analyzer: Annotated[
        str | None,
        typer.Option(
            help="Face detector: skimage (OSDFace's default), insightface (HonestFace's) or "
            "facexlib (for albums made with it), or nano."
        ),
    ] = None,
    color: Annotated[
        str, typer.Option(help="Colours of the original: none, adain, wavelet or lab.")
    ] = "none",
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 original, 1 restored.")] = 1.0,
    feather: Annotated[float, typer.Option(min=0.01, max=0.5, help="Soft border's width.")] = 0.12,
    size: Annotated[
        int | None, typer.Option(min=64, max=2048, help="Side of the face crops in pixels.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="Number faces left to right, top to bottom, by size or score.")
    ] = "left to right",
    pick: Annotated[
        str, typer.Option(help='Restore only the faces of these numbers, from 0: "0" or "0, 2".')
    ] = "",
    min_size: Annotated[float, typer.Option(min=0, help="Leave smaller faces alone (px).")] = 0,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave faces alone that the detector doubts.")
    ] = 0.0,
    max_faces: Annotated[int, typer.Option(min=0, help="Per picture; 0: no limit.")] = 0,
    padding: Annotated[
        float, typer.Option(min=0, max=1, help="Extend pictures by this share to find faces.")
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option(help="Sample the latent instead of taking its mean.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Also write before/after pictures.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that share the pictures, each with the models and one thread: any "
            "number gives the same bytes. By default one picture at a time, with all cores.",
        ),
    ] = None,
    ray: Ray = None,
    gpus_per_worker: GpusPerWorker = None,
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore the faces of pictures. Interrupted runs go on where they stopped."""
    from ...core.color import COLOR_MODES
    from ...core.errors import FacewrightError
    from ...core.faces import ANALYZERS, ORDERS
    from ...core.faces.selection import parse_pick
    from ...core.files.scan import LeftAside
    from ...core.files.writing import remove_leftovers
    from ...core.people.album import strangers
    from ...core.people.guard import ACTIONS
    from ..jobs.batch import Job, find_pictures, plan, run_jobs

    weights = weights or ("honestface" if person or reference else "osdface")
    check_choice("--color", color, COLOR_MODES)
    check_choice("--order", order, ORDERS)
    check_choice("--weights", weights, ("osdface", "honestface", "nano"))
    check_choice("--on-drift", on_drift or ACTIONS[0], ACTIONS)
    check_choice("--analyzer", analyzer or ANALYZERS[0], ANALYZERS)
    _check_together(weights, person, reference, threshold, max_drift, on_drift)
    use_device(device)
    use_models(models, base)

    from ..jobs.recorded import one_thread
    from ..make.people import read_albums, readable
    from ..make.restore import RestoreOptions
    from ..make.restore_files import COMPARISON, RECEIPTS, RestoreFile, RestorerChoice

    aside = LeftAside()
    try:
        parse_pick(pick)
        endings = [COMPARISON] * compare + [RECEIPTS] * receipts
        jobs = plan(inputs, out, endings=endings, aside=aside)
        found = find_pictures(reference, out, aside) if reference else []
        photos, unread = readable([path for path, _ in found])
        albums = read_albums(person or ())
        doubts = [line for album in albums for line in strangers(album)]
    except FacewrightError as error:
        fail(str(error), 2)
    for sentence in (*doubts, *(f"warning: {why}" for why in unread.values())):
        say(sentence, "yellow")
    if reference and not photos.paths:
        fail("None of the files of --reference can be read.", 2)

    options = RestoreOptions(
        color=color,
        strength=strength,
        feather=feather,
        order=order,
        pick=pick,
        min_size=min_size,
        min_score=min_score,
        max_faces=max_faces,
        padding=padding,
        seed=seed,
        people=albums,
        threshold=threshold or 0.0,
        max_drift=max_drift,
        on_drift=on_drift or ACTIONS[0],
        receipts=receipts,
    )

    choice = RestorerChoice.of(weights, analyzer, size, options, references=bool(photos))
    work = RestoreFile(choice, options, compare)

    def finished(job: Job) -> bool:
        return job.target.exists() and (not receipts or job.beside(RECEIPTS).exists())

    folder = out.parent if jobs[0].target == out else out
    reads = (job.source for job in jobs)
    team = chosen_workers(ray, workers, reads=reads, writes=folder, gpus=gpus_per_worker)
    with nullcontext() if workers is None and ray is None else one_thread():
        if overwrite or not all(map(finished, jobs)):
            work = _ready(work, photos)
        if team != 1:
            work = work.unloaded()
        remove_leftovers(path for job in jobs for path in job.further.values())
        with job_progress("Restoring", len(jobs), as_json, team) as on_job:
            summary = run_jobs(
                jobs, work, overwrite=overwrite, finished=finished, workers=team, on_job=on_job
            )
    if as_json:
        write_json({**summary.as_dict(), "left_aside": aside.entries()})
    else:
        _report(summary, out)
        say_aside(aside)
    fail_for(summary, len(jobs))
    if unread:
        fail(f"{counted(len(unread), 'reference')} could not be read; see above.")


def _check_together(
    weights: str,
    person: list[str] | None,
    reference: list[str] | None,
    threshold: float | None,
    max_drift: float | None,
    on_drift: str | None,
) -> None:
    """Options that make no sense without or beside others are wrong usage."""
    if person and reference:
        fail(
            "--person and --reference both say whose photos count. Give --person for each person "
            "of the pictures, or --reference where all faces are one person's.",
            2,
        )
    if weights == "osdface" and (person or reference):
        given = "--person" if person else "--reference"
        fail(
            f"OSDFace restores from the picture alone, so {given} has no use with --weights "
            "osdface. Leave --weights out, which takes HonestFace, or choose nano for rendered "
            "faces.",
            2,
        )
    if threshold is not None and not person:
        fail("--threshold tells the people of --person apart; give their albums, too.", 2)
    if on_drift and max_drift is None:
        fail(f"--on-drift {on_drift!r} needs to know how far is too far: give --max-drift.", 2)


def _ready(work: Any, photos: Any) -> Any:
    """The same work with its models loaded, and the album of `photos` made.

    What is missing or does not go together is no fault of a picture, and shows here.
    """
    from ...core.errors import FacewrightError
    from ..make.people import with_references

    restorer = work.models.restorer
    try:
        if not photos:
            restorer.check(work.options)
            return work
        made, report = with_references(work.options, photos, restorer)
    except FacewrightError as error:
        fail(str(error), 2)
    for line in report:
        say(line, "yellow" if line.startswith("warning") else None)
    return replace(work, options=made)


def _report(summary: Any, out: Path) -> None:
    faces = sum(entry["faces"] for entry in summary.done)
    text = f"{counted(len(summary.done), 'picture')} with {counted(faces, 'face')} written to {out}"
    if summary.skipped:
        text += f"; {len(summary.skipped)} were finished before (--overwrite does them again)"
    say(text + ".")
    for entry in summary.done:
        lines = [] if entry["faces"] else [entry["report"]]
        for line in [*entry["notes"], *lines, *entry.get("who", []), *entry.get("held_back", [])]:
            say(f"{entry['input']}: {line}")
