"""Thumbnails of workflows: `python -m facewright.workflows.thumbnails`.

ComfyUI's template browser shows them. Those in `SHOWN` are what the workflows make, so new weights
want new ones; workflows that need files of one's own show what their nano counterpart makes, and
say so.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..core.drawing.sheet import contact_sheet
from ..core.images import Picture, write_picture
from ..headless.runner import run_workflow
from .graph import FOLDER, Graph
from .honestface import nano_group_people, nano_honestface_restore
from .video import nano_smooth_frames

# (title of a node, index of its output, label), in rows of the given length.
SHOWN = {
    nano_honestface_restore: (
        2,
        (
            ("Demo Picture", 0, "degraded"),
            ("Paste without photographs", 0, "without photographs"),
            ("Paste with photographs", 0, "with photographs"),
            ("Demo Picture", 1, "original"),
        ),
    ),
    nano_group_people: (1, (("Match People", 1, ""), ("Paste Faces", 0, "restored"))),
    nano_smooth_frames: (
        1,
        (("Demo Picture", 0, "every frame"), ("Paste Faces", 0, "steady")),
    ),
}

# Workflow -> the one that shows the same steps with bundled models, and what to write on it.
_FILES = "with your own model files"
COUNTERPART = {
    "osdface_restore": ("nano_restore", _FILES),
    "trained_restore": ("nano_restore", _FILES),
    "flipnet_restore": ("nano_flipnet_restore", _FILES),
    "flipnet_degrade": ("nano_flipnet_degrade", _FILES),
    "honestface_restore": ("nano_honestface_restore", _FILES),
    "group_photo_people": ("nano_group_people", _FILES),
    "nano_restore_video": ("nano_smooth_frames", "videos of any length"),
}


def main() -> list[Path]:
    """Run the workflows and write their thumbnails."""
    written = []
    for make, (columns, shown) in SHOWN.items():
        graph = make()
        with tempfile.TemporaryDirectory() as folder:
            results = run_workflow(graph.ui(), output_dir=folder)
        pictures = [_picture(graph, results, title, index) for title, index, _ in shown]
        sheet = contact_sheet(pictures, [label for *_, label in shown], columns)
        written.append(FOLDER / f"{graph.name}.jpg")
        write_picture(written[-1], sheet, Picture(sheet))
    for name, (other, label) in COUNTERPART.items():
        with Image.open(FOLDER / f"{other}.jpg") as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0) / 255
        band = max(pixels.shape[-2:]) // 8  # under the picture, whose own labels stay readable
        pixels = F.pad(pixels, (0, 0, 0, band), value=0.1)
        sheet = contact_sheet([pixels], [label], 1)
        written.append(FOLDER / f"{name}.jpg")
        write_picture(written[-1], sheet, Picture(sheet))
    return written


def _picture(graph: Graph, results: dict, title: str, index: int) -> Tensor:
    """(3, h, w) in [0, 1]"""
    (node_id,) = (k for k, node in graph.api().items() if node["_meta"]["title"] == title)
    return results[node_id][index][0].movedim(-1, 0)


if __name__ == "__main__":
    main()
