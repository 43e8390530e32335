"""`facewright cost`: parameters, multiply-accumulates and seconds per face of a method."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ._common import AsJson, DiffusionMachine, app, console, fail, path_or_name, say, write_json
from ._failures import sentences
from ._options import grouped


@app.command()
@sentences(interrupted="Interrupted. Nothing was measured to the end.")
@grouped
def cost(
    *,
    weights: Annotated[
        list[str],
        typer.Option(
            parser=path_or_name,
            help="A method as for `restore`, or the file of a face restorer; may be given several "
            "times.",
        ),
    ],
    repeats: Annotated[
        int, typer.Option(min=1, help="Faces that are timed; the median counts.")
    ] = 3,
    machine: DiffusionMachine,
    as_json: AsJson = False,
) -> None:
    """Measure what restoring one aligned face costs: networks, products and time.

    Finding and pasting faces is not part of it, as in the papers' tables. Multiply-accumulates are
    those of products, convolutions and attention; seconds are of this machine alone.
    """
    from ...core.errors import FacewrightError

    machine.use()
    rows, failed = [], []
    for name in weights:
        try:
            rows.append(_measured(name, repeats))
        except FacewrightError as error:  # the others are measured all the same
            failed.append(f"{name}: {error}")
    if as_json:
        write_json(rows)
    elif rows:
        _print(rows)
    if failed:
        fail("\n".join(failed))


def _measured(name: str, repeats: int) -> dict[str, Any]:
    import torch

    from ...core.devices import compute_device
    from ...core.scores.cost import counting, seconds_of
    from ..make.restore import load_restorer

    method = load_restorer(name).method
    device = compute_device()
    face = torch.rand(1, 3, method.size, method.size, generator=torch.Generator().manual_seed(0))

    def restore() -> None:
        with torch.no_grad():
            method.restore(face.to(device), [None])

    with counting() as counted:
        restore()
    return {
        "weights": name,
        "size": method.size,
        "parameters": counted.parameters,
        "macs": counted.macs,
        "seconds": seconds_of(restore, device, repeats),
        "device": str(device),
        "parts": [asdict(part) for part in counted.parts],
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    for column in ("method", "network", "calls", "parameters (M)", "MACs (G)", "seconds per face"):
        table.add_column(column, justify="left" if column in ("method", "network") else "right")
    for row in rows:
        for part in row["parts"]:
            table.add_row("", part["name"], str(part["calls"]), *_amounts(part), "", style="dim")
        pixels = f"{row['size']} x {row['size']}"
        table.add_row(
            f"{row['weights']} ({pixels})", "all", "", *_amounts(row), f"{row['seconds']:.3g}"
        )
    console().print(table)
    say(f"Seconds on {rows[0]['device']}, median after warming up.", "dim")


def _amounts(of: dict[str, Any]) -> tuple[str, str]:
    return f"{of['parameters'] / 1e6:.2f}", f"{of['macs'] / 1e9:.2f}"
