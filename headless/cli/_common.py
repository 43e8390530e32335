"""What the commands share: the app, words and bars on standard error, options, exit codes."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from ...core.errors import counted

try:
    import typer
except ImportError:
    sys.exit('The facewright command needs more packages: pip install "facewright[headless]"')

app = typer.Typer(
    help="Restores faces in pictures and videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def file_or_folder(text: str) -> Path:
    """Parser of options that are paths.

    A leading `~` and variables are replaced, which a shell does not do behind `=` nor on Windows.
    """
    from ...core.errors import FacewrightError
    from ...core.files.writing import expand_path

    try:
        return expand_path(text)
    except FacewrightError as error:
        raise typer.BadParameter(str(error)) from None


def path_or_name(given: str) -> str:
    """Parser of options that are paths, patterns or names of something else."""
    found = file_or_folder(given)
    return str(found) if re.search("[~$]", given) else given


def exists(found: Path | None) -> Path | None:
    """Callback of options whose file or folder has to be there."""
    if found is not None and not found.exists():
        raise typer.BadParameter(f"There is no file or folder {found}.")
    return found


def is_file(found: Path | None) -> Path | None:
    """Callback of options that need a file."""
    if (there := exists(found)) is not None and there.is_dir():
        raise typer.BadParameter(f"{found} is a folder, and a file is needed.")
    return found


def is_folder(found: Path | None) -> Path | None:
    """Callback of options that need a folder."""
    if (there := exists(found)) is not None and not there.is_dir():
        raise typer.BadParameter(f"{found} is a file, and a folder is needed.")
    return found


OUT = ("-o", "--out")
"""Names of the option for what is written."""


def path_option(text: str, *names: str, **more: Any) -> Any:
    """An option that is a path; `more` is for `typer.Option`."""
    return typer.Option(*names, parser=file_or_folder, help=text, **more)


def path_argument(text: str, **more: Any) -> Any:
    """An argument that is a path, or several."""
    return typer.Argument(parser=file_or_folder, help=text, **more)


def inputs_argument(text: str, metavar: str | None = "IN...") -> Any:
    """An argument that is files, folders and patterns."""
    return typer.Argument(parser=path_or_name, metavar=metavar, help=text)


@contextmanager
def wrong_usage(kind: type[Exception] | None = None) -> Iterator[None]:
    """What is refused in here ends with exit code 2: the same command would never succeed.

    Args:
        kind: of the errors; None: every `FacewrightError`.
    """
    from ...core.errors import FacewrightError

    kind = kind or FacewrightError
    try:
        yield
    except kind as error:
        fail(str(error), 2)


@contextmanager
def needs_training(what: str) -> Iterator[None]:
    """Say which extra brings the packages that an import in here lacks."""
    try:
        yield
    except ImportError as error:
        fail(f'{what} needs more packages ({error}): pip install "facewright[train]"')


def console() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str, style: str | None = None) -> None:
    console().print(_whole(text), style=style, markup=False, soft_wrap=True)


def _whole(text: str) -> str:
    """Text that can be encoded: bytes of file names that are no UTF-8 come as halves of
    characters."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def say_aside(aside: Any) -> None:
    """What a search of folders found and did not take, where there is any (`core.files.scan`)."""
    if aside:
        say(aside.sentence())


def fail(message: str, code: int = 1) -> NoReturn:
    say(message, style="red")
    raise typer.Exit(code)


