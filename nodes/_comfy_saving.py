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
from ..core.files import written_whole


def save_pictures(
    image: Tensor, prefix: str, texts: Sequence[Mapping[str, str]], cls: type
) -> ui.SavedImages:
    """`nodes._host.Host.save_pictures` in ComfyUI's output folder; every file whole or not there.

    Places such as %year% in `prefix` mean what they mean to Save Image.
    """
    height, width = image.shape[1:3]
    folder, name, first, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    results = []
    for i, (picture, text) in enumerate(zip(image, texts, strict=True)):
        file = f"{name}_{first + i:05}_.png"
        info = PngInfo()
        for key, value in {**_workflow(cls.hidden), **text}.items():
            info.add_text(key, value)
        array = (picture.cpu().clamp(0, 1) * 255).round().byte().numpy()
        with written_whole(Path(folder) / file) as temporary:
            Image.fromarray(array).save(temporary, "PNG", pnginfo=info, compress_level=4)
            with Image.open(temporary) as back:
                if not np.array_equal(np.asarray(back), array):
                    raise FacewrightError(
                        f"{file} was not written: read back, its pixels are others. Look at the "
                        "disk of the output folder."
                    )
        results.append(ui.SavedResult(file, subfolder, io.FolderType.output))
    return ui.SavedImages(results)


def _workflow(hidden: Any) -> dict[str, str]:
    """What Save Image writes; nothing where ComfyUI was started with --disable-metadata."""
    if args.disable_metadata or not hidden:  # absent where nobody but a test calls the node
        return {}
    texts = {} if hidden.prompt is None else {"prompt": hidden.prompt}
    return {k: json.dumps(v) for k, v in {**texts, **(hidden.extra_pnginfo or {})}.items()}
