"""Frames and videos: as a chain of nodes, and in one node that reads frame by frame."""

from .graph import Graph, Node
from .parts import one_step, words_of

_FPS = 8.0


def _nano(graph: Graph, text: str) -> tuple[Node, Node]:
    nano = graph.add("FacewrightLoadNano", (20, 100), (340, 130), weights="onestep")
    frames = graph.add("FacewrightDemoPicture", (20, 300), (340, 290), picture="moving group")
    note = graph.note(text, (20, 640), (340, 240))
    graph.group("Bundled models and frames", "load", nano, frames, note)
    return nano, frames


def _save(graph: Graph, x: int, video: tuple, height: int) -> Node:
    return graph.add(
        "SaveVideo",
        (x, 100),
        (420, height),
        title="Save the video",
        video=video,
        filename_prefix=f"facewright/{graph.name}",
        format="auto",
        codec="auto",
    )


def nano_smooth_frames() -> Graph:
    """A batch of frames whose crops are held steady. Runs as shipped."""
    graph = Graph("nano_smooth_frames")
    nano, frames = _nano(
        graph,
        "## Frames without flicker: press Run\n\n"
        "A detector places a face a little differently in every frame, and a restorer turns that "
        "into flicker. *Smooth Faces over Frames* follows each face, holds its crop steady and "
        "fills in where it was missed; *Paste Faces* then keeps its colours steady, too.\n\n"
        "For a video of yours put *Load Video* and *Get Video Components* in place of *Demo "
        "Picture*. All frames are in memory then: for a long one open "
        "**nano_restore_video**.",
    )
    image = frames.out(0)
    found = graph.add(
        "FacewrightDetectFaces",
        (420, 100),
        (340, 780),
        image=image,
        analyzer=nano.out(3),
        crop_size=128,
    )
    steady = graph.add(
        "FacewrightSmoothFaces", (820, 100), (340, 400), image=image, faces=found.out(0)
    )
    said = words_of(graph, (820, 580), (340, 300), "What was steadied", steady.out(3))
    graph.group("Find the faces, follow them", "faces", found, steady, said)
    cond = graph.add(
        "FacewrightVREEncode", (1220, 100), (320, 340), vre=nano.out(2), image=steady.out(1)
    )
    restored = one_step(
        graph, (1220, 510), (320, 370), (nano.out(0), nano.out(1)), cond.out(0), steady.out(1)
    )
    graph.group("Restore them", "restore", cond, restored)
    pasted = graph.add(
        "FacewrightPasteFaces",
        (1600, 100),
        (320, 400),
        image=image,
        faces=steady.out(0),
        restored=restored.out(0),
    )
    video = graph.add("CreateVideo", (1600, 580), (320, 300), images=pasted.out(0), fps=_FPS)
    saved = _save(graph, 1980, video.out(0), 780)
    graph.group("Put them back", "output", pasted, video, saved)
    return graph


def nano_restore_video() -> Graph:
    """A video in, a video out, frame by frame. Runs as shipped."""
    graph = Graph("nano_restore_video")
    nano, frames = _nano(
        graph,
        "## Videos of any length: press Run\n\n"
        "*Restore Video* reads a few frames at a time and writes them at once, so a long video "
        "needs no more memory than a short one. It reads the video twice: first to find and follow "
        "the faces, then to restore them. The sound is copied.\n\n"
        "Put *Load Video* in place of *Create Video*. These toy models know computer-drawn faces "
        "only; for photographs connect the loaders of **osdface_restore** and set crop_size to "
        "512.",
    )
    made = graph.add("CreateVideo", (420, 100), (340, 110), images=frames.out(0), fps=_FPS)
    restored = graph.add(
        "FacewrightRestoreVideo",
        (420, 290),
        (340, 590),
        video=made.out(0),
        model=nano.out(0),
        vae=nano.out(1),
        vre=nano.out(2),
        analyzer=nano.out(3),
        crop_size=128,
    )
    graph.group("Restore frame by frame", "restore", made, restored)
    saved = _save(graph, 820, restored.out(0), 500)
    said = words_of(graph, (820, 680), (420, 200), "What was restored", restored.out(1))
    graph.group("Keep it", "output", saved, said)
    return graph


WORKFLOWS = (nano_smooth_frames, nano_restore_video)