@contextmanager
def progress(
    label: str, total: int, quiet: bool, workers: Any = 1
) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error; yields a function that takes a text and how many are done.

    Args:
        workers: as for `run_jobs`; of a cluster the bar says how many workers there are just now.
    """
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    class Alive(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(counted(workers.alive, "worker"))

    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining()]
    if not isinstance(workers, int):
        columns.append(Alive())
    with Progress(*columns, console=console(), disable=quiet, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda text, done: bar.update(task, description=_whole(text), completed=done)


class JobBar:
    """What `run_jobs` takes as `on_job`, with a bar that shows it."""

    def __init__(self, show: Callable[[str, float], None], total: int) -> None:
        self._show, self._total = show, total
        self._past = self._failed = 0

    def __call__(self, job: Any, why: str | None) -> None:
        self._past += 1
        self._failed += why is not None
        self.within(job, 0.0)

    def within(self, job: Any, share: float) -> None:
        """So much of the next job is done."""
        past, failed = self._past, self._failed
        left = f"{past - failed} done, {failed} failed, {self._total - past} left"
        self._show(f"{left}: {job.source.name}", past + share)


@contextmanager
def job_progress(label: str, total: int, quiet: bool, workers: Any = 1) -> Iterator[JobBar]:
    """A bar for `run_jobs`: yields what it takes as `on_job`."""
    with progress(label, total, quiet, workers) as show:
        yield JobBar(show, total)


def write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def say_written(written: Mapping[Path, str], as_json: bool) -> None:
    """Files that were made, and what each is."""
    if as_json:
        write_json({str(path): what for path, what in written.items()})
    for path, what in {} if as_json else written.items():
        say(f"{path}: {what}")


def fail_for(summary: Any, total: int, noun: str = "picture") -> None:
    """End with exit code 1 where pictures failed, naming each."""
    if summary.failed:
        lines = [
            str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            for path, error in summary.failed.items()
        ]
        fail(f"{len(lines)} of {counted(total, noun)} failed:\n" + "\n".join(lines))


def tell(
    summary: Any,
    total: int,
    aside: Any,
    text: str,
    as_json: bool,
    *,
    noun: str = "picture",
    about: Callable[[dict[str, Any]], Iterable[str]] = lambda entry: entry.get("notes", ()),
    **more: Any,
) -> None:
    """Say what became of a batch, and end with exit code 1 where pictures failed, naming each.

    Args:
        summary: of `run_jobs`.
        total: how many pictures there were.
        aside: what a search of folders found and did not take.
        text: "3 pictures written to out", for people.
        noun: what the files are.
        about: what is to be known of a picture that is done.
        more: further entries of the JSON.
    """
    if as_json:
        write_json({**more, **summary.as_dict(), "left_aside": aside.entries()})
    else:
        if summary.skipped:
            text += f"; {len(summary.skipped)} were finished before (--overwrite does them again)"
        say(f"{text}.")
        notes = ((entry["input"], line) for entry in summary.done for line in about(entry))
        for source, line in dict.fromkeys(notes):
            say(f"{source}: {line}")
        say_aside(aside)
    fail_for(summary, total, noun)


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}.", param_hint=name)


def use_models(folder: Path | None, base: Path | None = None) -> None:
    """Let everything that looks for weights, face detectors included, look here first.

    This and `use_device` are for the command alone that `sentences` runs.
    """
    from ...core.host import find_host, run_for
    from ...core.weights.model_folders import ModelFolders
    from ..host.host import HeadlessHost

    named = folder is not None or base is not None
    run_for(HeadlessHost(ModelFolders(first=folder, base=base)) if named else find_host())


def use_device(name: str | None) -> None:
    """Compute there, with all workers.

    Args:
        name: as given on the command line; None leaves it to FACEWRIGHT_DEVICE.
    """
    from ...core.devices import VARIABLE, asked_device, compute_on, find_device
    from ...core.errors import FacewrightError

    try:
        find_device(name or asked_device())
    except FacewrightError as error:
        hint = VARIABLE if name is None else "--device"
        raise typer.BadParameter(str(error), param_hint=hint) from error
    if name is not None:
        compute_on(name)


def use_dtype(name: str | None) -> None:
    """Hold diffusion models in this format, with all workers; after `use_device`.

    Args:
        name: as given on the command line; None leaves it to FACEWRIGHT_DTYPE.
    """
    from ...core.devices import DTYPE_VARIABLE, asked_dtype, compute_device, compute_in
    from ...core.errors import FacewrightError

    if name is not None:
        compute_in(name)
    try:
        asked_dtype(compute_device())
    except FacewrightError as error:
        hint = DTYPE_VARIABLE if name is None else "--dtype"
        raise typer.BadParameter(str(error), param_hint=hint) from error


Models = Annotated[
    Path | None,
    path_option("Models folder: files loose in it, or in ComfyUI's subfolders.", callback=exists),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps|xpu",
        help="Where to compute. auto, also by default: the first of CUDA, Apple's MPS and Intel's "
        "XPU that is there, else the CPU. FACEWRIGHT_DEVICE sets another default; `doctor` shows "
        "what is there.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a command that loads models finds them with, and computes on."""

    models: Models = None
    device: Device = None

    def use(self) -> None:
        use_device(self.device)
        use_models(self.models)


@dataclass(frozen=True, kw_only=True)
class DiffusionMachine(Machine):
    """The same of a command that loads a diffusion model."""

    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|bf16|fp16",
            help="Number format of the diffusion model. auto, also by default: the fastest one of "
            "the device without visible loss; fp32 for the nano models. What overflows in fp16 is "
            "computed again in fp32. FACEWRIGHT_DTYPE sets another default.",
            show_default=False,
        ),
    ] = None

    def use(self) -> None:
        use_device(self.device)
        use_dtype(self.dtype)
        use_models(self.models)
