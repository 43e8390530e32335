"""Frames and videos: as a chain of nodes, and in one node that reads frame by frame."""

from .graph import Graph, Output, workflow
from .honestface import nano_albums, restore_with_photos
from .parts import restore_crops, words

_FPS = 8.0


def _load_nano(graph: Graph) -> Output:
    """The bundled models and frames, and the workflow's note; returns the frames."""
    graph.add("LoadNano", (20, 100, 340, 130), weights="onestep")
    frames = graph.add("DemoPicture", (20, 300, 340, 290), picture="moving group")
    graph.note((20, 640, 340, 240))
    graph.group("Bundled models and frames", "load")
    return frames["degraded"]


def _save_video(graph: Graph, x: int, height: int) -> None:
    """The latest video, called as the workflow."""
    how = {"filename_prefix": f"facewright/{graph.name}", "format": "auto", "codec": "auto"}
    graph.add("SaveVideo", (x, 100, 420, height), title="Save the video", **how)


@workflow
def nano_smooth_frames(graph: Graph) -> None:
    """A batch of frames whose crops are held steady. Runs as shipped."""
    image = _load_nano(graph)
    graph.add("DetectFaces", (420, 100, 340, 780), image=image, crop_size=128)
    steady = graph.add("SmoothFaces", (820, 100, 340, 400), image=image)
    words(graph, (820, 580, 340, 300), "What was steadied", steady["report"])
    graph.group("Find the faces, follow them", "faces")
    restore_crops(graph, 1220, steady["crops"], 370)
    pasted = graph.add("PasteFaces", (1600, 100, 320, 400), image=image)
    graph.add("CreateVideo", (1600, 580, 320, 300), images=pasted["image"], fps=_FPS)
    _save_video(graph, 1980, 780)
    graph.group("Put them back", "output")


@workflow
def nano_people_frames(graph: Graph) -> None:
    """Frames in which each face is one person, with or without an album. Runs as shipped."""
    recogniser = graph.add("LoadNanoHonestface", (20, 100, 340, 150))["recogniser"]
    moving = {"picture": "moving three people"}
    image = graph.add("DemoPicture", (20, 320, 340, 340), **moving)["degraded"]
    graph.group("Bundled models and frames", "load")
    people = nano_albums(graph)
    graph.add("DetectFaces", (1200, 100, 340, 560), image=image, crop_size=128)
    steady = graph.add("SmoothFaces", (1580, 100, 340, 420), image=image, recogniser=recogniser)
    words(graph, (1580, 690, 340, 270), "What was followed", steady["report"])
    graph.group("Find the faces, follow them", "faces")
    who = graph.add("MatchPeople", (1980, 100, 380, 500), image=image, people=people)
    words(graph, (1980, 690, 380, 270), "Who is who", who["report"])
    graph.group("Who is followed?", "people")
    crops, matches = steady["crops"], who["matches"]
    cond, _ = restore_with_photos(graph, 2420, 100, crops, matches=matches)
    words(graph, (2420, 690, 340, 270), "Whose photographs", cond["report"])
    graph.group("Restore each with its own photographs", "restore")
    guard = graph.add(
        "IdentityGuard", (2820, 100, 460, 520), image=crops, matches=matches, faces=steady["faces"]
    )
    words(graph, (2820, 690, 460, 270), "Receipts over the frames", guard["report"])
    graph.group("Hold back who drifted", "check")
    pasted = graph.add("PasteFaces", (3340, 100, 320, 300), image=image, restored=guard["guarded"])
    graph.add("CreateVideo", (3340, 480, 320, 110), images=pasted["image"], fps=_FPS)
    _save_video(graph, 3720, 780)
    graph.group("Put them back", "output")
    graph.note((-400, 100, 360, 370))


@workflow
def nano_restore_video(graph: Graph) -> None:
    """A video in, a video out, frame by frame. Runs as shipped."""
    frames = _load_nano(graph)
    graph.add("CreateVideo", (420, 100, 460, 110), images=frames, fps=_FPS)
    restored = graph.add("RestoreVideo", (420, 290, 460, 860), crop_size=128)
    graph.group("Restore frame by frame", "restore")
    _save_video(graph, 940, 500)
    words(graph, (940, 680, 420, 470), "What was restored", restored["report"])
    graph.group("Keep it", "output")
