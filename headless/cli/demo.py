"""`facewright demo`: something to look at, out of the box."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import app, console, sentences


@app.command()
@sentences
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path(
        "facewright_demo"
    ),
) -> None:
    """Restore a bundled picture of rendered people with the bundled nano models."""
    from ..demo import run_demo

    run_demo(out, console())
