"""Frames and videos: as a chain of nodes, and in one node that reads frame by frame."""

from .graph import Graph, Output, workflow
from .honestface import nano_albums, restore_with_photos
from .parts import restore_crops, words

_FPS = 8.0


def _load_nano(graph: Graph) -> Output:
    """The bundled models and frames, which are returned."""
    graph.add("LoadNano", weights="onestep")
    frames = graph.add("DemoPicture", picture="moving group")
    graph.group("Bundled models and frames", "load")
    return frames["degraded"]


def _save_video(graph: Graph) -> None:
    """The latest video, called as the workflow."""
    how = {"filename_prefix": f"facewright/{graph.name}", "format": "auto", "codec": "auto"}
    graph.add("SaveVideo", title="Save the video", **how)


@workflow
def nano_smooth_frames(graph: Graph) -> None:
    """A batch of frames whose crops are held steady. Runs as shipped."""
    image = _load_nano(graph)
    graph.add("DetectFaces", image=image, crop_size=128)
    steady = graph.add("SmoothFaces", image=image)
    words(graph, "What was steadied", steady["report"])
    graph.group("Find the faces, follow them", "faces")
    restore_crops(graph, steady["crops"])
    pasted = graph.add("PasteFaces", image=image)
    graph.add("CreateVideo", images=pasted["image"], fps=_FPS)
    _save_video(graph)
    graph.group("Put them back", "output")


@workflow
def nano_people_frames(graph: Graph) -> None:
    """Frames in which each face is one person, with or without an album. Runs as shipped."""
    recogniser = graph.add("LoadNanoHonestface")["recogniser"]
    moving = {"picture": "moving three people"}
    image = graph.add("DemoPicture", **moving)["degraded"]
    graph.group("Bundled models and frames", "load")
    people = nano_albums(graph)
    graph.add("DetectFaces", image=image, crop_size=128)
    steady = graph.add("SmoothFaces", image=image, recogniser=recogniser)
    words(graph, "What was followed", steady["report"])
    graph.group("Find the faces, follow them", "faces")
    who = graph.add("MatchPeople", image=image, people=people)
    words(graph, "Who is who", who["report"])
    graph.group("Who is followed?", "people")
    crops, matches = steady["crops"], who["matches"]
    cond, _ = restore_with_photos(graph, crops, matches=matches)
    words(graph, "Whose photographs", cond["report"])
    graph.group("Restore each with its own photographs", "restore")
    guard = graph.add("IdentityGuard", image=crops, matches=matches, faces=steady["faces"])
    words(graph, "Receipts over the frames", guard["report"])
    graph.group("Hold back who drifted", "check")
    pasted = graph.add("PasteFaces", image=image, restored=guard["guarded"])
    graph.add("CreateVideo", images=pasted["image"], fps=_FPS)
    _save_video(graph)
    graph.group("Put them back", "output")


@workflow
def nano_restore_video(graph: Graph) -> None:
    """A video in, a video out, frame by frame. Runs as shipped."""
    frames = _load_nano(graph)
    graph.add("CreateVideo", 460, images=frames, fps=_FPS)
    restored = graph.add("RestoreVideo", 460, crop_size=128)
    graph.group("Restore frame by frame", "restore")
    _save_video(graph)
    words(graph, "What was restored", restored["report"])
    graph.group("Keep it", "output")
