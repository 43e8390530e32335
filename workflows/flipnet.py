"""FLIPNET's workflows: looking at a degraded face to restore it, or at a good one to degrade it."""

from dataclasses import dataclass
from typing import Any

from ..core.methods.flipnet import FlipnetOptions, NanoFlipnetOptions
from .graph import Graph, Node
from .parts import (
    LOADER_WIDTH,
    SD21,
    compare,
    find_faces,
    load_lora,
    load_sd21,
    paste_and_compare,
    save_images,
    words_of,
)

PHOTOGRAPHS, NANO = FlipnetOptions(), NanoFlipnetOptions()
# Chosen by looking: blur that is plain to see, of the kind that the restorer was trained on too.
LOOP_SEED = 9
_FRESH_NOISE = (
    "Newer ComfyUI gives cleaner pictures than 0.3.64 with `euler_ancestral`: that one starts its "
    "fresh noise from the same seed as the first noise."
)
NANO_SAMPLING = {
    "steps": NANO.steps,
    "sampler_name": "euler_ancestral",
    "scheduler": NANO.scheduler,
}
"""The nano models predict badly at high noise; fresh noise keeps that out of the picture."""
PAPER_SAMPLING = {
    "steps": PHOTOGRAPHS.steps,
    "sampler_name": "ddim",
    "scheduler": PHOTOGRAPHS.scheduler,
}


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
    nano = graph.add("FacewrightLoadNanoFlipnet", pos, (340, 140), mode=mode)
    model, vae, hubs, encoder = (nano.out(i) for i in range(4))
    # Restoration alone was taught to look at face tokens; both stand for the prompt of zeros.
    return Loaded(model, vae, hubs, NANO_SAMPLING, encoder), nano


def _sampled(
    graph: Graph, x: int, loaded: Loaded, condition: tuple, seed: int, frame: tuple[str, str]
) -> Node:
    """Encode the condition, let the model look at it, sample and decode, in a frame 670 wide.

    `frame` is its title and meaning; where damage is meant, the prompt is empty.
    """
    faces = frame[1] == "restore"
    latent = graph.add(
        "VAEEncode", (x, 100), (280, 80), title="Encode the condition", pixels=condition,
        vae=loaded.vae
    )  # fmt: skip
    positive, negative = loaded.positive, loaded.negative
    nodes = [latent]
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
        nodes.append(tokens)
        positive, negative = tokens.out(0), tokens.out(1)
        if not faces:
            positive = negative  # the degradation mode reads text alone
    looking = graph.add(
        "FacewrightApplyBoostHub",
        (x + 330, 100),
        (300, 220),
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
        cfg=1.0 if positive == negative else PHOTOGRAPHS.guidance,
        positive=positive,
        negative=negative,
        latent_image=looking.out(1),
        denoise=1.0,
        **loaded.sampling,
    )
    decoded = graph.add(
        "VAEDecode", (x + 330, 750), (300, 60), samples=sampled.out(0), vae=loaded.vae
    )
    graph.group(*frame, *nodes, looking, sampled, decoded)
    return decoded


def _restored(
    graph: Graph, x: int, loaded: Loaded, image: tuple, analyzer: tuple, size: int
) -> None:
    found = find_faces(graph, x, image, analyzer, size)
    frame = "Restore them, looking at the damaged ones", "restore"
    restored = _sampled(graph, x + 400, loaded, found.out(1), 0, frame)
    both = found.out(0), restored.out(0)
    # Pictures that come from noise drift in their colours.
    paste_and_compare(graph, x + 1090, image, *both, ("before", "after"), color="wavelet")


