"""HonestFace's workflows: faces restored with photographs of the same people."""

from typing import Any

from ...core.files.known import NANO_SIZE
from .graph import Graph, Node, Output, workflow
from .parts import (
    BEFORE_AFTER,
    LOADER_WIDTH,
    compare,
    compare_and_save,
    find_faces,
    load_sd21,
    photograph,
    save_images,
    words,
)


def _load_sd21(graph: Graph) -> None:
    """SD 2.1-base with HonestFace's files, in a column of their own."""
    load_sd21(graph, "honestface_lora.safetensors")
    graph.add("LoadVRE", (20, 420, LOADER_WIDTH, 90), embedder="honestface_vre.safetensors")
    graph.add("LoadRecogniser", (20, 560, LOADER_WIDTH, 80), recogniser_file="backbone.pth")
    graph.add("LoadFaceAnalyzer", (20, 690, LOADER_WIDTH, 90), backend="auto")
    files = {"embedder": "honestface_ide.safetensors", "eye_extractor": "vgg16-397923af.pth"}
    graph.add("LoadIDE", (20, 830, LOADER_WIDTH, 110), **files)
    graph.group("Models", "load")


PUBLISHED = 0.001
"""The false-match rate whose cosine is published of ArcFace."""


def restore_with_photos(
    graph: Graph,
    x: int,
    y: int,
    crops: Output,
    titles: tuple[str | None, str | None] = (None, None),
    **references: Any,
) -> tuple[Node, Node]:
    """IDE Encode and One-Step Restore, one below the other: 340 by 500 pixels."""
    encode, restore = titles
    cond = graph.add("IDEEncode", (x, y, 340, 220), title=encode, image=crops, **references)
    box = (x, y + 280, 340, 220)
    return cond, graph.add("OneStepRestore", box, title=restore, image=crops)


def _restored(
    graph: Graph,
    x: int,
    picture: Output,
    found: Node,
    titles: tuple[str, str],
    rate: float,
    **references: Any,
) -> None:
    """Restore, paste, guard and save.

    Args:
        titles: of the first frame and of its report.
        rate: share of strangers that the guard would let pass.
    """
    crops, (title, report) = found["crops"], titles
    cond, restored = restore_with_photos(graph, x, 100, crops, **references)
    words(graph, (x, 690, 340, 270), report, cond["report"])
    graph.group(title, "restore")
    before: dict[str, Any] = {"image": picture, "faces": found["faces"]}
    box = (x + 400, 100, 280, 180)
    pasted = graph.add("PasteFaces", box, restored=restored["restored"], **before)
    graph.group("Put them back", "output")
    box = (x + 740, 100, 460, 520)
    after = {"image": picture, "pasted": pasted["image"], "faces": pasted["faces"]}
    guard = graph.add("PictureGuard", box, false_match_rate=rate, **after, **references)
    words(graph, (x + 740, 690, 460, 270), "Receipts in words", guard["report"])
    graph.group("Hold back who drifted", "check")
    inside: dict[str, Any] = {"receipts": guard["receipts"], "faces": found["faces"]}
    compared = compare(graph, (x + 1260, 390, 420, 420), picture, guard["image"], BEFORE_AFTER)
    beside, below = (x + 1730, 100, 420, 420), (x + 1730, 590, 420, 370)
    save_images(graph, beside, "Save the restored picture", guard["image"], **inside)
    save_images(graph, below, "Save before / after", compared["image"], "_compare")
    graph.group("See and keep them", "output")


def _with_people(graph: Graph, x: int, picture: Output, people: Output, size: int) -> None:
    """Detect, match, restore, guard, paste and save: everything after the albums."""
    found = find_faces(graph, x, picture, size)
    who = graph.add("MatchPeople", (x + 400, 100, 380, 500), image=picture, people=people)
    words(graph, (x + 400, 690, 380, 270), "Who is who", who["report"])
    graph.group("Whose faces are they?", "people")
    titles = "Restore each with its own photographs", "Whose photographs"
    rate = 0.01 if size == NANO_SIZE else PUBLISHED
    _restored(graph, x + 840, picture, found, titles, rate, matches=who["matches"])


def _own_files_notes(graph: Graph) -> None:
    graph.note((-500, 100, 460, 480), f"{graph.name}_files")
    graph.note((-500, 640, 460, 380))


