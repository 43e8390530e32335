"""HonestFace's workflows: faces restored with photographs of the same people."""

from dataclasses import dataclass, fields
from typing import Any

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

_TOYS = (
    "The *nano* models know computer-drawn faces at 128 pixels and **no real ones**: they show how "
    "the parts go together, not how good the method is."
)


@dataclass(frozen=True)
class Loaded:
    """Outputs of the nodes that load the models."""

    model: tuple
    vae: tuple
    vre: tuple
    ide: tuple
    analyzer: tuple
    recogniser: tuple


def _nano(graph: Graph) -> tuple[Loaded, Node]:
    nano = graph.add("FacewrightLoadNanoHonestface", (20, 100), (340, 150))
    return Loaded(*(nano.out(i) for i in range(len(fields(Loaded))))), nano


def _sd21(graph: Graph) -> Loaded:
    """SD 2.1-base with HonestFace's files, in a column of their own."""
    base = load_sd21(graph, (20, 100))
    lora = load_lora(graph, 260, base.out(0), "honestface_lora.safetensors")  # fmt: skip
    vre = load_vre(graph, 420, "honestface_vre.safetensors")  # fmt: skip
    recogniser = graph.add(
        "FacewrightLoadRecogniser", (20, 560), (LOADER_WIDTH, 80), recogniser_file="backbone.pth"
    )
    analyzer = graph.add(
        "FacewrightLoadFaceAnalyzer", (20, 690), (LOADER_WIDTH, 60), backend="facexlib"
    )
    ide = graph.add(
        "FacewrightLoadIDE",
        (20, 800),
        (LOADER_WIDTH, 110),
        embedder="honestface_ide.safetensors",
        eye_extractor="vgg16-397923af.pth",
        recogniser=recogniser.out(0),
        analyzer=analyzer.out(0),
    )
    vae, loaders = base.out(2), (vre, ide, analyzer, recogniser)
    graph.group("Models", "load", base, lora, *loaders)
    return Loaded(lora.out(0), vae, *(node.out(0) for node in loaders))


def _files() -> str:
    return (
        "## Files\n\n"
        f"| file | folder |\n|---|---|\n| `{SD21}` | models/checkpoints |\n"
        "| `honestface_lora.safetensors` | models/loras |\n"
        "| `honestface_vre.safetensors` | models/facewright |\n"
        "| `honestface_ide.safetensors` | models/facewright |\n"
        "| `backbone.pth` | models/facewright |\n"
        "| `vgg16-397923af.pth` | models/facewright |\n"
        "| `detection_Resnet50_Final.pth` | models/facedetection |\n"
        "| `alignment_WFLW_4HG.pth` | models/facedetection |\n\n"
        "HonestFace's authors published no weights: the three `honestface_` files are what "
        "`facewright train honestface` writes, and their terms are those of what you train from. "
        "Stable Diffusion 2.1-**base**: CreativeML Open RAIL++-M. `backbone.pth` is ArcFace from "
        "insightface's arcface_torch: **non-commercial research only**; take the one your "
        "embedder was trained with. `vgg16-397923af.pth` is torchvision's. The last two are "
        "facexlib's (release v0.1.0; `python -m pip install facexlib` with ComfyUI's Python), "
        "trained on pictures for research.\n\n"
        "To see the parts at work without any of them, open "
    )


def _restored(
    graph: Graph,
    pos: tuple[int, int],
    loaded: Loaded,
    crops: tuple,
    titles: tuple[str | None, str | None] = (None, None),
    **references: Any,
) -> tuple[Node, Node]:
    """IDE Encode and One-Step Restore, one below the other: 340 by 500 pixels."""
    x, y = pos
    cond = graph.add(
        "FacewrightIDEEncode",
        (x, y),
        (340, 210),
        title=titles[0],
        ide=loaded.ide,
        vre=loaded.vre,
        image=crops,
        **references,
    )
    restored = one_step(
        graph,
        (x, y + 280),
        (340, 220),
        (loaded.model, loaded.vae),
        cond.out(0),
        crops,
        title=titles[1],
    )
    return cond, restored


def _guarded(
    graph: Graph, x: int, loaded: Loaded, crops: tuple, restored: tuple, **references: Any
) -> Node:
    guard = graph.add(
        "FacewrightIdentityGuard",
        (x, 100),
        (460, 520),
        image=crops,
        restored=restored,
        recogniser=loaded.recogniser,
        analyzer=loaded.analyzer,
        **references,
    )
    words = words_of(graph, (x, 690), (460, 210), "Receipts in words", guard.out(3))
    graph.group("Hold back who drifted", "check", guard, words)
    return guard


