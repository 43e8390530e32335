"""`facewright train`: one stage of a method. `python -m facewright.training.train` is the same."""

import difflib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import (
    AsJson,
    Device,
    app,
    console,
    fail,
    needs_training,
    path_option,
    path_or_name,
    progress,
    say,
    use_device,
    write_json,
    wrong_usage,
)
from ._failures import sentences

_PRESSED = {"SIGINT": "Ctrl-C"}
_INTERRUPTED = (
    "Interrupted. A run that has written a checkpoint goes on with the same command and --resume."
)


@app.command()
@sentences(interrupted=_INTERRUPTED)
def train(
    stage: Annotated[
        str | None,
        typer.Argument(help="What to train, such as vre-hq, onestep or flipnet-restore."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            parser=path_or_name,
            help="YAML file, or the name of one that came along, such as onestep_nano.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the config's output folder.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=VALUE", help="Replace an entry of the config; as often as needed."
        ),
    ] = None,
    dry: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Take a few steps and say what the run would need: parameters, memory, time, "
            "disk. Nothing is kept.",
        ),
    ] = False,
    sheet: Annotated[
        Path | None, path_option("With --dry-run: PNG of the first batch, degraded above good.")
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Show the stages and the configs that came along.")
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Train one stage of a method as a YAML file says.

    On several GPUs: accelerate launch -m facewright.training.train STAGE --config FILE.

    Ctrl-C ends the run after the current step, with a checkpoint; --resume goes on from it.
    """
    with needs_training("Training"):
        from ...training import train as training
        from ...training.settings.strict import ConfigError
    if sheet and not dry:
        raise typer.BadParameter("It goes with --dry-run.", param_hint="--sheet")
    stages = training.stages()
    if listed or stage is None:
        _show_stages(stages, as_json)
        if listed or as_json:
            return
        fail("Name a stage: facewright train STAGE --config FILE", 2)
    _check_stage(stage, stages)
    if config is None:
        fail(f"Give --config. For {stage} came along: {_shipped(stages, stage)}.", 2)
    use_device(device)
    with _lines_where_no_bar(), wrong_usage(ConfigError):
        engine = training.open_run(stage, config, assignments)
        if dry:
            _dry_run(engine, sheet, as_json)
        else:
            _report(engine.run(resume=resume), engine.config.output, as_json)


def _check_stage(stage: str, stages: Any) -> None:
    if stage not in stages:
        _show_stages(stages, False)
        near = difflib.get_close_matches(stage.replace("_", "-"), stages, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        fail(f"There is no training stage `{stage}`.{hint}", 2)


def _shipped(stages: Any, stage: str) -> str:
    from ...training.settings.shipped import configs_by_stage

    return ", ".join(configs_by_stage(stages)[stage]) or "none"


def _show_stages(stages: Any, as_json: bool) -> None:
    from rich.table import Table

    from ...training.settings.shipped import BUNDLED, configs_by_stage

    if as_json:
        write_json(configs_by_stage(stages))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("STAGE", no_wrap=True)
    table.add_column("--config that came along: a name of these, or a file of yours")
    for stage, names in configs_by_stage(stages).items():
        own = [name for name in names if not name.startswith(BUNDLED)]
        table.add_row(stage, ", ".join(own or names))
    console().print(table)


def _is_main() -> bool:
    """Whether to speak: under torchrun and accelerate launch every process comes here."""
    return os.environ.get("RANK", "0") == "0"


def _dry_run(engine: Any, sheet: Path | None, as_json: bool) -> None:
    from ...training.loop.dry_run import dry_run
    from ._dry_run import show_dry_run

    with progress("Dry run", 1, quiet=as_json or not _is_main()) as show:
        try:
            facts = dry_run(engine, sheet=sheet, on_progress=show)
        except OSError as error:
            fail(f"{sheet} could not be written ({error}). Choose another file with --sheet.")
    if not _is_main():
        return
    if as_json:
        write_json(facts)
    else:
        show_dry_run(facts)


def _report(facts: dict[str, Any], output: Path, as_json: bool) -> None:
    if _is_main() and as_json:
        write_json(facts)
    elif _is_main():
        _say_facts(facts, output)
    if not facts["finished"]:
        raise typer.Exit(1)


def _say_facts(facts: dict[str, Any], output: Path) -> None:
    done = f"{facts['steps']} steps, {facts['minutes']:g} minutes of training"
    if facts["finished"]:
        say(f"Finished {facts['stage']}: {done}.")
    else:
        by = _PRESSED.get(facts["stopped_by"], facts["stopped_by"])
        say(
            f"Stopped by {by} after {done}. The checkpoint is written: the same command with "
            "--resume goes on from it.",
            "yellow",
        )
    if facts["metrics"]:
        say("Held out: " + ", ".join(f"{k} {v:.4g}" for k, v in facts["metrics"].items()))
    places = {
        "Files for the nodes": output / "export" if facts["finished"] else None,
        "Model card": output / "export" / "README.md",
        "Curves": output / "curves.png",
        "Pictures of held-out samples": output / "grids",
        "All numbers": output / "metrics.jsonl",
    }
    for what, path in places.items():
        if path and path.exists():
            say(f"{what}: {path}")


@contextmanager
def _lines_where_no_bar() -> Iterator[None]:
    """Show the package's log with the time where standard error is a file or a job's log.

    On a terminal there is a bar, and warnings reach it by themselves.
    """
    if sys.stderr.isatty():
        yield
        return
    package = logging.getLogger(__name__.partition(".headless")[0])
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
