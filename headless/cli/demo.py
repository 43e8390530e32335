"""`facewright demo`: something to look at, out of the box."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import Device, app, console, file_or_folder, use_device
from ._failures import sentences


@app.command()
@sentences
def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", parser=file_or_folder, help="Folder for the pictures.")
    ] = Path("facewright_demo"),
    device: Device = None,
) -> None:
    """Restore a bundled picture of rendered people with the bundled nano models."""
    from ..make.demo import run_demo

    use_device(device)
    run_demo(out, console())
