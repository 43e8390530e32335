"""FLIPNET's workflows: looking at a degraded face to restore it, or at a good one to degrade it."""

from dataclasses import dataclass
from typing import Any

from .graph import Graph, Node
from .parts import SD21, load_sd21, paste_and_compare

NEGATIVE = "low quality, blurry, poorly rendered hands"
"""FLIPNET's negative prompt for restoration."""
# Chosen by looking: blur that is plain to see, of the kind that the restorer was trained on too.
LOOP_SEED = 9
_FRESH_NOISE = (
    "Newer ComfyUI gives cleaner pictures than 0.3.64 with `euler_ancestral`: that one starts its "
    "fresh noise from the same seed as the first noise."
)
NANO_SAMPLING = {"steps": 30, "sampler_name": "euler_ancestral", "scheduler": "normal"}
"""The nano models predict badly at high noise; fresh noise keeps that out of the picture."""
PAPER_SAMPLING = {"steps": 50, "sampler_name": "ddim", "scheduler": "ddim_uniform"}


@dataclass(frozen=True)
class Loaded:
    """Outputs of the nodes that load a mode's models."""

    model: tuple
    vae: tuple
    boosthub: tuple
    sampling: dict[str, Any]
    face_encoder: tuple | None = None
    positive: tuple | None = None
    negative: tuple | None = None


def _nano(graph: Graph, pos: tuple[int, int], mode: str) -> tuple[Loaded, Node]:
    nano = graph.add("FacewrightLoadNanoFlipnet", pos, (320, 140), mode=mode)
    model, vae, hubs, encoder = (nano.out(i) for i in range(4))
    # Restoration alone was taught to look at face tokens; both stand for the prompt of zeros.
    return Loaded(model, vae, hubs, NANO_SAMPLING, encoder), nano


def _sampled(
    graph: Graph, x: int, loaded: Loaded, condition: tuple, seed: int, *, faces: bool = True
) -> Node:
    """Encode the condition, let the model look at it, sample and decode. Three columns wide."""
    latent = graph.add(
        "VAEEncode", (x, 100), (280, 80), title="Encode the condition", pixels=condition,
        vae=loaded.vae,
    )  # fmt: skip
    positive, negative = loaded.positive, loaded.negative
    if loaded.face_encoder is not None:
        given = {"positive": positive, "negative": negative} if positive else {}
        tokens = graph.add(
            "FacewrightFaceTokens",
            (x, 240),
            (280, 120),
            title=None if faces else "An empty prompt",
            face_encoder=loaded.face_encoder,
            image=condition,
            **given,
        )
        positive, negative = tokens.out(0), tokens.out(1)
        if not faces:
            positive = negative  # the degradation mode reads text alone
    looking = graph.add(
        "FacewrightApplyBoostHub",
        (x + 330, 100),
        (300, 240),
        model=loaded.model,
        boosthub=loaded.boosthub,
        condition=latent.out(0),
    )
    sampled = graph.add(
        "KSampler",
        (x + 330, 410),
        (300, 280),
        model=looking.out(0),
        seed=seed,
        cfg=1.0 if positive == negative else 1.5,
        positive=positive,
        negative=negative,
        latent_image=looking.out(1),
        denoise=1.0,
        **loaded.sampling,
    )
    return graph.add("VAEDecode", (x + 330, 750), (300, 60), samples=sampled.out(0), vae=loaded.vae)


def _found(graph: Graph, x: int, image: tuple, analyzer: tuple, size: int) -> Node:
    graph.group("Find the faces", (x - 20, 20, 380, 820), "#3f789e")
    return graph.add(
        "FacewrightDetectFaces",
        (x, 100),
        (340, 560),
        image=image,
        analyzer=analyzer,
        crop_size=size,
    )


def _restored(graph: Graph, loaded: Loaded, image: tuple, analyzer: tuple, size: int) -> None:
    found = _found(graph, 440, image, analyzer, size)
    restored = _sampled(graph, 840, loaded, found.out(1), 0)
    graph.group("Restore them, looking at the damaged ones", (820, 20, 670, 820), "#8A8")
    both = found.out(0), restored.out(0)
    # Pictures that come from noise drift in their colours.
    paste_and_compare(graph, 1530, image, *both, ("before", "after"), color="wavelet")


