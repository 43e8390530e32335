"""`facewright export`: what was trained, in the form somebody needs."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import AsJson, app, check_choice, console, fail, file_or_folder, say, write_json
from ._failures import sentences

_SAME = "Nothing is half written; run the same command again."


@app.command()
@sentences(interrupted=f"Interrupted. {_SAME}")
def export(
    source: Annotated[
        Path,
        typer.Argument(
            parser=file_or_folder,
            help="A LoRA (file, or the folder that peft saves), another trained file, or the "
            "folder of a run.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            parser=file_or_folder,
            help="File (.safetensors) or folder to write; of a run, by default its export folder.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            parser=file_or_folder,
            help="Merge the LoRA into this base: SD 2.1-base as a file or diffusers folder, or the "
            "nano UNet. What comes out is of the same kind.",
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="With --base: 1, the default, is what it was trained for.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Rename the LoRA: kohya (ComfyUI's and other stock loaders), diffusers, or peft "
            "(a folder).",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or bf16; alone, it rewrites any file that was trained here."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge a LoRA into its base, rename it, round a trained file, or export a stopped run.

    `facewright convert` is for files that others released.
    """
    from ...core.checkpoint.identify import is_lora_folder
    from ...core.lora.styles import LORA_STYLES
    from ..make.export import DTYPES, merge, recast, restyle

    check_choice("--to", to or LORA_STYLES[0], LORA_STYLES)
    check_choice("--dtype", dtype or "fp32", tuple(DTYPES))
    is_run = source.is_dir() and not is_lora_folder(source)
    _check_together(source, is_run, out, base, strength, to, dtype)
    cast = DTYPES[dtype] if dtype else None
    with console().status(f"Exporting {source.name}"):
        if is_run:
            written = _run(source, out)
        elif base is not None:
            written = dict([merge(source, base, out, strength=_or_one(strength), dtype=cast)])
        elif to is not None:
            written = restyle(source, out, to, dtype=cast)
        else:
            written = dict([recast(source, out, cast)])
    if as_json:
        write_json({str(path): what for path, what in written.items()})
    for path, what in {} if as_json else written.items():
        say(f"{path}: {what}")


def _check_together(
    source: Path,
    is_run: bool,
    out: Path | None,
    base: Path | None,
    strength: float | None,
    to: str | None,
    dtype: str | None,
) -> None:
    if is_run:
        if any(value is not None for value in (base, strength, to, dtype)):
            raise typer.BadParameter(
                f"{source} is a folder, so a run is exported as its config says. Give one of the "
                "files in its export folder for --base, --to and --dtype."
            )
        return
    if base is not None and to is not None:
        raise typer.BadParameter("--base merges and --to renames: give one of them.")
    if strength is not None and base is None:
        raise typer.BadParameter("--strength goes with --base.")
    if base is None and to is None and dtype is None:
        raise typer.BadParameter("Say what to do with the file: --base, --to or --dtype.")
    if out is None:
        raise typer.BadParameter("Say where to write with -o.")


def _or_one(strength: float | None) -> float:
    return 1.0 if strength is None else strength


def _run(folder: Path, out: Path | None) -> dict[Path, str]:
    try:
        from ...training.results.export import export_run
    except ImportError as error:
        fail(f'Exporting a run needs more packages ({error}): pip install "facewright[train]"')
    return dict.fromkeys(export_run(folder, out), "from the run's newest checkpoint")
