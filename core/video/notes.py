"""What a rewritten video does not hold of its source, in words: nothing is left out silently."""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ..errors import shorten
from .colors import RGB, Coding, display_matrix
from .reading import Video, is_cover

_SIDE_DATA = {
    "A53_CC": "closed captions inside the pictures",
    "AFD": "the marked part of the picture",
    "AMBIENT_VIEWING_ENVIRONMENT": "the surroundings it was graded for",
    "CONTENT_LIGHT_LEVEL": "HDR light levels",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "ICC_PROFILE": "the colour profile",
    "MASTERING_DISPLAY_METADATA": "the HDR mastering display",
    "S12M_TIMECODE": "timecodes inside the pictures",
    "SPHERICAL": "the 360 degree projection",
    "STEREO3D": "the 3D arrangement",
}
HALVED = "The resolution of the colours is halved (4:2:0), which every player shows."
UNHALVED = "Frames of odd width or height are written as 4:4:4, which some players do not show."
LOSSLESS = "The pictures are stored without any loss, as 8 bit RGB, which few players show."
_NAMES = ("title", "name", "filename", "handler_name")
_HDR = {16: "PQ", 18: "HLG"}

# What a container or its muxer says of itself, and of the streams as they were.
_STRUCTURE = re.compile(
    r"(major_brand|minor_version|compatible_brands|encoder|vendor_id|duration|handler_name"
    r"|alpha_mode|stereo_mode|rotate|bps|number_of_(frames|bytes)|_statistics_.*)(-\w+)?",
    re.IGNORECASE,
)


_PLACE = re.compile(
    r"location|gps|latitude|longitude|iso.?6709|\bgeo(tag|pos|loc|\b)|\bxyz\b|\bloci\b",
    re.IGNORECASE,
)
"""Names of tags: QuickTime's, 3GPP's, Matroska's."""
_POSITION = re.compile(r"[+-]\d{2,6}(\.\d+)?[+-]\d{3,7}(\.\d+)?([+-]\d+(\.\d+)?)?(CRS\w+)?/?")
"""ISO 6709: +48.2082+016.3738+151/."""
_SUBTITLE = re.compile(rb"latitude|longitude|\bgps\b|\bgeo(tag|pos|loc)", re.IGNORECASE)


def tags(metadata: dict[str, str], *, location: bool = True) -> dict[str, str]:
    """The part of a container's or stream's tags that is about its contents.

    Args:
        location: also where it was recorded.
    """
    found = {k: v for k, v in metadata.items() if not _STRUCTURE.fullmatch(k) and v}
    if location:
        return found
    return {k: v for k, v in found.items() if not (_PLACE.search(k) or _POSITION.fullmatch(v))}


def speaks_of_a_place(text: bytes) -> bool:
    """Whether a subtitle holds a position, as drones write it."""
    return _SUBTITLE.search(text) is not None


def coding_notes(frame: Any, coded: Coding, halved: bool) -> list[str]:
    """About the pictures, from their first frame."""
    kind, notes = frame.format, []
    depth = max(c.bits for c in kind.components)
    if depth > 8:
        notes.append(f"Colours of {depth} bits are written with 8.")
    full_chroma = coded.matrix == RGB or kind.chroma_width(16) > 8 or kind.chroma_height(16) > 8
    if halved and full_chroma and len(kind.components) > 2:
        notes.append(HALVED)
    if not halved:
        notes.append(UNHALVED)
    if not coded.known:
        notes.append(
            f"The colour matrix {coded.matrix} is not known here: faces are restored as if it were "
            "BT.601. Frames without faces keep their colours."
        )
    if frame.interlaced_frame:
        notes.append(
            "The video is interlaced: both fields stay in their frame, which is marked as one "
            "picture now. Deinterlace it first for a better result: ffmpeg -i VIDEO -vf bwdif "
            "NEW.mp4"
        )
    a, b, c, d = display_matrix(frame)
    straight, crossed = (abs(a), abs(d)), (abs(b), abs(c))
    if min(max(straight), max(crossed)) > 0 or len({*straight, *crossed} - {0}) > 1:
        notes.append(
            "The video is to be shown turned askew or stretched; the nearest right angle was taken."
        )
    return notes


