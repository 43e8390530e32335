"""The `facewright` command. Heavy imports wait inside the commands, so that --help is quick.

Exit codes: 0 done, 1 something failed (named on standard error), 2 wrong usage.
"""

import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ImportError:
    sys.exit('The facewright command needs more packages: pip install "facewright[headless]"')

app = typer.Typer(
    help="Restores faces in pictures, in one diffusion step per face.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _say(text: str, style: str | None = None) -> None:
    _console().print(text, style=style, markup=False, soft_wrap=True)


def _fail(message: str, code: int = 1) -> None:
    _say(message, style="red")
    raise typer.Exit(code)


def _sentences(command: Callable) -> Callable:
    """Show errors meant for the user as their sentence, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from ..core.errors import FacewrightError

        try:
            command(*args, **kwargs)
        except FacewrightError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            _fail("Interrupted. What is finished stays; run the same command again to go on.", 1)

    return run


@contextmanager
def _progress(label: str, total: int, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error; yields a function that takes a text and how many are done."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(*columns, console=_console(), disable=quiet, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda text, done: bar.update(task, description=text, completed=done)


def _write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}.", param_hint=name)


def _use_models(folder: Path | None) -> None:
    """Let everything that looks for weights, face detectors included, look here first."""
    from .host import host
    from .model_folders import ModelFolders

    if folder is not None:
        others = os.environ.get("FACEWRIGHT_MODELS")
        os.environ["FACEWRIGHT_MODELS"] = os.pathsep.join(filter(None, [str(folder), others]))
    host.folders = ModelFolders()


Models = Annotated[
    Path | None,
    typer.Option(help="Models folder: files loose in it, or in ComfyUI's subfolders.", exists=True),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")]


@app.command()
@_sentences
def restore(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders, or patterns like *.jpg.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file for one picture.")],
    models: Models = None,
    weights: Annotated[
        str, typer.Option(help="osdface, or nano (demo models for rendered faces).")
    ] = "osdface",
    analyzer: Annotated[
        str | None,
        typer.Option(help="Face detector: skimage, insightface, facexlib or nano."),
    ] = None,
    color: Annotated[
        str, typer.Option(help="Colours of the original: none, adain, wavelet or lab.")
    ] = "none",
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 original, 1 restored.")] = 1.0,
    feather: Annotated[float, typer.Option(min=0.01, max=0.5, help="Soft border's width.")] = 0.12,
    size: Annotated[
        int | None, typer.Option(min=64, max=2048, help="Side of the face crops in pixels.")
    ] = None,
    min_size: Annotated[float, typer.Option(min=0, help="Leave smaller faces alone (px).")] = 0,
    max_faces: Annotated[int, typer.Option(min=0, help="Per picture; 0: no limit.")] = 0,
    padding: Annotated[
        float, typer.Option(min=0, max=1, help="Extend pictures by this share to find faces.")
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option(help="Sample the latent instead of taking its mean.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Also write before/after pictures.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore the faces of pictures. Interrupted runs go on where they stopped."""
    from ..core.color import COLOR_MODES
    from ..core.errors import FacewrightError
    from .batch import Job, plan, run_jobs

    _check_choice("--color", color, COLOR_MODES)
    _check_choice("--weights", weights, ("osdface", "nano"))
    try:
        jobs = plan(inputs, out)
    except FacewrightError as error:
        _fail(str(error), 2)

    from .restore import RestoreOptions, Restorer

    options = RestoreOptions(
        color=color,
        strength=strength,
        feather=feather,
        min_size=min_size,
        max_faces=max_faces,
        padding=padding,
        seed=seed,
    )

    _use_models(models)

    @functools.cache
    def restorer() -> Restorer:
        make = Restorer.nano if weights == "nano" else Restorer.osdface
        loaded = make(analyzer) if analyzer else make()
        return loaded.with_size(size) if size else loaded

    if overwrite or not all(job.target.exists() for job in jobs):
        restorer()  # missing weights are no fault of a picture

    def work(job: Job) -> dict[str, Any]:
        return _restore_one(job, restorer(), options, compare)

    with _progress("Restoring", len(jobs), quiet=as_json) as show:
        done = itertools.count(1)

        def on_job(job: Job) -> None:
            n = next(done)
            show(f"{n} of {len(jobs)}: {job.source.name}", n)

        summary = run_jobs(jobs, work, overwrite=overwrite, on_job=on_job)
    if as_json:
        _write_json(summary.as_dict())
    else:
        _report(summary, out)
    _fail_for(summary, len(jobs))


def _fail_for(summary: Any, total: int) -> None:
    """End with exit code 1 where pictures failed, naming each."""
    if summary.failed:
        lines = [f"{path}: {error}" for path, error in summary.failed.items()]
        _fail(f"{len(lines)} of {total} pictures failed:\n" + "\n".join(lines))


def _restore_one(job: Any, restorer: Any, options: Any, compare: bool) -> dict[str, Any]:
    from .images import read_picture, write_picture

    picture = read_picture(job.source)
    result = restorer.restore(picture.pixels, options)
    if compare and result.faces:
        _write_comparison(
            job.target.with_name(f"{job.target.stem}_compare.png"), picture.pixels, result.pixels
        )
    # Last, because its presence means that the job is finished.
    write_picture(job.target, result.pixels, picture)
    return {"faces": result.faces, "report": result.report, "notes": picture.notes}


def _write_comparison(path: Path, before: Any, after: Any) -> None:
    from ..core.compare import compare
    from .images import Picture, write_picture

    pixels = compare(before[None, :3], after[None, :3])[0]
    write_picture(path, pixels, Picture(pixels))


def _report(summary: Any, out: Path) -> None:
    faces = sum(entry["faces"] for entry in summary.done)
    text = f"{len(summary.done)} pictures with {faces} faces written to {out}"
    if summary.skipped:
        text += f"; {len(summary.skipped)} were finished before (--overwrite does them again)"
    _say(text + ".")
    for entry in summary.done:
        for line in entry["notes"] + ([entry["report"]] if not entry["faces"] else []):
            _say(f"{entry['input']}: {line}")


@app.command()
@_sentences
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
    from .server import DEFAULT_SERVER, answers, run_on_server
    from .workflow import read_workflow

    if server and embedded:
        raise typer.BadParameter("--server and --embedded exclude each other.")
    inputs = dict(map(_assignment, assignments or []))
    source = read_workflow(workflow)
    if server is None and not embedded and answers(DEFAULT_SERVER):
        server = DEFAULT_SERVER
    where = server or "this process"
    if not as_json:
        _say(f"Running {workflow} in {where}.")
    with _progress("Running", 1, quiet=as_json) as show:
        if server:
            saved = run_on_server(
                source,
                server,
                inputs,
                input_dir=input_dir or Path.cwd(),
                output_dir=out,
                on_progress=show,
            )
        else:
            saved = _run_embedded(source, inputs, input_dir, out, models, show)
    if as_json:
        _write_json({"where": where, "saved": saved})
    for path in [] if as_json else saved:
        _say(f"Saved {path}")


def _run_embedded(
    source: Any, inputs: Any, input_dir: Any, out: Path, models: Any, show: Any
) -> list[Path]:
    from .host import host
    from .runner import run_workflow

    _use_models(models)
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
    results = run_workflow(source, inputs, input_dir=input_dir, output_dir=out, on_node=on_node)
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


@app.command()
@_sentences
def convert(
    inputs: Annotated[list[Path], typer.Argument(help="Released OSDFace files or LoRAs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the safetensors.")],
    as_json: AsJson = False,
) -> None:
    """Convert released weight files to safetensors that need no pickle and fit every host."""
    from ..core.convert import convert as convert_files

    written = convert_files(inputs, out)
    if as_json:
        _write_json({str(path): what for path, what in written.items()})
    for path, what in {} if as_json else written.items():
        _say(f"{path}: {what}")


@app.command()
@_sentences
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path(
        "facewright_demo"
    ),
) -> None:
    """Restore a bundled picture of rendered people with the bundled nano models."""
    from .demo import run_demo

    run_demo(out, _console())


