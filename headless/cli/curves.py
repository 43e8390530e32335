"""`facewright curves`: a training run as one picture."""

from pathlib import Path
from typing import Annotated

from ._common import OUT, app, exists, fail, needs_training, path_argument, path_option, say
from ._failures import sentences


@app.command()
@sentences
def curves(
    run: Annotated[
        Path, path_argument("The run's output folder, or its metrics.jsonl.", callback=exists)
    ],
    out: Annotated[
        Path | None, path_option("PNG; without it curves.png in the folder.", *OUT)
    ] = None,
) -> None:
    """Draw the losses, held-out metrics and times of a training run.

    Also while it runs, and after it was killed.
    """
    with needs_training("This"):
        from ...training.log.curves import curve_sheet
    lines = run / "metrics.jsonl" if run.is_dir() else run
    try:
        say(f"Saved {curve_sheet(lines, out or lines.with_name('curves.png'))}")
    except OSError as error:
        fail(f"The curves could not be written ({error}). Choose another file with -o.")
