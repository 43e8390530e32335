"""`facewright synthesize`: degraded pictures by a model that learnt from real ones."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    Device,
    Models,
    app,
    check_choice,
    counted,
    fail,
    fail_for,
    file_or_folder,
    job_progress,
    path_or_name,
    say,
    say_aside,
    use_device,
    use_models,
    write_json,
)
from ._failures import sentences
from ._workers import GpusPerWorker, Ray, chosen_workers


@app.command()
@sentences
def synthesize(
    inputs: Annotated[
        list[str],
        typer.Argument(
            parser=path_or_name,
            metavar="IN...",
            help="Aligned faces: pictures, folders, or patterns.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", parser=file_or_folder, help="Folder for the degraded pictures."
        ),
    ],
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
    models: Models = None,
    device: Device = None,
    copies: Annotated[
        int, typer.Option(min=1, help="Of each picture, differing: a_1.png, a_2.png, ...")
    ] = 5,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Of DDIM.")] = 50,
    eta: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of fresh noise in each step: 0, DDIM, is the default; 1, which the weakly "
            "trained nano models need, is theirs.",
        ),
    ] = None,
    cfg: Annotated[
        float,
        typer.Option(
            min=0, help="Guidance by the caption in a.txt beside a.png; nothing without one."
        ),
    ] = 1.5,
    phi: Annotated[
        float, typer.Option(min=0, max=2, help="How much the good picture counts; 1 as trained.")
    ] = 1.0,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Each picture's own seed comes from this, its name within the folder given and "
            "the number of its copy: adding pictures, their order and who works change nothing.",
        ),
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that share the pictures, each with the models.", show_default="1"
        ),
    ] = None,
    ray: Ray = None,
    gpus_per_worker: GpusPerWorker = None,
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
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

    from ...core.errors import FacewrightError
    from ..make.synthesize import DegradeWeights, SynthesizeOptions, SynthesizeRun

    use_device(device)
    use_models(models)
    if eta is None:
        eta = 1.0 if weights else 0.0
    options = SynthesizeOptions(steps=steps, eta=eta, cfg=cfg, phi=phi, seed=seed, copies=copies)
    files = DegradeWeights.nano() if weights else DegradeWeights.sd21(boosthub, lora)
    try:
        todo = SynthesizeRun(inputs, out, files, options, overwrite=overwrite)
    except FacewrightError as error:
        fail(str(error), 2)
    reads = (job.source for job in todo.jobs)
    team = chosen_workers(ray, workers, reads=reads, writes=todo.folder, gpus=gpus_per_worker)
    with job_progress("Synthesizing", len(todo.jobs), as_json, team) as on_job:
        summary = todo.carry_out(workers=team, on_job=on_job)
    if as_json:
        write_json({**summary.as_dict(), "left_aside": todo.aside.entries()})
    else:
        _report(summary, out, files.size)
        say_aside(todo.aside)
    fail_for(summary, len(todo.jobs))


def _report(summary: Any, out: Path, size: int) -> None:
    text = f"{counted(len(summary.done), 'picture')} of {size} x {size} pixels written to {out}"
    if summary.skipped:
        text += f"; {len(summary.skipped)} were finished before (--overwrite does them again)"
    say(text + ".")
    for entry in summary.done:
        for line in entry["notes"] if entry["copy"] == 1 else ():
            say(f"{entry['input']}: {line}")
