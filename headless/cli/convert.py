"""`facewright convert`: released weights as safetensors."""

from pathlib import Path
from typing import Annotated

from ._common import OUT, AsJson, app, path_argument, path_option, say_written
from ._failures import sentences


@app.command()
@sentences
def convert(
    inputs: Annotated[list[Path], path_argument("Released OSDFace files or LoRAs.")],
    out: Annotated[Path, path_option("Folder for the safetensors.", *OUT)],
    as_json: AsJson = False,
) -> None:
    """Convert files that others released to safetensors that need no pickle and fit every host.

    `facewright export` is for what you trained yourself.
    """
    from ...core.weights.convert import convert as convert_files

    say_written(convert_files(inputs, out), as_json)