@app.command()
@_sentences
def degrade(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders, or patterns like *.jpg.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file for one picture.")],
    preset: Annotated[str, typer.Option(help="mild, moderate, severe, gfpgan, ...")] = "moderate",
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; the next takes +1.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Do finished pictures again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Degrade clean pictures reproducibly; the recipe of each is kept beside it as JSON."""
    from ..core.degradation import Degradation
    from ..core.errors import FacewrightError
    from .batch import plan, run_jobs
    from .images import read_picture, write_atomic, write_picture

    _check_choice("--preset", preset, tuple(Degradation.presets()))
    try:
        jobs = plan(inputs, out)
    except FacewrightError as error:
        _fail(str(error), 2)
    seeds = {job: seed + n for n, job in enumerate(jobs)}
    degradation = Degradation.preset(preset)

    def work(job: Any) -> dict[str, Any]:
        picture = read_picture(job.source)
        lq, recipe = degradation(picture.pixels[None, :3], seed=[seeds[job]])
        text = json.dumps({"preset": preset, "seed": seeds[job], "recipe": recipe[0]}, indent=2)
        write_atomic(job.target.with_suffix(".json"), text.encode())
        picture.pixels[:3] = lq[0]
        write_picture(job.target, picture.pixels, picture)
        return {"seed": seeds[job], "notes": picture.notes}

    summary = run_jobs(jobs, work, overwrite=overwrite)
    if as_json:
        _write_json(summary.as_dict())
    else:
        _say(f"{len(summary.done)} pictures written to {out}.")
    _fail_for(summary, len(jobs))


@app.command()
@_sentences
def train(
    stage: Annotated[str, typer.Argument(help="A training stage, such as vre_hq or onestep.")],
    config: Annotated[Path, typer.Option(help="YAML file.", exists=True, dir_okay=False)],
    resume: Annotated[bool, typer.Option(help="Continue the run in its output folder.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="a.b=value replaces an entry of the file.")
    ] = None,
) -> None:
    """Train one stage of a method as a YAML file says."""
    try:
        from ..training.train import train as run_training
    except ImportError as error:
        _fail(f'Training needs more packages ({error}): pip install "facewright[train]"')
    run_training(stage, config, resume=resume, overrides=assignments or [])


def main() -> None:
    """Entry point of `facewright` and `python -m facewright`."""
    app(prog_name="facewright")
