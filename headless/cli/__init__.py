"""The `facewright` command: one file per command, found by being here.

A command's file says `@app.command()`; its heavy imports wait inside the function, so that --help
is quick. Exit codes: 0 done, 1 something failed (named on standard error), 2 wrong usage, 130 after
Ctrl-C, 143 after SIGTERM.
"""

import sys
import warnings
from typing import Annotated

import typer

from ...core._plugins import import_all
from ._common import app
from ._failures import run_app

import_all(sys.modules[__name__])


def _show_version(wanted: bool) -> None:
    if wanted:
        from ...core.doctor.machine import own_version

        sys.stdout.write(f"facewright {own_version()}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="The version.")
    ] = False,
) -> None:
    """Restores faces in pictures and videos."""


def main() -> None:
    """Entry point of `facewright` and `python -m facewright`."""
    # What Pillow thinks of a file is said by the reader of pictures, in a sentence.
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
    run_app(app)