def _degraded(graph: Graph, loaded: Loaded, image: tuple, analyzer: tuple, size: int) -> None:
    found = _found(graph, 440, image, analyzer, size)
    degraded = _sampled(graph, 840, loaded, found.out(1), 0, faces=False)
    graph.group("Degrade them, looking at the good ones", (820, 20, 670, 820), "#a1309b")
    compared = graph.add(
        "FacewrightCompare",
        (1530, 100),
        (300, 300),
        before=found.out(1),
        after=degraded.out(0),
        label_before="good",
        label_after="degraded",
    )
    graph.add(
        "SaveImage",
        (1880, 100),
        (420, 330),
        title="Save the degraded faces",
        images=degraded.out(0),
        filename_prefix=f"facewright/{graph.name}",
    )
    graph.add(
        "SaveImage",
        (1880, 480),
        (420, 330),
        title="Save good / degraded",
        images=compared.out(0),
        filename_prefix=f"facewright/{graph.name}_compare",
    )
    graph.group("Keep them", (1510, 20, 810, 820), "#b58b2a")


def nano_flipnet_restore() -> Graph:
    """Runs as shipped: bundled models on the bundled picture."""
    graph = Graph("nano_flipnet_restore")
    loaded, nano = _nano(graph, (20, 100), "restore")
    picture = graph.add("FacewrightDemoPicture", (20, 300), (320, 80))
    graph.group("Bundled models and picture", (0, 20, 400, 820), "#88A")
    _restored(graph, loaded, picture.out(0), nano.out(4), 128)
    graph.note(
        "## Try it: press Run\n\n"
        "FLIPNET starts from noise and looks at the damaged face while it samples. Turn `phi` in "
        "*Apply BoostHub*: 0 forgets the face and draws anybody, 1 is as trained, 2 holds on to it "
        "more. Colours drift in pictures drawn from noise, so *Paste Faces* takes those of the "
        "damaged picture (`wavelet`).\n\n"
        "The *nano* models know computer-drawn faces at 128 pixels and were trained for minutes: "
        f"they show how the parts go together, not how good the method is.\n\n{_FRESH_NOISE}",
        (20, 430),
        (340, 380),
    )
    return graph


def nano_flipnet_degrade() -> Graph:
    """Runs as shipped: bundled models on the bundled picture's original."""
    graph = Graph("nano_flipnet_degrade")
    loaded, nano = _nano(graph, (20, 100), "degrade")
    picture = graph.add("FacewrightDemoPicture", (20, 300), (320, 80))
    graph.group("Bundled models and picture", (0, 20, 400, 820), "#88A")
    _degraded(graph, loaded, picture.out(1), nano.out(4), 128)
    graph.note(
        "## The other way round: press Run\n\n"
        "The same network, trained to look at a good face and draw a damaged one, as cameras and "
        "the weather of its training pairs damage it. Another `seed` gives other damage.\n\n"
        "For whole folders: `facewright synthesize`. The *nano* models know computer-drawn faces "
        f"at 128 pixels and were trained for minutes.\n\n{_FRESH_NOISE}",
        (20, 430),
        (340, 380),
    )
    return graph


def nano_practice_loop() -> Graph:
    """Degrade with FLIPNET, restore with FLIPNET, score and compare. Runs as shipped."""
    graph = Graph("nano_practice_loop")
    damaging, _ = _nano(graph, (20, 100), "degrade")
    restoring, nano = _nano(graph, (20, 300), "restore")
    picture = graph.add("FacewrightDemoPicture", (20, 500), (320, 80), picture="face")
    graph.group("Bundled models and picture", (0, 20, 400, 820), "#88A")
    found = _found(graph, 440, picture.out(1), nano.out(4), 128)
    gt = found.out(1)
    degraded = _sampled(graph, 840, damaging, gt, LOOP_SEED, faces=False)
    graph.group("Damage it", (820, 20, 670, 820), "#a1309b")
    lq = degraded.out(0)
    restored = _sampled(graph, 1530, restoring, lq, 0)
    graph.group("Restore it", (1510, 20, 670, 820), "#8A8")
    for y, name, pair, labels in (
        (100, "damage", (gt, lq), ("original", "degraded")),
        (530, "restored", (lq, restored.out(0)), ("degraded", "restored")),
        (960, "original", (restored.out(0), gt), ("restored", "original")),
    ):
        compared = graph.add(
            "FacewrightCompare",
            (2220, y),
            (340, 380),
            before=pair[0],
            after=pair[1],
            label_before=labels[0],
            label_after=labels[1],
        )
        graph.add(
            "SaveImage",
            (2610, y),
            (340, 380),
            title=f"Save {labels[0]} / {labels[1]}",
            images=compared.out(0),
            filename_prefix=f"facewright/nano_practice_loop_{name}",
        )
    graph.group("Compare", (2200, 20, 770, 1340), "#b58b2a")
    score = graph.add(
        "FacewrightImageScore",
        (3010, 100),
        (440, 300),
        restored=restored.out(0),
        gt=gt,
        lq=lq,
        analyzer=nano.out(4),
        metrics="psnr, ssim, edges, lmd",
    )
    graph.add("PreviewAny", (3010, 470), (440, 260), title="Scores", source=score.out(1))
    graph.group("Score it", (2990, 20, 480, 820), "#3f789e")
    graph.note(
        "## Practise: press Run\n\n"
        "A good face is damaged by FLIPNET's degradation mode, restored by its restoration mode, "
        "and compared with itself. *Image Score* says how much closer to the original it came "
        "(`gain`).\n\n"
        "Two seeds: the left sampler's decides the damage, the right one's what is made up. The "
        "*nano* models were trained for minutes: a gain below zero is possible, and shown.\n\n"
        f"{_FRESH_NOISE}",
        (440, 870),
        (520, 300),
    )
    return graph


