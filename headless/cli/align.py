"""`facewright align`: raw photo folders to training data."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..make.options import AlignOptions, KeepOptions
from ._common import (
    OUT,
    AsJson,
    Machine,
    app,
    check_choice,
    counted,
    fail,
    fail_for,
    inputs_argument,
    job_progress,
    path_option,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped


@app.command()
@sentences
@grouped
def align(
    *,
    inputs: Annotated[list[str], inputs_argument("Photos, folders, or patterns like *.jpg.")],
    out: Annotated[Path, path_option("Folder for the crops.", *OUT)],
    machine: Machine,
    options: AlignOptions,
    keep: KeepOptions,
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
    from ..make.align import AlignRun

    machine.use()
    options, choice = _decided(options, keep)
    with wrong_usage():
        todo = AlignRun(inputs, out, options)
    for line in () if as_json else choice[:1]:
        say(line)
    if options.analyzer == "skimage" and not as_json:
        say(
            "skimage finds boxes only: crops are aligned to about a tenth of the face. For "
            "training use mediapipe, facexlib or insightface.",
            "yellow",
        )
    with job_progress("Aligning", len(todo.jobs), quiet=as_json) as on_job:
        summary = todo.carry_out(workers=workers, on_job=on_job)
    sheet = _sheet(todo)
    counts = _counts(todo)
    if as_json:
        about = {"analyzer": options.analyzer, **counts}
        about |= {"manifest": todo.manifest.path, "sheet": sheet}
        about |= summary.as_dict() | {"done": _done(todo, summary)}
        write_json(about | {"left_aside": todo.aside.entries()})
    else:
        _report(todo, summary, counts, sheet)
        say_aside(todo.aside)
    fail_for(summary, len(todo.jobs))


def _decided(options: AlignOptions, keep: KeepOptions) -> tuple[AlignOptions, list[str]]:
    """The options with the analyzer that is ready, and what is to be said of "auto"'s choice."""
    from ...core.faces import ANALYZERS
    from ..make.align_photo import choose_analyzer

    check_choice("--analyzer", options.analyzer, ANALYZERS)
    chosen, choice = choose_analyzer(options.analyzer)
    if keep.max_yaw is not None and chosen == "skimage":
        fail(
            "--max-yaw is estimated from a face's five points, and skimage finds boxes only. Leave "
            "it out, or choose another --analyzer.",
            2,
        )
    return replace(options, analyzer=chosen, limits=keep.limits(options.size)), choice


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
