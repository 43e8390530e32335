"""Write the shipped workflows and blueprints: `python -m facewright.docs.graphs.build`.

Each graph is written down once, below, and saved as `<name>.json` (what ComfyUI's editor opens)
and `api/<name>.api.json` (what its /prompt endpoint takes). Widget order and types come from the
nodes themselves, the texts of the notes from notes.md.
"""

from . import classic, flipnet, honestface, subgraphs, video  # noqa: F401 (their workflows)
from .graph import WORKFLOWS, Graph, Node, Output, workflow
from .parts import (
    BEFORE_AFTER,
    LOADER_WIDTH,
    compare_and_save,
    find_faces,
    load_image_model,
    load_osdface,
    paste_and_compare,
    photograph_beside_models,
    restore_crops,
    save_images,
    score,
    words,
)

# Chosen by looking: damage that is plain to see and leaves a face to find.
SHEET_SEED = 0
LOOP_SEED = 5
_UPSCALER = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.1/RealESRGAN_x2plus.pth"


def _face_chain(
    graph: Graph, image: Output, size: int, labels: tuple[str, str] = BEFORE_AFTER
) -> Node:
    """Detect, embed, restore, paste, compare and save, with the models loaded before.

    This is the part all one-step restorers share. Returns the node that pasted.
    """
    found = find_faces(graph, image, size)
    restored = restore_crops(graph, found["crops"])
    return paste_and_compare(graph, image, restored["restored"], labels)


@workflow
def nano_restore(graph: Graph) -> None:
    """Runs as shipped: bundled models on the bundled picture."""
    graph.add("LoadNano", weights="onestep")
    picture = graph.add("DemoPicture")
    graph.group("Bundled models and picture", "load")
    _face_chain(graph, picture["degraded"], 128)


@workflow
def nano_face_mask(graph: Graph) -> None:
    """Faces alone are restored, hair and background stay. Runs as shipped."""
    graph.add("LoadNano", weights="onestep")
    image = graph.add("DemoPicture")["degraded"]
    graph.group("Bundled models and picture", "load")
    found = find_faces(graph, image, 128)
    restored = restore_crops(graph, found["crops"])
    masked = graph.add("FaceMask")
    words(graph, "How much of each crop is restored", masked["report"])
    graph.group("Keep what is no face", "faces")
    paste_and_compare(graph, image, restored["restored"], masks=masked["masks"])


@workflow
def trained_restore(graph: Graph) -> None:
    """What docs/training.md trains in miniature, on the bundled picture."""
    graph.add("LoadNano", LOADER_WIDTH, weights="base")
    graph.add("LoadLoRA", LOADER_WIDTH, lora="onestep_nano_lora.safetensors")
    graph.add("LoadVRE", LOADER_WIDTH, embedder="onestep_nano_vre.safetensors")
    picture = graph.add("DemoPicture", LOADER_WIDTH)
    graph.group("What you trained, and a picture", "load")
    _face_chain(graph, picture["degraded"], 128)


@workflow
def osdface_restore(graph: Graph) -> None:
    """Photographs, with Stable Diffusion 2.1-base and the released OSDFace weights."""
    load_osdface(graph)
    _face_chain(graph, photograph_beside_models(graph), 512)


@workflow
def restore_whole_photo(graph: Graph) -> None:
    """The faces by OSDFace, everything else by an upscaler, at its larger size."""
    load_osdface(graph)
    load_image_model(graph, _UPSCALER)
    picture = photograph_beside_models(graph)
    found = find_faces(graph, picture, 512)
    restored = restore_crops(graph, found["crops"])
    larger = graph.add("ImageUpscaleWithModel", title="Enlarge the picture", image=picture)
    graph.group("Enlarge everything", "restore", larger)
    paste_and_compare(graph, larger["image"], restored["restored"], before=picture)


@workflow
def degrade_presets(graph: Graph) -> None:
    """One good face under every preset, and one preset in detail. Runs as shipped."""
    original = graph.add("DemoPicture", picture="face")["original"]
    graph.group("A good picture", "load")
    given = {"image": original, "seed": SHEET_SEED}
    sheet = graph.add("DegradationSheet", **given)
    save_images(graph, "Save the sheet", sheet["sheet"])
    graph.group("Every preset, to choose by eye", "damage")
    one = graph.add("Degrade", preset="flipnet", **given)
    words(graph, "What was done, in words", one["report"])
    again = "The same as a recipe, to do it again"
    words(graph, again, one["recipe"])
    save_images(graph, "Save the degraded picture", one["image"], "_one")
    graph.group("One of them", "damage")


@workflow
def practice_loop(graph: Graph) -> None:
    """Degrade, restore, score, compare, with the original at hand. Runs as shipped."""
    nano = graph.add("LoadNano", weights="onestep")
    original = graph.add("DemoPicture", picture="face")["original"]
    graph.group("Bundled models and picture", "load")
    drawn = {"image": original, "preset": "flipnet", "seed": LOOP_SEED}
    degraded = graph.add("Degrade", **drawn)
    words(graph, "What was done", degraded["report"])
    graph.group("Damage it", "damage")
    lq = degraded["image"]
    restored = _face_chain(graph, lq, 128, ("degraded", "restored"))["image"]
    labels = ("restored", "original")
    compared = compare_and_save(graph, (restored, original), labels, "original")
    score(graph, restored, original, lq, nano["analyzer"])
    graph.group("See what was made up", "output", *compared)


if __name__ == "__main__":
    for make in (*WORKFLOWS, *subgraphs.BLUEPRINTS):
        make().save()
