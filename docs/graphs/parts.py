"""What several workflows have in common."""

import math
from typing import Any

from .graph import Graph, Node, Output

LOADER_WIDTH = 380
"""Long file names are readable in it."""
SD21 = "v2-1_512-ema-pruned.safetensors"
BEFORE_AFTER = ("before", "after")


def load_sd21(graph: Graph, lora: str) -> Node:
    """Stable Diffusion 2.1-base, with where to get it, and a LoRA for it."""
    base = graph.add("CheckpointLoaderSimple", LOADER_WIDTH, ckpt_name=SD21)
    graph.add("LoadLoRA", LOADER_WIDTH, lora=lora)
    return base


def photograph(graph: Graph, title: str = "Your photograph") -> Node:
    """A picture that people have to choose themselves.

    It names a file that nobody has: ComfyUI shows that at once, and runs nothing in its place. Its
    own example.png is a drawing, of which a restorer of faces makes nothing.
    """
    name = f"choose {title[:1].lower()}{title[1:]}.png"
    return graph.add("LoadImage", title=title, image=name)


def photograph_beside_models(graph: Graph) -> Output:
    """Closes the group of the models that were loaded, and puts the photograph beside it."""
    graph.group("Models", "load")
    picture = photograph(graph)["image"]
    graph.group("Picture", "load")
    return picture


def load_osdface(graph: Graph) -> None:
    """SD 2.1-base with OSDFace's released files, and a face detector."""
    load_sd21(graph, "pytorch_lora_weights.safetensors")
    files = {"embedder": "associate_2.ckpt", "projector": "embedding_change_weights.pth"}
    graph.add("LoadVRE", LOADER_WIDTH, **files)
    graph.add("LoadFaceAnalyzer", LOADER_WIDTH, backend="auto")


def load_image_model(graph: Graph, url: str) -> None:
    """An upscaler or a face restorer, which the editor offers to download from `url`."""
    name = url.rpartition("/")[2]
    loader = graph.add("UpscaleModelLoader", LOADER_WIDTH, model_name=name)
    loader.properties["models"] = [{"name": name, "url": url, "directory": "upscale_models"}]


def find_faces(graph: Graph, image: Output, size: int | None = None) -> Node:
    found = graph.add("DetectFaces", image=image, crop_size=size)
    graph.group("Find the faces", "faces")
    return found


def restore_crops(graph: Graph, crops: Output) -> Node:
    """VRE Encode, and One-Step Restore, which is returned."""
    graph.add("VREEncode", image=crops)
    restored = graph.add("OneStepRestore", image=crops)
    graph.group("Restore them", "restore")
    return restored


def words(graph: Graph, title: str, source: Output) -> Node:
    """A report of another node, to be read."""
    return graph.add("PreviewAny", title=title, source=source)


def compare(graph: Graph, before: Output, after: Output, labels: tuple[str, str]) -> Node:
    written: dict[str, Any] = {"label_before": labels[0], "label_after": labels[1]}
    return graph.add("Compare", before=before, after=after, **written)


def save_images(graph: Graph, title: str, images: Output, name: str = "", **inside: Output) -> Node:
    """Files called as the workflow, then `name`; `receipts` and `faces` are saved inside them."""
    kind = "SaveWithReceipts" if inside else "SaveImage"
    prefix = f"facewright/{graph.name}{name}"
    # The whole name is readable beside its label.
    width = max(360, math.ceil((200 + 6.3 * len(prefix)) / 20) * 20)
    return graph.add(kind, width, title=title, images=images, filename_prefix=prefix, **inside)


def compare_and_save(
    graph: Graph, pair: tuple[Output, Output], labels: tuple[str, str], name: str
) -> tuple[Node, Node]:
    """A comparison and the node that saves it."""
    compared = compare(graph, *pair, labels)
    saved = save_images(graph, f"Save {labels[0]} / {labels[1]}", compared["image"], f"_{name}")
    return compared, saved


def paste_and_compare(
    graph: Graph,
    image: Output,
    restored: Output,
    labels: tuple[str, str] = BEFORE_AFTER,
    before: Output | None = None,
    **paste: Any,
) -> Node:
    """Paste, compare and save; `paste` sets widgets of the pasting node, which is returned.

    The finished picture is compared with `before`, by default with what was pasted into.
    """
    pasted = graph.add("PasteFaces", image=image, restored=restored, **paste)
    compared = compare(graph, before or image, pasted["image"], labels)
    save_images(graph, "Save the restored picture", pasted["image"])
    save_images(graph, "Save before / after", compared["image"], "_compare")
    graph.group("Put them back", "output")
    return pasted


def score(graph: Graph, restored: Output, gt: Output, lq: Output, analyzer: Output) -> None:
    """How much closer to the original the restored picture is, in a frame of its own."""
    compared = {"restored": restored, "gt": gt, "lq": lq, "analyzer": analyzer}
    named: dict[str, Any] = {**compared, "metrics": "psnr, ssim, edges, lmd"}
    scored = graph.add("ImageScore", 440, **named)
    read = words(graph, "Scores", scored["report"])
    graph.group("Score it", "check", scored, read)
