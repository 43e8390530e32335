"""`facewright demo`: something to look at, out of the box."""

from pathlib import Path
from typing import Annotated

from ._common import OUT, Device, app, console, path_option, use_device
from ._failures import sentences


@app.command()
@sentences
def demo(
    out: Annotated[Path, path_option("Folder for the pictures.", *OUT)] = Path("facewright_demo"),
    device: Device = None,
) -> None:
    """Restore a bundled picture of rendered people with the bundled nano models."""
    from ..make.demo import run_demo

    use_device(device)
    run_demo(out, console())
