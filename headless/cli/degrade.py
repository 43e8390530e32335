"""`facewright degrade`: low-quality pictures from good ones."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import AsJson, app, check_choice, fail, fail_for, say, sentences, write_json


@app.command()
@sentences
def degrade(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders, or patterns like *.jpg.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file for one picture.")],
    preset: Annotated[str, typer.Option(help="mild, moderate, severe, gfpgan, ...")] = "moderate",
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; the next takes +1.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Degrade clean pictures reproducibly; the recipe of each is kept beside it as JSON."""
    from ...core.degradation import Degradation
    from ...core.errors import FacewrightError
    from ..batch import plan, run_jobs
    from ..images import read_picture, write_atomic, write_picture

    check_choice("--preset", preset, tuple(Degradation.presets()))
    try:
        jobs = plan(inputs, out)
    except FacewrightError as error:
        fail(str(error), 2)
    seeds = {job: seed + n for n, job in enumerate(jobs)}
    degradation = Degradation.preset(preset)

    def work(job: Any) -> dict[str, Any]:
        picture = read_picture(job.source)
        lq, recipe = degradation(picture.pixels[None, :3], seed=[seeds[job]])
        text = json.dumps({"preset": preset, "seed": seeds[job], "recipe": recipe[0]}, indent=2)
        write_atomic(job.target.with_suffix(".json"), text.encode())
        picture.pixels[:3] = lq[0]
        write_picture(job.target, picture.pixels, picture)
        return {"seed": seeds[job], "notes": picture.notes}

    summary = run_jobs(jobs, work, overwrite=overwrite)
    if as_json:
        write_json(summary.as_dict())
    else:
        say(f"{len(summary.done)} pictures written to {out}.")
    fail_for(summary, len(jobs))
