"""Face restorers that people have as files: by itself, and beside OSDFace."""

from .graph import Graph, Node, Output, workflow
from .parts import (
    LOADER_WIDTH,
    compare,
    find_faces,
    load_image_model,
    load_osdface,
    paste_and_compare,
    photograph_beside_models,
    restore_crops,
    save_images,
)

_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth"


def _with_model(graph: Graph, box: tuple[int, int, int, int], crops: Output) -> Node:
    return graph.add("RestoreWithModel", box, image=crops)


@workflow
def classic_restore(graph: Graph) -> None:
    """Photographs, with GFPGAN or another face restorer of one file."""
    load_image_model(graph, 100, _GFPGAN)
    graph.add("LoadFaceAnalyzer", (20, 230, LOADER_WIDTH, 90), backend="auto")
    picture = photograph_beside_models(graph)
    found = find_faces(graph, 900, picture, 512)
    restored = _with_model(graph, (1300, 100, 320, 120), found["crops"])
    graph.group("Restore them", "restore")
    paste_and_compare(graph, 1680, picture, restored["restored"])
    graph.note((-480, 100, 440, 400))


@workflow
def compare_restorers(graph: Graph) -> None:
    """The same faces by OSDFace and by GFPGAN, side by side."""
    load_osdface(graph)
    load_image_model(graph, 700, _GFPGAN)
    picture = photograph_beside_models(graph)
    crops = find_faces(graph, 900, picture, 512)["crops"]
    by_osdface = restore_crops(graph, 1300, crops)["restored"]
    by_gfpgan = _with_model(graph, (1680, 100, 320, 120), crops)["restored"]
    graph.group("The same faces by GFPGAN", "restore")
    pasted = [
        graph.add("PasteFaces", (2060, y, 280, 180), title=title, image=picture, restored=restored)
        for y, title, restored in (
            (100, "Paste OSDFace's", by_osdface),
            (380, "Paste GFPGAN's", by_gfpgan),
        )
    ]
    one, other = (node["image"] for node in pasted)
    labels = ("OSDFace", "GFPGAN")
    compared = compare(graph, (2400, 100, 520, 420), one, other, labels)
    save_images(graph, (2400, 620, 520, 330), "Save the comparison", compared["image"])
    for y, label, image in ((100, "OSDFace", one), (480, "GFPGAN", other)):
        save_images(graph, (2970, y, 420, 330), f"Save {label}'s", image, f"_{label.lower()}")
    graph.group("Put them back, side by side", "output")
    graph.note((-480, 100, 440, 460))
