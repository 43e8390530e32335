"""`facewright synthesize`: degraded pictures by a model that learnt from real ones."""

from pathlib import Path
from typing import Annotated

import typer

from ..make.options import SynthesizeOptions
from ._common import (
    OUT,
    AsJson,
    DiffusionMachine,
    app,
    check_choice,
    inputs_argument,
    path_option,
    path_or_name,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from ._workers import Overwrite, SharingModels, make_pictures


@app.command()
@sentences
@grouped
def synthesize(
    *,
    inputs: Annotated[list[str], inputs_argument("Aligned faces: pictures, folders, or patterns.")],
    out: Annotated[Path, path_option("Folder for the degraded pictures.", *OUT)],
    weights: Annotated[
        str | None,
        typer.Option(help="nano: demo models for rendered faces. Without it give the next two."),
    ] = None,
    boosthub: Annotated[
        str | None,
        typer.Option(
            parser=path_or_name,
            help="BoostHub trained to degrade: a file, or its name in models/facewright.",
        ),
    ] = None,
    lora: Annotated[
        str | None,
        typer.Option(parser=path_or_name, help="Its LoRA: a file, or its name in models/loras."),
    ] = None,
    machine: DiffusionMachine,
    options: SynthesizeOptions,
    sharing: SharingModels,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a set of degraded faces for training, with the seeds in OUT/manifest.jsonl.

    Each face should fill its picture. Pictures are cut to the square in their middle and resized
    to what the model works on: 512 pixels, the nano models 128.

    Interrupted runs go on where they stopped.
    """
    check_choice("--weights", weights or "nano", ("nano",))
    trained = (boosthub is not None) + (lora is not None)
    if trained != (0 if weights else 2):
        raise typer.BadParameter(
            "Give either --weights nano, or both --boosthub and --lora of a model that was "
            "trained to degrade."
        )

    from ..make.synthesize import DegradeWeights, SynthesizeRun

    machine.use()
    files = DegradeWeights.sd21(boosthub, lora) if boosthub and lora else DegradeWeights.nano()
    with wrong_usage():
        todo = SynthesizeRun(inputs, out, files, options, overwrite=overwrite)
    kind = f" of {files.size} x {files.size} pixels"
    make_pictures("Synthesizing", todo, sharing, as_json, kind)