@workflow
def honestface_restore(graph: Graph) -> None:
    """One person's picture and photographs, with SD 2.1-base and weights of your own."""
    _load_sd21(graph)
    pictures = [
        photograph(graph, (x, y, 340, 380), title)
        for x, y, title in (
            (500, 100, "The damaged picture"),
            (900, 100, "A good photo of them"),
            (900, 540, "Another good photo"),
        )
    ]
    picture, first, second = (node["image"] for node in pictures)
    graph.group("Picture", "load", pictures[0])
    graph.group("Photos of the same person", "people")
    named = {"name": "the person", "crop_size": 512}
    album = graph.add(
        "Person", (1300, 100, 340, 470), title="Album of the person", references=first, **named
    )
    person = graph.add(
        "Person",
        (1300, 640, 340, 470),
        title="The same album, with the other photo",
        references=second,
        add_to=album["person"],
        **named,
    )["person"]
    graph.group("Who it is", "people")
    found = find_faces(graph, 1700, picture, 512)
    titles = "Restore with the photographs", "Which photo was looked at"
    _restored(graph, 2100, picture, found, titles, PUBLISHED, person=person)
    _own_files_notes(graph)


@workflow
def group_photo_people(graph: Graph) -> None:
    """Several people in one picture, each with an album, on SD 2.1-base."""
    _load_sd21(graph)
    picture = photograph(graph, (500, 100, 340, 380), "The damaged picture")["image"]
    graph.group("Picture", "load")
    people = None
    for y, name in ((100, "alice"), (520, "bob")):
        album = {"title": f"Album of {name.title()}", "album": f"people/{name}.person"}
        box = (900, y, 340, 360)
        people = graph.add("LoadPerson", box, **album, people=people)["people"]
    graph.group("Albums: who is known", "people")
    _with_people(graph, 1300, picture, people, 512)
    _own_files_notes(graph)


@workflow
def nano_honestface_restore(graph: Graph) -> None:
    """Runs as shipped: one face with and without photographs of the same person."""
    graph.add("LoadNanoHonestface", (20, 100, 340, 150))
    picture = graph.add("DemoPicture", (20, 320, 340, 340), picture="Ada")
    ada = {"title": "Photos of Ada", "picture": "photos of Ada"}
    photos = graph.add("DemoPicture", (20, 730, 340, 420), **ada)
    graph.group("Bundled models and pictures", "load")
    lq, gt = picture["degraded"], picture["original"]
    crops = find_faces(graph, 420, lq, 128)["crops"]
    pasted, scores, seen = [], [], []
    for y, title, references in (
        (100, "with photographs", {"references": photos["original"]}),
        (720, "without photographs", {}),
    ):
        titles = f"IDE Encode, {title}", f"Restore {title}"
        restored = restore_with_photos(graph, 820, y, crops, titles, **references)
        paste = graph.add("PasteFaces", (1200, y, 280, 180), title=f"Paste {title}", image=lq)
        graph.group(f"Restore it {title}", "restore", *restored, paste)
        pasted.append(paste["image"])
        scored = {"title": f"Landmark Score {title}", "restored": pasted[-1], "gt": gt}
        scores.append(graph.add("LandmarkScore", (2510, y, 400, 440), **scored))
        report = scores[-1]["report"]
        scores.append(words(graph, (2950, y, 400, 440), f"Landmarks {title}", report))
    good, plain = pasted
    for y, name, pair, labels in (
        (100, "compare", (plain, good), ("without photographs", "with photographs")),
        (720, "original", (lq, gt), ("degraded", "original")),
    ):
        box, beside = (1540, y, 420, 440), (2000, 450)
        seen += compare_and_save(graph, box, beside, pair, labels, name)
    graph.group("See what the photographs change", "output", *seen)
    graph.group("How far eyes and mouth are from the original", "check", *scores)
    graph.note((-400, 100, 360, 330))


@workflow
def nano_group_people(graph: Graph) -> None:
    """Runs as shipped: three people, two of them with an album."""
    graph.add("LoadNanoHonestface", (20, 100, 340, 150))
    picture = graph.add("DemoPicture", (20, 320, 340, 340), picture="three people")["degraded"]
    graph.group("Bundled models and picture", "load")
    _with_people(graph, 1200, picture, nano_albums(graph), 128)
    graph.note((-400, 100, 360, 370))


def nano_albums(graph: Graph) -> Output:
    """Albums of Ada and Bo, from x 420 to 1140; needs a nano recogniser before."""

    def album(x: int, name: str, **before: Any) -> Output:
        shown = {"title": f"Photos of {name}", "picture": f"photos of {name}"}
        photos = graph.add("DemoPicture", (x, 100, 340, 340), **shown)["original"]
        about: dict[str, Any] = {"title": f"Album of {name}", "name": name, "crop_size": 128}
        box = (x, 510, 340, 470)
        return graph.add("Person", box, references=photos, **about, **before)["people"]

    people = album(800, "Bo", people=album(420, "Ada"))
    graph.group("Albums: who is known", "people")
    return people
