"""`facewright doctor`: which weights are there, what a workflow lacks, what may go wrong."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    Device,
    Models,
    app,
    fail,
    file_or_folder,
    progress,
    use_device,
    use_models,
    write_json,
)
from ._failures import sentences


@app.command()
@sentences
def doctor(
    workflow: Annotated[
        Path | None,
        typer.Argument(
            parser=file_or_folder,
            help="JSON of either form, a PNG with it inside, or a bundled one's name.",
        ),
    ] = None,
    models: Models = None,
    device: Device = None,
    hash_files: Annotated[
        bool,
        typer.Option(
            "--hash/--no-hash", help="SHA-256 of every weight file, kept until the file changes."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say where every weight file was looked for and on which terms it is, and what WORKFLOW lacks.

    Looks and tells: nothing is downloaded, changed or deleted. Exit code 1: WORKFLOW lacks
    something.
    """
    from ...core.doctor import diagnose
    from ...core.host import host
    from ..host.catalogue import plain_process
    from ..workflows.workflow import read_workflow
    from ..workflows.workflow_file import WorkflowError

    use_device(device)
    use_models(models)
    try:
        source = None if workflow is None else read_workflow(workflow)
    except WorkflowError as error:
        fail(str(error), 1 if workflow and workflow.exists() else 2)
    with progress("Hashing", 1, quiet=as_json or not hash_files) as show:

        def on_bytes(path: Path, done: int, total: int) -> None:
            show(f"Hashing {path.name}", done / max(total, 1))

        around = plain_process(host.folders)
        report = diagnose(around, source, hash_files=hash_files, on_bytes=on_bytes)
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
    for copy in (copy for entry in report["weights"] for copy in entry["copies"]):
        for line in words.copy_lines(copy):
            tell(line, "red" if line.startswith("cannot be used") else None)
    for line in (*words.restorer_lines(report), *words.detector_lines(report)):
        tell(line)
    for line in words.machine_lines(report):
        tell(line)
