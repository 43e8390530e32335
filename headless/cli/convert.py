"""`facewright convert`: released weights as safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import AsJson, app, file_or_folder, say, write_json
from ._failures import sentences


@app.command()
@sentences
def convert(
    inputs: Annotated[
        list[Path], typer.Argument(parser=file_or_folder, help="Released OSDFace files or LoRAs.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", parser=file_or_folder, help="Folder for the safetensors.")
    ],
    as_json: AsJson = False,
) -> None:
    """Convert files that others released to safetensors that need no pickle and fit every host.

    `facewright export` is for what you trained yourself.
    """
    from ...core.weights.convert import convert as convert_files

    written = convert_files(inputs, out)
    if as_json:
        write_json({str(path): what for path, what in written.items()})
    for path, what in {} if as_json else written.items():
        say(f"{path}: {what}")