def _with_people(
    graph: Graph, x: int, loaded: Loaded, picture: tuple, people: tuple, size: int
) -> None:
    """Detect, match, restore, guard, paste and save: everything after the albums."""
    found = find_faces(graph, x, picture, loaded.analyzer, size)
    faces, crops = found.out(0), found.out(1)
    who = graph.add(
        "FacewrightMatchPeople",
        (x + 400, 100),
        (380, 500),
        image=picture,
        faces=faces,
        recogniser=loaded.recogniser,
        people=people,
    )
    matches = who.out(0)
    names = words_of(graph, (x + 400, 690), (380, 210), "Who is who", who.out(2))
    graph.group("Whose faces are they?", "people", who, names)
    cond, restored = _restored(graph, (x + 840, 100), loaded, crops, matches=matches)
    photos = words_of(graph, (x + 840, 690), (340, 210), "Whose photographs", cond.out(2))
    graph.group("Restore each with its own photographs", "restore", cond, restored, photos)
    guard = _guarded(graph, x + 1240, loaded, crops, restored.out(0), matches=matches)
    both = faces, guard.out(0)
    paste_and_compare(graph, x + 1760, picture, *both, ("before", "after"), guard.out(1))


def honestface_restore() -> Graph:
    """One person's picture and photographs, with SD 2.1-base and weights of your own."""
    graph = Graph("honestface_restore")
    loaded = _sd21(graph)
    picture, first, second = (
        graph.add("LoadImage", pos, (340, 380), title=title, image="example.png")
        for pos, title in (
            ((500, 100), "The damaged picture"),
            ((900, 100), "A good photo of them"),
            ((900, 540), "Another good photo"),
        )
    )
    graph.group("Picture", "load", picture)
    graph.group("Photos of the same person", "people", first, second)
    albums = []
    for i, photo in enumerate((first, second)):
        albums.append(
            graph.add(
                "FacewrightPerson",
                (1300, 100 + 440 * i),
                (340, 380),
                title=("Album of the person", "The same album, with the other photo")[i],
                references=photo.out(0),
                name="the person",
                analyzer=loaded.analyzer,
                recogniser=loaded.recogniser,
                crop_size=512,
                **({"add_to": albums[0].out(0)} if albums else {}),
            )
        )
    graph.group("Who it is", "people", *albums)
    person = albums[-1].out(0)
    found = find_faces(graph, 1700, picture.out(0), loaded.analyzer, 512)
    faces, crops = found.out(0), found.out(1)
    cond, restored = _restored(graph, (2100, 100), loaded, crops, person=person)
    chosen = words_of(graph, (2100, 690), (340, 210), "Which photo was looked at", cond.out(2))
    graph.group("Restore with the photographs", "restore", cond, restored, chosen)
    guard = _guarded(graph, 2500, loaded, crops, restored.out(0), person=person)
    both = faces, guard.out(0)
    paste_and_compare(graph, 3020, picture.out(0), *both, ("before", "after"), guard.out(1))
    graph.note(f"{_files()}**nano_honestface_restore**.", (-500, 100), (460, 480))
    graph.note(
        "## What to put where\n\n"
        "Top: the picture to restore, of **one person** (in *Detect Faces*, `pick` chooses the "
        "face where there are others). Below: two good photos of the same person, not cut out, the "
        "sharper and the larger the face the better; similar expression and eyes wide open help. "
        "Sharp photos of somebody else would paint that person.\n\n"
        "More photos: another *Load Image* and *Person Album*, joined to the one before by "
        "`add_to`. To keep the album: *Save Person*, and *Load Person* the next time, or "
        "`facewright person make photos/ -o alice.person`. Several people in one picture: "
        "**group_photo_people**.\n\n"
        "*Identity Guard* compares each result with the photos and mixes the input back in where "
        "it went too far (`max_drift`). What it measured is saved inside the PNG.",
        (-500, 640),
        (460, 380),
    )
    return graph


def group_photo_people() -> Graph:
    """Several people in one picture, each with an album, on SD 2.1-base."""
    graph = Graph("group_photo_people")
    loaded = _sd21(graph)
    picture = graph.add(
        "LoadImage", (500, 100), (340, 380), title="The damaged picture", image="example.png"
    )
    graph.group("Picture", "load", picture)
    albums = []
    for i, name in enumerate(("alice", "bob")):
        albums.append(
            graph.add(
                "FacewrightLoadPerson",
                (900, 100 + 420 * i),
                (340, 360),
                title=f"Album of {name.title()}",
                album=f"people/{name}.person",
                **({"people": albums[-1].out(1)} if albums else {}),
            )
        )
    graph.group("Albums: who is known", "people", *albums)
    _with_people(graph, 1300, loaded, picture.out(0), albums[-1].out(1), 512)
    graph.note(f"{_files()}**nano_group_people**.", (-500, 100), (460, 480))
    graph.note(
        "## What to put where\n\n"
        "An album for each person you have good photos of; everybody else is *nobody* and is "
        "restored from the picture alone. Make albums once, with "
        "`facewright person make photos/ -o alice.person`, or with *Person Album* and *Save "
        "Person*, which puts them into models/facewright/people. They fit the recogniser they "
        "were made with, and hold what identifies a person: ask them.\n\n"
        "More people: another *Load Person*, its `people` linked from the one before it. Its order "
        "does not matter, and each album goes to one face at most.\n\n"
        "*Match People* shows names on the faces, and its report how sure it is. A person it "
        "misses: lower `threshold`. A stranger it takes for somebody: raise it.\n\n"
        "*Identity Guard* compares each face with its own album. What it measured is saved inside "
        "the PNG.",
        (-500, 640),
        (460, 380),
    )
    return graph


