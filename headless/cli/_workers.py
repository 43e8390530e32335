"""Options of the commands whose pictures may be shared out, and who does them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import fail

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="local|ADDRESS",
        help="Share the pictures out with Ray: local starts workers on this machine only; an "
        "address such as auto or 10.0.0.1:6379 takes a running cluster, whose machines see the "
        "folders under the same paths. --workers: how many, by default one per CPU or GPU.",
        rich_help_panel="Cluster",
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="With --ray: 0.5 lets two workers share one; 0 computes on CPUs. By default 1 where "
        "the cluster has any.",
        rich_help_panel="Cluster",
    ),
]


def chosen_workers(
    ray: str | None,
    workers: int | None,
    *,
    reads: Iterable[Path],
    writes: Path | None,
    gpus: float | None = 0,
) -> Any:
    """What `run_jobs` takes as `workers`: a number, or a team of Ray's.

    Ends with exit code 2 where --ray asks for what is not there.
    """
    from ...core.errors import FacewrightError

    if ray is None:
        if gpus:
            fail("--gpus-per-worker is for --ray; without it, CUDA_VISIBLE_DEVICES chooses.", 2)
        return workers or 1
    from ...core.devices import AUTO, VARIABLE
    from ..jobs.cluster import RayTeam

    device = os.environ.get(VARIABLE) or AUTO
    if ":" in device:
        fail(
            f"Ray decides which device a worker gets, and {device} would be the same for all: "
            f"give --device {device.partition(':')[0]}.",
            2,
        )
    if device == "cpu":
        gpus = 0
    try:
        return RayTeam(ray, workers, gpus=gpus, reads=reads, writes=writes)
    except FacewrightError as error:
        fail(str(error), 2)
