"""`facewright degrade`: low-quality pictures from good ones."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.errors import listed
from ..make.options import DegradeOptions
from ._common import (
    OUT,
    AsJson,
    app,
    counted,
    inputs_argument,
    is_file,
    path_option,
    say,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from ._workers import Overwrite, Sharing, make_pictures


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
    if 0 < high < 1:
        raise typer.BadParameter(
            f"{text!r} is below one level of 255 and would not be seen. If it is a share of the "
            f"[0, 1] range, as in Python and in YAML files, give {255 * low:.6g}:{255 * high:.6g}."
        )
    return low / 255, high / 255


def _ranged(what: str, parser: Any = _range) -> Any:
    return typer.Option(parser=parser, metavar="LOW:HIGH", help=what)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What takes the place of the preset's own values."""

    scale: Annotated[Any, _ranged("Reduce each side so many times.")] = None
    sigma: Annotated[Any, _ranged("Of the Gaussian blur, in pixels; see --kernel-size.")] = None
    noise: Annotated[
        Any, _ranged("Standard deviation, in levels of 255: 0:20, say.", _noise_range)
    ] = None
    quality: Annotated[Any, _ranged("Of the JPEG, 1 to 100.", _whole_range)] = None
    order: Annotated[
        str | None, typer.Option(help="Of the last pass's steps: fixed, shuffled or real-esrgan.")
    ] = None
    passes: Annotated[int | None, typer.Option(min=1, max=2, help="1 or 2.")] = None
    aniso: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of blurs longer one way, 0 to 1.")
    ] = None
    kernel_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Length of the blur in pixels, odd; 0: as long as it needs. Presets named after "
            "papers cut it at 41 pixels, so that a sigma of 15 acts like 10.",
        ),
    ] = None
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Colour jitter and greying.")
    ] = None

    def overrides(self) -> dict[str, Any]:
        """As `Degradation.preset` takes them."""
        names = {"aniso": "anisotropic"}
        given = {names.get(k, k): v for k, v in vars(self).items() if v is not None}
        if self.kernel_size == 0:
            given["kernel_size"] = None
        return given


@app.command()
@sentences
@grouped
def degrade(
    *,
    inputs: Annotated[
        list[str] | None, inputs_argument("Pictures, folders, or patterns like *.jpg.", "IN")
    ] = None,
    out: Annotated[Path | None, path_option("Folder, or a file for one picture.", *OUT)] = None,
    options: DegradeOptions,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the presets with their source, and stop.")
    ] = False,
    damage: Damage,
    recipe: Annotated[
        Path | None,
        path_option(
            "Play back a manifest.jsonl or the list of a test set, by the pictures' names, or one "
            "recipe from a JSON.",
            callback=is_file,
        ),
    ] = None,
    list_file: Annotated[
        Path | None,
        path_option(
            "Also write a list by which others can make the same test set and compare every pixel: "
            "set.jsonl, say.",
            "--list",
        ),
    ] = None,
    sharing: Sharing,
    overwrite: Overwrite = False,
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
    options = replace(options, overrides=damage.overrides())
    if recipe and options != DegradeOptions():
        raise typer.BadParameter("--recipe says all about the damage: give no other options of it.")

    if recipe and list_file:
        raise typer.BadParameter("--list is of what is drawn here; with --recipe it is there.")

    from ..make.degrade import DegradeRun
    from ..make.picture_lists import is_list

    if list_file is not None and list_file.exists() and not is_list(list_file):
        raise typer.BadParameter(
            f"{list_file} exists and is no list of a test set: choose another."
        )
    with wrong_usage():
        todo = DegradeRun(inputs, out, options, recipes=recipe, overwrite=overwrite)
    if todo.missing and not as_json:
        names = listed(todo.missing)
        count = counted(len(todo.missing), "picture")
        say(f"Not given, though listed: {count} ({names}). The test set will lack them.", "yellow")
    make_pictures("Degrading", todo, sharing, as_json, remarks=_sizes)
    if list_file is not None:
        count = todo.write_list(list_file)
        say(f"{list_file}: the list of {counted(count, 'picture')}")


def _sizes(done: list[dict[str, Any]]) -> list[str]:
    """A line on pictures whose size is far from the one that the preset presumes."""
    far = [entry["remark"] for entry in done if entry.get("remark")]
    return [f"{len(far)} of {counted(len(done), 'picture')}: {far[0]}"] if far else []


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
