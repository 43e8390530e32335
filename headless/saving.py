"""Pictures as numbered PNGs that carry their workflow, as ComfyUI writes them."""

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import FacewrightError
from .images import to_array, write_atomic


@dataclass
class RunContext:
    """Where a run reads pictures from, where it writes to, and what it writes into them."""

    input_dir: Path = field(default_factory=Path.cwd)
    output_dir: Path = field(default_factory=lambda: Path("output"))
    prompt: Mapping[str, Any] | None = None
    """API form of the workflow, stored in saved PNGs as ComfyUI does."""
    workflow: Mapping[str, Any] | None = None
    """Editor form, where the run started from one."""


context: ContextVar[RunContext] = ContextVar("facewright_run")


def save_pictures(
    images: Tensor, prefix: str, texts: Sequence[Mapping[str, str]] | None = None
) -> list[Path]:
    """Write `<prefix>_00001_.png`, numbered on, with the workflow in their metadata.

    Args:
        images: IMAGE (b, h, w, 3 or 4).
        prefix: file name below the run's output folder, possibly with folders of its own.
        texts: more text chunks for each picture.

    Raises:
        FacewrightError: `prefix` leaves the output folder.
        OSError: the folder cannot be written.
    """
    run, paths, names = context.get(), [], free_names(prefix, ".png")
    for i, image in enumerate(images):
        paths.append(next(names))
        write_atomic(paths[-1], _png(image, run, texts[i] if texts else {}))
    return paths


def free_names(prefix: str, suffix: str) -> Iterator[Path]:
    """`<prefix>_00001_<suffix>` below the run's output folder, on from the highest that is there.

    Raises:
        FacewrightError: `prefix` leaves the output folder.
    """
    folder = context.get().output_dir
    target = (folder / prefix).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise FacewrightError(f"filename_prefix {prefix!r} leaves the output folder.")
    taken = [
        int(tail)
        for p in target.parent.glob(f"{target.name}_*_{suffix}")
        if (tail := p.name.removeprefix(f"{target.name}_").removesuffix(f"_{suffix}")).isdecimal()
    ]
    for number in itertools.count(max(taken, default=0) + 1):
        yield target.with_name(f"{target.name}_{number:05}_{suffix}")


def _png(image: Tensor, run: RunContext, text: Mapping[str, str]) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if run.prompt is not None:
        info.add_text("prompt", json.dumps(run.prompt, default=str))
    if run.workflow is not None:
        info.add_text("workflow", json.dumps(run.workflow))
    for key, value in text.items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    array = to_array(image.movedim(-1, 0))
    Image.fromarray(array).save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()
