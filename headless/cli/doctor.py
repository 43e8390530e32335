"""`facewright doctor`: which weights are there, what a workflow lacks, what may go wrong."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    app,
    fail,
    file_or_folder,
    is_folder,
    path_option,
    progress,
    write_json,
)
from ._failures import sentences
from ._options import grouped
from ._place import Door


@app.command()
@sentences
@grouped
def doctor(
    workflow: Annotated[
        Path | None,
        typer.Argument(
            parser=file_or_folder,
            help="JSON of either form, a PNG with it inside, or a bundled one's name.",
        ),
    ] = None,
    *,
    place: Door,
    input_dir: Annotated[
        Path | None,
        path_option(
            "Where pictures and videos lie that WORKFLOW names; default: the input folder of the "
            "ComfyUI of this machine, with --server the current folder.",
            callback=is_folder,
        ),
    ] = None,
    hash_files: Annotated[
        bool,
        typer.Option(
            "--hash/--no-hash", help="SHA-256 of every weight file, kept until the file changes."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say where every weight file was looked for and on which terms it is, and what WORKFLOW lacks.

    Looks and tells: nothing is downloaded, changed or deleted. With --server the ComfyUI there is
    asked what it has, by which each choice in WORKFLOW is judged. Exit code 1: WORKFLOW lacks
    something.
    """
    from ...core.doctor import diagnose
    from ...core.host import host
    from ..host.catalogue import plain_process
    from ..workflows.workflow import read_workflow
    from ..workflows.workflow_file import WorkflowError

    place.check_door(elsewhere=place.server is not None)
    at = place.address()
    place.use()
    try:
        source = None if workflow is None else read_workflow(workflow)
    except WorkflowError as error:
        fail(str(error), 1 if workflow and workflow.exists() else 2)
    if at is not None:
        from ..remote.doctor import diagnose_there

        _tell(diagnose_there(at, source, input_dir or Path.cwd()), as_json=as_json)
        return
    with progress("Hashing", 1, quiet=as_json or not hash_files) as show:

        def on_bytes(path: Path, done: int, total: int) -> None:
            show(f"Hashing {path.name}", done / max(total, 1))

        around = plain_process(host.folders, input_dir)
        report = diagnose(around, source, hash_files=hash_files, on_bytes=on_bytes)
    _tell(report, as_json=as_json)


def _tell(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(1)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from ...core.doctor import words

    console = Console(highlight=False)

    def tell(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, soft_wrap=True)

    for line in words.workflow_lines(report):
        tell(line, "red" if line.startswith("  - ") else None)
    for line in words.warning_lines(report):
        tell(line, "yellow")
    table = Table("weights", Column("in models/", overflow="fold"), "state", "commercial use")
    for entry in report["weights"]:
        file = f"{entry['folder']}/{entry['names'][0]}"
        style = "green" if entry["found"] else "dim"
        table.add_row(entry["what"], file, words.state(entry), entry["commercial"], style=style)
    console.print(table)
    tell("Where they come from, where they were looked for, and their terms: --json.")
    if report.get("server"):
        for line in words.server_lines(report):
            tell(line)
        return
    for copy in (copy for entry in report["weights"] for copy in entry["copies"]):
        for line in words.copy_lines(copy):
            tell(line, "red" if line.startswith("cannot be used") else None)
    for line in (*words.restorer_lines(report), *words.detector_lines(report)):
        tell(line)
    for line in words.machine_lines(report):
        tell(line)
