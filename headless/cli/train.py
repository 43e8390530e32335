"""`facewright train`: one stage of a method."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import app, fail, sentences


@app.command()
@sentences
def train(
    stage: Annotated[str, typer.Argument(help="A training stage, such as vre_hq or onestep.")],
    config: Annotated[
        Path,
        typer.Option(
            help="YAML file; package:training/configs/onestep_nano.yaml is one of those shipped."
        ),
    ],
    resume: Annotated[bool, typer.Option(help="Continue the run in its output folder.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=value replaces an entry of the file.")
    ] = None,
) -> None:
    """Train one stage of a method as a YAML file says."""
    try:
        from ...training.train import train as run_training
    except ImportError as error:
        fail(f'Training needs more packages ({error}): pip install "facewright[train]"')
    run_training(stage, config, resume=resume, overrides=assignments or [])