def _degraded(
    graph: Graph, x: int, loaded: Loaded, image: tuple, analyzer: tuple, size: int
) -> None:
    found = find_faces(graph, x, image, analyzer, size)
    frame = "Degrade them, looking at the good ones", "damage"
    degraded = _sampled(graph, x + 400, loaded, found.out(1), 0, frame)
    compared = compare(
        graph, (x + 1090, 100), (420, 420), found.out(1), degraded.out(0), ("good", "degraded")
    )
    saved = save_images(
        graph, (x + 1560, 100), (420, 330), "Save the degraded faces", degraded.out(0)
    )
    both = save_images(
        graph, (x + 1560, 480), (420, 330), "Save good / degraded", compared.out(0), "_compare"
    )
    graph.group("Keep them", "output", compared, saved, both)


def nano_flipnet_restore() -> Graph:
    """Runs as shipped: bundled models on the bundled picture."""
    graph = Graph("nano_flipnet_restore")
    loaded, nano = _nano(graph, (20, 100), "restore")
    picture = graph.add("FacewrightDemoPicture", (20, 310), (340, 290))
    graph.group("Bundled models and picture", "load", nano, picture)
    _restored(graph, 420, loaded, picture.out(0), nano.out(4), 128)
    graph.note(
        "## Try it: press Run\n\n"
        "FLIPNET starts from noise and looks at the damaged face while it samples. Turn `phi` in "
        "*Apply BoostHub*: 0 forgets the face and draws anybody, 1 is as trained, 2 holds on to it "
        "more. Colours drift in pictures drawn from noise, so *Paste Faces* takes those of the "
        "damaged picture (`wavelet`).\n\n"
        "The *nano* models know computer-drawn faces at 128 pixels and were trained for minutes: "
        f"they show how the parts go together, not how good the method is.\n\n{_FRESH_NOISE}",
        (-400, 100),
        (360, 300),
    )
    return graph


def nano_flipnet_degrade() -> Graph:
    """Runs as shipped: bundled models on the bundled picture's original."""
    graph = Graph("nano_flipnet_degrade")
    loaded, nano = _nano(graph, (20, 100), "degrade")
    picture = graph.add("FacewrightDemoPicture", (20, 310), (340, 290))
    graph.group("Bundled models and picture", "load", nano, picture)
    _degraded(graph, 420, loaded, picture.out(1), nano.out(4), 128)
    graph.note(
        "## The other way round: press Run\n\n"
        "The same network, trained to look at a good face and draw a damaged one, as cameras and "
        "the weather of its training pairs damage it. Another `seed` gives other damage.\n\n"
        "For whole folders: `facewright synthesize`. The *nano* models know computer-drawn faces "
        f"at 128 pixels and were trained for minutes.\n\n{_FRESH_NOISE}",
        (-400, 100),
        (360, 300),
    )
    return graph


def nano_practice_loop() -> Graph:
    """Degrade with FLIPNET, restore with FLIPNET, score and compare. Runs as shipped."""
    graph = Graph("nano_practice_loop")
    damaging, first = _nano(graph, (20, 100), "degrade")
    restoring, nano = _nano(graph, (20, 310), "restore")
    picture = graph.add("FacewrightDemoPicture", (20, 520), (340, 290), picture="face")
    graph.group("Bundled models and picture", "load", first, nano, picture)
    found = find_faces(graph, 420, picture.out(1), nano.out(4), 128)
    gt = found.out(1)
    degraded = _sampled(graph, 820, damaging, gt, LOOP_SEED, ("Damage it", "damage"))
    lq = degraded.out(0)
    restored = _sampled(graph, 1510, restoring, lq, 0, ("Restore it", "restore"))
    seen = []
    for y, name, pair, labels in (
        (100, "damage", (gt, lq), ("original", "degraded")),
        (510, "restored", (lq, restored.out(0)), ("degraded", "restored")),
        (920, "original", (restored.out(0), gt), ("restored", "original")),
    ):
        compared = compare(graph, (2200, y), (340, 350), pair[0], pair[1], labels)
        saved = save_images(
            graph,
            (2580, y),
            (440, 350),
            f"Save {labels[0]} / {labels[1]}",
            compared.out(0),
            f"_{name}",
        )
        seen += [compared, saved]
    graph.group("Compare", "output", *seen)
    score = graph.add(
        "FacewrightImageScore",
        (3080, 100),
        (440, 260),
        restored=restored.out(0),
        gt=gt,
        lq=lq,
        analyzer=nano.out(4),
        metrics="psnr, ssim, edges, lmd",
    )
    scores = words_of(graph, (3080, 430), (440, 260), "Scores", score.out(1))
    graph.group("Score it", "check", score, scores)
    graph.note(
        "## Practise: press Run\n\n"
        "A good face is damaged by FLIPNET's degradation mode, restored by its restoration mode, "
        "and compared with itself. *Image Score* says how much closer to the original it came "
        "(`gain`).\n\n"
        "Two seeds: the left sampler's decides the damage, the right one's what is made up. The "
        "*nano* models were trained for minutes: a gain below zero is possible, and shown.\n\n"
        f"{_FRESH_NOISE}",
        (-400, 100),
        (360, 400),
    )
    return graph


