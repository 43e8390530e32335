"""Pictures as numbered PNGs that carry their workflow, as ComfyUI writes them."""

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...core.files.names import numbered, sized
from ...core.images import holds, to_array, write_atomic


@dataclass
class RunContext:
    """Where a run reads pictures from, where it writes to, and what it writes into them."""

    input_dir: Path = field(default_factory=Path.cwd)
    output_dir: Path = field(default_factory=lambda: Path("output"))
    prompt: Mapping[str, Any] | None = None
    """API form of the workflow, stored in saved PNGs as ComfyUI does."""
    workflow: Mapping[str, Any] | None = None
    """Editor form, where the run started from one."""
    named: Collection[str] = ()
    """Files that the person who started the run named: these may lie anywhere."""


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
    names = free_names(sized(prefix, *images.shape[1:3]), ".png")
    run, paths = context.get(), []
    for i, image in enumerate(images):
        paths.append(next(names))
        array = to_array(image.movedim(-1, 0))
        data = _png(array, run, texts[i] if texts else {})
        write_atomic(paths[-1], data, holds(array))
    return paths


def free_names(prefix: str, suffix: str) -> Iterator[Path]:
    """`core.files.names.numbered` below the run's output folder.

    Raises:
        FacewrightError: `prefix` leaves the output folder.
    """
    return numbered(context.get().output_dir, prefix, suffix)


def _png(array: np.ndarray, run: RunContext, text: Mapping[str, str]) -> bytes:
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
    Image.fromarray(array).save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()
