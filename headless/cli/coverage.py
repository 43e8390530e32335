"""`facewright coverage`: how much of the damage of photographs a way to make damage covers."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    OUT,
    AsJson,
    app,
    check_choice,
    fail_for,
    is_folder,
    job_progress,
    path_argument,
    path_option,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from ._workers import Sharing


@app.command()
@sentences(interrupted="Interrupted before anything was written: the same command starts over.")
@grouped
def coverage(
    *,
    made: Annotated[
        list[Path] | None,
        path_argument(
            "Degraded pictures made beforehand (off-shelf), one folder per way.",
            metavar="[DIR]...",
            show_default=False,
        ),
    ] = None,
    real: Annotated[
        list[Path],
        path_option(
            "Photographs with real damage; give it again for every set.", show_default=False
        ),
    ],
    out: Annotated[Path, path_option("Folder for the report.", *OUT)],
    gt: Annotated[
        Path | None, path_option("Good pictures for --preset to degrade.", callback=is_folder)
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help="Degrade the pictures of --gt on the fly, as `degrade --preset` does; give it "
            "again for every preset.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            min=32, max=2048, help="Side that all pictures are compared at; others are resized."
        ),
    ] = 512,
    count: Annotated[
        int | None, typer.Option(min=20, help="Pictures of each set, drawn by --seed.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, max=1000, help="Random draws of equal size.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of pictures, presets and draws.")] = 0,
    embedding: Annotated[str, typer.Option(help="Of the scatter plot: pca or tsne.")] = "pca",
    sharing: Sharing,
    as_json: AsJson = False,
) -> None:
    """Compare made damage with that of photographs: recall, coverage, Frechet distance, a plot.

    All sets should show the same, such as aligned faces of one size: the descriptors are taken from
    the pictures alone and see what they show, too. The photographs are compared with themselves for
    the best that can be reached.

    OUT gets coverage.md, coverage.json, descriptors.csv, coverage.png and examples.png.
    """
    from ..evaluation.coverage import CoverageRun
    from ..evaluation.coverage_report import EMBEDDINGS, to_json, to_markdown, write_coverage

    check_choice("--embedding", embedding, EMBEDDINGS)
    with wrong_usage():
        todo = CoverageRun(
            made or [],
            real,
            out,
            gt=gt,
            presets=preset or [],
            side=size,
            most=count,
            seed=seed,
        )
    team = sharing.team((job.source for job in todo.jobs), None)
    with job_progress("Describing", len(todo.jobs), as_json, team) as on_job:
        found, summary = todo.carry_out(draws=draws, workers=team, on_job=on_job)
    written = write_coverage(todo, found, embedding=embedding)
    if as_json:
        failed = summary.as_dict()["failed"]
        about = {"files": {str(path): what for path, what in written.items()}, "failed": failed}
        write_json(to_json(todo, found) | about | {"left_aside": todo.aside.entries()})
    else:
        say(to_markdown(todo, found))
        for path, what in written.items():
            say(f"{path}: {what}")
        say_aside(todo.aside)
    fail_for(summary, len(todo.jobs))
