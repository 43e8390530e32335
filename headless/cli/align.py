"""`facewright align`: raw photo folders to training data."""

from collections import Counter
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

_MAX_YAW = 60.0
"""Degrees; beyond, one eye is hardly seen and the template hardly fits."""


@app.command()
@sentences
def align(
    inputs: Annotated[
        list[str],
        typer.Argument(
            parser=path_or_name, metavar="IN...", help="Photos, folders, or patterns like *.jpg."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", parser=file_or_folder, help="Folder for the crops.")
    ],
    analyzer: Annotated[
        str,
        typer.Option(
            help="Face detector: insightface or facexlib (five points), skimage (boxes only, so "
            "that crops are off by up to a tenth), nano (rendered faces). auto takes the first "
            "that is ready, never nano."
        ),
    ] = "auto",
    models: Models = None,
    device: Device = None,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of the crops in pixels.")] = 512,
    faces: Annotated[
        str,
        typer.Option(
            help="largest: one face per photo, so that a folder of one person's photos shows no "
            "bystanders; all: every face, where the folder says nothing about who it is."
        ),
    ] = "largest",
    min_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Least side of the crop in pixels of the photo; a face from brows to chin fills "
            "some 60 % of it. By default half of --size: nothing is enlarged more than twice.",
        ),
    ] = None,
    min_sharpness: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="0 to 1; noise counts as sharpness. By default what enlarging five times leaves: "
            "0.3 at --size 512, where 0.5 is sharp, up to 0.37 at 128.",
        ),
    ] = None,
    max_outside: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Largest share of the crop that may lie outside the photo, where its mirrored "
            "border is shown.",
        ),
    ] = 0.1,
    max_yaw: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=90,
            help="Largest turn to a side in degrees, estimated from the five points. Default 60; "
            "90: no limit.",
        ),
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out faces that the detector doubts.")
    ] = 0.0,
    reject_grey: Annotated[
        bool, typer.Option("--reject-grey", help="Leave out faces without colours.")
    ] = False,
    duplicates: Annotated[
        str,
        typer.Option(
            help="Of crops that look the same (one photo saved twice): reject all but the largest "
            "and sharpest, or keep them."
        ),
    ] = "reject",
    file_format: Annotated[
        str, typer.Option("--format", help="png, or jpg, which is smaller and loses a little.")
    ] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of --format jpg.")] = 95,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the photos, each with the detector.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Cut the faces of raw photos out, aligned to FFHQ's template, and leave bad ones out.

    Subfolders stay, so that a folder per person remains one. The caption a.txt beside a.jpg comes
    along where the photo gives exactly one crop. EXIF data, such as places, does not.

    OUT/align_manifest.jsonl says of every photo what was found, and why what was left out was.
    OUT_align_sheet.png beside the folder shows samples of both.

    Interrupted runs go on where they stopped. With other options all crops are made again.
    """
    from ...core.errors import FacewrightError
    from ...core.faces import ANALYZERS
    from ...core.people.curation import Limits, usual_sharpness
    from ..make.align import AlignRun
    from ..make.align_photo import DUPLICATES, FACES, GREY, SUFFIXES, AlignOptions, choose_analyzer

    check_choice("--analyzer", analyzer, ("auto", *ANALYZERS))
    check_choice("--faces", faces, FACES)
    check_choice("--duplicates", duplicates, DUPLICATES)
    check_choice("--format", file_format, tuple(SUFFIXES))
    use_device(device)
    use_models(models)
    chosen, passed_over = choose_analyzer(analyzer)
    if max_yaw is not None and chosen == "skimage":
        fail(
            "--max-yaw is estimated from a face's five points, and skimage finds boxes only. Leave "
            "it out, or choose another --analyzer.",
            2,
        )
    limits = Limits(
        min_side=size / 2 if min_size is None else min_size,
        min_sharpness=usual_sharpness(size) if min_sharpness is None else min_sharpness,
        max_outside=max_outside,
        max_yaw=_MAX_YAW if max_yaw is None else max_yaw,
        min_score=min_score,
        min_color=GREY if reject_grey else None,
    )
    options = AlignOptions(
        analyzer=chosen,
        size=size,
        format=file_format,
        quality=quality,
        faces=faces,
        duplicates=duplicates,
        limits=limits,
    )
    try:
        todo = AlignRun(inputs, out, options)
    except FacewrightError as error:
        fail(str(error), 2)
    if chosen == "skimage" and not as_json:
        for line in passed_over:
            say(line)
        say(
            "skimage finds boxes only: crops are aligned to about a tenth of the face. For "
            "training use insightface or facexlib.",
            "yellow",
        )
    with job_progress("Aligning", len(todo.jobs), quiet=as_json) as on_job:
        summary = todo.carry_out(workers=workers, on_job=on_job)
    sheet = _sheet(todo)
    counts = _counts(todo)
    if as_json:
        about = {"analyzer": chosen, **counts, "manifest": todo.manifest.path, "sheet": sheet}
        about |= summary.as_dict() | {"done": _done(todo, summary)}
        write_json(about | {"left_aside": todo.aside.entries()})
    else:
        _report(todo, summary, counts, sheet)
        say_aside(todo.aside)
    fail_for(summary, len(todo.jobs))


def _sheet(todo: Any) -> Path | None:
    """Where the contact sheet lies now; the crops count for more than it does."""
    from ..make.align_sheet import write_sheet

    try:
        write_sheet(todo.sheet, todo.records(), todo.out)
    except OSError as error:
        say(f"The contact sheet {todo.sheet} could not be written ({error}).", "yellow")
        return None
    return todo.sheet


def _counts(todo: Any) -> dict[str, Any]:
    from ..make.align import left_out
    from ..make.align_photo import kept_faces

    kept, why, faceless = 0, Counter(), 0
    rejects = 0
    for _, record in todo.records():
        kept += len(kept_faces(record))
        faceless += bool(record["reasons"])
        rejects += len(record["faces"]) - len(kept_faces(record))
        why.update(reason["kind"] for reason in left_out(record))
    return {"crops": kept, "left_out": rejects, "faceless": faceless, "reasons": dict(why)}


def _done(todo: Any, summary: Any) -> list[dict[str, Any]]:
    """What became of each photo, in place of the one file that a job usually makes."""
    from ..make.align import left_out
    from ..make.align_photo import kept_faces

    records = {str(job.source): record for job, record in todo.records()}
    entries = []
    for entry in summary.done:
        record = records[entry["input"]]
        about = {
            "crops": [str(todo.out / face["output"]) for face in kept_faces(record)],
            "left_out": [reason["words"] for reason in left_out(record)],
        }
        entries.append({"input": entry["input"], **about, "notes": entry["notes"]})
    return entries


def _report(todo: Any, summary: Any, counts: dict[str, Any], sheet: Path | None) -> None:
    crops, photos = counted(counts["crops"], "crop"), counted(len(todo.jobs), "photo")
    text = f"{crops} of {photos} in {todo.out}"
    if summary.skipped:
        text += f"; {len(summary.skipped)} were finished before"
    say(f"{text}.", None if counts["crops"] else "yellow")
    if counts["reasons"]:
        why = ", ".join(f"{kind} {n}" for kind, n in sorted(counts["reasons"].items()))
        faces, none = counted(counts["left_out"], "face"), counts["faceless"]
        say(f"Left out: {faces}, and {counted(none, 'photo')} without one. Reasons: {why}.")
    say(f"Look at {sheet}; {todo.manifest.path} says why for each." if sheet else "")
    for entry in summary.done:
        for line in entry["notes"]:
            say(f"{entry['input']}: {line}")
