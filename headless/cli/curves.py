"""`facewright curves`: a training run as one picture."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import app, exists, fail, file_or_folder, say
from ._failures import sentences


@app.command()
@sentences
def curves(
    run: Annotated[
        Path,
        typer.Argument(
            parser=file_or_folder,
            help="The run's output folder, or its metrics.jsonl.",
            callback=exists,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", parser=file_or_folder, help="PNG; without it curves.png in the folder."
        ),
    ] = None,
) -> None:
    """Draw the losses, held-out metrics and times of a training run.

    Also while it runs, and after it was killed.
    """
    try:
        from ...training.log.curves import curve_sheet
    except ImportError as error:
        fail(f'This needs more packages ({error}): pip install "facewright[train]"')
    lines = run / "metrics.jsonl" if run.is_dir() else run
    try:
        say(f"Saved {curve_sheet(lines, out or lines.with_name('curves.png'))}")
    except OSError as error:
        fail(f"The curves could not be written ({error}). Choose another file with -o.")