def _sd21(graph: Graph, mode: str) -> tuple[Loaded, Node, Node]:
    """SD 2.1-base with a mode's files; the picture, and the face detector."""
    base = load_sd21(graph, (20, 100))
    lora = graph.add(
        "FacewrightLoadLoRA",
        (20, 250),
        (340, 110),
        model=base.out(0),
        lora=f"flipnet_{mode}_lora.safetensors",
    )
    hubs = graph.add(
        "FacewrightLoadBoostHub",
        (20, 410),
        (340, 90),
        boosthub=f"flipnet_{mode}_boosthub.safetensors",
        mode=mode,
    )
    y, encoder = 550, None
    if mode == "restore":
        encoder = graph.add(
            "FacewrightLoadFaceEncoder",
            (20, y),
            (340, 60),
            face_encoder="flipnet_restore_face_encoder.safetensors",
        ).out(0)
        y += 110
    prompts = []
    for title, text in (
        ("Describe the picture", "a portrait photo of a person"),
        ("What is not wanted", NEGATIVE if mode == "restore" else ""),
    ):
        prompts.append(
            graph.add("CLIPTextEncode", (20, y), (340, 110), title=title, clip=base.out(1),
                      text=text).out(0)
        )  # fmt: skip
        y += 160
    analyzer = graph.add("FacewrightLoadFaceAnalyzer", (20, y), (340, 60), backend="skimage")
    picture = graph.add("LoadImage", (20, y + 110), (340, 320), image="example.png")
    graph.group("Models, words and picture", (0, 20, 400, y + 440), "#88A")
    sampling = PAPER_SAMPLING
    loaded = Loaded(lora.out(0), base.out(2), hubs.out(0), sampling, encoder, *prompts)
    return loaded, picture, analyzer


def _files(mode: str) -> str:
    encoder = "| `flipnet_restore_face_encoder.safetensors` | models/facewright |\n"
    return (
        "## Files\n\n"
        f"| file | folder |\n|---|---|\n| `{SD21}` | models/checkpoints |\n"
        f"| `flipnet_{mode}_lora.safetensors` | models/loras |\n"
        f"| `flipnet_{mode}_boosthub.safetensors` | models/facewright |\n"
        f"{encoder if mode == 'restore' else ''}\n"
        "No weights of FLIPNET's authors are known to us: these files are what `facewright train` "
        f"writes from `flipnet_{mode}_paper.yaml`, under names of your own choice. To see the "
        f"parts at work without them, open **nano_flipnet_{mode}**.\n\n"
    )


def flipnet_restore() -> Graph:
    """Photographs, with Stable Diffusion 2.1-base and restoration weights of your own."""
    graph = Graph("flipnet_restore")
    loaded, picture, analyzer = _sd21(graph, "restore")
    _restored(graph, loaded, picture.out(0), analyzer.out(0), 512)
    graph.note(
        _files("restore") + "Turn `phi` in *Apply BoostHub*: 1 is as trained, more holds on to "
        "the damaged face. `lq_timestep` above 0 takes its finest details less literally.",
        (-460, 20),
        (420, 460),
    )
    return graph


def flipnet_degrade() -> Graph:
    """Photographs, with Stable Diffusion 2.1-base and degradation weights of your own."""
    graph = Graph("flipnet_degrade")
    loaded, picture, analyzer = _sd21(graph, "degrade")
    _degraded(graph, loaded, picture.out(0), analyzer.out(0), 512)
    graph.note(
        _files("degrade") + "Give a good picture. Another `seed` gives other damage. Whole "
        "folders, as training data: `facewright synthesize`.",
        (-460, 20),
        (420, 440),
    )
    return graph


WORKFLOWS = (
    flipnet_restore,
    flipnet_degrade,
    nano_flipnet_restore,
    nano_flipnet_degrade,
    nano_practice_loop,
)
