"""FLIPNET's workflows: looking at a degraded face to restore it, or at a good one to degrade it."""

from ...core.methods.flipnet import FlipnetOptions, NanoFlipnetOptions
from .graph import Graph, Node, Output, workflow
from .parts import (
    LOADER_WIDTH,
    compare,
    compare_and_save,
    find_faces,
    load_sd21,
    paste_and_compare,
    photograph,
    save_images,
    score,
)

PHOTOGRAPHS, NANO = FlipnetOptions(), NanoFlipnetOptions()
# Chosen by looking: blur that is plain to see, of the kind that the restorer was trained on too.
LOOP_SEED = 9
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


def _sampled(
    graph: Graph,
    condition: Output,
    frame: tuple[str, str],
    prompts: dict[str, Output] | None = None,
    seed: int = 0,
) -> Output:
    """Encode the condition, let the model look at it, sample and decode, in a frame.

    `frame` is its title and meaning. Without `prompts` (positive and negative) bundled models are
    at work: face tokens stand for the prompt of zeros.
    """
    restoring, sampling = frame[1] == "restore", PAPER_SAMPLING if prompts else NANO_SAMPLING
    encode = {"title": "Encode the condition", "pixels": condition}
    latent = graph.add("VAEEncode", **encode)["latent"]
    prompts = prompts or {}
    if restoring or not prompts:
        title = None if restoring else "An empty prompt"
        tokens = graph.add("FaceTokens", title=title, image=condition, **prompts)
        # Restoration alone was taught to look at face tokens; degradation reads text alone.
        positive = tokens["positive" if restoring else "negative"]
        prompts = {"positive": positive, "negative": tokens["negative"]}
    looking = graph.add("ApplyBoostHub", condition=latent)
    guidance = 1.0 if prompts["positive"] == prompts["negative"] else PHOTOGRAPHS.guidance
    noise = {"latent_image": looking["empty_latent"], "seed": seed, "denoise": 1.0}
    sampled = graph.add("KSampler", **noise, cfg=guidance, **prompts, **sampling)
    decoded = graph.add("VAEDecode", samples=sampled["latent"])
    graph.group(*frame)
    return decoded["image"]


def _restored(
    graph: Graph, image: Output, size: int, prompts: dict[str, Output] | None = None
) -> None:
    found = find_faces(graph, image, size)
    frame = "Restore, looking at the damaged ones", "restore"
    restored = _sampled(graph, found["crops"], frame, prompts)
    # Pictures that come from noise drift in their colours.
    paste_and_compare(graph, image, restored, color="wavelet")


def _degraded(
    graph: Graph, image: Output, size: int, prompts: dict[str, Output] | None = None
) -> None:
    crops = find_faces(graph, image, size)["crops"]
    frame = "Degrade them, looking at the good ones", "damage"
    degraded = _sampled(graph, crops, frame, prompts)
    compared = compare(graph, crops, degraded, ("good", "degraded"))
    save_images(graph, "Save the degraded faces", degraded)
    save_images(graph, "Save good / degraded", compared["image"], "_compare")
    graph.group("Keep them", "output")


def _load_nano(graph: Graph, mode: str) -> Node:
    """Bundled models and, below them, the bundled picture, which is returned."""
    graph.add("LoadNanoFlipnet", mode=mode)
    picture = graph.add("DemoPicture")
    graph.group("Bundled models and picture", "load")
    return picture


@workflow
def nano_flipnet_restore(graph: Graph) -> None:
    """Runs as shipped: bundled models on the bundled picture."""
    _restored(graph, _load_nano(graph, "restore")["degraded"], 128)


@workflow
def nano_flipnet_degrade(graph: Graph) -> None:
    """Runs as shipped: bundled models on the bundled picture's original."""
    _degraded(graph, _load_nano(graph, "degrade")["original"], 128)


@workflow
def nano_practice_loop(graph: Graph) -> None:
    """Degrade with FLIPNET, restore with FLIPNET, score and compare. Runs as shipped."""
    damaging = graph.add("LoadNanoFlipnet", mode="degrade")
    restoring = graph.add("LoadNanoFlipnet", mode="restore")
    picture = graph.add("DemoPicture", picture="face")
    graph.group("Bundled models and picture", "load")
    gt = find_faces(graph, picture["original"], 128)["crops"]
    graph.use(damaging)
    lq = _sampled(graph, gt, ("Damage it", "damage"), seed=LOOP_SEED)
    graph.use(restoring)
    restored = _sampled(graph, lq, ("Restore it", "restore"))
    for name, pair, labels in (
        ("damage", (gt, lq), ("original", "degraded")),
        ("restored", (lq, restored), ("degraded", "restored")),
        ("original", (restored, gt), ("restored", "original")),
    ):
        compare_and_save(graph, pair, labels, name)
    graph.group("Compare", "output")
    score(graph, restored, gt, lq, restoring["analyzer"])


def _load_sd21(graph: Graph, mode: str) -> tuple[Output, dict[str, Output]]:
    """SD 2.1-base with a mode's files; the picture and the prompts are returned."""
    base = load_sd21(graph, f"flipnet_{mode}_lora.safetensors")
    hubs = f"flipnet_{mode}_boosthub.safetensors"
    graph.add("LoadBoostHub", LOADER_WIDTH, boosthub=hubs, mode=mode)
    unwanted = ""
    if mode == "restore":
        encoder = f"flipnet_{mode}_face_encoder.safetensors"
        graph.add("LoadFaceEncoder", 420, face_encoder=encoder)
        unwanted = PHOTOGRAPHS.negative
    loaded = list(graph.nodes)
    prompts = {}
    for name, title, text in (
        ("positive", "Describe the picture", PHOTOGRAPHS.prompt),
        ("negative", "What is not wanted", unwanted),
    ):
        said = {"title": title, "clip": base["clip"], "text": text}
        prompts[name] = graph.add("CLIPTextEncode", **said)["conditioning"]
    analyzer = graph.add("LoadFaceAnalyzer", LOADER_WIDTH, backend="auto")
    title = "Your photograph" if mode == "restore" else "A good photograph"
    picture = photograph(graph, title)
    graph.group("Models", "load", *loaded, analyzer)
    graph.group("Words and picture", "load")
    return picture["image"], prompts


@workflow
def flipnet_restore(graph: Graph) -> None:
    """Photographs, with Stable Diffusion 2.1-base and restoration weights of your own."""
    picture, prompts = _load_sd21(graph, "restore")
    _restored(graph, picture, 512, prompts)


@workflow
def flipnet_degrade(graph: Graph) -> None:
    """Photographs, with Stable Diffusion 2.1-base and degradation weights of your own."""
    picture, prompts = _load_sd21(graph, "degrade")
    _degraded(graph, picture, 512, prompts)