def nano_honestface_restore() -> Graph:
    """Runs as shipped: one face with and without photographs of the same person."""
    graph = Graph("nano_honestface_restore")
    loaded, nano = _nano(graph)
    picture = graph.add("FacewrightDemoPicture", (20, 320), (340, 340), picture="Ada")
    photos = graph.add(
        "FacewrightDemoPicture",
        (20, 730),
        (340, 420),
        title="Photos of Ada",
        picture="photos of Ada",
    )
    graph.group("Bundled models and pictures", "load", nano, picture, photos)
    lq, gt = picture.out(0), picture.out(1)
    found = find_faces(graph, 420, lq, loaded.analyzer, 128)
    faces, crops = found.out(0), found.out(1)
    pasted, scores = [], []
    for y, title, references in (
        (100, "with photographs", {"references": photos.out(1)}),
        (720, "without photographs", {}),
    ):
        titles = (f"IDE Encode, {title}", f"Restore {title}")
        cond, restored = _restored(graph, (820, y), loaded, crops, titles, **references)
        pasted.append(
            graph.add(
                "FacewrightPasteFaces",
                (1200, y),
                (280, 180),
                title=f"Paste {title}",
                image=lq,
                faces=faces,
                restored=restored.out(0),
            )
        )
        graph.group(f"Restore it {title}", "restore", cond, restored, pasted[-1])
        scored = graph.add(
            "FacewrightLandmarkScore",
            (2510, y),
            (400, 440),
            title=f"Landmark Score {title}",
            restored=pasted[-1].out(0),
            gt=gt,
            analyzer=loaded.analyzer,
        )
        words = words_of(graph, (2950, y), (400, 240), f"Landmarks {title}", scored.out(5))
        scores += [scored, words]
    good, plain = (node.out(0) for node in pasted)
    seen = []
    for y, name, before, after, labels in (
        (100, "compare", plain, good, ("without photographs", "with photographs")),
        (720, "original", lq, gt, ("degraded", "original")),
    ):
        compared = compare(graph, (1540, y), (420, 440), before, after, labels)
        saved = save_images(
            graph,
            (2000, y),
            (450, 440),
            f"Save {labels[0]} / {labels[1]}",
            compared.out(0),
            f"_{name}",
        )
        seen += [compared, saved]
    graph.group("See what the photographs change", "output", *seen)
    graph.group("How far eyes and mouth are from the original", "check", *scores)
    graph.note(
        "## Try it: press Run\n\n"
        "A damaged picture of Ada, restored twice: with four good photos of her, and from the "
        "picture alone. Compare moles and eyes with the original: what the damaged "
        "picture has lost only the photos can know. Set *Photos of Ada* to `photos of Bo` to see "
        "what the wrong person's photos do.\n\n"
        "*Landmark Score* says in pixels how far eyes and mouth moved from the original.\n\n"
        f"{_TOYS} For photographs open **honestface_restore**.",
        (-400, 100),
        (360, 330),
    )
    return graph


def nano_group_people() -> Graph:
    """Runs as shipped: three people, two of them with an album."""
    graph = Graph("nano_group_people")
    loaded, nano = _nano(graph)
    picture = graph.add("FacewrightDemoPicture", (20, 320), (340, 340), picture="three people")
    graph.group("Bundled models and picture", "load", nano, picture)
    photos, albums = [], []
    for i, name in enumerate(("Ada", "Bo")):
        x = 420 + 380 * i
        photos.append(
            graph.add(
                "FacewrightDemoPicture",
                (x, 100),
                (340, 340),
                title=f"Photos of {name}",
                picture=f"photos of {name}",
            )
        )
        albums.append(
            graph.add(
                "FacewrightPerson",
                (x, 510),
                (340, 390),
                title=f"Album of {name}",
                references=photos[-1].out(1),
                name=name,
                analyzer=loaded.analyzer,
                recogniser=loaded.recogniser,
                crop_size=128,
                **({"people": albums[-1].out(1)} if albums else {}),
            )
        )
    graph.group("Albums: who is known", "people", *photos, *albums)
    _with_people(graph, 1200, loaded, picture.out(0), albums[-1].out(1), 128)
    graph.note(
        "## Try it: press Run\n\n"
        "Three people in one damaged picture. Ada and Bo have an album each, the third is nobody "
        "known. *Match People* writes the names on the faces; each is restored with its own "
        "photos, the stranger from the picture alone. Change the order of the albums, leave one "
        "out: nobody gets the photos of another.\n\n"
        "*Identity Guard* mixes the input back in where a face went too far from its album, and "
        "the receipts are saved inside the PNG.\n\n"
        f"{_TOYS} For photographs open **group_photo_people**.",
        (-400, 100),
        (360, 370),
    )
    return graph


WORKFLOWS = (
    *(honestface_restore, group_photo_people),
    *(nano_honestface_restore, nano_group_people),
)
