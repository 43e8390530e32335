"""The `facewright` command: one file per command, found by being here.

A command's file says `@app.command()`; its heavy imports wait inside the function, so that --help
is quick. Exit codes: 0 done, 1 something failed (named on standard error), 2 wrong usage, 130 after
Ctrl-C, 143 after SIGTERM.
"""

import sys
import warnings

from ...core._plugins import import_all
from ._common import app
from ._failures import run_app

# What Pillow thinks of a file is said by the reader of pictures, in a sentence.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
import_all(sys.modules[__name__])


def main() -> None:
    """Entry point of `facewright` and `python -m facewright`."""
    run_app(app)
