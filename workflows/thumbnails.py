"""Thumbnails of HonestFace's nano workflows: `python -m facewright.workflows.thumbnails`.

ComfyUI's template browser shows them. They are what the workflows make, so new weights want new
ones.
"""

import tempfile
from pathlib import Path

from torch import Tensor

from ..core.sheet import contact_sheet
from ..headless.images import Picture, write_picture
from ..headless.runner import run_workflow
from .graph import FOLDER, Graph
from .honestface import nano_group_people, nano_honestface_restore

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
    return written


def _picture(graph: Graph, results: dict, title: str, index: int) -> Tensor:
    """(3, h, w) in [0, 1]"""
    (node_id,) = (k for k, node in graph.api().items() if node["_meta"]["title"] == title)
    return results[node_id][index][0].movedim(-1, 0)


if __name__ == "__main__":
    main()
