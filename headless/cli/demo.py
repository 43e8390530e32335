"""`facewright demo`: something to look at, out of the box."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import OUT, Device, app, console, path_option, say, use_device
from ._failures import sentences


@app.command()
@sentences
def demo(
    out: Annotated[Path, path_option("Folder for the pictures.", *OUT)] = Path("facewright_demo"),
    device: Device = None,
    people: Annotated[
        bool,
        typer.Option(
            "--people",
            help="Write photos of rendered people into OUT/people instead, to try albums with.",
        ),
    ] = False,
) -> None:
    """Restore a bundled picture of rendered people with the bundled nano models."""
    from ..make.demo import run_demo, write_people

    use_device(device)
    if people:
        written = write_people(out / "people")
        say(f"{len(written)} photos of computer-drawn people written to {out / 'people'}.")
        return
    run_demo(out, console())