def _sd21(graph: Graph, mode: str) -> tuple[Loaded, Node, Node]:
    """SD 2.1-base with a mode's files; the picture, and the face detector."""
    base = load_sd21(graph, (20, 100))
    lora = load_lora(graph, 260, base.out(0), f"flipnet_{mode}_lora.safetensors")
    hubs = graph.add(
        "FacewrightLoadBoostHub",
        (20, 430),
        (LOADER_WIDTH, 110),
        boosthub=f"flipnet_{mode}_boosthub.safetensors",
        mode=mode,
    )
    models, encoder = [base, lora, hubs], None
    if mode == "restore":
        models.append(
            graph.add(
                "FacewrightLoadFaceEncoder",
                (20, 600),
                (LOADER_WIDTH, 60),
                face_encoder="flipnet_restore_face_encoder.safetensors",
            )
        )
        encoder = models[-1].out(0)
    prompts = [
        graph.add("CLIPTextEncode", (500, y), (340, 110), title=title, clip=base.out(1), text=text)
        for y, title, text in (
            (100, "Describe the picture", PHOTOGRAPHS.prompt),
            (270, "What is not wanted", PHOTOGRAPHS.negative if mode == "restore" else ""),
        )
    ]
    analyzer = graph.add(
        "FacewrightLoadFaceAnalyzer", (20, 720), (LOADER_WIDTH, 60), backend="skimage"
    )
    picture = graph.add("LoadImage", (500, 440), (340, 370), image="example.png")
    graph.group("Models", "load", *models, analyzer)
    graph.group("Words and picture", "load", *prompts, picture)
    sampling = PAPER_SAMPLING
    words = (prompt.out(0) for prompt in prompts)
    loaded = Loaded(lora.out(0), base.out(2), hubs.out(0), sampling, encoder, *words)
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
    _restored(graph, 900, loaded, picture.out(0), analyzer.out(0), 512)
    graph.note(
        _files("restore") + "Turn `phi` in *Apply BoostHub*: 1 is as trained, more holds on to "
        "the damaged face. `lq_timestep` above 0 takes its finest details less literally.",
        (-480, 100),
        (440, 360),
    )
    return graph


def flipnet_degrade() -> Graph:
    """Photographs, with Stable Diffusion 2.1-base and degradation weights of your own."""
    graph = Graph("flipnet_degrade")
    loaded, picture, analyzer = _sd21(graph, "degrade")
    _degraded(graph, 900, loaded, picture.out(0), analyzer.out(0), 512)
    graph.note(
        _files("degrade") + "Give a good picture. Another `seed` gives other damage. Whole "
        "folders, as training data: `facewright synthesize`.",
        (-480, 100),
        (440, 340),
    )
    return graph


WORKFLOWS = (
    flipnet_restore,
    flipnet_degrade,
    nano_flipnet_restore,
    nano_flipnet_degrade,
    nano_practice_loop,
)
