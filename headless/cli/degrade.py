"""`facewright degrade`: low-quality pictures from good ones."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    app,
    counted,
    fail,
    fail_for,
    file_or_folder,
    is_file,
    job_progress,
    path_or_name,
    say,
    say_aside,
    write_json,
)
from ._failures import sentences
from ._workers import Ray, chosen_workers


def _range(text: str) -> tuple[float, float]:
    """ "4:8" or "8", which is "8:8"."""
    low, colon, high = text.partition(":")
    try:
        values = float(low), float(high if colon else low)
    except ValueError:
        values = (math.nan, math.nan)
    if not all(map(math.isfinite, values)):
        raise typer.BadParameter(f"{text!r} should be a number, or two as in 4:8.")
    return values


def _whole_range(text: str) -> tuple[int, int]:
    low, high = _range(text)
    if low % 1 or high % 1:
        raise typer.BadParameter(f"{text!r} should be whole numbers, as in 30:60.")
    return int(low), int(high)


def _noise_range(text: str) -> tuple[float, float]:
    low, high = _range(text)
    if not 0 <= low <= high <= 255:
        raise typer.BadParameter(f"{text!r} should be from 0 to 255, the lower number first.")
    return low / 255, high / 255


def _ranged(what: str, parser: Any = _range) -> Any:
    return typer.Option(parser=parser, metavar="LOW:HIGH", help=what)


@app.command()
@sentences
def degrade(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            parser=path_or_name, metavar="IN", help="Pictures, folders, or patterns like *.jpg."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", parser=file_or_folder, help="Folder, or a file for one picture."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="The damage to start from; --list-presets shows all.")
    ] = "moderate",
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the presets with their source, and stop.")
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Each picture's own seed comes from this, its name within the folder given and "
            "the number of its copy: adding pictures, their order and who works change nothing.",
        ),
    ] = 0,
    copies: Annotated[
        int, typer.Option(min=1, help="Of each picture, differing: a.png, a_2.png, ...")
    ] = 1,
    scale: Annotated[Any, _ranged("Reduce each side so many times.")] = None,
    sigma: Annotated[Any, _ranged("Of the Gaussian blur, in pixels; see --kernel-size.")] = None,
    noise: Annotated[Any, _ranged("Standard deviation, in 1/255.", _noise_range)] = None,
    quality: Annotated[Any, _ranged("Of the JPEG, 1 to 100.", _whole_range)] = None,
    order: Annotated[
        str | None, typer.Option(help="Of the last pass's steps: fixed, shuffled or real-esrgan.")
    ] = None,
    passes: Annotated[int | None, typer.Option(min=1, max=2, help="1 or 2.")] = None,
    aniso: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of blurs longer one way, 0 to 1.")
    ] = None,
    kernel_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Length of the blur in pixels, odd; 0: as long as it needs. Presets named after "
            "papers cut it at 41 pixels, so that a sigma of 15 acts like 10.",
        ),
    ] = None,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Colour jitter and greying.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            parser=file_or_folder,
            callback=is_file,
            help="Play back a manifest.jsonl, by the pictures' names, or one recipe from a JSON.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the pictures.", show_default="1"),
    ] = None,
    ray: Ray = None,
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Degrade clean pictures reproducibly, with the recipe of each in OUT/manifest.jsonl.

    Options replace the preset's own values. A range gives every picture its own value.

    Results lose nothing more: PNG, unless the picture came as TIFF, BMP or PPM.

    Interrupted runs go on where they stopped.
    """
    if list_presets:
        _list_presets(as_json)
        return
    if not inputs or out is None:
        raise typer.BadParameter("Give pictures, and with -o a folder for the results.")
    given = {
        "scale": scale,
        "sigma": sigma,
        "noise": noise,
        "quality": quality,
        "order": order,
        "passes": passes,
        "anisotropic": aniso,
        "color": color,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    if kernel_size is not None:
        overrides["kernel_size"] = kernel_size or None
    if recipe and (overrides or preset != "moderate" or seed or copies > 1):
        raise typer.BadParameter("--recipe says all about the damage: give no other options of it.")

    from ...core.errors import FacewrightError
    from ..make.degrade import DegradeOptions, DegradeRun

    options = DegradeOptions(preset=preset, overrides=overrides, seed=seed, copies=copies)
    try:
        todo = DegradeRun(inputs, out, options, recipes=recipe, overwrite=overwrite)
    except FacewrightError as error:
        fail(str(error), 2)
    reads = (job.source for job in todo.jobs)
    team = chosen_workers(ray, workers, reads=reads, writes=todo.folder)
    with job_progress("Degrading", len(todo.jobs), as_json, team) as on_job:
        summary = todo.carry_out(workers=team, on_job=on_job)
    if as_json:
        write_json({**summary.as_dict(), "left_aside": todo.aside.entries()})
    else:
        _report(summary, out)
        say_aside(todo.aside)
    fail_for(summary, len(todo.jobs))


def _report(summary: Any, out: Path) -> None:
    text = f"{counted(len(summary.done), 'picture')} written to {out}"
    if summary.skipped:
        text += f"; {len(summary.skipped)} were finished before (--overwrite does them again)"
    say(text + ".")
    for entry in summary.done:
        for line in entry["notes"]:
            say(f"{entry['input']}: {line}")


def _list_presets(as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from ...core.degradation import PRESETS, Degradation

    rows = [
        {"preset": n, "summary": p.summary, "source": p.source, "evidence": p.evidence}
        for n, p in ((name, PRESETS[name]) for name in Degradation.presets())
    ]
    if as_json:
        write_json(rows)
        return
    table = Table(*rows[0], show_lines=True)
    for row in rows:
        table.add_row(*row.values())
    Console(highlight=False).print(table, markup=False)
