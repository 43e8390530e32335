"""`facewright export`: what was trained, in the form somebody needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    OUT,
    AsJson,
    app,
    check_choice,
    console,
    needs_training,
    path_argument,
    path_option,
    say_written,
)
from ._failures import sentences
from ._options import grouped

_SAME = "Nothing is half written; run the same command again."


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to become of the file."""

    base: Annotated[
        Path | None,
        path_option(
            "Merge the LoRA into this base: SD 2.1-base as a file or diffusers folder, or the nano "
            "UNet. What comes out is of the same kind."
        ),
    ] = None
    strength: Annotated[
        float | None, typer.Option(help="With --base: 1, the default, is what it was trained for.")
    ] = None
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Rename the LoRA: kohya (ComfyUI's and other stock loaders), diffusers, or peft "
            "(a folder).",
        ),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or bf16; alone, it rewrites any file that was trained here."),
    ] = None

    def check(self, source: Path, is_run: bool, out: Path | None) -> None:
        """Options that make no sense without or beside others are wrong usage."""
        from ...core.devices import DTYPES
        from ...core.lora.styles import LORA_STYLES

        check_choice("--to", self.to or LORA_STYLES[0], LORA_STYLES)
        check_choice("--dtype", self.dtype or "fp32", tuple(DTYPES))
        wrong = None
        if is_run and self != Wish():
            wrong = (
                f"{source} is a folder, so a run is exported as its config says. Give one of the "
                "files in its export folder for --base, --to and --dtype."
            )
        elif self.base is not None and self.to is not None:
            wrong = "--base merges and --to renames: give one of them."
        elif self.strength is not None and self.base is None:
            wrong = "--strength goes with --base."
        elif not is_run and self.base is None and self.to is None and self.dtype is None:
            wrong = "Say what to do with the file: --base, --to or --dtype."
        elif not is_run and out is None:
            wrong = "Say where to write with -o."
        if wrong:
            raise typer.BadParameter(wrong)

    def written(self, source: Path, out: Path) -> dict[Path, str]:
        """Files that were made of one file, and what each is."""
        from ...core.devices import DTYPES
        from ...core.lora.styles import LORA_STYLES
        from ..make.export import merge, recast, restyle

        cast = DTYPES[self.dtype] if self.dtype else None
        if self.base is not None:
            strength = 1.0 if self.strength is None else self.strength
            return dict([merge(source, self.base, out, strength=strength, dtype=cast)])
        for style in LORA_STYLES:
            if style == self.to:
                return restyle(source, out, style, dtype=cast)
        return dict([recast(source, out, DTYPES[self.dtype or "fp32"])])


@app.command()
@sentences(interrupted=f"Interrupted. {_SAME}")
@grouped
def export(
    *,
    source: Annotated[
        Path,
        path_argument(
            "A LoRA (file, or the folder that peft saves), another trained file, or the folder of "
            "a run."
        ),
    ],
    out: Annotated[
        Path | None,
        path_option(
            "File (.safetensors) or folder to write; of a run, by default its export folder.", *OUT
        ),
    ] = None,
    wish: Wish,
    as_json: AsJson = False,
) -> None:
    """Merge a LoRA into its base, rename it, round a trained file, or export a stopped run.

    `facewright convert` is for files that others released.
    """
    from ...core.checkpoint.identify import is_lora_folder

    is_run = source.is_dir() and not is_lora_folder(source)
    wish.check(source, is_run, out)
    with console().status(f"Exporting {source.name}"):
        written = _run(source, out) if is_run or out is None else wish.written(source, out)
    say_written(written, as_json)


def _run(folder: Path, out: Path | None) -> dict[Path, str]:
    with needs_training("Exporting a run"):
        from ...training.export import export_run
    return dict.fromkeys(export_run(folder, out), "from the run's newest checkpoint")
