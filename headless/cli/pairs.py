"""`facewright pairs`: what belongs together in a data set of real pairs, before training on it."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.errors import listed, shorten
from ._common import (
    AsJson,
    app,
    check_choice,
    counted,
    fail,
    is_folder,
    needs_training,
    path_argument,
    path_option,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences

_ON_SHEET = 8
"""Pairs drawn on a sheet."""
_SIDE = 384
"""Pixels of a crop on it, at most."""


@app.command()
@sentences
def pairs(
    folder: Annotated[
        Path | None,
        path_argument("A data set as it is downloaded, or HQ/ and LQ/.", callback=is_folder),
    ] = None,
    hq: Annotated[
        Path | None,
        path_option("Good pictures, in place of FOLDER; with --lq.", callback=is_folder),
    ] = None,
    lq: Annotated[
        Path | None, path_option("Degraded pictures of the same names.", callback=is_folder)
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="How files are called: same-name (HQ/a.png, LQ/a.png), dense-haze, lol, sidd, "
            "realblur-j, beside (a.png, a.lq.png); auto tries them."
        ),
    ] = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many of the pairs, as `limit` in a config.")
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Pixels of the crop to train on.")] = 512,
    show: Annotated[int, typer.Option(min=0, help="How many pairs to list; 0 lists none.")] = 10,
    sheet: Annotated[
        Path | None, path_option("PNG with crops as training cuts them, degraded above good.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which degraded picture belongs to which good one, and what training would refuse.

    Looks and tells; nothing is changed. Exit code 1: pictures without a counterpart, or pairs whose
    pictures differ in size.
    """
    with needs_training("Looking at pairs"):
        from ...training.data.pair_check import check_pairs
        from ...training.data.pairing import EXAMPLES
        from ...training.settings.data_sections import PairFolders
    if (folder is None) == (hq is None) or (hq is None) != (lq is None):
        raise typer.BadParameter("Give either FOLDER, or both --hq and --lq.")
    check_choice("--rule", rule, ("auto", *EXAMPLES))
    if hq and rule not in ("auto", "same-name"):
        raise typer.BadParameter(
            f"{rule} is for a FOLDER; pictures in --hq and --lq bear the same names.",
            param_hint="--rule",
        )
    given = {"folder": folder, "hq": hq, "lq": lq, "rule": rule, "limit": limit}
    with wrong_usage():
        check = check_pairs(PairFolders.model_validate(given), size)
    if as_json:
        write_json(check.as_dict())
    else:
        _tell(check, show)
    if sheet:
        _draw(check, sheet)
    if refused := check.refusals():
        fail("\n".join([*refused, "Training refuses these: add, remove or mend them."]))


def _tell(check: Any, show: int) -> None:
    from ...training.data.pairing import EXAMPLES

    found, names, place = check.found, check.names, check.entry.place
    for name in names[:show]:
        hq, lq = (
            file.relative_to(top).as_posix()
            for file, top in zip(found.pairs[name], found.folders, strict=True)
        )
        say(f"{shorten(hq, 120)} <- {shorten(lq, 120)}")
    if 0 < show < len(names):
        say(f"... and {len(names) - show} more")
    limited = f", of which {len(names)} are drawn" if len(names) < len(found.pairs) else ""
    rule = f"the rule {found.rule} ({EXAMPLES[found.rule]})"
    say(f"{place}: {counted(len(found.pairs), 'pair')} by {rule}{limited}.")
    if (limit := check.entry.limit) and limit > len(names):
        say(f"The limit is {limit}, and there are no more than these.", "yellow")
    _tell_sizes(check)
    if found.others:
        some = counted(len(found.others), "picture")
        say(f"{some} of neither side, left out: {listed(found.others)}.", "yellow")
    if check.unreadable:
        some = counted(len(check.unreadable), "file")
        say(f"{some} that cannot be read: {listed(check.unreadable)}.", "yellow")
    without = [n for n in names if not found.pairs[n][0].with_suffix(".txt").is_file()]
    if without:
        say(
            f"{counted(len(without), 'good picture')} without a caption: `facewright caption` "
            "writes them, where a method trains with text."
        )
    say_aside(found.aside)
    if check.entry.hq:
        where = f"hq: {check.entry.hq}, lq: {check.entry.lq}"
    else:
        where = f"folder: {place}, rule: {found.rule}"
    limit = f", limit: {limit}" if limit else ""
    say(f"In a config: data: {{source: pairs, folders: [{{{where}{limit}}}], ...}}")


def _tell_sizes(check: Any) -> None:
    if not check.sizes:
        return
    low, high = (end(check.sizes.values(), key=math.prod) for end in (min, max))
    span = f"{low[0]} x {low[1]}" + (f" to {high[0]} x {high[1]}" if low != high else "")
    say(f"They have {span} pixels; crops of {check.size} keep their pixels as they are.")
    if check.enlarged:
        some = f"{len(check.enlarged)} of {counted(len(check.names), 'pair')}"
        say(f"{some} smaller than {check.size} pixels: enlarged until a crop fits.", "yellow")


def _draw(check: Any, sheet: Path) -> None:
    from ...core.drawing.sheet import contact_sheet, stacked, within
    from ...core.images import Picture, write_picture

    crops = list(check.crops(_ON_SHEET))
    if not crops:
        fail(f"None of the pairs can be read, so {sheet} is not drawn.")
    columns = [within(stacked([lq, gt], gap=4), 2 * _SIDE) for _, lq, gt in crops]
    try:
        drawn = contact_sheet(columns, [shorten(name, 40) for name, *_ in crops])
        write_picture(sheet, drawn, Picture(drawn))
    except OSError as error:
        fail(f"{sheet} could not be written ({error}). Choose another file with --sheet.")
