"""What the commands have in common whose pictures may be shared out."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import counted, fail, job_progress, say, tell, wrong_usage

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
Overwrite = Annotated[bool, typer.Option(help="Do finished pictures again.")]


def workers_option(text: str, default: str | bool = "1") -> Any:
    return typer.Option(min=1, help=text, show_default=default)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Who does the pictures."""

    workers: Annotated[int | None, workers_option("Processes that share the pictures.")] = None
    ray: Ray = None

    @property
    def gpus(self) -> float | None:
        """Of each of Ray's workers; None: one, where there are any."""
        return 0

    @property
    def threads(self) -> AbstractContextManager:
        """For work that computes the same whoever does it, and by itself with all cores."""
        from ..jobs.recorded import one_thread

        return nullcontext() if self.workers is None and self.ray is None else one_thread()

    def team(self, reads: Iterable[Path], writes: Path | None) -> Any:
        """What `run_jobs` takes as `workers`: a number, or a team of Ray's.

        Ends with exit code 2 where --ray asks for what is not there.
        """
        gpus = self.gpus
        if self.ray is None:
            if gpus:
                fail("--gpus-per-worker is for --ray; without it, CUDA_VISIBLE_DEVICES chooses.", 2)
            return self.workers or 1
        from ...core.devices import asked_device
        from ..jobs.cluster import RayTeam

        device = asked_device()
        if ":" in device:
            fail(
                f"Ray decides which device a worker gets, and {device} would be the same for all: "
                f"give --device {device.partition(':')[0]}.",
                2,
            )
        if device == "cpu":
            gpus = 0
        with wrong_usage():
            return RayTeam(self.ray, self.workers, gpus=gpus, reads=reads, writes=writes)


@dataclass(frozen=True, kw_only=True)
class SharingModels(Sharing):
    """Who does the pictures, with models that a GPU may hold."""

    workers: Annotated[
        int | None, workers_option("Processes that share the pictures, each with the models.")
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --ray: 0.5 lets two workers share one; 0 computes on CPUs. By default 1 "
            "where the cluster has any.",
            rich_help_panel="Cluster",
        ),
    ] = None

    @property
    def gpus(self) -> float | None:
        return self.gpus_per_worker


def make_pictures(
    label: str,
    todo: Any,
    sharing: Sharing,
    as_json: bool,
    kind: str = "",
    *,
    remarks: Callable[[list[dict[str, Any]]], Iterable[str]] = lambda done: (),
) -> None:
    """Carry out a `RecordedRun`, and tell of it.

    Args:
        label: of the bar.
        kind: what kind of pictures they are, such as " of 128 x 128 pixels".
        remarks: sentences on the pictures that are done, from what is known of each.
    """
    team = sharing.team((job.source for job in todo.jobs), todo.folder)
    with job_progress(label, len(todo.jobs), as_json, team) as on_job:
        summary = todo.carry_out(workers=team, on_job=on_job)
    for line in () if as_json else remarks(summary.done):
        say(line, "yellow")
    made = f"{counted(len(summary.done), 'picture')}{kind} written to {todo.out}"
    tell(summary, len(todo.jobs), todo.aside, made, as_json)
