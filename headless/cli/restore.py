"""`facewright restore`: faces of pictures made good."""

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    Models,
    app,
    check_choice,
    counted,
    fail,
    fail_for,
    job_progress,
    say,
    sentences,
    use_models,
    write_json,
)


@app.command()
@sentences
def restore(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders, or patterns like *.jpg.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file for one picture.")],
    models: Models = None,
    weights: Annotated[
        str, typer.Option(help="osdface, or nano (demo models for rendered faces).")
    ] = "osdface",
    analyzer: Annotated[
        str | None,
        typer.Option(help="Face detector: skimage, insightface, facexlib or nano."),
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
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore the faces of pictures. Interrupted runs go on where they stopped."""
    from ...core.color import COLOR_MODES
    from ...core.errors import FacewrightError
    from ...core.faces import ORDERS
    from ...core.faces.selection import parse_pick
    from ..batch import Job, plan, run_jobs

    check_choice("--color", color, COLOR_MODES)
    check_choice("--order", order, ORDERS)
    check_choice("--weights", weights, ("osdface", "nano"))
    try:
        parse_pick(pick)
        jobs = plan(inputs, out)
    except FacewrightError as error:
        fail(str(error), 2)

    from ..restore import RestoreOptions, Restorer

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
    )

    use_models(models)

    @functools.cache
    def restorer() -> Restorer:
        make = Restorer.nano if weights == "nano" else Restorer.osdface
        loaded = make(analyzer) if analyzer else make()
        return loaded.with_size(size) if size else loaded

    if overwrite or not all(job.target.exists() for job in jobs):
        restorer()  # missing weights are no fault of a picture

    def work(job: Job) -> dict[str, Any]:
        return _restore_one(job, restorer(), options, compare)

    with job_progress("Restoring", len(jobs), quiet=as_json) as on_job:
        summary = run_jobs(jobs, work, overwrite=overwrite, on_job=on_job)
    if as_json:
        write_json(summary.as_dict())
    else:
        _report(summary, out)
    fail_for(summary, len(jobs))


def _restore_one(job: Any, restorer: Any, options: Any, compare: bool) -> dict[str, Any]:
    from ..images import read_picture, write_picture

    picture = read_picture(job.source)
    result = restorer.restore(picture.pixels, options)
    if compare and result.faces:
        _write_comparison(
            job.target.with_name(f"{job.target.stem}_compare.png"), picture.pixels, result.pixels
        )
    # Last, because its presence means that the job is finished.
    write_picture(job.target, result.pixels, picture)
    return {"faces": result.faces, "report": result.report, "notes": picture.notes}


def _write_comparison(path: Path, before: Any, after: Any) -> None:
    from ...core.compare import compare
    from ..images import Picture, write_picture

    pixels = compare(before[None, :3], after[None, :3])[0]
    write_picture(path, pixels, Picture(pixels))


def _report(summary: Any, out: Path) -> None:
    faces = sum(entry["faces"] for entry in summary.done)
    text = f"{counted(len(summary.done), 'picture')} with {counted(faces, 'face')} written to {out}"
    if summary.skipped:
        text += f"; {len(summary.skipped)} were finished before (--overwrite does them again)"
    say(text + ".")
    for entry in summary.done:
        for line in entry["notes"] + ([entry["report"]] if not entry["faces"] else []):
            say(f"{entry['input']}: {line}")
