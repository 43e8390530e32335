"""Pictures saved as ComfyUI's own Save Image saves them, with more text beside the pixels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from comfy.cli_args import args
from comfy_api.latest import io, ui
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..core.errors import FacewrightError
from ..core.files.names import numbered, sized
from ..core.files.writing import written_whole


def save_pictures(
    image: Tensor, prefix: str, texts: Sequence[Mapping[str, str]], cls: type
) -> ui.SavedImages:
    """`nodes._host.Host.save_pictures` in ComfyUI's output folder; every file whole or not there.

    Places such as %year% in `prefix` mean what they mean to Save Image; but names are always free,
    also where ComfyUI counts wrongly, as below "faces/".

    Raises:
        FacewrightError: `prefix` leaves the output folder, or a file read back is another.
        OSError: the folder cannot be written.
    """
    output = Path(folder_paths.get_output_directory()).resolve()
    names = numbered(output, sized(prefix, *image.shape[1:3]), ".png")
    results = []
    for picture, text in zip(image, texts, strict=True):
        path = next(names)
        info = PngInfo()
        for key, value in {**_workflow(cls.hidden), **text}.items():
            info.add_text(key, value)
        array = (picture.cpu().clamp(0, 1) * 255).round().byte().numpy()
        with written_whole(path) as temporary:
            Image.fromarray(array).save(temporary, "PNG", pnginfo=info, compress_level=4)
            with Image.open(temporary) as back:
                if not np.array_equal(np.asarray(back), array):
                    raise FacewrightError(
                        f"{path.name} was not written: read back, its pixels are others. Look at "
                        "the disk of the output folder."
                    )
        subfolder = "" if path.parent == output else str(path.parent.relative_to(output))
        results.append(ui.SavedResult(path.name, subfolder, io.FolderType.output))
    return ui.SavedImages(results)


def _workflow(hidden: Any) -> dict[str, str]:
    """What Save Image writes; nothing where ComfyUI was started with --disable-metadata."""
    if args.disable_metadata or not hidden:  # absent where nobody but a test calls the node
        return {}
    texts = {} if hidden.prompt is None else {"prompt": hidden.prompt}
    return {k: json.dumps(v) for k, v in {**texts, **(hidden.extra_pnginfo or {})}.items()}