def side_data(frame: Any) -> set[str]:
    """Names of what a frame carries beside its samples."""
    try:
        return {kind.type.name for kind in frame.side_data}
    except ValueError:  # of a kind that this version of PyAV cannot name
        return set()


def missing(video: Video, sides: set[str], kept: Sequence[Any]) -> list[str]:
    """What the source has that no result can hold, but for the streams that are `kept`."""
    done = {video.pictures.index, *(s.index for s in kept)}
    container, notes = video.container, []
    alpha = any(c.is_alpha for c in video.pictures.codec_context.format.components)
    if alpha or video.pictures.metadata.get("alpha_mode") == "1":
        notes.append("Transparency, where there is any, is not kept.")
    transfer = _HDR.get(int(video.pictures.codec_context.color_trc))
    if transfer:
        notes.append(
            f"The video is HDR ({transfer}); it stays marked so, with 8 bits. Faces are restored "
            "best in a copy made for ordinary screens."
        )
    chapters = getattr(container, "chapters", list)()
    for stream in container.streams:
        # Timecodes and names of chapters are made anew; sound and subtitles are told of elsewhere.
        if stream.index in done or stream.type in ("audio", "subtitle"):
            continue
        if stream.type == "data" and (
            "timecode" in video.pictures.metadata
            or (chapters and stream.metadata.get("handler_name") == "SubtitleHandler")
        ):
            continue
        what = "cover" if stream.type == "video" and is_cover(stream) else stream.type
        what = {"video": "second video", "attachment": "attached file"}.get(what, what)
        notes.append(f"Not kept: {what}{described(stream)}.")
    kinds = sorted({_SIDE_DATA[k] for k in sides if k in _SIDE_DATA})
    if kinds:
        notes.append(f"Not kept: {', '.join(kinds)}.")
    return notes


def described(stream: Any) -> str:
    """`` (subrip, deu, "Für Gehörlose")`` of a stream."""
    context = stream.codec_context
    names = (
        context.name if context is not None else "",
        stream.metadata.get("language", ""),
        next((stream.metadata[k] for k in _NAMES if stream.metadata.get(k)), ""),
    )
    text = ", ".join(shorten(name) for name in names if name)
    return f" ({text})" if text else ""


def damage(video: Video, moved: int) -> list[str]:
    """What was amiss with the file, once it was read."""
    told = video.pictures.frames
    lines = (
        (video.stopped, f"The file is damaged; it was read as far as that goes ({video.stopped})."),
        (video.broken_packets, f"{video.broken_packets} damaged pieces of it were left out."),
        (video.broken_frames, f"{video.broken_frames} of its frames are damaged."),
        (told > video.frames, f"The file speaks of {told} frames; {video.frames} could be read."),
        (video.resized, f"{video.resized} frames of another size were scaled to the first one's."),
        (moved, f"{moved} frames had no time of their own, or one before their predecessor's."),
    )
    return [line for told, line in lines if told]


def lost_tags(wanted: dict[str, str], got: dict[str, str], of: str) -> list[str]:
    """The tags that were given to a file and are not in it, under this name or another."""
    names, values = {k.lower() for k in got}, set(got.values())
    lost = sorted(k for k, v in wanted.items() if k.lower() not in names and v not in values)
    told = ", ".join(shorten(k, 40) for k in lost[:10]) + (" ..." if len(lost) > 10 else "")
    return [f"Tags of {of} that MP4 does not hold: {told}."] if lost else []


def upright_ratio(ratio: Fraction | None, transposed: bool) -> Fraction | None:
    """Width of a pixel over its height, None where it is square or not said."""
    if not ratio or ratio <= 0 or ratio == 1:
        return None
    return 1 / ratio if transposed else ratio
