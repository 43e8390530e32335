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
    graph.add("LoadVRE", LOADER_WIDTH, embedder="honestface_vre.safetensors")
    graph.add("LoadRecogniser", LOADER_WIDTH, recogniser_file="backbone.pth")
    graph.add("LoadFaceAnalyzer", LOADER_WIDTH, backend="auto")
    files = {"embedder": "honestface_ide.safetensors", "eye_extractor": "vgg16-397923af.pth"}
    graph.add("LoadIDE", LOADER_WIDTH, **files)
    graph.group("Models", "load")


PUBLISHED = 0.001
"""The false-match rate whose cosine is published of ArcFace."""


def restore_with_photos(
    graph: Graph,
    crops: Output,
    titles: tuple[str | None, str | None] = (None, None),
    **references: Any,
) -> tuple[Node, Node]:
    """IDE Encode and One-Step Restore."""
    encode, restore = titles
    cond = graph.add("IDEEncode", title=encode, image=crops, **references)
    return cond, graph.add("OneStepRestore", title=restore, image=crops)


def _restored(
    graph: Graph,
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
    cond, restored = restore_with_photos(graph, crops, **references)
    words(graph, report, cond["report"])
    graph.group(title, "restore")
    before: dict[str, Any] = {"image": picture, "faces": found["faces"]}
    pasted = graph.add("PasteFaces", restored=restored["restored"], **before)
    graph.group("Put them back", "output")
    after = {"image": picture, "pasted": pasted["image"], "faces": pasted["faces"]}
    guard = graph.add("PictureGuard", false_match_rate=rate, **after, **references)
    words(graph, "Receipts in words", guard["report"])
    graph.group("Hold back who drifted", "check")
    inside: dict[str, Any] = {"receipts": guard["receipts"], "faces": found["faces"]}
    compared = compare(graph, picture, guard["image"], BEFORE_AFTER)
    save_images(graph, "Save the restored picture", guard["image"], **inside)
    save_images(graph, "Save before / after", compared["image"], "_compare")
    graph.group("See and keep them", "output")


def _with_people(graph: Graph, picture: Output, people: Output, size: int) -> None:
    """Detect, match, restore, guard, paste and save: everything after the albums."""
    found = find_faces(graph, picture, size)
    who = graph.add("MatchPeople", image=picture, people=people)
    words(graph, "Who is who", who["report"])
    graph.group("Whose faces are they?", "people")
    titles = "Restore each with its own photographs", "Whose photographs"
    rate = 0.01 if size == NANO_SIZE else PUBLISHED
    _restored(graph, picture, found, titles, rate, matches=who["matches"])


@workflow
def honestface_restore(graph: Graph) -> None:
    """One person's picture and photographs, with SD 2.1-base and weights of your own."""
    _load_sd21(graph)
    pictures = [
        photograph(graph, title)
        for title in ("The damaged picture", "A good photo of them", "Another good photo")
    ]
    picture, first, second = (node["image"] for node in pictures)
    graph.group("Picture", "load", pictures[0])
    graph.group("Photos of the same person", "people")
    named = {"name": "the person", "crop_size": 512}
    album = graph.add("Person", title="Album of the person", references=first, **named)
    person = graph.add(
        "Person",
        title="The same album, with the other photo",
        references=second,
        add_to=album["person"],
        **named,
    )["person"]
    graph.group("Who it is", "people")
    found = find_faces(graph, picture, 512)
    titles = "Restore with the photographs", "Which photo was looked at"
    _restored(graph, picture, found, titles, PUBLISHED, person=person)
    graph.note(f"{graph.name}_files")


@workflow
def group_photo_people(graph: Graph) -> None:
    """Several people in one picture, each with an album, on SD 2.1-base."""
    _load_sd21(graph)
    picture = photograph(graph, "The damaged picture")["image"]
    graph.group("Picture", "load")
    people = None
    for name in ("alice", "bob"):
        album = {"title": f"Album of {name.title()}", "album": f"people/{name}.person"}
        people = graph.add("LoadPerson", **album, people=people)["people"]
    graph.group("Albums: who is known", "people")
    _with_people(graph, picture, people, 512)
    graph.note(f"{graph.name}_files")


@workflow
def nano_honestface_restore(graph: Graph) -> None:
    """Runs as shipped: one face with and without photographs of the same person."""
    graph.add("LoadNanoHonestface")
    picture = graph.add("DemoPicture", picture="Ada")
    ada = {"title": "Photos of Ada", "picture": "photos of Ada"}
    photos = graph.add("DemoPicture", **ada)
    graph.group("Bundled models and pictures", "load")
    lq, gt = picture["degraded"], picture["original"]
    crops = find_faces(graph, lq, 128)["crops"]
    pasted, scores, seen = [], [], []
    for title, references in (
        ("with photographs", {"references": photos["original"]}),
        ("without photographs", {}),
    ):
        titles = f"IDE Encode, {title}", f"Restore {title}"
        restored = restore_with_photos(graph, crops, titles, **references)
        paste = graph.add("PasteFaces", title=f"Paste {title}", image=lq)
        graph.group(f"Restore it {title}", "restore", *restored, paste)
        pasted.append(paste["image"])
        scored = {"title": f"Landmark Score {title}", "restored": pasted[-1], "gt": gt}
        scores.append(graph.add("LandmarkScore", **scored))
        report = scores[-1]["report"]
        scores.append(words(graph, f"Landmarks {title}", report))
    good, plain = pasted
    for name, pair, labels in (
        ("compare", (plain, good), ("without photographs", "with photographs")),
        ("original", (lq, gt), ("degraded", "original")),
    ):
        seen += compare_and_save(graph, pair, labels, name)
    graph.group("See what the photographs change", "output", *seen)
    graph.group("How far eyes and mouth are from the original", "check", *scores)


@workflow
def nano_group_people(graph: Graph) -> None:
    """Runs as shipped: three people, two of them with an album."""
    graph.add("LoadNanoHonestface")
    picture = graph.add("DemoPicture", picture="three people")["degraded"]
    graph.group("Bundled models and picture", "load")
    _with_people(graph, picture, nano_albums(graph), 128)


def nano_albums(graph: Graph) -> Output:
    """Albums of Ada and Bo; needs a nano recogniser before."""

    def album(name: str, **before: Any) -> Output:
        shown = {"title": f"Photos of {name}", "picture": f"photos of {name}"}
        photos = graph.add("DemoPicture", **shown)["original"]
        about: dict[str, Any] = {"title": f"Album of {name}", "name": name, "crop_size": 128}
        return graph.add("Person", references=photos, **about, **before)["people"]

    people = album("Bo", people=album("Ada"))
    graph.group("Albums: who is known", "people")
    return people
