"""`facewright run`: a workflow file, without opening ComfyUI."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import AsJson, Models, app, progress, say, sentences, use_models, write_json


@app.command()
@sentences
def run(
    workflow: Annotated[Path, typer.Argument(help="JSON of either form, or a PNG with it inside.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="NODE.INPUT=VALUE; NODE is an id, a title or a class."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for saved pictures.")] = Path(
        "output"
    ),
    input_dir: Annotated[
        Path | None, typer.Option(help="Where Load Image finds pictures; default: current folder.")
    ] = None,
    models: Models = None,
    server: Annotated[str | None, typer.Option(help="Address of a ComfyUI to run it in.")] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Run here even where a ComfyUI is found.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a workflow file, in a ComfyUI that answers or else in this process."""
    from ..server import DEFAULT_SERVER, answers, run_on_server
    from ..workflow import read_workflow

    if server and embedded:
        raise typer.BadParameter("--server and --embedded exclude each other.")
    inputs = dict(map(_assignment, assignments or []))
    source = read_workflow(workflow)
    if server is None and not embedded and answers(DEFAULT_SERVER):
        server = DEFAULT_SERVER
    where = server or "this process"
    if not as_json:
        say(f"Running {workflow} in {where}.")
    texts: dict[str, str] = {}
    titles: dict[str, str] = {}

    def on_text(node_id: str, title: str, text: str) -> None:
        titles[node_id] = title
        texts[node_id] = f"{texts[node_id]}\n{text}" if node_id in texts else text

    with progress("Running", 1, quiet=as_json) as show:
        if server:
            saved = run_on_server(
                source,
                server,
                inputs,
                input_dir=input_dir or Path.cwd(),
                output_dir=out,
                on_progress=show,
                on_text=on_text,
            )
        else:
            saved = _run_embedded(source, inputs, input_dir, out, models, show, on_text)
    if as_json:
        write_json({"where": where, "saved": saved, "texts": texts})
        return
    for node_id, text in texts.items():
        sys.stdout.write(f"{titles[node_id]}:\n{text}\n")
    for path in saved:
        say(f"Saved {path}")


def _run_embedded(
    source: Any, inputs: Any, input_dir: Any, out: Path, models: Any, show: Any, on_text: Any
) -> list[Path]:
    from ..host import host
    from ..runner import run_workflow

    use_models(models)
    at = ("", 0, 1)

    def on_node(title: str, done: int, total: int) -> None:
        nonlocal at
        at = title, done, total
        show(title, done / total)

    class Steps:
        """Progress inside a node moves the bar between two nodes."""

        def __init__(self, total: int) -> None:
            self.total, self.done = max(total, 1), 0

        def update(self, n: int = 1) -> None:
            self.done += n
            title, done, total = at
            show(title, (done + self.done / self.total) / total)

    host.report_progress = Steps
    results = run_workflow(
        source, inputs, input_dir=input_dir, output_dir=out, on_node=on_node, on_text=on_text
    )
    found = [
        r.ui["images"] for r in results.values() if isinstance(r.ui, dict) and "images" in r.ui
    ]
    return [p for images in found if isinstance(images, list) for p in images]


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} should be NODE.INPUT=VALUE.", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
