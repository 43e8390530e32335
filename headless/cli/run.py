"""`facewright run`: a workflow file, without opening ComfyUI."""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.errors import counted
from ...core.files.names import same_place
from ...core.files.writing import written_whole
from ._common import (
    OUT,
    AsJson,
    app,
    fail,
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
from ._place import Place, Where


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
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds until the result has to be there, with --batch of each picture. Then the "
            "run is taken from the server.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say whether it could run there, and do not run it.")
    ] = False,
    api_file: Annotated[
        Path | None,
        path_option(
            "Write the workflow to this file in the API form, as it would be sent (- is standard "
            "output), and do not run it.",
            "--to-api",
            metavar="FILE",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a workflow file, in a ComfyUI that answers or else in this process.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nobody answers, 4 the workflow or the login was
    refused, 5 not within --timeout, 6 interrupted on the server by somebody else, 130 Ctrl-C, 143
    SIGTERM.
    """
    from ..workflows.workflow import read_workflow

    place.check()
    only_looks = check or api_file is not None
    if only_looks and batch.batch:
        raise typer.BadParameter("--batch is for runs; --check and --to-api do not run anything.")
    if as_json and api_file == Path("-"):
        raise typer.BadParameter("--to-api - and --json both write to standard output.")
    if api_file is not None and same_place(api_file) == same_place(workflow):
        raise typer.BadParameter("--to-api would replace the workflow file. Give another name.")
    inputs = _assigned(assignments or [])
    place.arguments()
    about: dict[str, Any] = {"where": None}
    with _told_as_json(about) if as_json else nullcontext():
        source = read_workflow(workflow)
        place.use()
        with place.entered(source) as where:
            about["where"] = where.name
            if not as_json and not only_looks:
                say(f"Running {workflow} in {where.name}.")
            task = _Task(where, source, inputs, input_dir or Path.cwd(), out, as_json, timeout)
            if only_looks:
                task.look(check, api_file)
            elif batch.batch:
                task.over(batch)
            else:
                task.once()


@contextmanager
def _told_as_json(about: dict[str, Any]) -> Iterator[None]:
    """What fails in here is told by --json, too."""
    from ...core.errors import FacewrightError, os_sentence

    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads it
    except (FacewrightError, OSError) as error:
        said = os_sentence(error) if isinstance(error, OSError) else str(error)
        saved = [str(path) for path in getattr(error, "saved", ())]
        write_json({**about, "saved": saved, "error": said})
        raise


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
class _Task:
    """What to run, and how to tell of it."""

    where: Where
    source: Any
    inputs: dict[str, Any]
    input_dir: Path
    out: Path
    as_json: bool
    timeout: float | None

    def api(self) -> Any:
        """The API form with what --set gives."""
        from ..remote.server import prepared

        def notice(text: str) -> None:
            say(text, "yellow")

        return prepared(self.source, self.where.specs, self.inputs, notice)

    def look(self, check: bool, target: Path | None) -> None:
        """Say whether the workflow could run, and write its API form, as asked for."""
        api = self.api()
        if target is not None:
            text = json.dumps(api, indent=2, default=str) + "\n"
            if target == Path("-"):
                sys.stdout.write(text)
            else:
                with written_whole(target) as temporary:
                    temporary.write_text(text, encoding="ascii", newline="\n")
                if not self.as_json:
                    say(f"Wrote {counted(len(api), 'node')} to {target}.")
        if check:
            self._check(api)
            if not self.as_json:
                say(f"{counted(len(api), 'node')} could run in {self.where.name}.")
        if self.as_json:
            written = None if target is None else str(target)
            about = {"where": self.where.name, "nodes": len(api), "written": written}
            write_json({**about, "checked": check, "error": None})

    def _check(self, api: Any) -> None:
        from ..remote.checking import check_on_server
        from ..runner import check_here

        at = self.where.server
        if at is None:
            check_here(api, self.input_dir, self.inputs)
        else:
            check_on_server(api, at, self.where.specs, self.input_dir, self.inputs)

    def once(self) -> None:
        from ...core.files.shapes import words

        self.api()  # what is wrong with it is told before anything is sent
        titles: dict[str, str] = {}
        go = self._runner(None, lambda node_id, title, text: titles.update({node_id: title}))
        with progress("Running", 1, quiet=self.as_json) as show:
            report = go(self.inputs, self.out, show)
        if self.as_json:
            error = _left_out(report.left_out) or None
            write_json({"where": self.where.name, **report.as_dict(), "error": error})
        else:
            for node_id, text in report.texts.items():
                sys.stdout.write(f"{titles[node_id]}:\n{words(text, len(text))}\n")
            for path in report.saved:
                say(f"Saved {path}")
            for note in (*report.notes, *([] if report.saved else [self._why_nothing(report)])):
                say(note, "yellow")
        _fail_for_left_out(report.left_out)

    def _why_nothing(self, report: Any) -> str:
        if self.where.server is None:
            return "Nothing was saved: no Save Image node ran."
        if report.previews:
            shown = counted(report.previews, "file")
            return f"Nothing was saved: {shown} that nodes showed are previews. Use Save Image."
        return (
            "No node tells of a file that it saved. Some save without telling, such as Save "
            "Checkpoint: look into the server's output folder."
        )

    def over(self, batch: Batch) -> None:
        from ...core.files.scan import LeftAside
        from ..workflows.endings import UnreachableError
        from ..workflows.run_batch import Runs, batch_node, plan_runs

        aside = LeftAside()
        api = self.api()
        with wrong_usage():
            node = batch_node(api, batch.batch_node)
            jobs = plan_runs(batch.batch or (), self.out, aside)
        go = self._runner(node)
        past, left_out, reports = 0, {}, []
        with progress("Running", len(jobs), quiet=self.as_json) as show:

            def one(picture: Path, folder: Path) -> Any:
                def inside(text: str, share: float) -> None:
                    show(f"{past + 1} of {len(jobs)}: {picture.name}: {text}", past + share)

                report = go({**self.inputs, f"{node}.image": str(picture)}, folder, inside)
                left_out.update(dict.fromkeys(report.left_out))
                reports.append(report)
                return report

            def on_job(job: Any, why: str | None) -> None:
                nonlocal past
                past += 1
                show(f"{past} of {len(jobs)}: {job.source.name}", past)
                if why is not None:
                    self._check_still_there(past, len(jobs))

            runs = Runs(self.out, api, node, one)
            try:
                summary = runs.do(jobs, overwrite=batch.overwrite, on_job=on_job)
            except UnreachableError as error:
                error.saved = [path for report in reports for path in report.saved]
                raise
        done = f"{counted(len(summary.done), 'picture')} done, results in {self.out}"
        tell(summary, len(jobs), aside, done, self.as_json, where=self.where.name)
        _fail_for_left_out(list(left_out))

    def _check_still_there(self, past: int, total: int) -> None:
        """Where the server is gone, no further picture can be done."""
        from ..remote.server import answers
        from ..workflows.endings import UnreachableError

        if self.where.server is not None and not answers(self.where.server, timeout=10):
            raise UnreachableError(
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
            else functools.partial(
                run_on_server,
                self.source,
                self.where.server,
                api_key=self.where.api_key,
                specs=self.where.specs,
            )
        )

        def go(inputs: dict[str, Any], folder: Path, show: Callable[[str, float], None]) -> Any:
            told = {"output_dir": folder, "on_progress": show, "on_text": on_text}
            return run(inputs, input_dir=self.input_dir, timeout=self.timeout, **told)

        return go


def _fail_for_left_out(left_out: list[str]) -> None:
    """Exit code 1 where the server ran a part of the workflow only."""
    if left_out:
        fail(_left_out(left_out))


def _left_out(reasons: list[str]) -> str:
    return " ".join(["The server left out a part of the workflow.", *reasons] if reasons else [])
