"""`facewright run`: a workflow file, without opening ComfyUI."""

import functools
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    OUT,
    AsJson,
    Machine,
    app,
    counted,
    path_argument,
    path_option,
    path_or_name,
    progress,
    say,
    tell,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped


@dataclass(frozen=True, kw_only=True)
class Place(Machine):
    """Where the workflow runs."""

    server: Annotated[str | None, typer.Option(help="Address of a ComfyUI to run it in.")] = None
    comfy: Annotated[
        bool,
        typer.Option(
            "--comfy",
            help="Start the ComfyUI of this machine for it (COMFYUI_PATH or comfy-cli's), and stop "
            "it afterwards.",
        ),
    ] = False
    comfy_args: Annotated[
        str, typer.Option(help='With --comfy: more for its command line, such as "--lowvram".')
    ] = ""
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Run here even where a ComfyUI is found.")
    ] = False

    def check(self) -> None:
        """Options that make no sense beside others are wrong usage."""
        elsewhere = self.server is not None or self.comfy
        if (self.server is not None) + self.comfy + self.embedded > 1:
            raise typer.BadParameter("--server, --comfy and --embedded exclude each other.")
        if self.comfy_args and not self.comfy:
            raise typer.BadParameter("--comfy-args is for the ComfyUI that --comfy starts.")
        if self.models is not None and elsewhere:
            raise typer.BadParameter(
                "ComfyUI has models folders of its own; --models is for runs in this process."
            )
        if self.device is not None and elsewhere:
            raise typer.BadParameter(
                "ComfyUI chooses its device itself (its options --cpu and --cuda-device, which "
                "--comfy-args passes on); --device is for runs in this process."
            )

    def arguments(self) -> list[str]:
        """Of the ComfyUI to start."""
        from ...core.errors import shorten

        try:
            return shlex.split(self.comfy_args)
        except ValueError as error:
            raise typer.BadParameter(
                f"{shorten(self.comfy_args)!r} cannot be taken apart ({error}).",
                param_hint="--comfy-args",
            ) from error

    @contextmanager
    def entered(self, source: Any) -> Iterator["_Where"]:
        """The place, for as long as the workflow runs there."""
        from ..remote.server import DEFAULT_SERVER, answers, server_specs
        from ..runner import input_specs

        if self.comfy:
            from ..remote.launch import started_comfyui
            from ..workflows.workflow import node_kinds

            with started_comfyui(node_kinds(source), self.arguments(), say) as address:
                yield _Where("the ComfyUI started for it", address, server_specs(address))
            return
        server = self.server
        here = self.embedded or self.device is not None
        if server is None and not here and answers(DEFAULT_SERVER):
            server = DEFAULT_SERVER
        if server is not None:
            yield _Where(server, server, server_specs(server))
        else:
            yield _Where("this process", None, input_specs)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures to run the workflow for, one after the other."""

    batch: Annotated[
        list[str] | None,
        typer.Option(
            parser=path_or_name,
            help="A folder, picture or pattern: run once for each picture in it, which goes into "
            "Load Image. May be given several times; interrupted batches go on where they stopped.",
        ),
    ] = None
    batch_node: Annotated[
        str | None, typer.Option(help="The node that takes the pictures, where several load one.")
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --batch: do finished pictures again.")
    ] = False

    def __post_init__(self) -> None:
        if (self.batch_node is not None or self.overwrite) and not self.batch:
            raise typer.BadParameter("--batch-node and --overwrite belong to --batch.")


@app.command()
@sentences
@grouped
def run(
    *,
    workflow: Annotated[
        Path,
        path_argument(
            "JSON of either form, a PNG with it inside, or the name of one that comes along, such "
            "as nano_restore."
        ),
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="NODE.INPUT=VALUE; NODE is an id, a title or a class."),
    ] = None,
    out: Annotated[Path, path_option("Folder for saved pictures.", *OUT)] = Path("output"),
    batch: Batch,
    input_dir: Annotated[
        Path | None, path_option("Where Load Image finds pictures; default: current folder.")
    ] = None,
    place: Place,
    as_json: AsJson = False,
) -> None:
    """Run a workflow file, in a ComfyUI that answers or else in this process."""
    from ..workflows.workflow import read_workflow

    place.check()
    inputs = _assigned(assignments or [])
    place.arguments()
    source = read_workflow(workflow)
    place.use()
    with place.entered(source) as where:
        if not as_json:
            say(f"Running {workflow} in {where.name}.")
        task = _Task(where, source, inputs, input_dir or Path.cwd(), out, as_json)
        if batch.batch:
            task.over(batch)
        else:
            task.once()


def _assigned(texts: list[str]) -> dict[str, str]:
    """What --set gives, by the input it is for."""
    from ...core.errors import shorten

    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        wrong = "" if equals and name.strip() else "should be NODE.INPUT=VALUE"
        if name in found and not wrong:
            wrong = "sets that input a second time"
        if wrong:
            raise typer.BadParameter(f"{shorten(text)!r} {wrong}.", param_hint="--set")
        found[name] = value
    return found


@dataclass(frozen=True)
class _Where:
    """Where a workflow runs."""

    name: str
    server: str | None
    specs: Callable[[str], Any]


@dataclass(frozen=True)
class _Task:
    """What to run, and how to tell of it."""

    where: _Where
    source: Any
    inputs: dict[str, Any]
    input_dir: Path
    out: Path
    as_json: bool

    def once(self) -> None:
        from ...core.errors import FacewrightError
        from ...core.files.shapes import words

        titles: dict[str, str] = {}
        go = self._runner(None, lambda node_id, title, text: titles.update({node_id: title}))
        try:
            with progress("Running", 1, quiet=self.as_json) as show:
                report = go(self.inputs, self.out, show)
        except FacewrightError as error:
            if self.as_json:
                write_json({"where": self.where.name, "saved": [], "error": str(error)})
            raise
        if self.as_json:
            write_json({"where": self.where.name, **report.as_dict(), "error": None})
            return
        for node_id, text in report.texts.items():
            sys.stdout.write(f"{titles[node_id]}:\n{words(text, len(text))}\n")
        for path in report.saved:
            say(f"Saved {path}")
        if not report.saved:
            say("Nothing was saved: no Save Image node ran.", "yellow")

    def over(self, batch: Batch) -> None:
        from ...core.files.scan import LeftAside
        from ..remote.server import prepared
        from ..workflows.run_batch import Runs, batch_node, plan_runs

        aside = LeftAside()
        with wrong_usage():
            api = prepared(self.source, self.where.specs, self.inputs)
            node = batch_node(api, batch.batch_node)
            jobs = plan_runs(batch.batch or (), self.out, aside)
        go = self._runner(node)
        past = 0
        with progress("Running", len(jobs), quiet=self.as_json) as show:

            def one(picture: Path, folder: Path) -> Any:
                def inside(text: str, share: float) -> None:
                    show(f"{past + 1} of {len(jobs)}: {picture.name}: {text}", past + share)

                return go({**self.inputs, f"{node}.image": str(picture)}, folder, inside)

            def on_job(job: Any, why: str | None) -> None:
                nonlocal past
                past += 1
                show(f"{past} of {len(jobs)}: {job.source.name}", past)
                if why is not None:
                    self._check_still_there(past, len(jobs))

            runs = Runs(self.out, api, node, one)
            summary = runs.do(jobs, overwrite=batch.overwrite, on_job=on_job)
        done = f"{counted(len(summary.done), 'picture')} done, results in {self.out}"
        tell(summary, len(jobs), aside, done, self.as_json, where=self.where.name)

    def _check_still_there(self, past: int, total: int) -> None:
        """Where the server is gone, no further picture can be done."""
        from ...core.errors import FacewrightError
        from ..remote.server import answers

        if self.where.server is not None and not answers(self.where.server, timeout=10):
            raise FacewrightError(
                f"{self.where.name} no longer answers; it was at picture {past} of {total}. What "
                "is finished stays: start it again and run the same command to go on."
            )

    def _runner(
        self, changing: str | None, on_text: Callable[[str, str, str], None] = lambda *text: None
    ) -> Callable[[dict[str, Any], Path, Callable[[str, float], None]], Any]:
        """What runs the workflow with inputs into a folder, in the place it is to run in."""
        from ..remote.here import Here
        from ..remote.server import run_on_server

        run: Callable[..., Any] = (
            Here(self.source, changing).run
            if self.where.server is None
            else functools.partial(run_on_server, self.source, self.where.server)
        )

        def go(inputs: dict[str, Any], folder: Path, show: Callable[[str, float], None]) -> Any:
            told = {"output_dir": folder, "on_progress": show, "on_text": on_text}
            return run(inputs, input_dir=self.input_dir, **told)

        return go
