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


def _with_model(graph: Graph, crops: Output) -> Node:
    return graph.add("RestoreWithModel", image=crops)


@workflow
def classic_restore(graph: Graph) -> None:
    """Photographs, with GFPGAN or another face restorer of one file."""
    load_image_model(graph, _GFPGAN)
    graph.add("LoadFaceAnalyzer", LOADER_WIDTH, backend="auto")
    picture = photograph_beside_models(graph)
    found = find_faces(graph, picture, 512)
    restored = _with_model(graph, found["crops"])
    graph.group("Restore them", "restore")
    paste_and_compare(graph, picture, restored["restored"])


@workflow
def compare_restorers(graph: Graph) -> None:
    """The same faces by OSDFace and by GFPGAN, side by side."""
    load_osdface(graph)
    load_image_model(graph, _GFPGAN)
    picture = photograph_beside_models(graph)
    crops = find_faces(graph, picture, 512)["crops"]
    by_osdface = restore_crops(graph, crops)["restored"]
    by_gfpgan = _with_model(graph, crops)["restored"]
    graph.group("The same faces by GFPGAN", "restore")
    pasted = [
        graph.add("PasteFaces", title=title, image=picture, restored=restored)
        for title, restored in (
            ("Paste OSDFace's", by_osdface),
            ("Paste GFPGAN's", by_gfpgan),
        )
    ]
    one, other = (node["image"] for node in pasted)
    labels = ("OSDFace", "GFPGAN")
    compared = compare(graph, one, other, labels)
    save_images(graph, "Save the comparison", compared["image"])
    for label, image in (("OSDFace", one), ("GFPGAN", other)):
        save_images(graph, f"Save {label}'s", image, f"_{label.lower()}")
    graph.group("Put them back, side by side", "output")
