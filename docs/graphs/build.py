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
    graph: Graph, x: int, image: Output, size: int, labels: tuple[str, str] = BEFORE_AFTER
) -> Node:
    """Detect, embed, restore, paste, compare and save, with the models loaded before.

    This is the part all one-step restorers share. Returns the node that pasted.
    """
    found = find_faces(graph, x, image, size)
    restored = restore_crops(graph, x + 400, found["crops"])
    return paste_and_compare(graph, x + 780, image, restored["restored"], labels)


@workflow
def nano_restore(graph: Graph) -> None:
    """Runs as shipped: bundled models on the bundled picture."""
    graph.add("LoadNano", (20, 100, 340, 130), weights="onestep")
    picture = graph.add("DemoPicture", (20, 300, 340, 290))
    graph.note((20, 640, 340, 170))
    graph.group("Bundled models and picture", "load")
    _face_chain(graph, 420, picture["degraded"], 128)


@workflow
def nano_face_mask(graph: Graph) -> None:
    """Faces alone are restored, hair and background stay. Runs as shipped."""
    graph.add("LoadNano", (20, 100, 340, 130), weights="onestep")
    image = graph.add("DemoPicture", (20, 300, 340, 290))["degraded"]
    graph.note((20, 640, 340, 280))
    graph.group("Bundled models and picture", "load")
    found = find_faces(graph, 420, image, 128)
    restored = restore_crops(graph, 820, found["crops"])
    masked = graph.add("FaceMask", (1200, 100, 420, 430))
    words(graph, (1200, 600, 420, 220), "How much of each crop is restored", masked["report"])
    graph.group("Keep what is no face", "faces")
    paste_and_compare(graph, 1680, image, restored["restored"], masks=masked["masks"])


@workflow
def trained_restore(graph: Graph) -> None:
    """What docs/training.md trains in miniature, on the bundled picture."""
    graph.add("LoadNano", (20, 100, LOADER_WIDTH, 130), weights="base")
    graph.add("LoadLoRA", (20, 290, LOADER_WIDTH, 110), lora="onestep_nano_lora.safetensors")
    graph.add("LoadVRE", (20, 460, LOADER_WIDTH, 90), embedder="onestep_nano_vre.safetensors")
    picture = graph.add("DemoPicture", (20, 610, LOADER_WIDTH, 200))
    graph.group("What you trained, and a picture", "load")
    _face_chain(graph, 500, picture["degraded"], 128)
    graph.note((-400, 100, 360, 230))


@workflow
def osdface_restore(graph: Graph) -> None:
    """Photographs, with Stable Diffusion 2.1-base and the released OSDFace weights."""
    load_osdface(graph)
    _face_chain(graph, 900, photograph_beside_models(graph), 512)
    graph.note((-480, 100, 440, 640))


@workflow
def restore_whole_photo(graph: Graph) -> None:
    """The faces by OSDFace, everything else by an upscaler, at its larger size."""
    load_osdface(graph)
    load_image_model(graph, 710, _UPSCALER)
    picture = photograph_beside_models(graph)
    found = find_faces(graph, 900, picture, 512)
    restored = restore_crops(graph, 1300, found["crops"])
    box = (900, 860, 720, 60)
    larger = graph.add("ImageUpscaleWithModel", box, title="Enlarge the picture", image=picture)
    graph.group("Enlarge everything", "restore", larger)
    paste_and_compare(graph, 1680, larger["image"], restored["restored"], before=picture)
    graph.note((-480, 100, 440, 560))


@workflow
def degrade_presets(graph: Graph) -> None:
    """One good face under every preset, and one preset in detail. Runs as shipped."""
    original = graph.add("DemoPicture", (20, 100, 340, 320), picture="face")["original"]
    graph.note((20, 470, 340, 250))
    graph.group("A good picture", "load")
    given = {"image": original, "seed": SHEET_SEED}
    sheet = graph.add("DegradationSheet", (420, 100, 780, 620), **given)
    save_images(graph, (1240, 100, 780, 620), "Save the sheet", sheet["sheet"])
    graph.group("Every preset, to choose by eye", "damage")
    one = graph.add("Degrade", (420, 860, 340, 420), preset="flipnet", **given)
    words(graph, (800, 860, 400, 160), "What was done, in words", one["report"])
    again = "The same as a recipe, to do it again"
    words(graph, (800, 1080, 400, 200), again, one["recipe"])
    box = (1240, 860, 780, 420)
    save_images(graph, box, "Save the degraded picture", one["image"], "_one")
    graph.group("One of them", "damage")


@workflow
def practice_loop(graph: Graph) -> None:
    """Degrade, restore, score, compare, with the original at hand. Runs as shipped."""
    nano = graph.add("LoadNano", (20, 100, 340, 130), weights="onestep")
    original = graph.add("DemoPicture", (20, 300, 340, 340), picture="face")["original"]
    graph.group("Bundled models and picture", "load")
    drawn = {"image": original, "preset": "flipnet", "seed": LOOP_SEED}
    degraded = graph.add("Degrade", (420, 100, 340, 420), **drawn)
    words(graph, (420, 590, 340, 220), "What was done", degraded["report"])
    graph.group("Damage it", "damage")
    lq = degraded["image"]
    restored = _face_chain(graph, 820, lq, 128, ("degraded", "restored"))["image"]
    box, pair, labels = (1600, 950, 420, 420), (restored, original), ("restored", "original")
    compared = compare_and_save(graph, box, (2070, 420), pair, labels, "original")
    score(graph, 2550, restored, original, lq, nano["analyzer"])
    graph.group("See what was made up", "output", *compared)
    graph.note((20, 950, 340, 330))


if __name__ == "__main__":
    for make in (*WORKFLOWS, *subgraphs.BLUEPRINTS):
        make().save()
