"""`facewright stats`: what FID has to know of a set of pictures, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    OUT,
    AsJson,
    Machine,
    app,
    check_choice,
    counted,
    fail,
    is_folder,
    path_argument,
    path_option,
    progress,
    say,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from .evaluate import SharingCases

FEATURES = ("clean-fid", "basicsr", "nano")


@app.command()
@sentences(interrupted="Interrupted. No statistics were written.")
@grouped
def stats(
    *,
    folder: Annotated[Path, path_argument("Pictures, subfolders included.", callback=is_folder)],
    out: Annotated[Path, path_option("The .npz file to write.", *OUT)],
    features: Annotated[
        str,
        typer.Option(
            metavar="|".join(FEATURES),
            help="clean-fid: Inception as clean-fid feeds it. basicsr: as the scripts of BasicSR, "
            "GFPGAN and VQFR do. nano: the bundled networks, for rendered faces.",
        ),
    ] = "clean-fid",
    aligned: Annotated[
        bool,
        typer.Option(
            "--aligned",
            help="With nano: all pictures are aligned face crops, as for `evaluate --aligned`.",
        ),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=2, help="Take only the first so many pictures, by their names."),
    ] = None,
    machine: Machine,
    sharing: SharingCases,
    as_json: AsJson = False,
) -> None:
    """Write mean and covariance of a set's features, for `evaluate --reference-set`.

    70,000 pictures become one file of 34 MB, which clean-fid and pytorch-fid read, too.
    """
    from ...core.errors import FacewrightError
    from ...core.metrics import metric
    from ...core.metrics.moments import save_moments
    from ..evaluation.faces import Looks
    from ..evaluation.reference import USUAL, features_name, set_statistics

    check_choice("--features", features, FEATURES)
    machine.use()
    one = metric(USUAL[features])
    looks = Looks("nano" if features == "nano" else None, aligned=aligned)
    with wrong_usage():
        if out.suffix != ".npz":
            raise FacewrightError(f"{out} should end in .npz, by which other programs know it.")
        if aligned and features != "nano":
            raise FacewrightError("--aligned is for --features nano: Inception looks for no face.")
        if missing := one.missing():
            raise FacewrightError(missing)
    team = sharing.team((), None)
    with sharing.threads, progress("Reading", 1, as_json, team) as show:
        found = set_statistics(
            folder, [one], looks, lambda done, total: show(f"{done} of {total}", done / total),
            workers=team, limit=limit,
        )  # fmt: skip
    name = features_name(one, looks)
    statistics = found.of[name]
    save_moments(out, statistics, name)
    if as_json:
        failed = {str(file): why for file, why in found.left_out.items()}
        write_json(
            {"file": str(out), "features": name, "count": statistics.count, "failed": failed}
        )
    else:
        say(f"{out}: statistics of {counted(statistics.count, 'picture')}, features {name}.")
    if found.left_out:
        lines = [f"{file}: {why}" for file, why in found.left_out.items()]
        fail(f"{counted(len(lines), 'picture')} left out:\n" + "\n".join(lines))
